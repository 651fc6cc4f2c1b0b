"""Queue lengths: from answers as RabbitMQ 4.0 gives them, and from a broker where there is one."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from sutazai_runtime.autoscaler.decision import Missing, Reading
from sutazai_runtime.autoscaler.http_api import Refused, Unreachable
from sutazai_runtime.autoscaler.rabbitmq import RabbitMQ, queue_length

NOW = 1000.0


def queue(name, ready=None, unacknowledged=0, state="running"):
    """As with disable_stats=true&enable_queue_totals=true."""
    document = {
        "arguments": {"x-queue-type": "quorum"},
        "auto_delete": False,
        "durable": True,
        "exclusive": False,
        "leader": "rabbit@mq-01",
        "members": ["rabbit@mq-01", "rabbit@mq-02", "rabbit@mq-03"],
        "name": name,
        "node": "rabbit@mq-01",
        "online": ["rabbit@mq-01", "rabbit@mq-02", "rabbit@mq-03"],
        "state": state,
        "type": "quorum",
        "vhost": "/",
    }
    if ready is not None:
        document |= {
            "messages": ready + unacknowledged,
            "messages_ready": ready,
            "messages_unacknowledged": unacknowledged,
        }
    return document


def test_messages_that_wait_count_and_those_in_work_do_not():
    document = [queue("inference", 120, 30), queue("training", 7), queue("health", 900)]
    assert queue_length(document, ["inference"], NOW) == Reading(120, NOW)
    assert queue_length(document, ["inference", "training"], NOW) == Reading(127, NOW)


def test_patterns_name_many_and_no_queue_counts_twice():
    document = [queue("tasks.1", 5), queue("tasks.2", 6), queue("other", 100)]
    assert queue_length(document, ["tasks.*"], NOW) == Reading(11, NOW)
    assert queue_length(document, ["tasks.*", "tasks.1"], NOW) == Reading(11, NOW)


def test_an_empty_queue_is_a_reading_and_no_queue_is_none():
    assert queue_length([queue("inference", 0)], ["inference"], NOW) == Reading(0, NOW)
    assert queue_length([], ["inference"], NOW) == Missing('RabbitMQ has no queue "inference"')
    assert queue_length([queue("a", 3)], ["a", "tasks.*"], NOW) == Missing('RabbitMQ has no queue "tasks.*"')


def test_a_queue_without_a_leader_is_not_an_empty_one():
    document = [queue("inference", state="down"), queue("training", 7)]
    reading = queue_length(document, ["*"], NOW)
    assert reading == Missing("RabbitMQ doesn't say how many messages wait in inference (down)")


@pytest.mark.parametrize("document", [None, {}, {"error": "not_found"}, ["inference"], [{"messages_ready": 3}]])
def test_what_is_no_list_of_queues_is_no_reading(document):
    assert queue_length(document, ["inference"], NOW) == Missing("RabbitMQ's answer is no list of queues")


def test_all_nodes_are_asked_before_it_is_given_up(tmp_path):
    password = tmp_path / "password"
    password.write_text("x\n")
    with pytest.raises(Unreachable, match=r"(?s)127\.0\.0\.1:1 doesn't answer.*127\.0\.0\.1:2 doesn't answer"):
        RabbitMQ(["http://127.0.0.1:1", "http://127.0.0.1:2"], "monitor", str(password)).queues("/")
    with pytest.raises(Unreachable, match=r"none can't be read: No such file"):
        RabbitMQ(["http://127.0.0.1:1"], "monitor", str(tmp_path / "none")).queues("/")


# ---------------------------------------------------------------------------------------------------------------- a real broker


@pytest.fixture(scope="module")
def broker(collection_helper):
    """(address without credentials, user, password): the one that is named, or one that is started here."""
    named = os.environ.get("SUTAZAI_TEST_RABBITMQ_URL")
    if named:
        parts = urlsplit(named)
        url = urlunsplit((parts.scheme, f"{parts.hostname}:{parts.port or 15672}", "", "", ""))
        yield url, parts.username or "guest", parts.password or "guest"
        return
    servers = collection_helper("rabbitmq_servers")
    if servers.unavailable():
        pytest.skip(f"{servers.unavailable()}; or set SUTAZAI_TEST_RABBITMQ_URL to http://user:password@host:15672")
    # RabbitMQ runs as its own user, who may not enter pytest's directories.
    directory = Path(tempfile.mkdtemp(prefix="sutazai-rabbitmq-"))
    directory.chmod(0o755)
    node = servers.Node(directory, 0)
    node.start()
    try:
        node.wait()
        yield node.url, servers.ADMINISTRATOR, servers.PASSWORD
    finally:
        node.kill()
        servers.stop_port_mapper()
        shutil.rmtree(directory)


def test_a_real_broker_is_understood(broker, tmp_path):
    url, user, password = broker
    secret = tmp_path / "password"
    secret.write_text(password + "\n")
    rabbitmq = RabbitMQ(["http://127.0.0.1:1", url], user, str(secret))
    api = rabbitmq.nodes[1]
    kinds = {"autoscaler-test.quorum": "quorum", "autoscaler-test.classic": "classic"}
    try:
        for name, kind in kinds.items():
            body = {"durable": True, "arguments": {"x-queue-type": kind}}
            answer = api.request("PUT", f"/api/queues/%2F/{name}", json.dumps(body).encode())
            assert answer.ok, answer.text
            message = {"routing_key": name, "payload": "x", "payload_encoding": "string", "properties": {}}
            for _ in range(3):
                sent = api.request("POST", "/api/exchanges/%2F/amq.default/publish", json.dumps(message).encode())
                assert sent.data == {"routed": True}
        assert queue_length(rabbitmq.queues("/"), ["none"], NOW) == Missing('RabbitMQ has no queue "none"')
        # The broker counts every few seconds.
        deadline = time.monotonic() + 30
        while True:
            reading = queue_length(rabbitmq.queues("/"), ["autoscaler-test.*"], NOW)
            if reading == Reading(6, NOW) or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        assert reading == Reading(6, NOW)
        # All that a user of the autoscaler's own needs is to look.
        looking = tmp_path / "looking"
        looking.write_text("of-these-tests\n")
        user_path = "/api/users/autoscaler-test"
        made = api.request("PUT", user_path, json.dumps({"password": "of-these-tests", "tags": "management"}).encode())
        assert made.ok, made.text
        nothing = json.dumps({"configure": "^$", "write": "^$", "read": "^$"}).encode()
        assert api.request("PUT", "/api/permissions/%2F/autoscaler-test", nothing).ok
        try:
            watcher = RabbitMQ([url], "autoscaler-test", str(looking))
            assert queue_length(watcher.queues("/"), ["autoscaler-test.*"], NOW) == Reading(6, NOW)
        finally:
            api.request("DELETE", user_path)
        with pytest.raises(Refused, match='knows no virtual host "nowhere"'):
            rabbitmq.queues("nowhere")
        secret.write_text("not the password\n")
        with pytest.raises(Refused, match=r"refuses the user \(401\)"):
            rabbitmq.queues("/")
        secret.write_text(password + "\n")
    finally:
        for name in kinds:
            api.request("DELETE", f"/api/queues/%2F/{name}")
