"""playbooks/rolling_upgrade.yml for load balancers and engines, over roles that only note what they were asked for."""

from __future__ import annotations

import pytest

from tests.integration.noting_roles import rolling_upgrade

GROUPS = {
    "load_balancers": ["lb-1", "lb-2"],
    "swarm_managers": ["manager-1", "manager-2", "manager-3"],
    "agents": ["agent-1"],
}
# What each role's verify registers: lb-1 holds the address, manager-2 leads the Swarm.
HEALTH = {
    "keepalived": {
        "__keepalived_everywhere": {"results": [{"item": "lb-1", "stdout": "eth0 UP"}, {"item": "lb-2", "stdout": ""}]}
    },
    "haproxy": {},
    "docker": {},
    "swarm": {"__swarm_health": {"nodes": [{"hostname": f"manager-{n}", "leader": n == 2} for n in (1, 2, 3)]}},
}
COMPONENTS = {"keepalived": "load_balancers", "haproxy": "load_balancers", "docker": "swarm"}


@pytest.fixture
def platform(tmp_path):
    # An engine is upgraded through the Swarm's role.
    return rolling_upgrade(tmp_path, GROUPS, HEALTH, COMPONENTS, noted_as={"swarm": "docker"})


def due(role, *hosts):
    return {f"{role} {host}": {"from": "1.0-1", "to": "1.1-1"} for host in hosts}


def test_who_holds_the_address_and_who_leads_come_last(platform):
    state = due("haproxy", "lb-1", "lb-2") | due("docker", "manager-1", "manager-2", "manager-3", "agent-1")
    done = platform.run(state)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    log = [line for line in platform.noted() if not line.startswith("download")]
    assert log[:4] == ["keepalived lb-2", "haproxy lb-2", "keepalived lb-1", "haproxy lb-1"]
    assert sorted(log[4:7]) == ["docker agent-1", "docker manager-1", "docker manager-3"]
    assert log[7:] == ["docker manager-2"]


def test_nothing_due_is_left_alone(platform):
    assert platform.run({}).returncode == 0
    assert platform.noted() == []


def test_one_component(platform):
    done = platform.run(due("haproxy", "lb-2") | due("docker", "agent-1"), rolling_upgrade_component="swarm")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert [line for line in platform.noted() if not line.startswith("download")] == ["docker agent-1"]


def test_an_engine_that_an_interrupted_run_left_stopped_is_finished_first(platform):
    state = due("docker", "manager-1") | {"docker agent-1": {"from": "1.0-1", "to": "1.1-1", "active": False}}
    done = platform.run(state)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert [line for line in platform.noted() if not line.startswith("download")] == [
        "docker agent-1",
        "docker manager-1",
    ]
