"""What apt says it would do, and what a package may not do meanwhile."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import apt_upgrade

STATUS = """\
Package: redis-server
Status: install ok installed
Version: 5:7.0.15-1~deb12u7

Package: redis-tools
Status: hold ok installed
Version: 5:7.0.15-1~deb12u7

Package: erlang-base
Status: install ok installed
Version: 1:25.2.3+dfsg-1

Package: erlang-crypto
Status: install ok installed
Version: 1:25.2.3+dfsg-1

Package: erlang-ssl
Status: install ok half-configured
Version: 1:25.2.3+dfsg-1

Package: erlang-old
Status: deinstall ok config-files
Version: 1:24
"""
POLICY = """\
redis-server:
  Installed: 5:7.0.15-1~deb12u7
  Candidate: 5:7.0.15-1~deb12u10
  Version table:
     5:7.0.15-1~deb12u10 500
        500 http://deb.debian.org/debian-security bookworm-security/main amd64 Packages
 *** 5:7.0.15-1~deb12u7 500
        100 /var/lib/dpkg/status
gone:
  Installed: 1
  Candidate: (none)
  Version table:
"""
SIMULATED = """\
NOTE: This is only a simulation!
Reading package lists... Done
Remv old-helper [1.0]
Inst libpq5 [15.18-0+deb12u1] (15.20-0+deb12u1 Debian-Security:12/oldstable-security [amd64])
Inst postgresql-15 [15.18-0+deb12u1] (15.20-0+deb12u1 Debian-Security:12/oldstable-security [amd64]) []
Inst libnew (1.2 Debian:12 [amd64])
Conf libpq5 (15.20-0+deb12u1 Debian-Security:12/oldstable-security [amd64])
"""


def test_patterns_find_what_is_installed_in_their_order():
    found = apt_upgrade.matching(["redis-server", "erlang-*", "absent"], STATUS)
    assert list(found) == ["redis-server", "erlang-base", "erlang-crypto", "erlang-ssl"]
    assert found["redis-server"] == "5:7.0.15-1~deb12u7"


def test_what_is_on_hold():
    assert apt_upgrade.held(STATUS) == ["redis-tools"]


def test_what_a_killed_dpkg_has_left():
    assert apt_upgrade.unfinished(["erlang-base", "erlang-ssl"], STATUS) == ["erlang-ssl"]


def test_candidates():
    assert apt_upgrade.candidates(POLICY) == {"redis-server": "5:7.0.15-1~deb12u10"}


def test_changes_leave_alone_what_is_held_current_or_unavailable():
    installed = {"redis-server": "1", "redis-tools": "1", "same": "2", "half": "2", "gone": "1"}
    wanted = {"redis-server": "2", "redis-tools": "2", "same": "2", "half": "2"}
    assert apt_upgrade.changes(installed, wanted, ["redis-tools"], ["half"]) == [
        {"name": "redis-server", "from": "1", "to": "2"},
        {"name": "half", "from": "2", "to": "2"},
    ]


def test_what_else_apt_would_do():
    assert apt_upgrade.simulated(SIMULATED, ["postgresql-15"]) == {
        "also": [
            {"name": "libpq5", "from": "15.18-0+deb12u1", "to": "15.20-0+deb12u1"},
            {"name": "libnew", "from": "", "to": "1.2"},
        ],
        "removed": ["old-helper"],
    }


def test_what_has_to_be_downloaded():
    uris = "Reading…\n'http://mirror/pool/a_1_amd64.deb' a_1_amd64.deb 1234 MD5:00\n'file:/srv/b_1.deb' b_1.deb 12 \n"
    assert apt_upgrade.remote(uris) == ["http://mirror/pool/a_1_amd64.deb"]


@pytest.fixture
def policy(tmp_path):
    """The script's exit status for an action on a unit, while the process that wrote it lives, or after another took its number."""
    started = Path(f"/proc/{os.getpid()}/stat").read_text(encoding="utf-8").split()[21]

    def ask(unit: str, alive: bool = True) -> int:
        script = tmp_path / "policy-rc.d"
        script.write_text(
            apt_upgrade.policy_script(["redis-server", "postgresql@*"], os.getpid(), started if alive else "1"),
            encoding="utf-8",
        )
        return subprocess.run(["/bin/sh", script, unit, "restart"], check=False).returncode

    return ask


@pytest.mark.parametrize(
    ("unit", "answer"),
    [
        ("redis-server", 101),
        ("redis-server.service", 101),
        ("postgresql@15-main.service", 101),
        ("redis-sentinel.service", 0),
        ("ssh", 0),
    ],
)
def test_the_policy_holds_its_units_alone(policy, unit, answer):
    assert policy(unit) == answer


def test_the_policy_ends_with_its_process(policy):
    assert policy("redis-server", alive=False) == 0
