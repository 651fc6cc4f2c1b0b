"""PgBouncer beside every PostgreSQL: TLS on both sides, one service name for writing and one for reading."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.hosts("postgresql"), pytest.mark.unit("pgbouncer")]


def test_it_runs_and_starts_with_the_host(node):
    service = node.host.service("pgbouncer")
    assert service.is_running
    assert service.is_enabled


def test_it_listens_for_clients(node):
    assert node.exposed("pgbouncer") == {6432}


@pytest.mark.parametrize("name", ["postgresql-rw.service.consul", "postgresql-ro.service.consul"])
def test_tls_verifies_for_the_services_names(node, name):
    assert "Verification: OK" in node.certificate_for(6432, name, "postgres")


def test_secrets_are_not_readable_to_others(node):
    assert node.run("find /etc/pgbouncer -type f -perm /007").strip() == ""


def test_a_connection_without_tls_is_refused(node):
    answer = node.run(
        f"psql 'host={node.address} port=6432 user=application dbname=application sslmode=disable connect_timeout=5' "
        "-c 'select 1' 2>&1",
        check=False,
    )
    assert "SSL required" in answer or "TLS" in answer or "server does not support" in answer
