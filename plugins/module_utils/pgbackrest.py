# Apache License 2.0 (see LICENSE)
"""What pgBackRest's answers mean, and which backup a restore begins with. Nothing here talks to anybody."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

# Codes of `info` for a stanza.
STANZA_MISSING = (1, 3)  # not there; its files aren't
UNREADABLE = 99


class Refused(Exception):
    """What was asked for can't be done, in a sentence for a person."""


def shown(seconds: float) -> str:
    """A moment for a person."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def moment(text: str, now: float) -> float:
    """A point in time as ISO 8601, in seconds since the epoch. Without a time zone it isn't one: nobody knows whose clock is meant."""
    try:
        parsed = datetime.fromisoformat(text.strip().replace(" UTC", "+00:00").replace("Z", "+00:00"))
    except ValueError:
        raise Refused(
            f"'{text}' is no point in time. Write it as 2026-11-24 14:30:00+00:00 (restore_target_time)."
        ) from None
    if parsed.tzinfo is None:
        raise Refused(
            f"'{text}' has no time zone, and so could be off by hours. Write it as {text.strip()}+00:00 if UTC is meant "
            "(restore_target_time)."
        )
    seconds = parsed.timestamp()
    if seconds > now:
        raise Refused(f"{shown(seconds)} is in the future; what is to be restored has to have happened.")
    return seconds


def for_postgresql(seconds: float) -> str:
    """The form that PostgreSQL and pgBackRest both take, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")


def stanza_of(listing: list[dict], name: str) -> dict:
    return next((entry for entry in listing if entry.get("name") == name), {})


def unreadable(stanza: dict) -> str:
    """Why the repository can't be read, which `info` says without failing; empty when it can."""
    if (stanza.get("status") or {}).get("code") != UNREADABLE:
        return ""
    said = [str((repository.get("status") or {}).get("message") or "") for repository in stanza.get("repo") or []]
    return "; ".join(text for text in said if text) or "pgBackRest doesn't say why"


def backups_of(stanza: dict) -> list[dict[str, Any]]:
    """The backups that are there, oldest first."""
    found = []
    for entry in stanza.get("backup") or []:
        size = entry.get("info") or {}
        found.append(
            {
                "label": str(entry.get("label")),
                "type": str(entry.get("type")),
                "start": int(entry["timestamp"]["start"]),
                "stop": int(entry["timestamp"]["stop"]),
                "database_bytes": int(size.get("size") or 0),
                "repository_bytes": int((size.get("repository") or {}).get("delta") or 0),
                "damaged": bool(entry.get("error")),
            }
        )
    return sorted(found, key=lambda backup: (backup["stop"], backup["label"]))


def describe(listing: list[dict], name: str) -> dict[str, Any]:
    """One stanza of `pgbackrest info --output=json`."""
    stanza = stanza_of(listing, name)
    status = stanza.get("status") or {}
    archives = stanza.get("archive") or []
    return {
        "error": unreadable(stanza),
        "stanza_exists": bool(stanza) and status.get("code") not in (*STANZA_MISSING, UNREADABLE),
        "backup_running": bool(((status.get("lock") or {}).get("backup") or {}).get("held")),
        "backups": backups_of(stanza),
        "archive_first": str((archives[-1].get("min") if archives else "") or ""),
        "archive_last": str((archives[-1].get("max") if archives else "") or ""),
        "system_identifier": str((stanza.get("db") or [{}])[-1].get("system-id") or ""),
        "message": str(status.get("message") or ""),
    }


def problems(found: dict, name: str, now: float, max_age_hours: float) -> list[str]:
    """What is wrong with the backups, as sentences for a person."""
    if not found["stanza_exists"]:
        return [f"The repository has no stanza {name}. playbooks/database.yml makes it when the database runs."]
    wrong = [
        f"The backup {backup['label']} has pages whose checksums are wrong: the database's files are damaged, or were when it was taken. "
        f"Look at `pgbackrest --stanza={name} --set={backup['label']} info`."
        for backup in found["backups"]
        if backup["damaged"]
    ]
    if found["backup_running"]:
        return wrong
    if not found["backups"]:
        wrong.append("There is no backup yet. Take one: playbooks/backup/postgresql.yml.")
    elif max_age_hours and now - found["backups"][-1]["stop"] > max_age_hours * 3600:
        hours = (now - found["backups"][-1]["stop"]) / 3600
        wrong.append(
            f"The newest backup, {found['backups'][-1]['label']}, is {hours:.0f} hours old, more than {max_age_hours:g} (pgbackrest_max_age_hours). "
            "Look at `systemctl list-timers 'pgbackrest*'` and `journalctl -u 'pgbackrest-backup@*'` on the repository host."
        )
    return wrong


def choose(backups: list[dict], target: float | None, label: str = "") -> dict:
    """The backup to begin with: the named one, else the newest that was complete at the target."""
    sound = [backup for backup in backups if not backup["damaged"]]
    if label:
        named = [backup for backup in backups if backup["label"] == label]
        if not named:
            have = ", ".join(backup["label"] for backup in backups) or "none"
            raise Refused(f"There is no backup {label} (restore_set). There are: {have}.")
        if target is not None and named[0]["stop"] > target:
            raise Refused(
                f"The backup {label} (restore_set) was complete at {shown(named[0]['stop'])}, after the target {shown(target)}."
            )
        return named[0]
    if not sound:
        raise Refused("The repository has no sound backup: there is nothing to restore from.")
    fitting = [backup for backup in sound if target is None or backup["stop"] <= target]
    if not fitting:
        raise Refused(
            f"The oldest backup was complete at {shown(sound[0]['stop'])}; nothing before that can be restored, "
            f"{shown(target or 0)} is earlier (restore_target_time)."
        )
    return fitting[-1]


def controldata(output: str) -> dict[str, str]:
    """pg_controldata's lines."""
    pairs = (line.split(":", 1) for line in output.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def inherited(control: dict[str, str]) -> dict[str, str]:
    """Settings that the log was written with and that replaying it needs. Patroni gives them when it starts PostgreSQL, no file has them."""
    names = {
        "wal_level setting": "wal_level",
        "max_connections setting": "max_connections",
        "max_worker_processes setting": "max_worker_processes",
        "max_wal_senders setting": "max_wal_senders",
        "max_prepared_xacts setting": "max_prepared_transactions",
        "max_locks_per_xact setting": "max_locks_per_transaction",
    }
    return {setting: control[name] for name, setting in names.items() if name in control}


def configuration(file: str, settings: dict[str, str]) -> str:
    """A configuration with settings over those of `file`. Behind them, not as arguments: the file may say that there is no target, as Patroni
    writes it for a replica, and PostgreSQL refuses that after it has been given one."""

    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"

    return "".join([f"include {quoted(file)}\n", *(f"{name} = {quoted(value)}\n" for name, value in settings.items())])


def ended_before_target(log: str) -> bool:
    return "recovery ended before configured recovery target was reached" in log


def recovery_failure(log: str) -> str:
    """What PostgreSQL's last words mean for whoever restores."""
    if "requested timeline" in log and "is not a child of" in log or "could not find a valid" in log:
        return (
            "The log that leads from the backup to the target isn't in the archive. An earlier backup (restore_set) or another "
            "restore_target_timeline may lead there."
        )
    if "could not restore file" in log:
        return "The archive couldn't be read. Look at `pgbackrest info` and at what is written below, then repeat the restore."
    fatal = [line for line in log.splitlines() if "FATAL" in line or "PANIC" in line]
    return fatal[-1].strip() if fatal else "PostgreSQL stopped before it had recovered."
