"""pgbackrest_info and pgbackrest_restore against a real repository and a server of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.integration.modules import run_module
from tests.integration.postgresql_server import Server, installed

pytestmark = [
    pytest.mark.skipif(not installed(), reason="no PostgreSQL server: install Debian's package postgresql"),
    pytest.mark.skipif(not shutil.which("pgbackrest"), reason="no pgBackRest: install Debian's package pgbackrest"),
    pytest.mark.skipif(os.getuid() != 0, reason="runs programs as postgres, which only root may"),
]


class Stanza:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.configuration = server.directory / "pgbackrest.conf"
        paths = {name: server.directory / name for name in ("repo", "log", "lock", "spool")}
        self.configuration.write_text(
            "[global]\n"
            f"repo1-path={paths['repo']}\nrepo1-retention-full=2\nlog-path={paths['log']}\nlock-path={paths['lock']}\n"
            f"spool-path={paths['spool']}\nstart-fast=y\n"
            f"[test]\npg1-path={server.data}\npg1-port={server.port}\npg1-socket-path={server.directory}\n"
        )
        self.configuration.chmod(0o644)

    def run(self, *arguments: str) -> str:
        command = ["runuser", "--user=postgres", "--", "pgbackrest", "--stanza=test", *arguments]
        return subprocess.run(command, cwd="/", check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def stanza():
    server = Server(installed()[-1])
    stanza = Stanza(server)
    before = os.environ.get("PGBACKREST_CONFIG")
    os.environ["PGBACKREST_CONFIG"] = str(stanza.configuration)
    try:
        with (server.data / "postgresql.conf").open("a") as file:
            file.write("archive_mode = on\narchive_command = 'pgbackrest --stanza=test archive-push \"%p\"'\n")
        server._as_account("pg_ctl", "--pgdata", server.data, "--log", server.directory / "log", "--wait", "restart")
        yield stanza
    finally:
        server.stop()
        if before is None:
            del os.environ["PGBACKREST_CONFIG"]
        else:
            os.environ["PGBACKREST_CONFIG"] = before


def info(**more) -> dict:
    return run_module("pgbackrest_info", {"stanza": "test", **more})


def restore(stanza: Stanza, check: bool = False, **more) -> dict:
    data = str(more.pop("data_directory", stanza.server.data))
    return run_module("pgbackrest_restore", {"stanza": "test", "data_directory": data, **more}, check)


def test_from_an_empty_repository_to_restored_files(stanza):
    found = info()
    assert (found["answers"], found["stanza_exists"], found["healthy"]) == (True, False, False)
    assert "no sound backup" in restore(stanza)["msg"]

    stanza.run("stanza-create")
    found = info(check=True)
    assert found["problems"] == ["There is no backup yet. Take one: playbooks/backup/postgresql.yml."]
    stanza.run("--type=full", "backup")
    found = info(check=True, max_age_hours=1)
    assert found["healthy"], found["problems"]
    assert len(found["backups"]) == 1
    assert found["archive_last"]

    refused = restore(stanza)
    assert f"PostgreSQL runs on {stanza.server.data}" in refused["msg"]
    moment = datetime.fromtimestamp(found["backups"][0]["stop"] - 10, UTC).isoformat()
    assert "nothing before that can be restored" in restore(stanza, target_time=moment, plan_only=True)["msg"]

    stanza.server._as_account("pg_ctl", "--pgdata", stanza.server.data, "--mode", "immediate", "--wait", "stop")
    stanza.server.started = False
    assert "The archive doesn't work" in info(check=True)["problems"][0]
    shutil.rmtree(stanza.server.data)
    planned = restore(stanza, check=True)
    assert planned["backup"]["label"] == found["backups"][0]["label"]
    assert not stanza.server.data.exists()
    assert restore(stanza)["changed"]
    assert (stanza.server.data / "backup_label").exists()
    assert "recovery_target" not in (stanza.server.data / "postgresql.auto.conf").read_text()

    # Interrupted: some files are missing or half there. Doing it again completes it.
    (stanza.server.data / "global" / "pg_control").unlink()
    (stanza.server.data / "PG_VERSION").write_text("half")
    assert restore(stanza)["changed"]
    assert (stanza.server.data / "global" / "pg_control").exists()
    assert (stanza.server.data / "PG_VERSION").read_text().strip() == installed()[-1].parent.name


def test_files_of_something_else_are_left_alone(stanza):
    other = Path(stanza.server.directory) / "other"
    other.mkdir()
    (other / "letter").write_text("dear")
    shutil.chown(other, "postgres", "postgres")
    shutil.chown(other / "letter", "postgres", "postgres")
    answer = run_module("pgbackrest_restore", {"stanza": "test", "data_directory": str(other)})
    assert answer.get("failed")
    assert (other / "letter").read_text() == "dear"
