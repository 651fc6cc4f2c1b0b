"""Which logs are asked for, and which of their lines are shown."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.failure_bundle import (
    COMPONENTS,
    components_for,
    log_sections,
    score,
    script,
    sections,
    telling_lines,
)

REDIS = """\
Nov 24 02:00:01 redis-1 systemd[1]: Starting redis-server.service...
Nov 24 02:00:01 redis-1 redis-server[10]: *** FATAL CONFIG FILE ERROR (Redis 8.0.2) ***
Nov 24 02:00:01 redis-1 redis-server[10]: >>> 'maxmemry 1gb'
Nov 24 02:00:01 redis-1 redis-server[10]: Bad directive or wrong number of arguments
Nov 24 02:00:01 redis-1 systemd[1]: redis-server.service: Failed with result 'exit-code'.
Nov 24 02:00:02 redis-1 redis-server[11]: *** FATAL CONFIG FILE ERROR (Redis 8.0.2) ***
Nov 24 02:00:02 redis-1 systemd[1]: redis-server.service: Failed with result 'exit-code'.
"""


@pytest.mark.parametrize(
    ("role", "groups", "expected"),
    [
        ("sutazai.platform.redis", ["all", "redis"], ["redis", "consul"]),
        ("consul", ["consul_servers"], ["consul"]),
        ("consul_service", ["redis"], ["consul"]),
        ("patroni", [], ["patroni", "pgbouncer", "consul"]),
        ("base", ["all", "rabbitmq"], ["rabbitmq", "base"]),
        ("", ["all", "rabbitmq"], ["rabbitmq", "base", "consul"]),
        (None, [], ["base", "consul"]),
        ("fabio", [], ["fabio", "consul"]),
    ],
)
def test_components(role, groups, expected):
    assert components_for(role, groups) == expected


@pytest.mark.skipif(not shutil.which("sh"), reason="needs a shell")
@pytest.mark.parametrize("components", [[name] for name in COMPONENTS] + [["x'; rm -rf /"], list(COMPONENTS)])
def test_the_script_is_valid_shell(components):
    text = script(components)
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    assert "rm -rf" not in text


def test_the_cause_wins_over_its_consequences():
    lines = [line for _name, line in telling_lines([("redis-1 journal redis-server", REDIS)])]
    assert len(lines) == 2
    assert "FATAL CONFIG FILE ERROR" in lines[0] and "02:00:02" in lines[0] or "FATAL" in lines[1]
    assert any("Bad directive" in line for line in lines)
    assert not any("Failed with result" in line for line in lines)


def test_the_newest_of_equal_lines_is_shown_once():
    text = "\n".join(f"2026-11-24T02:00:{i:02d} dial tcp 10.0.0.{i}:8300: connection refused" for i in range(20))
    assert [line for _n, line in telling_lines([("x", text)])] == [
        "2026-11-24T02:00:19 dial tcp 10.0.0.19:8300: connection refused"
    ]


@pytest.mark.parametrize("line", ["agent: 0 errors", "[INFO] agent: joined", "all is well", "error=nil", ""])
def test_lines_that_say_nothing(line):
    assert score(line) <= 0


@pytest.mark.parametrize(
    "line",
    [
        "FATAL:  password authentication failed for user",
        "kernel: Out of memory: Killed process 1",
        "bind: address already in use",
        "x509: certificate signed by unknown authority",
        "Can't open config file: No such file or directory",
    ],
)
def test_lines_that_say_something(line):
    assert score(line) > 0


def test_long_lines_are_cut():
    assert len(telling_lines([("x", "error " + "y" * 1000)])[0][1]) == 220


def test_sections():
    text = "### host\nup\n\n### journal redis-server\nfatal: x\n### log /var/log/a\n\n### listening\nerror here too\n"
    assert sections(text)["host"] == "up"
    assert log_sections(text) == {"journal redis-server": "fatal: x"}
