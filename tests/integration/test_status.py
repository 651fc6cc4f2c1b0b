"""playbooks/status.yml as it is, over roles that only say what a test wants: which rows it has, and what a host that is down does to them."""

from __future__ import annotations

import json

import pytest

from tests.integration.noting_roles import Platform

GROUPS = {
    "consul_servers": ["consul-1"],
    "load_balancers": ["lb-1", "lb-2"],
    "gateways": ["gw-1", "gw-2"],
    "swarm_managers": ["manager-1", "manager-2", "manager-3"],
    "agents": ["agent-1", "agent-2"],
}
NODES = [
    {
        "hostname": name,
        "role": "manager" if "manager" in name else "worker",
        "state": "ready",
        "leader": name == "manager-2",
    }
    for name in (*GROUPS["swarm_managers"], *GROUPS["agents"])
]
# What each role's verify registers.
SAYS = {
    "consul": {"__consul_info": {"healthy": True, "leader": "consul-1", "versions": ["1.22"]}},
    "keepalived": {
        "__keepalived_everywhere": {
            "results": [{"stdout": "eth0 UP 10.0.0.9/24" if lb == "lb-1" else ""} for lb in GROUPS["load_balancers"]]
        }
    },
    "haproxy": {"__haproxy_answer": {"content": "version-1"}},
    "envoy_gateway": {"__envoy_gateway_ready": {"status": 200}},
    "swarm": {"__swarm_health": {"healthy": True, "problems": [], "nodes": NODES}},
    "celery": {"__celery_asked": {"rc": 0, "stdout": "", "stdout_lines": []}},
    "autoscaler": {
        "__autoscaler_metrics": {
            "content": "sutazai_autoscaler_leader {{ '1.0' if inventory_hostname == 'manager-3' else '0.0' }}\n"
        }
    },
}


@pytest.fixture
def platform(tmp_path):
    made = Platform(
        tmp_path,
        "status",
        GROUPS,
        {},
        parts=("plugins/filter", "plugins/module_utils"),
        gateway_engine="envoy_gateway",
        gateway_routes={"routes": [{"name": "tasks"}, {"name": "health"}]},
    )
    for role, says in SAYS.items():
        made.write(f"roles/{role}/tasks/verify.yml", made.verify(says))
        made.write(
            f"roles/{role}/vars/main.yml", {"__celery_names": ["inference", "training"]} if role == "celery" else {}
        )
    made.write("roles/consul/tasks/backup_age.yml", [])
    return made


def ask(platform, **variables):
    path = platform.directory / "status.json"
    done = platform.run(status_report_file=str(path), **variables)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    return json.loads(path.read_text())


def test_each_component_has_its_row(platform):
    rows = ask(platform)
    assert set(rows) == {"consul", "load_balancers", "virtual_address", "gateways", "swarm", "workers", "autoscaler"}
    assert {name: row["problems"] for name, row in rows.items() if row["problems"] or not row["healthy"]} == {}
    leaders = {name: row["leaders"] for name, row in rows.items() if row["leaders"]}
    assert leaders == {
        "consul": ["consul-1"],
        "virtual_address": ["lb-1"],
        "swarm": ["manager-2"],
        "autoscaler": ["manager-3"],
    }
    assert rows["load_balancers"]["details"] == {lb: {"configuration": "version-1"} for lb in ("lb-1", "lb-2")}
    assert rows["gateways"]["details"]["gw-2"] == {"engine": "envoy_gateway", "ready": True, "routes": 2}
    assert rows["workers"]["details"]["agent-1"] == {"up": ["inference", "training"], "of": 2}
    # One manager speaks for all: whichever answered first.
    ((speaker, swarm),) = rows["swarm"]["details"].items()
    assert speaker in GROUPS["swarm_managers"]
    assert swarm["managers"] == GROUPS["swarm_managers"]
    assert swarm["nodes"]["agent-1"] == "ready"


def test_a_refusal_is_the_answer_of_its_host_alone(platform):
    rows = ask(platform, unhealthy="gw-2")
    assert [name for name, row in rows.items() if not row["healthy"]] == ["gateways"]
    assert len(rows["gateways"]["problems"]) == 1
    assert rows["gateways"]["problems"][0].startswith("gw-2: ")


def test_a_host_that_refuses_for_one_component_speaks_for_another(platform):
    """manager-1 speaks for the Swarm and is asked for its autoscaler: what one refuses isn't said of the other."""
    lines = "celery-worker@training doesn't answer"
    platform.write(
        "roles/celery/tasks/verify.yml",
        [
            {
                "name": "Say",
                "ansible.builtin.set_fact": {"__celery_asked": {"rc": 1, "stdout": lines, "stdout_lines": [lines]}},
            },
            {"name": "Refuse", "ansible.builtin.fail": {"msg": "Not all workers answer"}},
        ],
    )
    rows = ask(platform)
    assert [name for name, row in rows.items() if not row["healthy"]] == ["workers"]
    assert rows["workers"]["details"]["agent-2"] == {"up": ["inference"], "of": 2}


def test_hosts_that_are_down_are_missed(platform):
    unreachable = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    (platform.directory / "host_vars").mkdir()
    for host in ("gw-1", "manager-3", "lb-1", "lb-2"):
        (platform.directory / "host_vars" / f"{host}.json").write_text(json.dumps(unreachable))
    rows = ask(platform)
    assert rows["gateways"]["up"] == ["gw-2"]
    assert rows["gateways"]["problems"] == ["gw-1 can't be reached"]
    assert rows["autoscaler"]["problems"] == ["manager-3 can't be reached"]
    assert rows["virtual_address"]["problems"] == ["no host answers"]
    assert rows["load_balancers"]["problems"] == ["lb-1 can't be reached", "lb-2 can't be reached"]
    assert rows["consul"]["healthy"]
