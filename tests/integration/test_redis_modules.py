"""The Redis modules against six real servers on loopback, with TLS and ACL users. REDIS_SERVER names the binary."""

from __future__ import annotations

import json
import shutil
import signal
import time

import pytest

from tests.integration.redis_servers import BINARY, PASSWORD, Servers

pytestmark = pytest.mark.skipif(
    not BINARY, reason="no redis-server on PATH: install it, or set REDIS_SERVER to its path"
)


@pytest.fixture
def servers(tmp_path):
    started = Servers(tmp_path)
    deadline = time.monotonic() + 30
    while len(started.run("redis_cluster_info")["unreachable_members"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    yield started
    for name in list(started.processes):
        started.stop(name)


def test_forms_once_fails_over_and_explains(servers):
    would = servers.run("redis_cluster", check=True)
    assert would["changed"]
    assert servers.run("redis_cluster_info")["masters"] == []

    formed = servers.run("redis_cluster")
    assert formed.get("changed"), formed
    assert sorted(formed["roles"].values()) == ["master"] * 3 + ["replica"] * 3
    again = servers.run("redis_cluster")
    assert not again["changed"]
    assert again["actions"] == []
    assert not servers.run("redis_cluster", check=True)["changed"]

    health = servers.run("redis_cluster_info", wait_seconds=20, config=["maxmemory-policy", "masterauth"])
    assert health["healthy"], health["problems"]
    assert health["slots_covered"] == 16384
    assert health["members"]["redis-1"]["config"] == {"maxmemory-policy": "noeviction"}
    assert PASSWORD not in json.dumps(health["members"])

    handed = servers.run("redis_cluster_failover", node="redis-1")
    assert handed["changed"], handed
    assert not servers.run("redis_cluster_failover", node="redis-1")["changed"]
    assert servers.run("redis_cluster_info", wait_seconds=20)["members"]["redis-1"]["master"] == handed["promoted"]
    assert not servers.run("redis_cluster")["changed"], "a failover is no reason to change anything"

    # A member dies: a problem in the result, and no reason to touch the cluster.
    servers.stop("redis-1")
    health = servers.run("redis_cluster_info")
    assert not health["healthy"]
    assert health["unreachable_members"] == ["redis-1"]
    still = servers.run("redis_cluster")
    assert not still.get("failed"), still
    assert not still["changed"]

    # Its host comes back empty: it takes the lost member's place.
    shutil.rmtree(servers.directory / "redis-1")
    servers.start("redis-1")
    rejoined = servers.run("redis_cluster", timeout_seconds=90)
    assert rejoined["changed"], rejoined
    assert rejoined["layout"][handed["promoted"]]["replicas"] == ["redis-1"]
    health = servers.run("redis_cluster_info", wait_seconds=30)
    assert health["healthy"], health["problems"]


def test_goes_on_after_being_killed_and_takes_no_data(servers):
    servers.call("redis-5", "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    deadline = time.monotonic() + 20
    while "cluster_state:ok" not in str(servers.call("redis-5", "CLUSTER", "INFO")) and time.monotonic() < deadline:
        time.sleep(0.3)
    servers.call("redis-5", "SET", "precious", "1")
    servers.call("redis-5", "CLUSTER", "DELSLOTSRANGE", 0, 16383)
    refused = servers.run("redis_cluster")
    assert refused["failed"]
    assert "redis-5" in refused["msg"]
    assert "never overwritten" in refused["msg"]
    servers.call("redis-5", "FLUSHALL")

    for delay in (0.9, 1.2, 1.6):
        forming = servers.popen("redis_cluster")
        time.sleep(delay)
        forming.send_signal(signal.SIGKILL)
        forming.communicate()
    formed = servers.run("redis_cluster")
    assert not formed.get("failed"), formed
    health = servers.run("redis_cluster_info", wait_seconds=20)
    assert health["healthy"], health["problems"]
    assert len(health["masters"]) == 3
