"""playbooks/rolling_restart.yml for gateways, Fabio, load balancers, sidecars, engines, workers and autoscalers, over roles that only note."""

from __future__ import annotations

import time

import pytest

from tests.integration.noting_roles import Platform
from tests.integration.test_rolling_restart import SERVICE, in_turns, turns

GROUPS = {
    "gateways": ["gw-1", "gw-2"],
    "fabio": ["fabio-1", "fabio-2"],
    "load_balancers": ["lb-1", "lb-2"],
    "mesh": ["mesh-1"],
    "swarm_managers": ["manager-1", "manager-2", "manager-3"],
    "agents": ["agent-1", "agent-2"],
}
# What each role's verify registers: lb-1 holds the address, manager-2 leads the Swarm, manager-1 decides on agents.
HEALTH = {
    "envoy_gateway": {},
    "fabio": {},
    "haproxy": {},
    "keepalived": {
        "__keepalived_everywhere": {
            "results": [{"item": "lb-1", "stdout": "eth0 UP 10.0.0.9/24"}, {"item": "lb-2", "stdout": ""}]
        }
    },
    "envoy": {},
    "swarm": {
        "__swarm_health": {"nodes": [{"hostname": f"manager-{n}", "leader": n == 2} for n in (1, 2, 3)]},
    },
    "runtime": {},
    "celery": {},
    "autoscaler": {
        "__autoscaler_metrics": {
            "content": "# TYPE\nsutazai_autoscaler_leader {{ '1.0' if inventory_hostname == 'manager-1' else '0.0' }}\n"
        }
    },
}
NAMES = {
    "envoy": {"__envoy_names": ["api"]},
    "celery": {"__celery_names": ["inference", "training"]},
    "autoscaler": {"__autoscaler_units": ["sutazai-autoscaler"]},
}
ALL = {
    "gateways": turns(["envoy_gateway gw-1", "envoy_gateway gw-2"]),
    "fabio": turns(["fabio fabio-1", "fabio fabio-2"]),
    "load_balancers": [["keepalived lb-2"], ["haproxy lb-2"], ["keepalived lb-1"], ["haproxy lb-1"]],
    "mesh": [["envoy mesh-1"]],
    "swarm": turns(["swarm manager-1", "swarm manager-3", "swarm agent-1", "swarm agent-2"], ["swarm manager-2"]),
    "workers": turns(["celery agent-1", "celery agent-2"]),
    "autoscaler": turns(
        [f"autoscaler {host}" for host in ("manager-2", "manager-3", "agent-1", "agent-2")], ["autoscaler manager-1"]
    ),
}


@pytest.fixture
def platform(tmp_path):
    made = Platform(tmp_path, "rolling_restart", GROUPS, {"clustered_service": SERVICE}, gateway_engine="envoy_gateway")
    for role, health in HEALTH.items():
        made.write(f"roles/{role}/tasks/verify.yml", made.verify(health))
        made.write(
            f"roles/{role}/tasks/restart.yml",
            [
                made.note(f"{role} {{{{ inventory_hostname }}}}"),
                {"name": "Fail", "ansible.builtin.fail": {}, "when": "inventory_hostname == lost | default('')"},
            ],
        )
        made.write(f"roles/{role}/vars/main.yml", NAMES.get(role, {}))
    # For the agents of Consul, which every host has.
    made.write("roles/consul/tasks/verify.yml", [])
    made.write("roles/consul/tasks/restart.yml", [])
    made.write("roles/consul/defaults/main.yml", {"consul_servers": [], "consul_restart_alone": False})
    return made


def test_all_in_their_order_and_who_leads_last(platform):
    done = platform.run()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    wanted = [turn for component in ALL.values() for turn in component]
    assert in_turns(platform.noted(), wanted) == wanted


@pytest.mark.parametrize("component", ALL)
def test_one_component(platform, component):
    done = platform.run(rolling_restart_component=component)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert in_turns(platform.noted(), ALL[component]) == ALL[component]


def test_the_holder_of_the_address_keeps_it_when_the_other_is_lost(platform):
    done = platform.run(rolling_restart_component="load_balancers", lost="lb-2")
    assert done.returncode != 0
    assert platform.noted() == ["keepalived lb-2"]


def test_a_fabio_that_does_not_come_back_is_the_last(platform):
    assert platform.run(rolling_restart_component="fabio", lost="fabio-1").returncode != 0
    assert platform.noted()[-1] == "fabio fabio-1"


@pytest.mark.parametrize(
    ("component", "unhealthy"),
    [("gateways", "gw-2"), ("fabio", "fabio-1"), ("load_balancers", "lb-1"), ("swarm", "manager-3")],
)
def test_what_is_unhealthy_is_not_touched(platform, component, unhealthy):
    assert platform.run(rolling_restart_component=component, unhealthy=unhealthy).returncode != 0
    assert platform.noted() == []


def test_what_was_started_after_the_moment_is_left_alone(platform):
    """Of several units the one that has run longest counts."""
    moment = time.time()
    new = moment + 5
    started = {
        "keepalived": new,
        "fabio": new,
        "haproxy": new,
        "celery-worker@inference": new,
        "docker": new,
        "sutazai-autoscaler": new,
    }
    for component in ("fabio", "load_balancers", "workers", "swarm", "autoscaler"):
        done = platform.run(started, rolling_restart_component=component, rolling_restart_before=int(moment))
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        # One at a time, in whichever order their answers came: no worker leads the others.
        assert sorted(platform.noted()) == ([] if component != "workers" else ["celery agent-1", "celery agent-2"])


def test_another_component_is_refused(platform):
    done = platform.run(rolling_restart_component="gateway")
    assert done.returncode != 0
    assert "has to be all or one of" in " ".join(done.stdout.split())
    assert platform.noted() == []
