"""A master of a real cluster dies, and what systemd runs then lets its replica take over before the others have noticed."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import jinja2
import pytest

from tests.integration.redis_servers import BINARY, PASSWORD, Servers

TEMPLATES = Path(__file__).resolve().parents[2] / "roles/redis/templates"

pytestmark = pytest.mark.skipif(
    not BINARY, reason="no redis-server on PATH: install it, or set REDIS_SERVER to its path"
)


@pytest.fixture
def servers(tmp_path):
    started = Servers(tmp_path, 6)
    deadline = time.monotonic() + 30
    while len(started.run("redis_cluster_info")["unreachable_members"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    formed = started.run("redis_cluster")
    assert formed.get("changed"), formed
    yield started
    for name in list(started.processes):
        started.stop(name)


def render(template: str, script: Path, **variables: object) -> Path:
    environment = jinja2.Environment(  # noqa: S701 a shell script isn't HTML
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    text = (TEMPLATES / template).read_text()
    script.write_text(environment.from_string(text).render(ansible_managed="", **variables))
    return script


def hand_over(servers: Servers, name: str, result: str = "signal", newer: bool = False) -> str:
    """What the script says, as systemd runs it when this server has ended; `newer`: with what Redis 7.2 and later remembers."""
    directory = servers.directory / name
    if newer:
        nodes = (directory / "nodes.conf").read_text()
        directory = servers.directory / "newer"
        directory.mkdir()
        (directory / "nodes.conf").write_text(re.sub(r":(\d+)@(\d+)\S*", r":0@\2,,tls-port=\1,shard-id=0", nodes))
    credentials = servers.directory / "admin.env"
    credentials.write_text(f"REDISCLI_AUTH={PASSWORD}\n")
    script = render(
        "redis-hand-over.sh.j2",
        servers.directory / "hand-over",
        __redis_data_directory=directory,
        __redis_credentials_file=credentials,
        redis_tls_ca_file=servers.directory / "ca.crt",
        redis_tls_cert_file=servers.directory / "host.crt",
        redis_tls_key_file=servers.directory / "host.key",
        redis_admin_user="admin",
        redis_address="127.0.0.1",
        redis_port=servers.ports[name],
    )
    done = subprocess.run(
        ["sh", script], env={**os.environ, "SERVICE_RESULT": result}, capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


def layout(servers: Servers) -> dict:
    return servers.run("redis_cluster_info")["layout"]


@pytest.mark.parametrize("newer", [False, True])
def test_the_replica_of_a_master_that_died_takes_over_at_once(servers, newer):
    replica = layout(servers)["redis-1"]["replicas"][0]
    servers.stop("redis-1")
    began = time.monotonic()
    said = hand_over(servers, "redis-1", newer=newer)
    assert said.endswith(f"127.0.0.1:{servers.ports[replica]}, its replica, is to take over: OK\n")
    while "role:master" not in str(servers.call(replica, "INFO", "replication")):
        assert time.monotonic() - began < 30
        time.sleep(0.05)
    # The others count it as failed after the node timeout (3 s) at the earliest, and the replica waits half a second then.
    assert time.monotonic() - began < 2.5


def test_nothing_is_handed_over_without_need(servers):
    before = layout(servers)
    replica = before["redis-1"]["replicas"][0]
    assert hand_over(servers, "redis-1", "success") == ""
    servers.stop(replica)
    assert hand_over(servers, replica) == ""
    servers.stop("redis-1")
    assert "No replica that was in sync answers" in hand_over(servers, "redis-1")


def test_a_replica_of_somebody_else_is_left_alone(servers):
    """A node that doesn't come up again after an absence remembers what was."""
    replica = layout(servers)["redis-1"]["replicas"][0]
    servers.stop("redis-1")
    deadline = time.monotonic() + 30
    while "role:master" not in str(servers.call(replica, "INFO", "replication")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "No replica that was in sync answers" in hand_over(servers, "redis-1")


MASTER = "07c37dfe 127.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-5460\nvars currentEpoch 1 lastVoteEpoch 0\n"


@pytest.mark.parametrize(
    ("nodes", "up_for", "wait"),
    [
        (MASTER, 7, 3),  # the host has just come back
        (MASTER, 3600, 0),
        (MASTER.replace("myself,master -", "myself,slave e7d1eecc").replace(" 0-5460", ""), 1, 0),
        (MASTER.replace(" 0-5460", ""), 1, 0),  # nobody misses a master without slots
        (None, 1, 0),  # never started
    ],
)
def test_a_former_master_waits_when_its_host_has_just_booted(tmp_path, nodes, up_for, wait):
    if nodes:
        (tmp_path / "nodes.conf").write_text(nodes)
    script = render(
        "redis-boot-delay.sh.j2", tmp_path / "delay", __redis_data_directory=tmp_path, redis_restart_delay_seconds=10
    )
    booted = time.monotonic_ns() // 1000 - up_for * 1_000_000
    programs = {
        "systemctl": f'test "$*" = "show --property UserspaceTimestampMonotonic --value" && echo {booted}',
        "sleep": "echo slept $1",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.splitlines()[1:] == ([f"slept {wait}"] if wait else [])
    assert done.stdout.startswith("This host has just booted") == bool(wait)
