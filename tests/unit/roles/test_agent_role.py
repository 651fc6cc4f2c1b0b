"""What the role agent refuses before anything is changed, and what it asks of the Swarm, from its defaults and an inventory's variables."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_plan as plan

from tests.unit.roles.rendering import Role

MIB = 2**20
INVENTORY = {
    "inventory_hostname": "manager-1",
    "groups": {
        "swarm_managers": ["manager-1"],
        "agents": ["agent-1", "agent-2"],
        "rabbitmq": ["mq-1"],
        "redis": ["redis-1"],
        "consul_servers": ["consul-1"],
    },
    "hostvars": {"mq-1": {"platform_address": "10.20.0.21"}, "redis-1": {"platform_address": "10.20.0.31"}},
    "ansible_play_hosts": ["manager-1"],
    "agent_image": "sutazai/agent:0.1.0-46b2f3963436",
    "agent_image_artifact_sha256": "0" * 64,
    "agent_rabbitmq_password": "of-the-broker",
    "agent_redis_password": "of-the-cache",
}


def refusals(**variables) -> list[str]:
    role = Role("agent", {**INVENTORY, **variables})
    checks = role.loader.load_from_file(str(role.directory / "tasks/preflight.yml"), trusted_as_template=True)[0][
        "loop"
    ]
    return [role.templar.template(each["otherwise"]) for each in checks if not role.templar.template(each["holds"])]


def demand(**variables) -> plan.Demand:
    wanted = Role("agent", {**INVENTORY, **variables}).value("__agent_demand")
    return plan.Demand(
        wanted["initial_replicas"],
        plan.Resources(int(wanted["reservation_cpus"] * plan.NANO), wanted["reservation_memory_bytes"]),
        plan.Resources(int(wanted["limit_cpus"] * plan.NANO), wanted["limit_memory_bytes"]),
        tuple(wanted["constraints"]),
    )


def nodes(labels: dict[str, str]) -> list[plan.Node]:
    return [
        plan.Node(name, name, "worker", True, 4 * plan.NANO, 8192 * MIB, labels)
        for name in INVENTORY["groups"]["agents"]
    ]


def test_the_defaults_pass():
    assert refusals() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"agent_minimum_replicas": 60}, "agent_minimum_replicas (60, at least 1) to agent_maximum_replicas (50)"),
        ({"agent_minimum_replicas": 0}, "agent_minimum_replicas (0, at least 1)"),
        ({"agent_replicas": 51}, "agent_replicas (51) has to be from"),
        ({"agent_stop_grace_seconds": 60}, "would be killed in the midst of it"),
        ({"agent_image_artifact_sha256": ""}, "agent_image_artifact_sha256 (empty) has to be the SHA-256"),
        ({"agent_image_source": "registry"}, "agent_registry_password has to be set"),
        ({"agent_redis_password": ""}, "agent_rabbitmq_password and agent_redis_password have to be set"),
        ({"agent_redis_nodes": []}, "put hosts into the groups rabbitmq and redis, or set agent_execution to local"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong, said):
    (refused,) = refusals(**wrong)
    assert said in refused


def test_the_seeds_reservations_need_the_seeds_room():
    """Ten agents of one CPU and 2 GiB, on two hosts that hold four each."""
    (problem,) = plan.problems(demand(), nodes({"sutazai.agents": "true"}))
    assert problem.startswith("replicas is 10, but the Swarm has room for 8")
    assert plan.problems(demand(agent_replicas=8), nodes({"sutazai.agents": "true"})) == []


def test_the_seeds_constraints_need_the_label():
    (problem,) = plan.problems(demand(), nodes({}))
    assert "satisfies `node.labels.sutazai.agents == true`" in problem


def test_consul_gets_the_seeds_name_and_tags():
    labels = Role("agent", INVENTORY).value("__agent_container_labels")
    assert (labels["sutazai.service"], labels["sutazai.grpc.service"]) == ("ai-agent", "ai-agent-grpc")
    assert labels["sutazai.tags"] == "ai,inference,v1,urlprefix-/v1/tasks,urlprefix-/v1/agents"
