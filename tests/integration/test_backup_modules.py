"""The modules that take and list backups, with stand-ins for systemd's programs."""

from __future__ import annotations

import os
import time

import pytest

from tests.integration.modules import run_module

NAMES = ("redis-20261124T200000Z.rdb", "redis-20261124T220000Z.rdb", "other.txt")


@pytest.fixture
def directory(tmp_path):
    where = tmp_path / "backups"
    where.mkdir()
    for name in NAMES:
        (where / name).write_text("data")
    (where / f"{NAMES[1]}.about").write_text('{"key_count": 7}')
    return where


@pytest.fixture
def systemd(tmp_path, monkeypatch):
    """`systemctl start` runs the script that is given."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")

    def install(script):
        for name, content in (("systemctl", script), ("journalctl", "echo No backup of redis was taken: no space")):
            (commands / name).write_text(f"#!/bin/sh\n{content}\n")
            (commands / name).chmod(0o755)

    return install


def test_backups_are_listed_newest_first(directory):
    found = run_module("backup_files_info", {"component": "redis", "directory": str(directory), "host": "redis-1"})
    assert [backup["name"] for backup in found["backups"]] == [NAMES[1], NAMES[0]]
    assert {backup["host"] for backup in found["backups"]} == {"redis-1"}
    assert found["backups"][0]["about"] == {"key_count": 7}
    assert found["problems"] == []


def test_an_old_one_is_a_problem_and_a_new_host_has_time(directory, tmp_path):
    asked = {"component": "redis", "directory": str(directory), "max_age_seconds": 3600}
    (directory / "redis-20200101T000000Z.rdb").write_text("data")
    for name in NAMES[:2]:
        (directory / name).unlink()
    assert "The newest backup of redis is" in run_module("backup_files_info", asked)["problems"][0]
    timer = tmp_path / "redis-backup.timer"
    timer.write_text("")
    new = {"component": "redis", "directory": str(tmp_path / "none"), "max_age_seconds": 3600, "since": str(timer)}
    assert run_module("backup_files_info", new)["problems"] == []
    os.utime(timer, (time.time() - 7200, time.time() - 7200))
    assert "There is no backup of redis yet" in run_module("backup_files_info", new)["problems"][0]


def test_what_was_fetched_is_listed_by_host(directory, tmp_path):
    fetched = tmp_path / "fetched"
    for host in ("redis-1", "redis-2"):
        (fetched / host).mkdir(parents=True)
        (fetched / host / NAMES[0]).write_text("data")
    asked = {"component": "redis", "directory": str(fetched), "by_host": True}
    assert sorted(backup["host"] for backup in run_module("backup_files_info", asked)["backups"]) == [
        "redis-1",
        "redis-2",
    ]
    missing = run_module("backup_files_info", {**asked, "directory": str(tmp_path / "none")})
    assert "is no directory" in missing["msg"]


def test_a_backup_is_taken_and_named(directory, systemd):
    systemd(f"echo new > {directory}/redis-20261124T230000Z.rdb")
    asked = {"unit": "redis-backup.service", "component": "redis", "directory": str(directory)}
    assert run_module("backup_run", asked, check=True)["changed"]
    assert not (directory / "redis-20261124T230000Z.rdb").exists()
    made = run_module("backup_run", asked)
    assert made["changed"]
    assert made["backup"]["name"] == "redis-20261124T230000Z.rdb"


def test_a_unit_that_fails_or_makes_nothing_is_a_failure(directory, systemd):
    asked = {"unit": "redis-backup.service", "component": "redis", "directory": str(directory)}
    systemd("exit 1")
    assert "No backup of redis was taken: no space" in run_module("backup_run", asked)["msg"]
    systemd("exit 0")
    assert "has no new backup" in run_module("backup_run", asked)["msg"]
