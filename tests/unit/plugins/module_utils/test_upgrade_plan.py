"""What a rolling upgrade would do on all hosts, and why it may not."""

from __future__ import annotations

from ansible_collections.sutazai.platform.plugins.module_utils import upgrade_plan

OLD, NEW = "5:7.0.15-1~deb12u7", "5:7.0.15-1~deb12u10"


def found(before=OLD, after=NEW, name="redis-server", component="redis", **other):
    changes = [{"name": name, "from": before, "to": after}] if before != after else []
    return {
        "component": component,
        "unit": name,
        "active": True,
        "installed": before,
        "running": before,
        "wanted": after,
        "changes": changes,
        "also": [],
        "removed": [],
        "held": [],
        "restart_due": False,
        "due": bool(changes),
        **other,
    }


def test_an_allowed_upgrade_has_no_problems():
    assert upgrade_plan.problems({"redis-1": [found()], "redis-2": [found(before=NEW)]}) == ""


def test_all_problems_are_in_one_message():
    text = upgrade_plan.problems(
        {
            "redis-1": [found(before="5:6.0.16-1", after="5:8.0.2-3")],
            "redis-2": [found(before="5:6.0.16-1", after="5:8.0.2-3")],
            "consul-1": [found("1.16.3", "1.20.6", "consul", "consul")],
            "rabbitmq-1": [
                found("3.13.7-1", "4.0.5-1", "rabbitmq-server", "rabbitmq", disabled_feature_flags=["khepri_db"])
            ],
            "pg-1": [found("15.18", "15.20", "postgresql-15", "postgresql", removed=["postgresql-15-old"])],
        }
    )
    assert text.startswith("The upgrade was refused: 4 problems. Nothing was changed on any host.")
    assert "redis-server 5:6.0.16-1 can't be upgraded to 5:8.0.2-3." in text
    assert "on redis-1, redis-2" in text
    assert "Go by 1.18 first" in text and "variable consul_version" in text
    assert "would remove postgresql-15-old" in text
    assert "khepri_db" in text and "enable_feature_flag all" in text


def test_a_package_that_only_debians_revision_takes_back():
    plan = found(before=NEW, after=OLD)
    plan["changes"][0]["older"] = True
    text = upgrade_plan.problems({"redis-1": [plan]})
    assert f"redis-server {NEW} can't be upgraded to {OLD}." in text and "taken back" in text


def test_flags_matter_only_to_another_series():
    same = found("4.0.5-1", "4.0.5-2", "rabbitmq-server", "rabbitmq", disabled_feature_flags=["khepri_db"])
    assert upgrade_plan.problems({"rabbitmq-1": [same]}) == ""


def test_hosts_that_see_different_mirrors():
    text = upgrade_plan.problems({"redis-1": [found()], "redis-2": [found(after="5:7.0.15-1~deb12u9")]})
    assert f"would become {NEW} on redis-1 and 5:7.0.15-1~deb12u9 on redis-2" in text


def test_lines_say_what_is_due_and_why():
    lines = upgrade_plan.lines(
        {
            "redis-1": [found(also=[{"name": "libnew", "from": "", "to": "1"}], held=["redis-tools"])],
            "redis-2": [found(before=NEW)],
            "redis-3": [found(before=NEW, restart_due=True, running="", due=True)],
            "redis-4": [found(before=NEW, active=False, due=True)],
        }
    )
    assert lines == [
        f"redis-1: redis-server {OLD} -> {NEW}, with libnew (new) -> 1, on hold, stays: redis-tools",
        f"redis-3: redis-server runs what was there before, {NEW} is installed: only restarted",
        "redis-4: redis-server doesn't run and is started first",
    ]
    assert upgrade_plan.lines({"redis-2": [found(before=NEW)]}) == ["Nothing is due."]


def test_the_outcome_is_what_was_observed_afterwards():
    before = {"redis-1": [found()], "redis-2": [found()], "redis-3": [found(before=NEW)]}
    after = {"redis-1": [found(before=NEW)], "redis-2": [found()], "redis-3": [found(before=NEW)]}
    assert upgrade_plan.outcome(before, after) == {
        "done": [f"redis-1: redis-server {OLD} -> {NEW}"],
        "left": [f"redis-2: redis-server {OLD} -> {NEW}"],
    }
