import json
import sys

import pytest

from lab import command, console, converge, status
from lab.errors import LabError
from lab.inventory import Host
from lab.settings import load


@pytest.fixture
def screen(tmp_path):
    return console.Console(tmp_path, "up", 2)


def test_steps_are_numbered_and_timed(screen, tmp_path, capsys):
    with screen.step("image", "node image"):
        screen.note("built")
    assert "step 1 of 2: node image" in capsys.readouterr().out
    timings = json.loads((tmp_path / "timings.json").read_text())
    assert timings["command"] == "up"
    assert "image" in timings["seconds"]


def test_a_long_step_shows_a_sign_of_life(screen, capsys, monkeypatch):
    monkeypatch.setattr(console, "HEARTBEAT_SECONDS", 0)
    with screen.step("image", "node image"):
        screen.doing("unpacking systemd")
        command.run(screen, ["sleep", "1.2"], failure="no")
    assert "unpacking systemd" in capsys.readouterr().out


def test_a_failure_names_step_last_lines_and_way_out(screen, capsys):
    program = [sys.executable, "-c", "print('first'); print('the reason'); raise SystemExit(3)"]
    with pytest.raises(LabError) as caught, screen.step("image", "node image"):
        command.run(screen, program, failure="Building failed.", way_out="Try again.")
    screen.failed(caught.value)
    said = capsys.readouterr().out
    assert "FAILED in step 1 of 2 (node image): Building failed." in said
    assert "the reason" in said
    assert "Way out: Try again." in said
    assert str(screen.log_path) in said
    assert "the reason" in screen.log_path.read_text()


@pytest.mark.parametrize(("seconds", "text"), [(5, "0:05"), (83.9, "1:23"), (3723, "1:02:03")])
def test_durations(seconds, text):
    assert console.duration(seconds) == text


PLAYBOOK = """\
PLAY [Prepare every host] ******************************************************

TASK [sutazai.platform.base : Install packages] ********************************
changed: [a]
TASK [sutazai.platform.base : Configure] ***************************************
TASK [Verify] ******************************************************************
[ERROR]: Task failed: Module failed: no space left
fatal: [b]: FAILED! => {"msg": "no space left"}

PLAY RECAP *********************************************************************
a                          : ok=2    changed=1    unreachable=0    failed=0    skipped=0    rescued=0    ignored=0
b                          : ok=1    changed=0    unreachable=0    failed=1    skipped=0    rescued=0    ignored=0
"""


def test_progress_of_a_playbook(screen, capsys):
    progress = converge.Progress(screen)
    for line in PLAYBOOK.splitlines():
        progress.line(line)
    said = capsys.readouterr().out
    assert "Prepare every host" in said
    assert said.count("base: ") == 1
    assert any("no space left" in line for line in progress.telling)
    assert progress.summary() == "2 hosts, 1 change, failed: b"


HOSTS = [Host("redis-1", 31, ("redis",)), Host("redis-2", 32, ("redis",)), Host("client-1", 91, ("clients",))]


@pytest.mark.parametrize(
    ("up", "report", "hosts", "health"),
    [
        (set(), {}, "0/2", "down"),
        ({"redis-2"}, {}, "1/2", "unknown"),
        ({"redis-1", "redis-2"}, {"redis": {"healthy": True, "leaders": ["redis-1"]}}, "2/2", "healthy"),
        ({"redis-1", "redis-2"}, {"redis": {"healthy": False, "problems": ["no quorum"]}}, "2/2", "NOT HEALTHY"),
    ],
)
def test_the_table_says_how_each_cluster_is(tmp_path, up, report, hosts, health):
    (row,) = status.rows(load(tmp_path, {}), HOSTS, up, report)
    assert row[:2] == ["Redis Cluster", hosts]
    assert row[3] == health
    assert "redis_admin_password" in row[5]


def test_problems_are_sentences():
    report = {"redis": {"problems": ["Slot 1 is lost.\nredis-2 is silent."]}}
    assert status.problems(HOSTS, {"redis-1", "redis-2"}, report) == [
        "Down: client-1.",
        "Redis Cluster: Slot 1 is lost.",
        "Redis Cluster: redis-2 is silent.",
    ]


def test_tables_are_aligned():
    assert console.table(["a", "long"], [["xyz", "1"]]) == ["a    long", "---  ----", "xyz  1"]
