"""PostgreSQL under Patroni: one leader, the others streaming, one of them synchronous, nothing without TLS."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.hosts("postgresql"), pytest.mark.unit("patroni")]
PKI = "/etc/sutazai/pki"


def cluster(node):
    return json.loads(node.run(f"curl --silent --show-error --cacert {PKI}/ca.crt https://{node.address}:8008/cluster"))


def sql(node, statement: str, database: str = "postgres") -> str:
    return node.run(
        f"cd / && runuser -u postgres -- psql --dbname {database} --no-psqlrc --tuples-only --no-align --command {statement!r}"
    ).strip()


def test_patroni_runs_and_postgresqls_own_unit_does_not(node):
    service = node.host.service("patroni")
    assert service.is_running
    assert service.is_enabled
    assert node.run("systemctl is-active 'postgresql@*' || true").strip() in ("", "inactive")


def test_every_member_sees_one_leader_and_streaming_replicas(node, platform):
    members = cluster(node)["members"]
    assert sorted(member["name"] for member in members) == sorted(platform.groups["postgresql"])
    roles = [member["role"] for member in members]
    assert roles.count("leader") == 1
    # Patroni says "running" of a streaming replica before 3.0.3; the leader's PostgreSQL says it of all.
    assert {member["state"] for member in members if member["role"] != "leader"} <= {"running", "streaming"}
    replicas = {member["name"] for member in members if member["role"] != "leader"}
    leader = platform.nodes[next(member["name"] for member in members if member["role"] == "leader")]
    streaming = sql(leader, "select application_name from pg_stat_replication where state = 'streaming'")
    assert replicas <= set(streaming.split())
    assert len({member["timeline"] for member in members}) == 1
    assert all(member.get("lag", 0) < 16 * 1024 * 1024 for member in members)
    assert any(role in ("sync_standby", "quorum_standby") for role in roles)


def test_the_cluster_runs_with_what_protects_its_data(node):
    assert sql(node, "show data_checksums") == "on"
    assert sql(node, "show password_encryption") == "scram-sha-256"
    assert sql(node, "show ssl") == "on"
    assert sql(node, "select count(*) from pg_settings where pending_restart") == "0"


def test_tls_verifies_for_the_services_name(node):
    assert "Verification: OK" in node.certificate_for(5432, "postgresql-rw.service.consul", "postgres")
    assert "Verification: OK" in node.certificate_for(8008, node.name)


def test_a_connection_without_tls_is_refused(node):
    answer = node.run(
        f"psql 'host={node.address} user=application dbname=application sslmode=disable connect_timeout=5' -c 'select 1' 2>&1",
        check=False,
    )
    assert "no encryption" in answer or "pg_hba" in answer or "no pg_hba.conf entry" in answer


def test_secrets_are_not_readable_to_others(node):
    """Every file that holds a password is its owner's alone (the package's own samples hold none)."""
    assert node.run("grep --recursive --files-with-matches 'password: ..*' /etc/patroni --exclude=*.in").split() == [
        "/etc/patroni/config.yml"
    ]
    assert node.host.file("/etc/patroni/config.yml").mode == 0o600
    assert node.host.file("/etc/patroni").user in ("root", "postgres")


def test_changing_patroni_over_the_network_needs_a_password(node):
    answer = node.run(
        f"curl --silent --output /dev/null --write-out '%{{http_code}}' --cacert {PKI}/ca.crt -X POST https://{node.address}:8008/reload"
    )
    assert answer in ("401", "403")


def test_declared_tables_are_partitioned_on_every_member(node):
    """Read on replicas too: what the leader was told has come there."""
    for table in json.loads(node.run("cat /etc/patroni/partitions.json")):
        bounds = sql(
            node,
            "SELECT pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid "
            f"WHERE i.inhparent = $${table['table']}$$::regclass",
            table["database"],
        ).splitlines()
        for partition in table["partitions"]:
            assert f"FOR VALUES FROM ({partition['from']}) TO ({partition['to']})" in bounds
        assert len(bounds) >= len(table["partitions"]) + table.get("rule", {}).get("keep_ahead", 0)


def test_a_timer_keeps_partitions_ahead(node):
    timer = node.host.service("patroni-partitions.timer")
    assert timer.is_running
    assert timer.is_enabled
    result = node.run("systemctl show --property Result --value patroni-partitions.service").strip()
    assert result == "success", node.run("journalctl --no-pager --lines 20 --unit patroni-partitions.service")
