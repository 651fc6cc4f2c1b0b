# Apache License 2.0 (see LICENSE)
"""Backups as files of one directory, named by component and time. Runs in modules, and on the hosts beside the program that a timer
starts: the standard library only."""

from __future__ import annotations

import calendar
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

SUFFIXES = {"consul": "snap", "rabbitmq": "json", "redis": "rdb"}
TIME = r"\d{8}T\d{6}Z"
ABOUT = ".about"  # what the backup holds, in JSON, beside it


class Problem(Exception):
    """There is no backup; the text says why."""


def file_name(component: str, moment: float) -> str:
    return f"{component}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(moment))}.{SUFFIXES[component]}"


def time_of(name: str, component: str) -> str:
    """The time in a backup's name; "" when it is something else."""
    match = re.fullmatch(rf"{component}-({TIME})\.{SUFFIXES[component]}", name)
    return match[1] if match else ""


def seconds_of(stamp: str) -> float:
    """A backup's time as seconds since 1970."""
    return calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))


def found(directory: str, component: str) -> list[dict]:
    """The backups in the directory, newest first."""
    names = [name for name in os.listdir(directory) if time_of(name, component)] if os.path.isdir(directory) else []
    backups = []
    for name in sorted(names, reverse=True):
        path = os.path.join(directory, name)
        backups.append(
            {
                "name": name,
                "path": path,
                "time": time_of(name, component),
                "size_bytes": os.path.getsize(path),
                "about": about(path),
            }
        )
    return backups


def about(path: str) -> dict:
    """What stands beside a backup; {} when nothing usable does."""
    try:
        with open(path + ABOUT, encoding="utf-8") as handle:
            content = json.load(handle)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def age_problem(component: str, any_backup: bool, age_seconds: int, limit_seconds: int) -> str:
    """What is wrong with the newest backup's age; "" when nothing is."""
    if not limit_seconds or 0 <= age_seconds <= limit_seconds:
        return ""
    hint = f"See `systemctl list-timers '{component}-*'` and `journalctl -u '{component}-*'`."
    if not any_backup:
        return f"There is no backup of {component} yet. {hint}"
    return (
        f"The newest backup of {component} is {hours(age_seconds)} old, and {hours(limit_seconds)} is allowed. {hint}"
    )


def hours(seconds: int) -> str:
    return f"{seconds / 3600:.1f} h"


# ------------------------------------------------------------------------------------------------------------- on the host


def run(command: Sequence[str], environment: dict[str, str] | None = None) -> str:
    """What the command prints. A Problem when it fails, with what it says."""
    done = subprocess.run(
        list(command),
        capture_output=True,
        text=True,
        check=False,
        errors="replace",
        env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        said = " ".join((done.stderr.strip() or done.stdout.strip()).split())
        raise Problem(f"{os.path.basename(command[0])} ended with {done.returncode}: {said or 'it said nothing'}")
    return done.stdout


def take(directory: str, component: str, keep: int, make: Callable[[str], dict], now: float | None = None) -> dict:
    """Has `make` write a backup to a path, check it and say what it holds. Only then the backup gets its name, and the oldest go."""
    partial = os.path.join(directory, ".partial")
    final = os.path.join(directory, file_name(component, time.time() if now is None else now))
    remove(partial)
    try:
        content = make(partial)
        os.chmod(partial, 0o600)
        flush(partial)
        with open(final + ABOUT, "w", encoding="utf-8") as handle:
            json.dump(content, handle, indent=2)
        os.rename(partial, final)
        flush(directory)
    finally:
        remove(partial)
    backups = found(directory, component)
    for backup in backups[keep:]:
        remove(backup["path"])
    kept = {backup["name"] for backup in backups[:keep]}
    for name in os.listdir(directory):
        if name.endswith(ABOUT) and name.removesuffix(ABOUT) not in kept:
            remove(os.path.join(directory, name))
    return backups[0]


def flush(path: str) -> None:
    """Until it is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: str) -> None:
    if os.path.lexists(path):
        os.unlink(path)


def main(component: str, make: Callable[[str], dict]) -> str:
    """What the timer runs: PROGRAM DIRECTORY KEEP. Success and failure are a sentence for the journal each."""
    directory, keep = sys.argv[1], int(sys.argv[2])
    os.umask(0o077)
    try:
        backup = take(directory, component, keep, make)
    except (Problem, OSError) as problem:
        raise SystemExit(f"No backup of {component} was taken: {problem}") from problem
    return f"{backup['path']}: {backup['size_bytes']} bytes, {json.dumps(backup['about'])}"


# ------------------------------------------------------------------------------------------------------------------ choice


def choose(backups: Sequence[dict], wanted: str) -> dict:
    """One of many hosts' backups (each with its `host`): the newest, or the newest of what is wanted.

    That is a host, `host/file name`, a file name, or a time: then the newest that isn't younger.
    """
    if not backups:
        raise Problem("There is no backup on any host that was asked.")
    fit = matching(backups, wanted)
    if not fit:
        raise Problem(
            f"No backup fits restore_from ({wanted}), which may be a host, host/file name, a file name, a time such as 20261124T220000Z "
            f"(the newest until then) or a path on the controller. There are: {listing(backups)}."
        )
    return max(fit, key=lambda backup: (backup["time"], backup["host"]))


def matching(backups: Sequence[dict], wanted: str) -> list[dict]:
    if not wanted:
        return list(backups)
    if re.fullmatch(TIME, wanted):
        return [backup for backup in backups if backup["time"] <= wanted]
    return [
        backup for backup in backups if wanted in (backup["host"], backup["name"], f"{backup['host']}/{backup['name']}")
    ]


def listing(backups: Sequence[dict], limit: int = 12) -> str:
    names = [f"{backup['host']}/{backup['name']}" for backup in sorted(backups, key=lambda one: one["time"])[::-1]]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} older ones" if len(names) > limit else "")
