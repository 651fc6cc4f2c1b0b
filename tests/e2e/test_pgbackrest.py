"""pgBackRest: a repository that only the cluster's members reach, encrypted, with a backup and an archive that follows the log."""

from __future__ import annotations

import json
import time

import pytest

pytestmark = [pytest.mark.hosts("postgresql", "backup"), pytest.mark.unit("pgbackrest")]
CONFIGURATION = "/etc/pgbackrest/pgbackrest.conf"
STANZA = "postgresql"


def info(node) -> dict:
    command = f"runuser -u postgres -- pgbackrest --stanza={STANZA} --output=json --log-level-console=off info"
    return json.loads(node.run(command))[0]


def is_repository(node) -> bool:
    return "backup" in node.groups


def test_the_server_runs_at_boot(node):
    service = node.host.service("pgbackrest")
    assert service.is_running
    assert service.is_enabled
    assert node.exposed("pgbackrest") == {8432}


def test_every_host_sees_the_backups(node):
    deadline = time.monotonic() + 120  # the first backup may still be taken
    while not (found := info(node)).get("backup") and time.monotonic() < deadline:
        time.sleep(2)
    assert found["status"]["code"] == 0, found["status"]
    assert found["cipher"] == "aes-256-cbc"
    assert found["backup"]
    assert not any(backup.get("error") for backup in found["backup"])


@pytest.mark.hosts("backup")
def test_a_change_reaches_the_archive(node):
    assert node.run(f"runuser -u postgres -- pgbackrest --stanza={STANZA} check && echo fine").strip() == "fine"


def test_only_the_repository_host_keeps_the_passphrase(node):
    configuration = node.host.file(CONFIGURATION)
    assert (configuration.user, configuration.group, configuration.mode) == ("root", "postgres", 0o640)
    assert configuration.contains("repo1-cipher-pass=") is is_repository(node)


@pytest.mark.hosts("postgresql")
def test_a_member_is_let_into_its_own_stanza_alone(node):
    answer = node.run("runuser -u postgres -- pgbackrest --stanza=other info 2>&1", check=False)
    assert "access denied" in answer


def test_the_repository_is_closed_and_nothing_in_it_is_readable(node):
    if not is_repository(node):
        assert node.run("find /var/lib/pgbackrest -type f | wc -l").strip() == "0"
        return
    repository = node.host.file("/var/lib/pgbackrest")
    assert (repository.user, repository.mode) == ("postgres", 0o750)
    # An encrypted file begins with this word, whoever reads it.
    beginning = node.run(f"head -c 8 /var/lib/pgbackrest/backup/{STANZA}/backup.info")
    assert beginning == "Salted__"


def test_backups_are_taken_by_timers(node):
    timers = node.run("systemctl list-unit-files --no-legend 'pgbackrest-backup-*.timer'", check=False)
    if not is_repository(node):
        assert not timers.strip()
        return
    for kind in ("full", "diff"):
        timer = node.host.service(f"pgbackrest-backup-{kind}.timer")
        assert timer.is_running
        assert timer.is_enabled


@pytest.mark.hosts("postgresql")
def test_the_database_archives_and_can_be_restored_from_it(node):
    def sql(statement: str) -> str:
        return node.run(f'cd / && runuser -u postgres -- psql --no-psqlrc -Atc "{statement}"').strip()

    assert sql("SHOW archive_mode") == "on"
    assert "archive-push" in sql("SHOW archive_command")
    assert "archive-get" in sql("SHOW restore_command") or sql("SELECT pg_is_in_recovery()") == "f"
    assert sql("SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"
