"""The fault module with stand-ins for systemctl, systemd-run and nft that write down what they were told, in which order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COLLECTIONS = Path(__file__).resolve().parents[2] / ".ansible" / "collections"
MODULE = "ansible_collections.sutazai.platform.plugins.modules.failover_fault"
SCRIPT = (
    "import json, sys, importlib; from ansible.module_utils.testing import patch_module_args; "
    "from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder as F; "
    f"F(paths=[{str(COLLECTIONS)!r}])._install(); arguments = json.load(sys.stdin)\n"
    f"with patch_module_args(arguments): importlib.import_module('{MODULE}').main()"
)
STAND_IN = """\
#!/bin/sh
echo "$(basename "$0") $*" >> {log}
case "$*" in
  "show --property=ActiveState --value sutazai-failover-undo.timer") cat {home}/timer 2>/dev/null || echo inactive ;;
  "show "*) cat {home}/state ;;
  "-f -") cat > {home}/rules ;;
esac
! grep -qxF "$(basename "$0") $*" {home}/broken 2>/dev/null
"""


class Host:
    def __init__(self, home: Path) -> None:
        self.home, self.log = home, home / "log"
        (home / "bin").mkdir()
        for name in ("systemctl", "systemd-run", "nft"):
            path = home / "bin" / name
            path.write_text(STAND_IN.format(log=self.log, home=home))
            path.chmod(0o755)
        (home / "state").write_text("active\n")

    def start(self, **arguments) -> subprocess.Popen:
        environment = {**os.environ, "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}"}
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        process.stdin.write(json.dumps({"hold_seconds": 0.5, "guard_seconds": 60, **arguments}))
        process.stdin.close()
        return process

    def run(self, **arguments) -> dict:
        process = self.start(**arguments)
        out, err = process.stdout.read(), process.stderr.read()
        process.wait(30)
        assert out, err
        return json.loads(out)

    @property
    def told(self) -> list[str]:
        """What was done; questions left out."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if " show " not in line]


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


GUARD = (
    "systemd-run --quiet --collect --unit=sutazai-failover-undo --on-active={}s --timer-property=AccuracySec=1s -- {}"
)
DISARM = "systemctl stop sutazai-failover-undo.timer"


def test_the_guard_is_armed_before_and_disarmed_after(host):
    began = time.time()
    answer = host.run(fault="pause_process", unit="redis-server")
    assert host.told == [
        GUARD.format("60.5", "systemctl kill --signal=SIGCONT redis-server"),
        "systemctl kill --signal=SIGSTOP redis-server",
        "systemctl kill --signal=SIGCONT redis-server",
        DISARM,
    ]
    assert answer["changed"] and began < answer["injected_at"] and answer["undone_at"] - answer["injected_at"] >= 0.5


def test_a_network_fault_is_a_table_that_goes_again(host):
    answer = host.run(fault="isolate_host", peers=["10.0.0.2", "10.0.0.3"])
    undo = "nft add table inet sutazai_failover; delete table inet sutazai_failover"
    assert host.told == [GUARD.format("60.5", undo), "nft -f -", undo, DISARM]
    assert "ip saddr 10.0.0.3 drop" in (host.home / "rules").read_text()
    assert "10.0.0.2, 10.0.0.3" in answer["what"]


def test_a_killed_process_is_left_to_systemd(host):
    assert host.run(fault="kill_process", unit="redis-server")["changed"]
    assert host.told[1:] == ["systemctl kill --signal=SIGKILL redis-server", DISARM]


def test_without_a_guard_there_is_no_fault(host):
    (host.home / "broken").write_text(GUARD.format("60.5", "systemctl kill --signal=SIGCONT redis-server") + "\n")
    answer = host.run(fault="pause_process", unit="redis-server")
    assert answer["failed"] and "can't be armed" in answer["msg"]
    assert len(host.told) == 1


def test_what_cannot_be_undone_is_left_to_the_guard(host):
    (host.home / "broken").write_text("systemctl kill --signal=SIGCONT redis-server\n")
    answer = host.run(fault="pause_process", unit="redis-server")
    assert answer["failed"] and "the guard will try again" in answer["msg"]
    assert DISARM not in host.told


def test_a_half_injected_fault_is_undone(host):
    (host.home / "broken").write_text("nft -f -\n")
    answer = host.run(fault="isolate_host", peers=["10.0.0.2"])
    assert answer["failed"] and "can't be injected" in answer["msg"]
    assert host.told[-1].startswith("nft add table inet sutazai_failover; delete")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_fault_is_undone_at_once(host, number):
    process = host.start(fault="pause_process", unit="redis-server", hold_seconds=60)
    deadline = time.monotonic() + 20
    while "systemctl kill --signal=SIGSTOP redis-server" not in host.told and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.3)
    process.send_signal(number)
    out = process.stdout.read()
    process.wait(10)
    assert json.loads(out)["failed"] and "undone before its time" in out
    assert "systemctl kill --signal=SIGCONT redis-server" in host.told[2:]


def test_one_fault_at_a_time(host):
    (host.home / "timer").write_text("active\n")
    answer = host.run(fault="kill_process", unit="redis-server")
    assert answer["failed"] and "in progress" in answer["msg"] and host.told == []


def test_what_does_not_run_cannot_be_killed(host):
    (host.home / "state").write_text("failed\n")
    answer = host.run(fault="kill_process", unit="redis-server")
    assert answer["failed"] and "doesn't run" in answer["msg"] and host.told == []


def test_check_mode_only_says_it(host):
    answer = host.run(fault="isolate_host", peers=["10.0.0.2"], _ansible_check_mode=True)
    assert answer["changed"] and "10.0.0.2" in answer["what"] and host.told == []


def power(host: Host) -> dict:
    file = host.home / "off"
    return {"fault": "stop_host", "power_off": ["touch", str(file)], "power_on": ["rm", "-f", str(file)]}


def test_a_host_is_switched_off_and_on(host):
    answer = host.run(**power(host))
    assert answer["changed"] and not (host.home / "off").exists()


def test_a_host_comes_back_when_everything_else_was_killed(host):
    process = host.start(**power(host), hold_seconds=3, guard_seconds=-1)
    deadline = time.monotonic() + 20
    while not (host.home / "off").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert (host.home / "off").exists()
    deadline = time.monotonic() + 20
    while (host.home / "off").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not (host.home / "off").exists()


def test_how_to_switch_a_host_off_has_to_be_said(host):
    answer = host.run(fault="stop_host")
    assert answer["failed"] and "failover_power_off_command" in answer["msg"]
