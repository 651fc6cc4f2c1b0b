"""playbooks/rolling_upgrade.yml as it is, over roles that only note what they were asked for: what is refused, who is upgraded, in what order."""

from __future__ import annotations

import pytest

from tests.integration.noting_roles import rolling_upgrade

GROUPS = {
    "consul_servers": ["consul-1", "consul-2", "consul-3"],
    "rabbitmq": ["rabbitmq-1", "rabbitmq-2"],
    "redis": ["redis-1", "redis-2", "redis-3", "redis-4"],
    "postgresql": ["pg-1", "pg-2"],
}
# What each role's verify registers, on the host that asks.
HEALTH = {
    "consul": {"__consul_info": {"is_leader": "{{ inventory_hostname == 'consul-1' }}"}},
    "rabbitmq": {},
    "redis": {"__redis_health": {"masters": ["redis-1", "redis-3"]}},
    "patroni": {"__patroni_health": {"leader": "pg-1"}},
    "pgbouncer": {},
}
COMPONENTS = {"patroni": "postgresql", "pgbouncer": "postgresql"}
DEFAULTS = {"consul": {"consul_servers": "{{ groups['consul_servers'] }}", "consul_restart_alone": True}}


@pytest.fixture
def platform(tmp_path):
    platform = rolling_upgrade(tmp_path, GROUPS, HEALTH, COMPONENTS)
    for role in HEALTH:
        tasks = {
            "upgrade_stage": [platform.note("stage {{ inventory_hostname }}")],
            "rebalance": [platform.note("rebalance")],
            "feature_flags": [{**platform.note("flags"), "run_once": True}],
        }
        for name, content in tasks.items():
            platform.write(f"roles/{role}/tasks/{name}.yml", content)
        private = {"__rabbitmq_node": "rabbit@{{ inventory_hostname }}"} if role == "rabbitmq" else {}
        private["__rabbitmq_place"] = {"maintenance": "{{ drained | default([]) }}"}
        platform.write(f"roles/{role}/defaults/main.yml", DEFAULTS.get(role, {}))
        platform.write(f"roles/{role}/vars/main.yml", {f"__{role}_disabled_flags": [], **private})
    return platform


def everywhere(role: str, group: str, before: str, after: str) -> dict[str, dict]:
    hosts = [host for hosts in GROUPS.values() for host in hosts] if group == "all" else GROUPS[group]
    return {f"{role} {host}": {"from": before, "to": after} for host in hosts}


REDIS = everywhere("redis", "redis", "1.0-1", "1.1-1")


def test_everything_is_there_before_the_first_and_who_leads_is_last(platform):
    state = {
        **everywhere("consul", "all", "1.20.6", "1.21.0"),
        **everywhere("rabbitmq", "rabbitmq", "4.0.5-1", "4.0.5-2"),
        **REDIS,
        **everywhere("patroni", "postgresql", "4.0.7-1", "4.0.8-1"),
        **everywhere("pgbouncer", "postgresql", "1.24-1", "1.24-2"),
    }
    done = platform.run(state)
    assert done.returncode == 0, done.stdout + done.stderr
    log = platform.noted()
    first = log.index("consul consul-2") if "consul consul-2" in log[:20] else log.index("consul consul-3")
    before = [line for line in log if line.startswith(("download", "stage"))]
    assert len(before) == 11 + 2 + 4 + 2 + 2
    assert all(log.index(line) < first for line in before)
    turns = [line for line in log if not line.startswith(("download", "stage", "rebalance"))]
    assert sorted(turns[:2]) == ["consul consul-2", "consul consul-3"]
    assert turns[2] == "consul consul-1"
    assert len([line for line in turns if line.startswith("consul")]) == 11
    rest = [line for line in turns if not line.startswith("consul")]
    assert sorted(rest[:2]) == ["rabbitmq rabbitmq-1", "rabbitmq rabbitmq-2"]
    assert rest[2] == "flags"
    assert sorted(rest[3:5]) == ["redis redis-2", "redis redis-4"]
    assert sorted(rest[5:7]) == ["redis redis-1", "redis redis-3"]
    assert rest[7:9] == ["patroni pg-2", "patroni pg-1"]
    assert sorted(rest[9:]) == ["pgbouncer pg-1", "pgbouncer pg-2"]
    assert "redis-1: redis 1.0-1 -> 1.1-1" in done.stdout


def test_nothing_to_do(platform):
    done = platform.run({}, rolling_upgrade_component="redis")
    assert done.returncode == 0, done.stdout + done.stderr
    assert platform.noted() == []
    assert "Nothing is due." in done.stdout
    assert "changed=0" in done.stdout and "changed=1" not in done.stdout


def test_a_run_that_was_interrupted_goes_on_with_the_rest_and_first_with_what_is_stopped(platform):
    state = {
        **REDIS,
        "redis redis-2": {"from": "1.1-1", "to": "1.1-1"},
        "redis redis-1": {"from": "1.1-1", "to": "1.1-1", "active": False},
        "redis redis-4": {"from": "1.1-1", "to": "1.1-1", "restart_due": True},
    }
    done = platform.run(state, rolling_upgrade_component="redis")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in platform.noted() if line.startswith("redis")] == [
        "redis redis-1",
        "redis redis-4",
        "redis redis-3",
    ]


def test_a_node_that_an_interrupted_run_has_drained_is_first(platform):
    nodes = everywhere("rabbitmq", "rabbitmq", "4.0.5-1", "4.0.5-2")
    done = platform.run(nodes, rolling_upgrade_component="rabbitmq", drained=["rabbit@rabbitmq-2"])
    assert done.returncode == 0, done.stdout + done.stderr
    order = [line for line in platform.noted() if line.startswith("rabbitmq")]
    assert order == ["rabbitmq rabbitmq-2", "rabbitmq rabbitmq-1"]


def test_it_stops_at_the_first_that_does_not_come_back(platform):
    done = platform.run(REDIS, rolling_upgrade_component="redis", lost=["redis-1", "redis-3"])
    assert done.returncode != 0
    assert [done.stdout.count(f"fatal: [{master}]") for master in ("redis-1", "redis-3")] in ([0, 1], [1, 0])
    upgraded = [line for line in platform.noted() if line.startswith("redis")]
    assert sorted(upgraded) == ["redis redis-2", "redis redis-4"]


def test_all_problems_are_told_before_anything_is_touched(platform):
    state = {
        **REDIS,
        "redis redis-1": {"from": "1.0-1", "to": "1.2-1"},
        "redis redis-2": {"from": "1.0-1", "to": "1.1-1", "removed": ["precious"]},
        **everywhere("consul", "all", "1.16.3", "1.21.0"),
    }
    done = platform.run(state)
    assert done.returncode != 0
    assert platform.noted() == []
    assert "3 problems. Nothing was changed on any host." in done.stdout
    for part in ("Go by 1.18 first", "would remove precious", "Let all of them use the same mirror"):
        assert part in done.stdout


def test_what_is_not_to_be_had_stops_nothing(platform):
    state = {**REDIS, "redis redis-3": {"from": "1.0-1", "to": "1.1-1-unavailable"}}
    for host in GROUPS["redis"]:
        state[f"redis {host}"] = {"from": "1.0-1", "to": "1.1-1-unavailable"}
    done = platform.run(state, rolling_upgrade_component="redis")
    assert done.returncode != 0
    assert [line for line in platform.noted() if line.startswith("redis")] == []


def test_an_unhealthy_cluster_is_not_touched(platform):
    done = platform.run(REDIS, rolling_upgrade_component="redis", unhealthy="redis-3")
    assert done.returncode != 0
    assert [line for line in platform.noted() if line.startswith("redis")] == []


def test_check_mode_says_what_is_due_and_does_nothing(platform):
    done = platform.run(REDIS, "--check", rolling_upgrade_component="redis")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "redis-4: redis 1.0-1 -> 1.1-1" in done.stdout
    assert [line for line in platform.noted() if line.startswith("redis")] == []


def test_an_unknown_component_is_refused(platform):
    done = platform.run({}, rolling_upgrade_component="kafka")
    assert done.returncode != 0
    assert "Nothing was upgraded." in done.stdout and "kafka" in done.stdout
