"""The members' restore_command: what PostgreSQL is told of a repository that answers, hasn't got a file, fails, or hangs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles" / "patroni" / "files" / "patroni-archive-get"


@pytest.fixture
def ask(tmp_path):
    """Runs the program with a pgBackRest that does as told, and counts how often that was asked."""
    program = tmp_path / "patroni-archive-get"
    program.write_text(PROGRAM.read_text().replace("/var/spool/pgbackrest", str(tmp_path)))
    program.chmod(0o755)

    def run(behaviour: str) -> tuple[int, int, float]:
        repository = tmp_path / "pgbackrest"
        repository.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n{behaviour}\n')
        repository.chmod(0o755)
        began = time.monotonic()
        done = subprocess.run(
            [program, "stanza", "00000002.history", "pg_wal/RECOVERYHISTORY"],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            check=False,
        )
        asked = (tmp_path / "asked").read_text().splitlines()
        assert set(asked) == {"--stanza=stanza archive-get 00000002.history pg_wal/RECOVERYHISTORY"}
        return done.returncode, len(asked), time.monotonic() - began

    return run


def test_what_is_there_and_what_is_not(ask):
    assert ask("exit 0")[:2] == (0, 1)
    assert ask("exit 1")[:2] == (1, 2)
    assert ask("exit 0")[:2] == (0, 3)  # that a file isn't there says nothing about the repository


@pytest.mark.parametrize("behaviour", ["exit 103", "kill -9 $$", "exit 127"])
def test_a_repository_that_fails_is_left_alone_for_a_while(ask, behaviour):
    assert ask(behaviour)[:2] == (1, 1)
    assert ask("exit 0")[:2] == (1, 1)


def test_a_repository_that_hangs_costs_five_seconds_once(ask):
    code, asked, seconds = ask("exec sleep 60")
    assert (code, asked) == (1, 1)
    assert seconds < 8
    code, asked, seconds = ask("exec sleep 60")
    assert (code, asked) == (1, 1)
    assert seconds < 2


def test_it_is_asked_again_later(ask, tmp_path):
    assert ask("exit 103")[:2] == (1, 1)
    subprocess.run(["touch", "--date=-2 minutes", tmp_path / "away"], check=True)
    assert ask("exit 0")[:2] == (0, 2)
