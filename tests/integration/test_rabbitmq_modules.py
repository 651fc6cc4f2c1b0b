"""The RabbitMQ modules against a real cluster.

Where one is reached is said by SUTAZAI_TEST_RABBITMQ_URL (https://host:15671), _USER, _PASSWORD and _CA_FILE. What the
tests make is in a virtual host of their own, and removed again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import Api

from tests.integration.waiting import eventually

PREFIX = "SUTAZAI_TEST_RABBITMQ_"
URL = os.environ.get(f"{PREFIX}URL", "")
COLLECTIONS = Path(__file__).parents[2] / ".ansible/collections"
MODULES = "ansible_collections.sutazai.platform.plugins.modules"
VHOST, USER = "sutazai-test", "sutazai-test"

pytestmark = pytest.mark.skipif(not URL, reason=f"no RabbitMQ to test with: {PREFIX}URL isn't set")


def connection():
    return {
        "url": URL,
        "username": os.environ.get(f"{PREFIX}USER", "admin"),
        "password": os.environ[f"{PREFIX}PASSWORD"],
        "ca_file": os.environ.get(f"{PREFIX}CA_FILE") or None,
    }


def run(name, check=False, **arguments):
    """The module as a process, as Ansible runs it: arguments in, JSON out."""
    script = (
        "import json, sys, importlib; from ansible.module_utils.testing import patch_module_args; "
        "from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder as F; "
        f"F(paths=[{str(COLLECTIONS)!r}])._install(); arguments = json.load(sys.stdin)\n"
        f"with patch_module_args(arguments): importlib.import_module('{MODULES}.{name}').main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps({**connection(), **arguments, "_ansible_check_mode": check}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def objects():
    everywhere = [{"vhost": VHOST}]
    yield {
        "vhosts": [{"name": VHOST}],
        "users": [{"name": USER, "password": "first-password-of-the-test", "permissions": everywhere}],
        "policies": [{"name": "length", "vhost": VHOST, "apply_to": "queues", "definition": {"max-length": 10}}],
    }
    run("rabbitmq_objects", vhosts=[{"name": VHOST, "state": "absent"}], absent_users=[USER])


def test_objects_are_made_once(objects):
    assert run("rabbitmq_objects", check=True, **objects)["changed"]
    first = run("rabbitmq_objects", **objects)
    assert len(first["changes"]) == 4
    assert not run("rabbitmq_objects", **objects)["changed"]
    assert not run("rabbitmq_objects", check=True, **objects)["changed"]


def test_a_changed_password_is_noticed(objects):
    run("rabbitmq_objects", **objects)
    objects["users"][0]["password"] = "second-password-of-the-test"
    assert run("rabbitmq_objects", **objects)["changes"] == [f"change the password of {USER}"]
    assert not run("rabbitmq_objects", **objects)["changed"]


@pytest.fixture
def topology(objects):
    # Without its policy, which sets no dead-letter exchange.
    run("rabbitmq_objects", **{**objects, "policies": []})
    return {
        "exchanges": [{"name": "tasks", "vhost": VHOST}],
        "queues": [
            {
                "name": "inference",
                "vhost": VHOST,
                "priority": 10,
                "bindings": [{"exchange": "tasks", "routing_key": "ai.inference"}],
            }
        ],
        "partitions": [
            {"name": "ai.tasks", "vhost": VHOST, "partitions": 4, "partition_by": "agent_id", "exchange": "tasks"}
        ],
        "vhosts": [VHOST],
        # What else is on this broker is not this test's.
        "ignore": ["^celery", "pidbox"],
    }


def api(method, path, body=None):
    """Ask the broker itself, through no module."""
    parameters = {**connection(), "other_urls": [], "timeout_seconds": 15}
    return Api.of_module(parameters).request(method, f"/api/{path}", body)


def queues():
    return {each["name"]: each for each in api("GET", f"queues/{VHOST}?disable_stats=true&enable_queue_totals=true")}


def publish(exchange, routing_key="", **headers):
    body = {
        "properties": {"headers": headers, "delivery_mode": 2},
        "routing_key": routing_key,
        "payload": "text",
        "payload_encoding": "string",
    }
    return api("POST", f"exchanges/{VHOST}/{exchange}/publish", body)["routed"]


def get(queue, ackmode="ack_requeue_false"):
    body = {"count": 100, "ackmode": ackmode, "encoding": "auto"}
    return api("POST", f"queues/{VHOST}/{queue}/get", body)


def test_a_topology_is_declared_once(topology):
    assert run("rabbitmq_topology", check=True, **topology)["changed"]
    assert queues() == {}
    first = run("rabbitmq_topology", **topology)
    assert not first.get("failed"), first
    found = queues()
    assert set(found) == {"inference", "dead-letters", *(f"ai.tasks.{number}" for number in range(4))}
    assert {queue["type"] for queue in found.values()} == {"quorum"}
    again = run("rabbitmq_topology", **topology)
    assert (again["changed"], again["conflicts"]) == (False, [])
    mine = [each for each in again["topology"]["partitions"] if each.get("vhost") == VHOST]
    assert mine == topology["partitions"]


def test_every_queue_dead_letters(topology):
    run("rabbitmq_topology", **topology)
    assert publish("tasks", "ai.inference")
    eventually(lambda: get("inference", "reject_requeue_false"))
    (dead,) = eventually(lambda: get("dead-letters"))
    assert dead["properties"]["headers"]["x-first-death-queue"] == "inference"


def partition_sizes():
    found = queues()
    return [found[f"ai.tasks.{number}"]["messages"] for number in range(4)]


def test_an_agents_tasks_go_to_one_partition(topology):
    run("rabbitmq_topology", **topology)

    def publish_all():
        for agent in range(40):
            assert publish("ai.tasks", agent_id=f"agent-{agent}")

    publish_all()
    eventually(lambda: sum(partition_sizes()) == 40)
    once = partition_sizes()
    assert all(once), "every partition has its share"
    publish_all()
    eventually(lambda: sum(partition_sizes()) == 80)
    assert partition_sizes() == [2 * size for size in once]
    for _ in range(5):
        assert publish("ai.tasks", agent_id="agent-1")
    eventually(lambda: sum(partition_sizes()) == 85)
    assert sorted(now - 2 * before for now, before in zip(partition_sizes(), once, strict=True)) == [0, 0, 0, 5]


def test_a_policy_that_takes_dead_letters_away_is_refused(topology, objects):
    run("rabbitmq_topology", **topology)
    run("rabbitmq_objects", **objects)
    # A policy's change reaches a queue a moment later.
    answer = eventually(lambda: (said := run("rabbitmq_topology", **topology)).get("failed") and said)
    assert "the policy length of sutazai-test applies to" in answer["msg"]


def test_a_queue_of_another_type_is_refused(topology):
    api("PUT", f"queues/{VHOST}/inference", {"durable": True, "arguments": {"x-queue-type": "classic"}})
    answer = run("rabbitmq_topology", **topology)
    assert answer["failed"]
    assert "its type is classic instead of quorum" in answer["msg"]
    assert set(queues()) == {"inference"}


def test_a_queue_that_holds_something_is_not_removed(topology):
    run("rabbitmq_topology", **topology)
    assert publish("tasks", "ai.inference")
    eventually(lambda: queues()["inference"]["messages"])
    topology["queues"][0] = {"name": "inference", "vhost": VHOST, "state": "absent"}
    answer = run("rabbitmq_topology", **topology)
    assert "is declared absent, but has 1 message" in answer["msg"]
    get("inference")
    eventually(lambda: queues()["inference"]["messages"] == 0)
    assert run("rabbitmq_topology", **topology)["changed"]
    assert "inference" not in queues()


def test_mirrored_queues_are_made_where_there_are_any(topology):
    answer = run("rabbitmq_topology", **topology, mirrored=True)
    if int(api("GET", "overview")["rabbitmq_version"].split(".")[0]) >= 4:
        assert "quorum queues have their copies anyway" in answer["msg"]
        return
    found = queues()
    assert {queue["type"] for queue in found.values()} == {"classic"}
    mirrored = eventually(lambda: all(queue.get("policy", "").startswith("sutazai-") for queue in queues().values()))
    assert mirrored, queues()
    again = run("rabbitmq_topology", **topology, mirrored=True)
    assert (again["changed"], again["conflicts"]) == (False, [])
    assert "its type is classic instead of quorum" in run("rabbitmq_topology", **topology)["msg"]


def test_members_are_where_they_are_to_be(topology):
    run("rabbitmq_topology", **topology)
    nodes = [node["name"] for node in api("GET", "nodes")]
    answer = run("rabbitmq_queue_members", check=True, nodes=nodes, group_size=min(3, len(nodes)))
    assert (answer["changed"], answer["refused"]) == (False, [])


def test_the_majority_does_not_leave():
    nodes = [node["name"] for node in api("GET", "nodes")]
    answer = run("rabbitmq_queue_members", check=True, nodes=nodes[:1], leaving_nodes=nodes[1:] or nodes)
    assert answer["failed"]
    assert "1 node would stay" in answer["msg"]


def test_wrong_credentials_are_said():
    answer = run("rabbitmq_objects", password="not the password")
    assert answer["failed"]
    assert "refuses" in answer["msg"]


def test_the_cluster_is_described():
    answer = run("rabbitmq_cluster_info", node="rabbit@nowhere", gather=["cluster"])
    assert answer["source"] == "api"
    assert answer["nodes_running"] == answer["members"]
    assert set(answer["versions"]) == set(answer["nodes_running"])
    assert answer["healthy"], answer["problems"]


def test_a_missing_member_is_a_problem():
    answer = run("rabbitmq_cluster_info", node="rabbit@nowhere", gather=["cluster"], nodes=["rabbit@nowhere"])
    assert not answer["healthy"]
    assert any("rabbit@nowhere is not in the cluster" in problem for problem in answer["problems"])


def test_an_api_that_does_not_answer_is_a_problem():
    answer = run("rabbitmq_cluster_info", node="rabbit@nowhere", gather=["cluster"], url="https://127.0.0.1:1")
    assert not answer["healthy"]
    assert "doesn't answer" in answer["problems"][0]
