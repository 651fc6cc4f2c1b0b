"""The modules of a rolling upgrade as a host runs them, with an apt and a systemctl that only note what they were asked for."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import dpkg

from tests.integration.modules import run_module

STATUS = Path("/var/lib/dpkg/status")
UNIT = "sutazai-test"
#: A package that every Debian has, in a version that none has.
PACKAGE = "dash"
SYSTEMCTL = """#!/bin/sh
echo "systemctl $*" >> "$LOG"
[ "$1" = show ] && cat "$SHOWN"
exit 0
"""
APT = """#!/bin/sh
case " $* " in
  *" --print-uris "*) [ -e "$HERE/deb" ] || echo "'http://mirror/pool/dash_99_amd64.deb' dash_99_amd64.deb 5 SHA256:0"; exit 0 ;;
  *" --download-only "*) echo download >> "$LOG"; [ -e "$HERE/gone" ] && exit 100; touch "$HERE/deb"; exit 0 ;;
esac
"$HERE/policy-rc.d" sutazai-test restart; echo "install, restart answered $?" >> "$LOG"
"$HERE/policy-rc.d" ssh restart; echo "ssh answered $?" >> "$LOG"
[ -e "$HERE/broken" ] && { echo "E: it broke" >&2; exit 100; }
exit 0
"""


class Host:
    """Programs that note their calls, in front of the real ones."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.log.touch()
        self.shown = directory / "shown"
        self.policy = directory / "policy-rc.d"
        (directory / "bin").mkdir()
        for name, script in (("systemctl", SYSTEMCTL), ("apt-get", APT)):
            path = directory / "bin" / name
            path.write_text(script)
            path.chmod(0o755)

    def run(self, module: str, check: bool = False, **arguments: object) -> dict:
        through = ["env", f"PATH={self.directory / 'bin'}:{os.environ['PATH']}", f"LOG={self.log}"]
        through += [f"HERE={self.directory}", f"SHOWN={self.shown}"]
        return run_module(module, arguments, check, through)

    def noted(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def upgrade(host: Host, check: bool = False, **arguments: object) -> dict:
    return host.run(
        "package_upgrade",
        check,
        **{"name": [f"{PACKAGE}=99"], "unit": UNIT, "policy_file": str(host.policy), **arguments},
    )


def test_packages_are_there_before_the_unit_is_stopped_and_can_not_start_it(host):
    done = upgrade(host)
    assert done["changed"] and done["stopped"] and done["downloaded"] == ["http://mirror/pool/dash_99_amd64.deb"]
    assert host.noted() == [
        "download",
        f"systemctl is-active --quiet {UNIT}",
        f"systemctl stop {UNIT}",
        "install, restart answered 101",
        "ssh answered 0",
    ]
    assert not host.policy.exists()
    version = dpkg.states(STATUS.read_text())[PACKAGE][1]
    assert done["diff"] == {"before": f"{PACKAGE} {version}\n", "after": f"{PACKAGE} 99\n"}


def test_what_can_not_be_downloaded_stops_nothing(host):
    (host.directory / "gone").touch()
    done = upgrade(host)
    assert done["failed"] and "nothing was stopped or replaced" in done["msg"]
    assert host.noted() == ["download"]


def test_a_package_that_apt_refuses_leaves_the_old_one_running(host):
    (host.directory / "broken").touch()
    done = upgrade(host)
    assert done["failed"] and "it broke" in done["msg"] and "runs again as it was" in done["msg"]
    assert host.noted()[-1] == f"systemctl start {UNIT}"
    assert not host.policy.exists()


@pytest.mark.parametrize("answer", [101, 0])
def test_a_policy_of_somebody_else_is_asked(host, answer):
    host.policy.write_text(f"#!/bin/sh\nexit {answer}\n")
    host.policy.chmod(0o755)
    done = upgrade(host)
    if answer == 101:
        assert done["stopped"] and "install, restart answered 101" in host.noted()
    else:
        assert "is somebody else's" in done["msg"]
        assert not [line for line in host.noted() if "stop" in line]
    assert host.policy.read_text() == f"#!/bin/sh\nexit {answer}\n"


def test_only_downloading_touches_no_unit(host):
    done = upgrade(host, state="downloaded")
    assert done["changed"] and host.noted() == ["download"]
    assert not upgrade(host, state="downloaded")["changed"]


def test_check_mode_downloads_and_stops_nothing(host):
    done = upgrade(host, check=True)
    assert done["changed"] and not done["stopped"]
    assert host.noted() == []


def test_what_is_installed_is_left_alone(host):
    version = dpkg.states(STATUS.read_text())[PACKAGE][1]
    assert not upgrade(host, name=[f"{PACKAGE}={version}"])["changed"]
    assert host.noted() == []


def show(host: Host, pid: int = 0, since: float | None = None) -> None:
    microseconds = int((time.clock_gettime(time.CLOCK_MONOTONIC) - (time.time() - (since or time.time()))) * 1e6)
    host.shown.write_text(
        f"ActiveState={'active' if pid else 'inactive'}\nUnitFileState=enabled\nMainPID={pid}\n"
        f"ExecMainStartTimestampMonotonic={microseconds if pid else 0}\n"
    )


@pytest.fixture
def versions(tmp_path):
    """Two versions of a tool, the older one running and linked."""
    for version in ("1.20.6", "1.21.0"):
        path = tmp_path / "root" / "consul" / version / "consul"
        path.parent.mkdir(parents=True)
        shutil.copy("/bin/sleep", path)
    link = tmp_path / "consul"
    link.symlink_to(tmp_path / "root" / "consul" / "1.20.6" / "consul")
    process = subprocess.Popen([link, "60"])
    yield process.pid, link
    process.kill()
    process.wait()


def look(host: Host, link: Path, wanted: str) -> dict:
    artifact = {"name": "consul", "version": wanted, "destination": str(link), "root": str(link.parent / "root")}
    return host.run("upgrade_info", component="consul", unit="consul", artifact=artifact)


def test_an_artifact_says_what_runs_what_is_installed_and_what_is_due(host, versions):
    pid, link = versions
    show(host, pid)
    found = look(host, link, "1.20.6")
    assert (found["running"], found["installed"], found["due"]) == ("1.20.6", "1.20.6", False)
    found = look(host, link, "1.21.0")
    assert found["changes"] == [{"name": "consul", "from": "1.20.6", "to": "1.21.0"}]
    assert found["upgrade_due"] and not found["restart_due"]
    # Interrupted after the link was switched: the process is still the old one.
    link.unlink()
    link.symlink_to(link.parent / "root" / "consul" / "1.21.0" / "consul")
    found = look(host, link, "1.21.0")
    assert (found["running"], found["installed"]) == ("1.20.6", "1.21.0")
    assert found["due"] and found["restart_due"] and not found["upgrade_due"]
    show(host)
    found = look(host, link, "1.21.0")
    assert found["due"] and not found["active"] and not found["restart_due"]


def test_a_process_that_is_older_than_its_package_is_restarted(host):
    unpacked = Path(f"/var/lib/dpkg/info/{PACKAGE}.list").stat().st_mtime
    for since, stale in ((unpacked + 5, False), (unpacked - 5, True)):
        show(host, os.getpid(), since)
        found = host.run(
            "upgrade_info", component="test", unit=UNIT, packages=[PACKAGE, "no-such-package"], update_index=False
        )
        assert found["restart_due"] is stale
        assert found["running"] == ("" if stale else found["installed"])


def test_an_artifact_can_be_there_without_being_switched_to(tmp_path):
    body = b"#!/bin/sh\n"
    for version, switch in (("1", True), ("2", False), ("2", True)):
        file = tmp_path / "file"
        file.write_bytes(body)
        arguments = {
            "name": "tool",
            "version": version,
            "sha256": hashlib.sha256(body).hexdigest(),
            "file": "tool",
            "destination": str(tmp_path / "tool"),
            "root": str(tmp_path / "root"),
            "bundle": "unused",
            "local_file": str(file),
            "switch": switch,
        }
        assert run_module("artifact", arguments)["changed"]
        assert not run_module("artifact", arguments)["changed"]
        linked = os.readlink(tmp_path / "tool")
        assert linked == str(tmp_path / "root" / "tool" / (version if switch else "1") / "tool")
        assert (tmp_path / "root" / "tool" / version / "tool").exists()
