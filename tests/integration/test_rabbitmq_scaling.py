"""A RabbitMQ cluster on loopback: it grows from three nodes to five, loses one of them for good, and shrinks to three again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import (
    QUEUES,
    Api,
    ApiRefused,
    ApiUnreachable,
)

from tests.integration.rabbitmq_servers import ADMINISTRATOR, PASSWORD, Node, stop_port_mapper, unavailable

COLLECTIONS = Path(__file__).parents[2] / ".ansible/collections"
MODULES = "ansible_collections.sutazai.platform.plugins.modules"

pytestmark = pytest.mark.skipif(bool(unavailable()), reason=unavailable())

# Those of the partitions can only be read by a consumer that stays.
QUEUE_NAMES = [f"work-{number}" for number in range(4)]
TOPOLOGY = {
    "exchanges": [{"name": "tasks"}],
    "queues": [{"name": name, "bindings": [{"exchange": "tasks", "routing_key": name}]} for name in QUEUE_NAMES],
    "partitions": [{"name": "ai.tasks", "partitions": 4, "partition_by": "agent_id", "exchange": "tasks"}],
    "vhosts": ["/"],
}


class Cluster:
    """Nodes, and this collection's modules run against them as on one of their hosts."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [Node(directory, number) for number in range(1, 6)]

    def names(self, *numbers: int) -> list[str]:
        return [self.nodes[number - 1].name for number in numbers]

    def start(self, *numbers: int) -> None:
        for number in numbers:
            self.nodes[number - 1].start()
        for number in numbers:
            self.nodes[number - 1].wait()

    def run(self, module: str, check: bool = False, **arguments) -> dict:
        script = (
            "import json, sys, importlib; from ansible.module_utils.testing import patch_module_args; "
            "from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder as F; "
            f"F(paths=[{str(COLLECTIONS)!r}])._install(); arguments = json.load(sys.stdin)\n"
            f"with patch_module_args(arguments): importlib.import_module('{MODULES}.{module}').main()"
        )
        connection = {"url": self.nodes[0].url, "username": ADMINISTRATOR, "password": PASSWORD}
        done = subprocess.run(
            [sys.executable, "-c", script],
            input=json.dumps({**connection, **arguments, "_ansible_check_mode": check}),
            env={**self.nodes[0].environment(), "HOME": os.environ["HOME"]},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.stdout, done.stderr
        return json.loads(done.stdout)

    def api(self, number: int = 1) -> Api:
        return Api([self.nodes[number - 1].url], ADMINISTRATOR, PASSWORD)

    def queues(self) -> dict[str, dict]:
        return {queue["name"]: queue for queue in self.api().get(QUEUES)}

    def publish(self, name: str, queue: str, number: int = 1) -> bool:
        body = {
            "properties": {"delivery_mode": 2},
            "routing_key": queue,
            "payload": name,
            "payload_encoding": "string",
        }
        return self.api(number).request("POST", "/api/exchanges/%2F/tasks/publish", body)["routed"]

    def drain(self) -> list[str]:
        """All messages, taken out."""
        body = {"count": 5000, "ackmode": "ack_requeue_false", "encoding": "auto"}
        return [
            message["payload"]
            for queue in QUEUE_NAMES
            for message in self.api().request("POST", f"/api/queues/%2F/{queue}/get", body)
        ]


class Writer(threading.Thread):
    """Publishes numbered messages through nodes that stay, each until a broker has taken it, and counts the tries."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.cluster, self.sent, self.failures, self.stopping = cluster, [], 0, threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            name, queue = f"message-{len(self.sent)}", QUEUE_NAMES[len(self.sent) % len(QUEUE_NAMES)]
            for attempt in range(200):
                with contextlib.suppress(ApiRefused, ApiUnreachable):
                    if self.cluster.publish(name, queue, 1 + attempt % 3):
                        self.sent.append(name)
                        break
                self.failures += 1
                time.sleep(0.1)
            else:
                return
            time.sleep(0.02)

    def stop(self) -> None:
        self.stopping.set()
        self.join()


@pytest.fixture(scope="module")
def cluster():
    directory = Path(tempfile.mkdtemp(prefix="sutazai-rabbitmq-", dir="/tmp"))
    directory.chmod(0o755)
    made = Cluster(directory)
    try:
        made.start(1, 2, 3)
        yield made
    finally:
        for node in made.nodes:
            node.kill()
        stop_port_mapper()
        shutil.rmtree(directory)


def test_from_three_to_five_and_back(cluster):
    three, five, leaving = cluster.names(1, 2, 3), cluster.names(1, 2, 3, 4, 5), cluster.names(4, 5)
    formed = cluster.run("rabbitmq_cluster", nodes=three)
    assert formed["nodes_running"] == three, formed
    declared = cluster.run("rabbitmq_topology", nodes=three, **TOPOLOGY)
    assert declared["changed"], declared
    assert all(len(queue["members"]) == 3 for queue in cluster.queues().values())
    assert not cluster.run("rabbitmq_queue_members", nodes=three)["changed"]

    writer = Writer(cluster)
    writer.start()
    try:
        # Out: the new nodes get their share.
        cluster.start(4, 5)
        joined = cluster.run("rabbitmq_cluster", nodes=five)
        assert joined["nodes_running"] == five, joined
        spread = cluster.run("rabbitmq_queue_members", nodes=five)
        assert spread["changed"], spread
        for node in five:
            holding = sum(node in queue["members"] for queue in cluster.queues().values())
            assert holding >= 4, (node, cluster.queues())
        assert not cluster.run("rabbitmq_queue_members", nodes=five)["changed"]

        # In, one of the two being gone for good.
        too_few = cluster.run("rabbitmq_queue_members", nodes=cluster.names(1, 2), leaving_nodes=cluster.names(3, 4, 5))
        assert "2 nodes would stay" in too_few["msg"]
        early = cluster.run("rabbitmq_cluster", nodes=three, removed_nodes=leaving)
        assert "still have a member there" in early["msg"]
        cluster.nodes[4].kill()
        wait_until(
            lambda: cluster.run("rabbitmq_cluster_info", node=three[0], gather=["cluster"])["nodes_running"] != five
        )
        info = cluster.run(
            "rabbitmq_cluster_info", node=three[0], gather=["cluster"], nodes=three, leaving_nodes=leaving
        )
        assert info["healthy"], info["problems"]
        moved = cluster.run("rabbitmq_queue_members", nodes=three, leaving_nodes=leaving)
        assert moved["changed"], moved
        taken = cluster.run("rabbitmq_cluster", nodes=three, removed_nodes=leaving)
        assert taken["removed"] == leaving, taken
    finally:
        writer.stop()

    assert cluster.run("rabbitmq_cluster_info", node=three[0], gather=["cluster"], nodes=three)["healthy"]
    assert all(sorted(queue["members"]) == three for queue in cluster.queues().values())
    assert not cluster.run("rabbitmq_queue_members", nodes=three, leaving_nodes=leaving)["changed"]
    assert not cluster.run("rabbitmq_cluster", nodes=three, removed_nodes=leaving)["changed"]
    assert not cluster.run("rabbitmq_topology", nodes=three, **TOPOLOGY)["changed"]
    # A publisher that tried again may have sent one twice, but none may be missing.
    received = cluster.drain()
    assert set(writer.sent) - set(received) == set()
    assert len(writer.sent) > 50
    assert writer.failures < len(writer.sent)


def test_a_queue_without_majority_is_not_touched(cluster):
    """With two of three nodes gone, nothing can be moved, and the module says why."""
    three = cluster.names(1, 2, 3)
    for number in (2, 3):
        cluster.nodes[number - 1].kill()
    wait_until(lambda: len(cluster.run("rabbitmq_queue_members", check=True, nodes=three)["nodes_running"]) == 1)
    refused = cluster.run("rabbitmq_queue_members", nodes=three[:1], leaving_nodes=three[1:])
    assert "1 node would stay" in refused["msg"]
    assert "has lost its majority" in refused["msg"]
    missing = cluster.run("rabbitmq_topology", nodes=three, queues=[{"name": "another"}])
    assert "don't run, and queues that are declared now would have no member there" in missing["msg"]


def wait_until(holds, seconds: int = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(1)
