"""What PgBouncer's hook tells Consul when Patroni changes the role of its PostgreSQL; curl and psql are the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import jinja2
import pytest

TEMPLATE = Path(__file__).resolve().parents[2] / "roles/pgbouncer/templates/role-change.j2"
PROGRAMS = {
    # Notes its arguments and what comes in: the headers.
    "curl": 'printf "%s\\n" "$@" > "$DIRECTORY/curl-$(ls "$DIRECTORY" | grep -c ^curl-)"; cat >> "$DIRECTORY/headers"',
    # In recovery until asked for the third time.
    "psql": 'case "$*" in *pg_is_in_recovery*) echo >> "$DIRECTORY/asked"; [ $(wc -l < "$DIRECTORY/asked") -ge 3 ] && echo f || echo t;; esac',
    "getent": "echo 192.0.2.9 STREAM",
}


@pytest.fixture
def call(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "calls").mkdir()
    (tmp_path / "token").write_text("a-token\n")
    for name, text in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 a shell script isn't HTML
    script = environment.from_string(TEMPLATE.read_text()).render(
        ansible_managed="",
        pgbouncer_register_service=True,
        pgbouncer_service_rw="postgresql-rw",
        pgbouncer_service_domain="service.consul",
        pgbouncer_port=6432,
        pgbouncer_postgresql_port=5432,
        pgbouncer_postgresql_superuser="postgres",
        platform_address="192.0.2.1",
        __pgbouncer_announced="postgresql-rw-announced",
        __pgbouncer_consul_token_file=tmp_path / "token",
        __pgbouncer_socket_directory="/run/postgresql",
    )

    def run(action: str, role: str) -> list[list[str]]:
        """The arguments of each call of curl."""
        variables = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "DIRECTORY": str(tmp_path / "calls")}
        subprocess.run(["sh", "-c", script, "hook", action, role, "main"], env={**os.environ, **variables}, check=True)
        calls = sorted((tmp_path / "calls").glob("curl-*"))
        assert not calls or set((tmp_path / "calls" / "headers").read_text().split("\n")) == {
            "X-Consul-Token: a-token",
            "",
        }
        assert all("a-token" not in path.read_text() for path in calls), "the token is on a command line"
        return [path.read_text().splitlines() for path in calls]

    run.directory = tmp_path / "calls"
    return run


@pytest.mark.parametrize("role", ["primary", "master"])
def test_a_promoted_server_is_announced_when_it_takes_writes(call, role):
    register, passing, withdrawn = call("on_role_change", role)
    assert len((call.directory / "asked").read_text().splitlines()) == 3
    assert register[-1] == "http://127.0.0.1:8500/v1/agent/service/register"
    body = json.loads("\n".join(register[register.index("--data") + 1 : -1]))
    assert body["Name"] == "postgresql-rw"
    assert body["ID"] == "postgresql-rw-announced"
    assert body["Check"]["TTL"] == "3s", "an announcement that outlives the leader would lead writers astray"
    assert passing[-1] == "http://127.0.0.1:8500/v1/agent/check/pass/service:postgresql-rw-announced"
    # Before it expires, which everybody who looks for critical checks would see for a minute.
    assert withdrawn[-1] == "http://127.0.0.1:8500/v1/agent/service/deregister/postgresql-rw-announced"


@pytest.mark.parametrize(("action", "role"), [("on_role_change", "replica"), ("on_stop", "primary")])
def test_who_no_longer_leads_takes_it_back(call, action, role):
    (withdrawn,) = call(action, role)
    assert withdrawn[-1] == "http://127.0.0.1:8500/v1/agent/service/deregister/postgresql-rw-announced"
