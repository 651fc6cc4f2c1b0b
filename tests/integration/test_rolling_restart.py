"""playbooks/rolling_restart.yml as it is, over roles that only note what they were asked for: who is restarted, and in what order."""

from __future__ import annotations

import time

import pytest

from tests.integration.noting_roles import Platform

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
    "patroni": {
        "__patroni_health": {
            "leader": "pg-1",
            "members": [
                {"name": "pg-1", "postgresql_start_time": "{{ postgresql_started['pg-1'] | float }}"},
                {"name": "pg-2", "postgresql_start_time": "{{ postgresql_started['pg-2'] | float }}"},
            ],
        }
    },
    "pgbouncer": {},
}
DEFAULTS = {"consul": {"consul_servers": "{{ groups['consul_servers'] }}", "consul_restart_alone": True}}
# Says since when the unit runs, as the test wants it: long ago if it says nothing.
SERVICE = """
import json, os, sys
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"name": {"type": "str"}}, supports_check_mode=True)
with open(os.environ["STATE"]) as file:
    started = json.load(file)
module.exit_json(changed=False, start_time=started.get(module.params["name"], 1000.0))
"""


@pytest.fixture
def platform(tmp_path):
    platform = Platform(
        tmp_path,
        "rolling_restart",
        GROUPS,
        {"clustered_service": SERVICE},
        postgresql_started={"pg-1": 1000, "pg-2": 1000},
    )
    for role, health in HEALTH.items():
        whole = "{{ ' whole' if patroni_restart_always else '' }}"
        tasks = {
            "verify": platform.verify(health),
            "restart": [
                platform.note(f"{role} {{{{ inventory_hostname }}}}{whole}"),
                {"name": "Fail", "ansible.builtin.fail": {}, "when": "inventory_hostname == lost | default('')"},
            ],
            "rebalance": [platform.note(f"{role} rebalance {{{{ inventory_hostname }}}}")],
        }
        for name, content in tasks.items():
            platform.write(f"roles/{role}/tasks/{name}.yml", content)
        platform.write(f"roles/{role}/defaults/main.yml", {"patroni_restart_always": False, **DEFAULTS.get(role, {})})
    return platform


def turns(*groups: list[str]) -> list[list[str]]:
    """Within a turn the order is nobody's concern."""
    return [sorted(group) for group in groups]


def in_turns(log: list[str], like: list[list[str]]) -> list[list[str]]:
    found, rest = [], list(log)
    for group in like:
        found.append(sorted(rest[: len(group)]))
        rest = rest[len(group) :]
    return [*found, rest] if rest else found


REDIS = turns(["redis redis-2", "redis redis-4"], ["redis redis-1", "redis redis-3"])


def test_each_member_in_turn_and_who_leads_last(platform):
    done = platform.run()
    assert done.returncode == 0, done.stdout + done.stderr
    clients = [host for group, hosts in GROUPS.items() if group != "consul_servers" for host in hosts]
    wanted = turns(
        ["consul consul-2", "consul consul-3"],
        ["consul consul-1"],
        [f"consul {host}" for host in clients],
        ["rabbitmq rabbitmq-1", "rabbitmq rabbitmq-2"],
        ["rabbitmq rebalance rabbitmq-1", "rabbitmq rebalance rabbitmq-2"],
        *REDIS,
        ["patroni pg-2 whole"],
        ["patroni pg-1 whole"],
        ["pgbouncer pg-1 whole", "pgbouncer pg-2 whole"],
    )
    assert in_turns(platform.noted(), wanted) == wanted


def test_one_component(platform):
    done = platform.run(rolling_restart_component="redis")
    assert done.returncode == 0, done.stdout + done.stderr
    assert in_turns(platform.noted(), REDIS) == REDIS


def test_it_stops_at_the_first_that_does_not_come_back(platform):
    done = platform.run(rolling_restart_component="redis", lost="redis-1")
    assert done.returncode != 0
    log = platform.noted()
    assert log[-1] == "redis redis-1"
    assert "redis redis-3" not in log[log.index("redis redis-1") :]
    assert "run it again with -e rolling_restart_before=" in done.stdout


def test_an_unhealthy_cluster_is_not_touched(platform):
    done = platform.run(rolling_restart_component="redis", unhealthy="redis-3")
    assert done.returncode != 0
    assert platform.noted() == []


def test_what_was_started_after_the_moment_is_left_alone(platform):
    moment = time.time()
    started = {"redis-server": moment + 5, "patroni": moment + 5}
    done = platform.run(started, rolling_restart_component="redis", rolling_restart_before=int(moment))
    assert done.returncode == 0, done.stdout + done.stderr
    assert platform.noted() == []
    # Patroni was restarted everywhere, PostgreSQL under it not yet on pg-1, and no pooler.
    postgresql = {"pg-1": moment - 5, "pg-2": moment + 5}
    done = platform.run(
        started,
        rolling_restart_component="postgresql",
        rolling_restart_before=int(moment),
        postgresql_started=postgresql,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    wanted = turns(["patroni pg-1 whole"], ["pgbouncer pg-1 whole", "pgbouncer pg-2 whole"])
    assert in_turns(platform.noted(), wanted) == wanted


@pytest.mark.parametrize(
    "wrong",
    [{"rolling_restart_component": "kafka"}, {"rolling_restart_before": "yesterday"}],
    ids=["component", "moment"],
)
def test_what_is_not_understood_is_refused(platform, wrong):
    done = platform.run(**wrong)
    assert done.returncode != 0
    assert "Nothing was restarted." in done.stdout
    assert next(iter(wrong.values())) in done.stdout
    assert platform.noted() == []
