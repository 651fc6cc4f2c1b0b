"""A real Redis Cluster grows and shrinks under clients that write and read, and nothing is lost, also when the module is killed."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import parse_nodes

from tests.integration.redis_servers import BINARY, Servers

pytestmark = pytest.mark.skipif(
    not BINARY, reason="no redis-server on PATH: install it, or set REDIS_SERVER to its path"
)
KEYS = 3000


class Clients:
    """An application's writer and reader. Each error that its cluster client didn't cope with is kept."""

    def __init__(self, servers: Servers) -> None:
        from redis.backoff import ExponentialBackoff
        from redis.cluster import ClusterNode, RedisCluster
        from redis.retry import Retry

        nodes = [ClusterNode("127.0.0.1", port) for port in servers.ports.values()]
        self.client = RedisCluster(
            startup_nodes=nodes[:6],
            retry=Retry(ExponentialBackoff(cap=1, base=0.01), 8),
            **servers.sign_in("application"),
        )
        self.acknowledged: dict[str, str] = {}
        self.counted = 0
        self.errors: list[str] = []
        self.wrong: list[str] = []
        self.reads = 0
        self.stopping = threading.Event()
        #: Held by who sends a request.
        self.going = {"write": threading.Lock(), "read": threading.Lock()}
        self.threads: list[threading.Thread] = []

    def call(self, command: str, *arguments: object) -> object:
        """As an application has to call redis-py's cluster client (up to 8.1 at least).

        Sent on (ASK) to a node that has had no slots until now, the client doesn't know it and raises AttributeError, before it has sent
        anything. It learns of the node by reading the cluster's slots anew.
        """
        for _ in range(100):
            try:
                return getattr(self.client, command)(*arguments)
            except AttributeError as error:
                if "redis_connection" not in str(error):
                    raise
                time.sleep(0.05)
                self.client.nodes_manager.initialize()
        raise AssertionError("The client was sent on to a node that nobody knows.")

    def fill(self) -> None:
        for first in range(0, KEYS, 500):
            pipeline = self.client.pipeline()
            for number in range(first, first + 500):
                pipeline.set(f"key:{number}", f"value-{number}")
                self.acknowledged[f"key:{number}"] = f"value-{number}"
            pipeline.execute()
        self.client.set(b"\xff\x00 binary", "binary")
        self.client.rpush("{big}list", *["x" * 1000] * 5000)
        self.client.set("{big}short-lived", "x", ex=3600)

    def write(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            with self.going["write"]:
                try:
                    key = f"key:{number * 7919 % (2 * KEYS)}"
                    self.call("set", key, f"new-{number}")
                    self.acknowledged[key] = f"new-{number}"
                    self.call("incr", f"counter:{number % 100}")
                    self.counted += 1
                except Exception as error:
                    self.errors.append(f"write: {type(error).__name__}: {error}")
            time.sleep(0.005)

    def read(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            key = f"key:{number * 104729 % KEYS}"
            with self.going["read"]:
                before = self.acknowledged[key]
                try:
                    found = self.call("get", key)
                    self.reads += 1
                except Exception as error:
                    self.errors.append(f"read: {type(error).__name__}: {error}")
                    continue
            # The writer may have replaced it meanwhile.
            if found != before and not (found or "").startswith("new-"):
                self.wrong.append(f"{key}: {found} instead of {before}")
            time.sleep(0.005)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        with self.going["write"], self.going["read"]:
            yield

    def __enter__(self) -> Clients:
        for work in (self.write, self.read):
            self.threads.append(threading.Thread(target=work))
            self.threads[-1].start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def check(self) -> None:
        assert self.errors == []
        assert self.wrong == []
        assert self.counted > 20
        assert self.reads > 20
        lost = [key for key, value in self.acknowledged.items() if self.client.get(key) != value]
        assert lost == []
        assert sum(int(self.client.get(f"counter:{n}") or 0) for n in range(100)) == self.counted
        assert self.client.llen("{big}list") == 5000
        assert 0 < self.client.ttl("{big}short-lived") <= 3600


@pytest.fixture
def servers(tmp_path):
    started = Servers(tmp_path, 8)
    deadline = time.monotonic() + 30
    while len(started.run("redis_cluster_info")["unreachable_members"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    started.members = started.members[:6]
    started.racks = dict(zip(started.ports, "abcabcde", strict=True))
    formed = started.run("redis_cluster")
    assert formed.get("changed"), formed
    yield started
    for name in list(started.processes):
        started.stop(name)


def healthy(servers: Servers) -> dict:
    health = servers.run("redis_cluster_info", wait_seconds=20)
    assert health["healthy"], health["problems"]
    return health


def wait_for_slots(servers: Servers, name: str, count: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        me = parse_nodes(servers.call(name, "CLUSTER", "NODES"))[servers.call(name, "CLUSTER", "MYID")]
        if sum(last - first + 1 for first, last in me.slots) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{name} didn't get {count} slots")


def killed_at(servers: Servers, slots: int) -> None:
    growing = servers.popen("redis_cluster")
    wait_for_slots(servers, "redis-7", slots)
    growing.send_signal(signal.SIGKILL)
    growing.communicate()


def replace_master(servers: Servers, name: str) -> str:
    """Its replica takes over, whatever is on its way: as if its host had died."""
    replica = servers.run("redis_cluster_info")["layout"][name]["replicas"][0]
    servers.call(replica, "CLUSTER", "FAILOVER")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if any(its["replicas"] == [name] for its in servers.run("redis_cluster_info")["layout"].values()):
            return replica
        time.sleep(0.1)
    raise AssertionError(f"{replica} didn't take over from {name}")


def grow(servers: Servers, clients: Clients) -> None:
    """Killed three times, and a master that is half emptied is replaced by its replica meanwhile."""
    servers.members = list(servers.ports)
    foreseen = servers.run("redis_cluster", check=True)
    assert "redis-8: become a replica of redis-7" in foreseen["actions"], foreseen
    assert sorted(foreseen["layout"]) == ["redis-1", "redis-2", "redis-3", "redis-7"]
    for slots in (300, 2900):
        killed_at(servers, slots)
    # Both who moves slots and their master are gone: Redis (up to 7.2) doesn't tell the replica which slots were half moved, and their keys
    # that have gone are missing to clients until the next run has begun. Nobody can mend that for a client that asks meanwhile.
    with clients.paused():
        promoted = replace_master(servers, "redis-2")
        killed_at(servers, 3300)
    grown = servers.run("redis_cluster")
    assert not grown.get("failed"), grown["msg"]
    assert 0 < grown["slots_moved"] <= 4096 - 3300
    # The failover has put two masters into one rack; what is being changed anyway is left valid.
    health = healthy(servers)
    assert promoted in health["layout"]["redis-2"]["replicas"]
    assert {name: health["members"][name]["slot_count"] for name in health["masters"]} == dict.fromkeys(
        ["redis-1", "redis-2", "redis-3", "redis-7"], 4096
    )
    assert grown["layout"] == health["layout"]
    assert health["layout"]["redis-7"]["replicas"] == ["redis-8"]
    assert "lib" in str(servers.call("redis-7", "FUNCTION", "LIST"))
    again = servers.run("redis_cluster")
    assert (again["changed"], again["actions"]) == (False, [])
    assert not servers.run("redis_cluster", check=True)["changed"]


def fail_back(servers: Servers) -> None:
    """A failover is left alone until it is to be mended."""
    promoted = servers.run("redis_cluster_failover", node="redis-1")["promoted"]
    assert not servers.run("redis_cluster_info", wait_seconds=2)["healthy"]
    left = servers.run("redis_cluster")
    assert not left["changed"]
    assert "has 2 of 4 masters" in str(left["layout_problems"])
    mended = servers.run("redis_cluster", rebalance=True)
    assert mended["actions"] == [f"redis-1: take over from {promoted}"], mended
    assert mended["layout_problems"] == []
    healthy(servers)


def shrink(servers: Servers) -> None:
    gone = servers.nodes(["redis-7", "redis-8"])
    servers.members = servers.members[:6]
    kept = servers.run("redis_cluster", removed_nodes=gone, remove=False)
    assert not kept.get("failed"), kept["msg"]
    assert not kept["changed"]
    shrunk = servers.run("redis_cluster", removed_nodes=gone)
    assert shrunk.get("changed"), shrunk
    assert shrunk["slots_moved"] == 4096
    assert healthy(servers)["masters"] == ["redis-1", "redis-2", "redis-3"]
    for name in ("redis-7", "redis-8"):
        assert "cluster_known_nodes:1" in str(servers.call(name, "CLUSTER", "INFO"))
        assert servers.call(name, "DBSIZE") == 0
    assert not servers.run("redis_cluster", removed_nodes=gone)["changed"]


def test_grows_and_shrinks_under_clients(servers):
    """6 -> 8 -> 6 in racks, with a writer and a reader."""
    clients = Clients(servers)
    clients.fill()
    servers.call("redis-1", "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    with clients:
        grow(servers, clients)
        fail_back(servers)
        shrink(servers)
    clients.check()


def test_a_half_moved_slot_whose_master_is_replaced_is_finished(servers):
    """Redis believes no gossip about a slot that it imports: the target would know no owner of it any more."""
    source, target, slot = "redis-1", "redis-2", 0
    ids = {name: servers.call(name, "CLUSTER", "MYID") for name in (source, target)}
    keys = [f"{{06S}}{number}" for number in range(4)]  # of slot 0
    for key in keys:
        servers.call(source, "SET", key, "kept")
    servers.call(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    servers.call(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    sign_in = ("AUTH2", "admin", servers.sign_in("admin")["password"])
    servers.call(source, "MIGRATE", "127.0.0.1", servers.ports[target], "", 0, 5000, *sign_in, "KEYS", *keys[:2])
    for master in (source, target):
        refused = servers.run("redis_cluster_failover", node=master, timeout_seconds=2)
        assert refused["failed"]
        assert "1 slot(s) half moved from or to it (the first is 0)" in refused["msg"]
    promoted = replace_master(servers, source)
    finished = servers.run("redis_cluster", rebalance=True)
    assert not finished.get("failed"), finished["msg"]
    assert f"{target}: take note that slot {slot} is {promoted}'s" in finished["actions"]
    healthy(servers)
    client = Clients(servers).client
    assert [client.get(key) for key in keys] == ["kept"] * 4


def test_refuses_what_would_lose_data(servers):
    gone = servers.nodes(["redis-6"])
    servers.members = servers.members[:5]
    refused = servers.run("redis_cluster", removed_nodes=gone)
    assert "Without redis-6: 5 nodes make 2 masters with 1 replicas each" in refused["msg"]
    # A master and its replica die: nobody has its slots any more, and removing it would hide that.
    servers.members = list(servers.ports)[:6]
    layout = servers.run("redis_cluster_info")["layout"]
    alone, replica = "redis-1", layout["redis-1"]["replicas"][0]
    servers.members = [name for name in servers.ports if name not in (alone, replica)]
    for name in (replica, alone):
        servers.stop(name)
    refused = servers.run(
        "redis_cluster", removed_nodes=servers.nodes([alone, replica]), unreachable_timeout_seconds=10
    )
    assert refused["failed"]
    assert f"{alone} (127.0.0.1:{servers.ports[alone]}) is dead and still has the slots" in refused["msg"]
    assert not refused["changed"]
