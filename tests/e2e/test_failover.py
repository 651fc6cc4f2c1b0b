"""What failover tests need is there: the probe's libraries on the client, nftables on the members, and nothing of a test is left."""

from __future__ import annotations

import pytest

MEMBERS = ("consul_servers", "rabbitmq", "redis", "postgresql")


@pytest.fixture(autouse=True)
def _prepared(platform):
    client = platform.group("clients")[0]
    if client.run("dpkg-query --show --showformat='${Status}' python3-psycopg 2>/dev/null", check=False) == "":
        pytest.skip("playbooks/failover_test.yml has not been run here")


@pytest.mark.hosts("clients")
def test_the_probe_finds_its_libraries(member):
    assert member.run("/usr/bin/python3 -c 'import pika, psycopg, redis.cluster; print(1)'").strip() == "1"


@pytest.mark.hosts(*MEMBERS)
def test_no_fault_is_left(node):
    tables = node.run("command -v nft >/dev/null && nft list tables || true")
    assert "sutazai_failover" not in tables
    timers = node.run("systemctl list-units --plain --no-legend 'sutazai-failover-undo.*'")
    assert timers.strip() == ""
