from __future__ import annotations

import io
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pika
import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import failover_rabbitmq
from ansible_collections.sutazai.platform.plugins.module_utils.failover_probe import Log
from ansible_collections.sutazai.platform.plugins.module_utils.failover_targets import (
    Consul,
    NotAcknowledged,
    Redis,
    Settings,
    cut_socket,
    parse_slots,
    slot_of,
    tag_within,
)


def test_slots_are_those_that_redis_computes():
    assert [slot_of(tag) for tag in ("foo", "bar", "123456789")] == [12182, 5061, 12739]


def test_slots_as_the_info_module_prints_them():
    assert parse_slots("0-5460 5462, 7000-7001") == ((0, 5460), (5462, 5462), (7000, 7001))
    assert parse_slots("") == ()


@pytest.mark.parametrize("slots", [((0, 5460),), ((10923, 16383),), ((4711, 4711),)])
def test_the_records_are_in_the_shard_that_is_meant(slots):
    tag = tag_within("run", slots)
    assert slots[0][0] <= slot_of(tag) <= slots[0][1]
    target = Redis(Settings("run", "localhost", 6379, slots=slots))
    for series in target.series:
        assert f"{{{tag}}}" in target.key(series["name"], 7)


def test_slots_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="no hash tag"):
        tag_within("run", ((16384, 17000),))


def test_only_what_needs_no_replica_may_be_lost_and_has_a_limited_gap():
    wait, plain = Redis(Settings("run", "localhost", 6379)).series
    assert (wait["may_lose"], wait["limited"]) == (False, False)
    assert (plain["may_lose"], plain.get("limited", True)) == (True, True)


def test_a_connection_is_cut_under_its_reader():
    mine, theirs = socket.socketpair()
    threading.Timer(0.2, cut_socket, [mine.fileno()]).start()
    began = time.monotonic()
    assert mine.recv(1) == b""
    assert time.monotonic() - began < 5
    mine.close()
    theirs.close()
    cut_socket(-1)  # one that is closed already


class Agent(BaseHTTPRequestHandler):
    """Consul's keys and values."""

    keys: dict[str, bytes] = {}
    asked: list[tuple[str, str | None]] = []

    def answer(self, content, status=200):
        text = content if isinstance(content, str) else json.dumps(content)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        self.asked.append((self.path, self.headers["X-Consul-Token"]))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        key, _mark, query = self.path.removeprefix("/v1/kv/").partition("?")
        if key.endswith("/500"):
            self.answer("No cluster leader", 500)
        elif query == "cas=0" and key in self.keys:
            self.answer(False)
        else:
            self.keys[key] = body
            self.answer(True)

    def do_GET(self):
        self.answer(sorted(self.keys))

    def do_DELETE(self):
        self.keys.clear()
        self.answer(True)

    def log_message(self, *_arguments):
        """Say nothing."""


@pytest.fixture
def consul():
    Agent.keys.clear()
    Agent.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Agent)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Consul(Settings("run", f"http://127.0.0.1:{server.server_port}", 0, token="the-token", deadline=2))
    server.shutdown()
    server.server_close()


def test_consul_writes_only_what_is_not_there(consul):
    consul.prepare()
    session = consul.connect()
    for number in (0, 1, 2):
        session.write("check-and-set", number)
    with pytest.raises(NotAcknowledged, match="already there"):
        session.write("check-and-set", 1)
    with pytest.raises(NotAcknowledged, match="500 No cluster leader"):
        session.write("check-and-set", 500)
    session.close()
    assert consul.found() == {"check-and-set": [0, 1, 2]}
    assert Agent.asked[1] == ("/v1/kv/sutazai/failover/run/0?cas=0", "the-token")
    consul.remove()
    assert consul.found() == {"check-and-set": []}


class Loop:
    def call_later(self, *_arguments):
        """Nothing happens later."""


class Channel:
    is_open = True

    def __init__(self):
        self.published = []

    def basic_publish(self, _exchange, _queue, body, _properties, mandatory):
        assert mandatory
        self.published.append(int(body))

    def add_on_return_callback(self, callback):
        self.returned = callback

    def confirm_delivery(self, callback):
        self.confirmed = callback

    def confirm(self, tag, multiple=False, kind=pika.spec.Basic.Ack):
        self.confirmed(SimpleNamespace(method=kind(tag, multiple)))


@pytest.fixture
def publisher():
    file = io.StringIO()
    made = failover_rabbitmq.Publisher(Loop(), None, "queue", "publish", Log(file), deadline=0.2)
    made.lines = lambda: [json.loads(line) for line in file.getvalue().splitlines()]
    return made


def open_channel(publisher):
    channel = Channel()
    publisher.link.channel = channel
    publisher._ready(channel)
    return channel


def outcomes(publisher):
    return {entry["number"]: entry["error"] for entry in publisher.lines()}


def test_a_publish_waits_for_its_confirm(publisher):
    publisher.publish(0)
    channel = open_channel(publisher)
    publisher.publish(1)
    publisher.publish(2)
    publisher.publish(3)
    assert channel.published == [0, 1, 2, 3] and publisher.lines() == []
    channel.confirm(2)
    assert outcomes(publisher) == {1: ""}
    channel.confirm(3, multiple=True)
    assert outcomes(publisher) == {0: "", 1: "", 2: ""}
    channel.confirm(4, kind=pika.spec.Basic.Nack)
    assert outcomes(publisher)[3].startswith("nack") and not publisher.busy


def test_what_no_queue_took_is_not_acknowledged(publisher):
    channel = open_channel(publisher)
    publisher.publish(5)
    channel.returned(None, None, None, b"5")
    channel.confirm(1)
    assert outcomes(publisher)[5].startswith("returned")


def test_without_a_confirm_the_connection_is_given_up(publisher):
    channel = open_channel(publisher)
    publisher.publish(6)
    publisher.watch()
    assert publisher.lines() == []
    time.sleep(0.25)
    publisher.watch()
    assert outcomes(publisher) == {6: "no confirm within 0.2 s"} and publisher.link.channel is None
    publisher.publish(7)
    time.sleep(0.25)
    publisher.watch()
    assert outcomes(publisher)[7].startswith("no connection within 0.2 s") and channel.published == [6]
    assert not publisher.busy
