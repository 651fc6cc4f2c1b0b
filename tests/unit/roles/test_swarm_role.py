"""What the role swarm makes of the inventory, and of what a Swarm says."""

from __future__ import annotations

from tests.unit.roles.rendering import Role

GROUPS = {
    "swarm_managers": ["manager-1.example", "manager-2"],
    "agents": ["agent-1", "manager-2"],
    "swarm_managers_removed": ["agent-1", "manager-3"],
    "agents_removed": ["agent-2"],
}
ADDRESSES = {name: {"platform_address": f"10.0.0.{n}"} for n, name in enumerate(("manager-3", "agent-2"), 1)}


def role(**variables) -> Role:
    return Role("swarm", {"groups": GROUPS, "hostvars": ADDRESSES, "inventory_hostname": "manager-2"}, **variables)


def test_who_is_to_stay_does_not_leave():
    """agent-1 was a manager, and stays as an agent. Ansible's sets have no order."""
    assert sorted(role().value("swarm_removed")) == ["agent-2", "manager-3"]
    assert sorted(role().value("__swarm_leaving"), key=lambda host: host["hostname"]) == [
        {"hostname": "agent-2", "address": "10.0.0.2"},
        {"hostname": "manager-3", "address": "10.0.0.1"},
    ]


def test_live_nodes_have_the_inventorys_names():
    nodes = [
        {
            "hostname": "manager-1",
            "role": "manager",
            "labels": {"sutazai.agents": "false", "sutazai.rack": "7", "other": "1"},
        },
        {"hostname": "manager", "role": "manager", "labels": {}},
        {"hostname": "agent-1", "role": "worker", "labels": {"sutazai.agents": "true"}},
    ]
    found = role(__swarm_live={"nodes": nodes}).value("__swarm_live_hosts")
    assert found == {
        "manager": ["manager-1.example", "manager"],
        "worker": ["agent-1"],
        "labels": {"manager-1.example": {"sutazai.rack": "7"}},
    }
