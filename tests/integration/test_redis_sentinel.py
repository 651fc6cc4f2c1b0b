"""The modules for Redis with sentinels against real servers on loopback, with TLS and ACL users. REDIS_SERVER names the binary."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time

import pytest
import redis
from ansible_collections.sutazai.platform.plugins.module_utils.failover_targets import (
    NotAcknowledged,
    RedisSentinel,
    Settings,
)

from tests.integration.redis_servers import BINARY, PASSWORD, SentinelServers

pytestmark = pytest.mark.skipif(
    not BINARY, reason="no redis-server on PATH: install it, or set REDIS_SERVER to its path"
)
OPTIONS = {
    "down-after-milliseconds": 3000,
    "failover-timeout": 5000,
    "parallel-syncs": 1,
}
SENTINEL = {"options": OPTIONS, "sentinel_user": "sentinel", "sentinel_password": PASSWORD}


def started(tmp_path, count):
    servers = SentinelServers(tmp_path, count)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        seen = servers.run("redis_sentinel_info")
        if not seen["unreachable_members"] + seen["unreachable_sentinels"]:
            break
        time.sleep(0.3)
    return servers


@pytest.fixture
def servers(tmp_path):
    servers = started(tmp_path, 3)
    yield servers
    for name in list(servers.processes):
        servers.stop(name)


@pytest.fixture
def four(tmp_path):
    servers = started(tmp_path, 4)
    yield servers
    for name in list(servers.processes):
        servers.stop(name)


def form(servers, **more):
    return servers.run("redis_sentinel", **SENTINEL, **more)


class Client(threading.Thread):
    """Writes as the probe of failover tests does: asks the sentinels who is master, and keeps what was acknowledged."""

    def __init__(self, servers) -> None:
        super().__init__(daemon=True)
        self.target = RedisSentinel(
            Settings(
                run="client",
                host=servers.addresses["redis-3"],
                port=servers.sentinel_port,
                user="application",
                password=PASSWORD,
                ca_file=str(servers.directory / "ca.crt"),
                deadline=2,
                replicas=2,
                master_name="redis",
            )
        )
        self.target.prepare()
        self.acknowledged: dict[str, list[int]] = {one["name"]: [] for one in self.target.series}
        self.gap = 0.0
        self.over = threading.Event()

    def run(self) -> None:
        number, last = 0, time.monotonic()
        session = self.target.connect()
        while not self.over.is_set():
            for series, numbers in self.acknowledged.items():
                try:
                    session.write(series, number)
                    numbers.append(number)
                    if series == self.target.PLAIN:
                        self.gap, last = max(self.gap, time.monotonic() - last), time.monotonic()
                except (redis.RedisError, NotAcknowledged):
                    continue  # made once; what isn't acknowledged may be there or not
            number += 1
            time.sleep(0.01)

    def lost(self) -> dict[str, set[int]]:
        self.over.set()
        self.join()
        found = self.target.found()
        return {series: set(numbers) - set(found[series]) for series, numbers in self.acknowledged.items()}


def test_forms_once_and_hands_over_without_losing_a_write(servers):
    would = form(servers, check=True)
    assert would["changed"], would
    assert servers.run("redis_sentinel_info")["masters"] == []

    forming = servers.popen("redis_sentinel", **SENTINEL)
    time.sleep(0.9)
    forming.send_signal(signal.SIGKILL)
    forming.communicate()
    formed = form(servers)
    assert not formed.get("failed"), formed
    assert formed["layout"] == {"redis-1": {"slots": "", "replicas": ["redis-2", "redis-3"]}}
    again = form(servers)
    assert not again["changed"], again
    assert again["actions"] == []
    assert not form(servers, check=True)["changed"]

    health = servers.run("redis_sentinel_info", wait_seconds=15, config=["maxmemory-policy", "masterauth"])
    assert health["healthy"], health["problems"]
    assert health["members"]["redis-1"]["config"] == {"maxmemory-policy": "noeviction"}
    assert PASSWORD not in json.dumps(health)

    client = Client(servers)
    client.start()
    time.sleep(1)
    handed = servers.run("redis_sentinel_failover", node="redis-1")
    assert handed.get("changed"), handed
    time.sleep(1)
    assert client.lost() == {client.target.WAIT: set(), client.target.PLAIN: set()}
    assert min(len(numbers) for numbers in client.acknowledged.values()) > 50
    client.target.remove()
    assert not any(client.target.found().values())
    assert client.gap < 8  # a second or two, on a machine that has nothing else to do
    assert not servers.run("redis_sentinel_failover", node="redis-1")["changed"]
    health = servers.run("redis_sentinel_info", wait_seconds=5)
    assert health["healthy"], health["problems"]
    assert health["master"] == handed["promoted"]
    assert not form(servers)["changed"], "a failover is no reason to change anything"


def test_a_dead_master_is_replaced_and_comes_back_as_a_replica(servers):
    assert form(servers)["changed"]
    assert servers.run("redis_sentinel_info", wait_seconds=15)["healthy"]
    servers.stop("redis-1")
    health = servers.run("redis_sentinel_info")
    assert health["unreachable_members"] == ["redis-1"]
    deadline = time.monotonic() + 15
    while not health["masters"] and time.monotonic() < deadline:
        time.sleep(0.3)
        health = servers.run("redis_sentinel_info")
    assert health["masters"], health
    new = health["masters"][0]
    servers.start("redis-1")
    back = form(servers)
    assert not back.get("failed"), back
    health = servers.run("redis_sentinel_info", wait_seconds=20)
    assert health["healthy"], health["problems"]
    assert health["members"]["redis-1"]["master"] == new
    assert not form(servers)["changed"], "the sentinels have done it"

    # A host that comes back empty has no role, and nobody takes it for a master.
    other = next(name for name in health["replicas"] if name != "redis-1")
    for name in (other, f"{other}-sentinel"):
        servers.stop(name)
        shutil.rmtree(servers.directory / name)
    servers.start(other)
    servers.start_sentinel(other)
    rebuilt = form(servers)
    assert rebuilt["layout"] == {new: {"slots": "", "replicas": sorted(["redis-1", other])}}, rebuilt
    health = servers.run("redis_sentinel_info", wait_seconds=20)
    assert health["healthy"], health["problems"]


def test_a_member_joins_and_the_master_leaves(four):
    four.members = ["redis-1", "redis-2", "redis-3"]
    assert form(four)["changed"]
    four.members.append("redis-4")
    joined = form(four)
    assert joined["layout"]["redis-1"]["replicas"] == ["redis-2", "redis-3", "redis-4"], joined
    assert four.call("redis-2", "SENTINEL", "CKQUORUM", "redis", sentinel=True).startswith("OK 4 usable")
    four.call("redis-1", "SET", "precious", "1")

    four.members.remove("redis-1")
    gone = four.nodes(["redis-1"])
    assert form(four, removed_nodes=gone, check=True)["actions"] == ["take redis-1 out"]
    left = form(four, removed_nodes=gone)
    assert not left.get("failed"), left
    health = four.run("redis_sentinel_info", removed_nodes=gone, wait_seconds=15)
    assert health["healthy"], health["problems"]
    assert health["leaving_members"] == []
    assert len(health["masters"]) == 1
    assert four.call(health["master"], "GET", "precious") == "1"
    assert not form(four, removed_nodes=gone)["changed"]

    # Two would be too few.
    four.members.remove(next(name for name in four.members if name != health["master"]))
    refused = form(four, removed_nodes=gone)
    assert refused["failed"]
    assert "at least 3" in refused["msg"]


def test_a_changed_password_cuts_nobody_off_for_long(servers):
    assert form(servers)["changed"]
    assert servers.run("redis_sentinel_info", wait_seconds=15)["healthy"]
    # The sentinel of redis-1 is late: the others' users have the new password already when it connects.
    for name in ("redis-2", "redis-3"):
        servers.call(name, "ACL", "SETUSER", "sentinel", "resetpass", ">the-new-password", sentinel=True)
        servers.call(name, "CLIENT", "KILL", "USER", "sentinel", sentinel=True)
    time.sleep(2)
    servers.call("redis-1", "SENTINEL", "CONFIG", "SET", "sentinel-pass", "the-new-password", sentinel=True)
    for name in ("redis-2", "redis-3"):
        servers.call(name, "SENTINEL", "CONFIG", "SET", "sentinel-pass", "the-new-password", sentinel=True)
    servers.call("redis-1", "ACL", "SETUSER", "sentinel", ">the-new-password", sentinel=True)
    time.sleep(OPTIONS["down-after-milliseconds"] / 1000 + 1)
    assert not servers.run("redis_sentinel_info")["healthy"]
    mended = form(servers)
    assert any("closes the connections" in action for action in mended["actions"]), mended
    health = servers.run("redis_sentinel_info", wait_seconds=15)
    assert health["healthy"], health["problems"]


def test_two_masters_are_never_judged(servers):
    for name in ("redis-1", "redis-2"):
        servers.call(name, "REPLICAOF", "NO", "ONE")
    refused = form(servers)
    assert refused["failed"]
    assert "redis-1 and redis-2 are masters" in refused["msg"]
    assert not refused["changed"]
