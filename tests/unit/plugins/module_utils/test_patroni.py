"""What is made of Patroni's answers."""

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.patroni import (
    apply_patch,
    config_patch,
    describe,
    judge,
    moment,
    removal_refusals,
    replication_states,
    same,
    slot_name,
    switchover_candidate,
    version,
)

ID = "7711562886193480413"


def status(role="replica", **more):
    return {
        "state": "running",
        "role": role,
        "server_version": 170012,
        "timeline": 1,
        "database_system_identifier": ID,
        "patroni": {"version": "4.0.7", "scope": "postgresql"},
        **more,
    }


LEADER = status("primary", replication=[{"application_name": "pg-2", "state": "streaming"}])
LISTED = {"pg-2": {"name": "pg-2", "role": "sync_standby", "state": "streaming", "lag": 0}}


def member(name, answer=None, error="", listed=None, streaming="streaming"):
    return describe(name, f"10.0.0.{name[-1]}", answer, error, listed, streaming)


def trio(**changes):
    members = {
        "pg-1": member("pg-1", LEADER),
        "pg-2": member("pg-2", status(sync_standby=True), listed=LISTED["pg-2"]),
        "pg-3": member("pg-3", status()),
    }
    members.update({name.replace("_", "-"): value for name, value in changes.items()})
    return list(members.values())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-24 19:09:23.500000+00:00", 1795547363.5),
        ("2026-11-24 20:09:23.500+01:00", 1795547363.5),
        ("", 0.0),
        ("yesterday", 0.0),
        (None, 0.0),
    ],
)
def test_moments(text, seconds):
    assert moment(text) == seconds


def test_a_healthy_cluster():
    result = judge(trio(), {"members": [{"name": f"pg-{n}"} for n in (1, 2, 3)]})
    assert result["healthy"], result["problems"]
    assert result["leader"] == "pg-1"
    assert result["leader_address"] == "10.0.0.1"
    assert result["replicas"] == ["pg-2", "pg-3"]
    assert result["sync_standbys"] == ["pg-2"]
    assert result["system_identifier"] == ID
    assert result["unknown_members"] == []
    assert result["members"][1]["postgresql_version"] == "17.12"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pg_3": member("pg-3", None, "Connection refused")}, "pg-3 (10.0.0.3) doesn't answer: Connection refused"),
        ({"pg_1": member("pg-1", None, "timed out")}, "no leader"),
        ({"pg_3": member("pg-3", status("primary"))}, "More than one member"),
        ({"pg_3": member("pg-3", status(state="starting"))}, "is starting, not running"),
        ({"pg_3": member("pg-3", status(), streaming="")}, "doesn't stream from the leader pg-1"),
        (
            {"pg_3": member("pg-3", status(replication_state="in archive recovery"))},
            "replication is in archive recovery",
        ),
        ({"pg_3": member("pg-3", status(), listed={"lag": 50_000_000})}, "50000000 bytes behind"),
        ({"pg_3": member("pg-3", status(timeline=2))}, "timeline 2, the leader on 1"),
        ({"pg_3": member("pg-3", status(database_system_identifier="5"))}, "bootstrapped apart"),
        ({"pg_3": member("pg-3", status(timeline=None))}, "doesn't know its own timeline"),
        ({"pg_2": member("pg-2", status())}, "No replica is synchronous"),
    ],
)
def test_what_is_wrong_is_said(changes, words):
    result = judge(trio(**changes), {})
    assert not result["healthy"]
    assert any(words in problem for problem in result["problems"]), result["problems"]


def test_nobody_answers():
    result = judge([member(f"pg-{n}", None, "refused") for n in (1, 2, 3)], None)
    assert result["problems"][0] == "No member of the cluster answers."
    assert result["leader"] == ""
    assert result["system_identifier"] == ""


def test_three_clusters_instead_of_one():
    members = [member(f"pg-{n}", status("primary", database_system_identifier=str(n))) for n in (1, 2, 3)]
    problems = "\n".join(judge(members, {})["problems"])
    assert "More than one member says that it is the leader: pg-1, pg-2, pg-3" in problems
    assert "pg-1: 1; pg-2: 2; pg-3: 3" in problems


def test_maintenance_mode_is_a_problem_unless_allowed():
    assert "maintenance mode" in judge(trio(), {"pause": True})["problems"][0]
    assert judge(trio(), {"pause": True}, allow_paused=True)["healthy"]


def test_one_member_needs_no_synchronous_replica():
    assert judge([member("pg-1", LEADER)], {})["healthy"]


def test_an_asynchronous_cluster():
    members = trio(pg_2=member("pg-2", status()))
    assert judge(members, {}, synchronous=False)["healthy"]


def test_a_member_that_waits_for_a_restart():
    result = judge(
        trio(pg_3=member("pg-3", status(pending_restart=True, pending_restart_reason={"max_connections": {}}))), {}
    )
    assert result["healthy"]
    assert result["pending_restart"] == ["pg-3"]
    assert result["members"][2]["pending_restart_reasons"] == ["max_connections"]


def test_a_member_nobody_asked_for():
    assert judge(trio(), {"members": [{"name": "pg-9"}]})["unknown_members"] == ["pg-9"]


def test_the_roles_of_patroni_3():
    result = judge(trio(pg_1=member("pg-1", status("master"))), {})
    assert result["leader"] == "pg-1"


def test_who_streams_is_read_from_the_leader():
    assert replication_states({"pg-1": LEADER, "pg-2": status(), "pg-3": None}) == {"pg-2": "streaming"}
    assert replication_states({"pg-2": status()}) == {}


def test_versions():
    assert [version(n) for n in (170012, 150009, None, "", "x")] == ["17.12", "15.9", "", "", ""]


@pytest.mark.parametrize(
    ("wanted", "live", "equal"),
    [
        (100, "100", True),
        ("on", True, True),
        ("off", False, True),
        (True, "true", True),
        ("8GB", "8GB", True),
        (100, 200, False),
        ([], [], True),
        ([{"name": "a"}], [{"name": "a"}], True),
        ([1], [1, 2], False),
        ({"a": 1}, {"a": "1"}, True),
        ({"a": 1}, {}, False),
        ({}, "", False),
        (None, "", True),
    ],
)
def test_settings_that_mean_the_same(wanted, live, equal):
    assert same(wanted, live) is equal


def test_no_patch_when_nothing_differs():
    live = {
        "ttl": 30,
        "synchronous_mode": True,
        "postgresql": {"use_slots": True, "parameters": {"max_connections": 100}},
    }
    assert (
        config_patch(
            live, {"ttl": 30, "synchronous_mode": "on", "postgresql": {"parameters": {"max_connections": "100"}}}
        )
        == {}
    )


def test_a_patch_names_only_what_differs():
    live = {
        "ttl": 30,
        "loop_wait": 10,
        "pause": True,
        "postgresql": {"parameters": {"max_connections": 100, "work_mem": "4MB"}},
    }
    wanted = {
        "ttl": 20,
        "loop_wait": 10,
        "slots": {"a": {"type": "physical"}},
        "postgresql": {"parameters": {"max_connections": 200}},
    }
    patch = config_patch(live, wanted)
    assert patch == {
        "ttl": 20,
        "slots": {"a": {"type": "physical"}},
        "postgresql": {"parameters": {"max_connections": 200, "work_mem": None}},
    }
    after = apply_patch(live, patch)
    assert after["postgresql"]["parameters"] == {"max_connections": 200}
    assert after["pause"] is True
    assert config_patch(after, wanted) == {}


def test_reading_alone_patches_nothing():
    assert config_patch({"postgresql": {"parameters": {"work_mem": "4MB"}}}, {}) == {}


def test_null_removes():
    assert config_patch({"pause": True}, {"pause": None}) == {"pause": None}
    assert config_patch({}, {"pause": None}) == {}
    assert apply_patch({"pause": True, "ttl": 30}, {"pause": None}) == {"ttl": 30}


def test_a_synchronous_replica_takes_over():
    assert switchover_candidate(judge(trio(), {})) == "pg-2"


def test_else_the_one_least_behind():
    members = trio(
        pg_2=member("pg-2", status(), listed={"lag": 500}),
        pg_3=member("pg-3", status(), listed={"lag": 5}),
    )
    assert switchover_candidate(judge(members, {}, synchronous=False)) == "pg-3"


def test_a_preferred_candidate_must_be_able_to():
    result = judge(trio(pg_3=member("pg-3", None, "refused")), {})
    assert switchover_candidate(result, "pg-2") == "pg-2"
    assert switchover_candidate(result, "pg-3") == ""
    assert switchover_candidate(judge([member("pg-1", LEADER)], {})) == ""


def listing(*numbers):
    return {"members": [{"name": f"pg-{number}"} for number in numbers]}


def test_what_is_to_leave_may_be_gone_or_lag():
    gone = member("pg-3", error="refused")
    assert judge(trio(pg_3=gone), listing(1, 2), leaving=["pg-3"])["healthy"]
    assert not judge(trio(pg_3=gone), listing(1, 2))["healthy"]


def test_what_is_to_leave_may_still_lead():
    result = judge(trio(), listing(1, 2, 3), leaving=["pg-1"])
    assert result["healthy"] and result["leader"] == "pg-1"


def test_a_synchronous_replica_that_is_to_leave_does_until_it_leaves():
    assert judge(trio(), listing(1, 2, 3), leaving=["pg-2"])["healthy"]
    late = judge(trio(), listing(1, 2, 3), leaving=["pg-2"], synchronous_among_staying=True)
    assert late["problems"] == ["Only pg-2 is synchronous, which is to leave."]
    assert judge(trio(), listing(1, 2, 3), leaving=["pg-3"], synchronous_among_staying=True)["healthy"]
    assert judge(trio(), listing(1, 2, 3), False, leaving=["pg-2"], synchronous_among_staying=True)["healthy"]


def test_the_cluster_has_to_forget_what_has_left():
    gone = member("pg-3", error="refused")
    assert judge(trio(pg_3=gone), listing(1, 2), left=["pg-3"])["healthy"]
    (problem,) = judge(trio(pg_3=gone), listing(1, 2, 3), left=["pg-3"])["problems"]
    assert problem == "pg-3 was stopped, but the cluster still knows it."


def test_one_of_three_may_leave():
    assert removal_refusals(judge(trio(), listing(1, 2, 3), leaving=["pg-3"]), ["pg-3"], 1) == []


def test_two_of_three_may_not_leave():
    (problem,) = removal_refusals(judge(trio(), listing(1, 2, 3), leaving=["pg-2", "pg-3"]), ["pg-2", "pg-3"], 1)
    assert "pg-2, pg-3 can't leave: pg-1 would stay, and 2 members are the least" in problem


def test_as_many_stay_as_synchronous_replicas_need():
    (problem,) = removal_refusals(judge(trio(), listing(1, 2, 3), leaving=["pg-3"]), ["pg-3"], 2)
    assert "pg-1, pg-2 would stay, and 3 members are the least" in problem


def test_nobody_leaves_while_another_is_down():
    result = judge(trio(pg_2=member("pg-2", error="refused")), listing(1, 2, 3), leaving=["pg-3"])
    assert "those that stay aren't healthy: Patroni on pg-2" in removal_refusals(result, ["pg-3"], 1)[0]


def test_who_has_left_is_not_refused_again():
    gone = member("pg-3", error="refused")
    result = judge(trio(pg_2=member("pg-2", error="refused"), pg_3=gone), listing(1, 2), leaving=["pg-3"])
    assert removal_refusals(result, ["pg-3"], 1) == []


def test_who_leaves_does_not_take_over():
    assert switchover_candidate(judge(trio(), None)) == "pg-2"
    assert switchover_candidate(judge(trio(), None), leaving=["pg-2"]) == "pg-3"
    assert switchover_candidate(judge(trio(), None), leaving=["pg-2", "pg-3"]) == ""


@pytest.mark.parametrize(
    ("name", "slot"),
    [("postgresql-4", "postgresql_4"), ("DB.example.org", "db_example_org"), ("a b", "au0032b"), ("x" * 70, "x" * 63)],
)
def test_slots_are_named_as_patroni_does(name, slot):
    assert slot_name(name) == slot
