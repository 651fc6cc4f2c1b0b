"""Redis Cluster: all slots served, no replica beside its master, TLS only, users with passwords only."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.hosts("redis"), pytest.mark.unit("redis-server")]
PKI = "/etc/sutazai/pki"
# The role keeps the administrator's password in a file for root's own tools.
CLI = f"set -a; . /etc/redis/admin.env; redis-cli --no-auth-warning --user admin --tls --cacert {PKI}/ca.crt"


def cli(node, command: str) -> str:
    return node.run(f"{CLI} -h {node.address} -p 6379 {command}")


def fields(text: str) -> dict[str, str]:
    return dict(line.strip().split(":", 1) for line in text.splitlines() if ":" in line)


def test_the_server_runs_and_starts_with_the_host(node):
    service = node.host.service("redis-server")
    assert service.is_running
    assert service.is_enabled


def test_every_node_says_that_the_cluster_is_complete(node, platform):
    info = fields(cli(node, "cluster info"))
    assert info["cluster_state"] == "ok"
    assert info["cluster_slots_ok"] == "16384"
    assert int(info["cluster_known_nodes"]) == len(platform.groups["redis"])
    assert int(info["cluster_size"]) == len(platform.groups["redis"]) // 2


def test_each_master_has_a_replica_on_another_host(member):
    masters, replicas = {}, []
    for line in cli(member, "cluster nodes").splitlines():
        columns = line.split()
        if len(columns) < 8:
            continue
        address = columns[1].split(":")[0]
        assert columns[7] == "connected", line
        assert "fail" not in columns[2], line
        if "master" in columns[2]:
            masters[columns[0]] = address
        else:
            replicas.append((columns[3], address))
    assert {master for master, _ in replicas} == set(masters)
    assert [pair for pair in replicas if masters[pair[0]] == pair[1]] == []


def test_only_tls_listens(node):
    assert node.exposed("redis-server") == {6379, 16379}


def test_tls_verifies_for_the_services_name(node):
    assert "Verification: OK" in node.certificate_for(6379, "redis.service.consul")


def test_without_a_password_nothing_is_answered(node):
    answer = node.run(f"redis-cli -h {node.address} --tls --cacert {PKI}/ca.crt get anything 2>&1", check=False)
    assert "NOAUTH" in answer or "NOPERM" in answer


def test_secrets_are_not_readable_to_others(node):
    assert node.run("find /etc/redis -type f -perm /007").strip() == ""
    assert node.host.file("/etc/redis/users.acl").exists


def test_data_survives_a_crash(node):
    info = fields(cli(node, "info persistence"))
    assert info["aof_enabled"] == "1"
    assert info["aof_last_write_status"] == "ok"
    assert info["rdb_last_bgsave_status"] == "ok"


def test_a_backup_is_taken_and_nobody_else_reads_it(node):
    timer = node.host.service("redis-backup.timer")
    assert timer.is_running
    assert timer.is_enabled
    node.run("systemctl start redis-backup.service")
    newest = node.run("ls -1 /var/backups/redis/*.rdb | tail -n 1").strip()
    assert node.host.file("/var/backups/redis").mode == 0o700
    assert node.host.file(newest).mode == 0o600
    about = json.loads(node.run(f"cat {newest}.about"))
    assert about["redis_version"]
    ranges = [word.partition("-") for word in about["slots"].split()]
    assert sum(int(last or first) - int(first) + 1 for first, _, last in ranges) in (5461, 5462)


def test_a_server_that_died_comes_back_after_its_successor(node):
    """Sooner, it would be master again without what its file lacked."""
    delay = node.run("systemctl show redis-server --property RestartUSec").strip().removeprefix("RestartUSec=")
    timeout = int(cli(node, "config get cluster-node-timeout").split()[1])
    assert delay == f"{2 * timeout // 1000}s"
