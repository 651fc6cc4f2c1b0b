from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import pgbackrest
from ansible_collections.sutazai.platform.plugins.module_utils.pgbackrest import Refused

NOON = 1795521600.0  # 2026-11-24 12:00:00 UTC
HOUR = 3600


def backup(label: str, stop: float, **more) -> dict:
    return {"label": label, "type": "full", "timestamp": {"start": stop - 60, "stop": stop}, **more}


def listing(*backups: dict, code: int = 0, held: bool = False) -> list[dict]:
    return [
        {
            "name": "postgresql",
            "status": {"code": code, "message": "ok", "lock": {"backup": {"held": held}}},
            "db": [{"id": 1, "system-id": 7312, "version": "17"}],
            "archive": [{"id": "17-1", "min": "000000010000000000000001", "max": "000000010000000000000009"}],
            "backup": list(backups),
        }
    ]


def described(*backups: dict, **more) -> dict:
    return pgbackrest.describe(listing(*backups, **more), "postgresql")


def test_info_is_described_oldest_backup_first():
    size = {"size": 30, "repository": {"delta": 4}}
    found = described(backup("B", NOON), backup("A", NOON - HOUR, info=size))
    assert found["stanza_exists"]
    assert not found["backup_running"]
    assert [entry["label"] for entry in found["backups"]] == ["A", "B"]
    assert found["backups"][0]["database_bytes"] == 30
    assert found["backups"][0]["repository_bytes"] == 4
    assert found["system_identifier"] == "7312"
    assert found["archive_last"] == "000000010000000000000009"


@pytest.mark.parametrize("answer", [[], listing(code=1), [{"name": "other", "status": {"code": 0}}]])
def test_a_stanza_that_is_not_there(answer):
    found = pgbackrest.describe(answer, "postgresql")
    assert not found["stanza_exists"]
    assert "no stanza postgresql" in pgbackrest.problems(found, "postgresql", NOON, 36)[0]


def test_a_repository_that_cannot_be_read_is_told_from_an_empty_one():
    reason = "[HostConnectError] unable to get address for 'backup-1.node.consul'"
    answer = [
        {"name": "postgresql", "status": {"code": 99, "message": "other"}, "repo": [{"status": {"message": reason}}]}
    ]
    found = pgbackrest.describe(answer, "postgresql")
    assert found["error"] == reason
    assert not found["stanza_exists"]
    assert described()["error"] == ""


def test_a_recent_backup_is_healthy():
    assert pgbackrest.problems(described(backup("A", NOON - HOUR)), "postgresql", NOON, 36) == []


def test_no_backup_an_old_one_and_a_damaged_one_are_problems():
    assert "no backup yet" in pgbackrest.problems(described(), "postgresql", NOON, 36)[0]
    old = pgbackrest.problems(described(backup("A", NOON - 40 * HOUR)), "postgresql", NOON, 36)
    assert "is 40 hours old, more than 36 (pgbackrest_max_age_hours)" in old[0]
    assert pgbackrest.problems(described(backup("A", NOON - 40 * HOUR)), "postgresql", NOON, 0) == []
    damaged = pgbackrest.problems(described(backup("A", NOON, error=True)), "postgresql", NOON, 36)
    assert "checksums are wrong" in damaged[0]


def test_a_backup_that_is_being_taken_is_awaited():
    assert pgbackrest.problems(described(held=True), "postgresql", NOON, 36) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24 12:00:00+00:00", NOON),
        ("2026-11-24T14:00:00+02:00", NOON),
        ("2026-11-24T12:00:00Z", NOON),
        ("2026-11-24 12:00:00 UTC", NOON),
        ("2026-11-24 12:00:00.250000+00:00", NOON + 0.25),
    ],
)
def test_a_point_in_time(text, expected):
    assert pgbackrest.moment(text, NOON + HOUR) == expected


def test_postgresql_is_given_the_same_moment():
    assert pgbackrest.for_postgresql(NOON + 0.25) == "2026-11-24 12:00:00.250000+00"


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("yesterday", "no point in time"),
        ("2026-11-24 12:00:00", "has no time zone"),
        ("2026-11-24 14:00:00+00:00", "in the future"),
    ],
)
def test_what_is_no_usable_point_in_time(text, phrase):
    with pytest.raises(Refused, match=phrase):
        pgbackrest.moment(text, NOON + HOUR)


def test_the_newest_backup_that_was_complete_is_chosen():
    backups = described(backup("A", NOON - 2 * HOUR), backup("B", NOON), backup("C", NOON + HOUR, error=True))[
        "backups"
    ]
    assert pgbackrest.choose(backups, None)["label"] == "B"  # C is damaged
    assert pgbackrest.choose(backups, NOON - 1)["label"] == "A"
    assert pgbackrest.choose(backups, NOON)["label"] == "B"
    assert pgbackrest.choose(backups, None, "C")["label"] == "C"  # asked for by name


@pytest.mark.parametrize(
    ("target", "label", "phrase"),
    [
        (NOON - HOUR, "", "nothing before that can be restored"),
        (None, "Z", "There is no backup Z .*There are: A"),
        (NOON - HOUR, "A", "after the target"),
    ],
)
def test_what_no_backup_leads_to(target, label, phrase):
    with pytest.raises(Refused, match=phrase):
        pgbackrest.choose(described(backup("A", NOON))["backups"], target, label)


def test_an_empty_repository_is_refused():
    with pytest.raises(Refused, match="nothing to restore from"):
        pgbackrest.choose([], None)


def test_controldata_is_read():
    output = "pg_control version number:            1700\nDatabase cluster state:               shut down\n"
    assert pgbackrest.controldata(output)["Database cluster state"] == "shut down"


def test_settings_come_behind_the_file_that_they_overrule():
    text = pgbackrest.configuration("/data/postgresql.conf", {"restore_command": "get '%f' \\ 1", "hot_standby": "off"})
    assert text.splitlines() == [
        "include '/data/postgresql.conf'",
        "restore_command = 'get ''%f'' \\\\ 1'",
        "hot_standby = 'off'",
    ]


def test_the_log_is_replayed_with_the_settings_it_was_written_with():
    output = "wal_level setting:                    logical\nmax_prepared_xacts setting:           5\ntrack_commit_timestamp setting:       off\n"
    settings = pgbackrest.inherited(pgbackrest.controldata(output))
    assert settings == {"wal_level": "logical", "max_prepared_transactions": "5"}


@pytest.mark.parametrize(
    ("log", "phrase"),
    [
        ("FATAL:  requested timeline 3 is not a child of this server's history", "restore_target_timeline"),
        ("LOG:  starting\nFATAL:  could not load library\nLOG:  shut down", "could not load library"),
        (
            'FATAL:  could not restore file "000000010000000000000004" from archive: child process exited',
            "repeat the restore",
        ),
        ("", "stopped before it had recovered"),
    ],
)
def test_why_a_recovery_failed(log, phrase):
    assert phrase in pgbackrest.recovery_failure(log)


def test_a_log_that_ends_before_the_target_is_no_failure_of_its_own():
    assert pgbackrest.ended_before_target("FATAL:  recovery ended before configured recovery target was reached")
    assert not pgbackrest.ended_before_target("FATAL:  could not load library")
