"""Backups of a real Redis Cluster, by the program that the role puts on its hosts, and what a restore makes of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import backup_files
from ansible_collections.sutazai.platform.plugins.module_utils.redis_backup import plan

from tests.integration.redis_servers import BINARY, PASSWORD, Servers

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.skipif(not BINARY, reason="no redis-server on PATH: install it, or set REDIS_SERVER to its path"),
    pytest.mark.skipif(
        not os.access("/run", os.W_OK), reason="the second server's socket is in /run, which root may write to"
    ),
]

# Without systemd: what it would start, and stop.
SYSTEMD_RUN = """#!/bin/sh
directory=/run/sutazai-redis-restore
mkdir -p $directory
while [ "$1" != redis-server ]; do shift; done
shift
redis-server "$@" --supervised no --daemonize yes --pidfile $directory/pid --logfile $directory/log || exit 1
for _attempt in $(seq 100); do
    [ "$(redis-cli -s $directory/redis.sock ping 2>/dev/null)" = PONG ] && exit 0
    sleep 0.1
done
exit 1
"""
SYSTEMCTL = """#!/bin/sh
pid=$(cat /run/sutazai-redis-restore/pid 2>/dev/null) || exit 0
[ "$1" = stop ] && kill "$pid" && while [ -d "/proc/$pid" ]; do sleep 0.1; done
exit 0
"""
JOURNALCTL = """#!/bin/sh
tail -n 6 /run/sutazai-redis-restore/log
"""


@pytest.fixture
def servers(tmp_path, monkeypatch):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, script in (("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
        (commands / name).write_text(script)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{Path(BINARY).parent}:{os.environ['PATH']}")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    for source in ("roles/redis/files/take-backup", "plugins/module_utils/backup_files.py"):
        shutil.copy(ROOT / source, tmp_path)
    started = Servers(tmp_path)
    deadline = time.monotonic() + 30
    while len(started.run("redis_cluster_info")["unreachable_members"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    formed = started.run("redis_cluster")
    assert formed.get("changed"), formed
    assert started.run("redis_cluster_info", wait_seconds=30)["healthy"]
    yield started
    for name in list(started.processes):
        started.stop(name)


def take_backup(servers, name: str) -> subprocess.CompletedProcess:
    home, backups = servers.directory / name, servers.directory / f"{name}-backups"
    backups.mkdir(exist_ok=True)
    sign_in = [home / "redis.sock", "replication", servers.directory / "password", home / "nodes.conf"]
    command = [sys.executable, "-B", servers.directory / "take-backup", backups, "3", *sign_in]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)


def backups(servers) -> list[dict]:
    return [
        {"host": name, **backup}
        for name in servers.members
        for backup in backup_files.found(str(servers.directory / f"{name}-backups"), "redis")
    ]


def write(servers, count: int) -> None:
    from redis.cluster import RedisCluster

    options = servers.sign_in("admin")
    cluster = RedisCluster(host="127.0.0.1", port=servers.ports["redis-1"], **options)
    for number in range(count):
        cluster.set(f"text:{number}", f"value {number}")
        cluster.hset(f"hash:{number}", mapping={"a": number, "b": "ü"})
        cluster.set(f"short:{number}", "x", ex=3600 + number)
    cluster.set(b"\xff\x00binary", bytes(range(256)))
    cluster.xadd("stream", {"field": "1"}, id="5-1")


def content(servers) -> dict:
    """Every key of every master, as bytes: what it is and when it ends."""
    import redis

    found = {}
    for name in servers.members:
        client = redis.Redis(
            host="127.0.0.1", port=servers.ports[name], **{**servers.sign_in("admin"), "decode_responses": False}
        )
        if client.execute_command("ROLE")[0] != b"master":
            continue
        for key in client.scan_iter(count=500):
            found[key] = (client.dump(key), client.execute_command("PEXPIRETIME", key))
    return found


def restore(servers, chosen) -> int:
    copied = 0
    for one in chosen:
        result = servers.run("redis_restore", path=one["path"], slots=one["slots"], user="root")
        assert not result.get("failed"), result
        copied += result["key_count"]
    return copied


def test_destroyed_data_comes_back_and_live_data_is_not_overwritten(servers):
    write(servers, 200)
    library = "#!lua name=lib\nredis.register_function('seven', function() return 7 end)"
    for name in servers.run("redis_cluster_info")["masters"]:
        servers.call(name, "FUNCTION", "LOAD", library)
    before = content(servers)
    assert len(before) == 602
    for name in servers.members:
        done = take_backup(servers, name)
        assert done.returncode == 0, done.stderr
    taken = backups(servers)
    assert len(taken) == 6
    assert sum(one["about"]["key_count"] for one in taken if one["about"]["role"] == "master") == 602

    refused = servers.run("redis_restore")
    assert refused["failed"]
    assert "there are 602 keys in the cluster" in refused["msg"]
    assert content(servers) == before

    # The backups of one master are gone with it: its replica's stand in.
    lost = servers.run("redis_cluster_info")["masters"][0]
    shutil.rmtree(servers.directory / f"{lost}-backups")
    chosen = plan(backups(servers), "", servers.members)

    assert servers.run("redis_restore", check=True, replace_data=True)["changed"]
    assert len(content(servers)) == 602
    assert servers.run("redis_restore", replace_data=True)["key_count"] == 602
    assert content(servers) == {}
    assert not servers.run("redis_restore")["changed"], "nothing to refuse or to remove in an empty cluster"

    # Masters needn't be those that the backups came from.
    assert servers.run("redis_cluster_failover", node=lost)["changed"]
    assert restore(servers, chosen) == 602
    assert content(servers) == before
    assert servers.call(servers.run("redis_cluster_info")["masters"][0], "FCALL", "seven", 0) == 7
    assert servers.run("redis_cluster_info", wait_seconds=20)["healthy"]

    # Repeated, as after an interruption: the same again.
    assert restore(servers, chosen[:1]) == chosen[0]["key_count"]
    assert content(servers) == before


def test_what_cannot_be_restored_is_named(servers, tmp_path):
    missing = servers.run("redis_restore", path=str(tmp_path / "none.rdb"))
    assert "There is no snapshot" in missing["msg"]
    (tmp_path / "broken.rdb").write_bytes(b"REDIS0010garbage")
    broken = servers.run("redis_restore", path=str(tmp_path / "broken.rdb"), user="root")
    assert broken["failed"]
    assert "broken.rdb can't be loaded" in broken["msg"]
    huge = servers.run("redis_restore", path=str(tmp_path / "broken.rdb"), memory_bytes=1 << 50)
    assert "MiB of memory beside Redis' own" in huge["msg"]
