"""The module python_environment: a package of one file, installed, upgraded, repaired."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.integration.modules import run_module


def wheel(directory: Path, version: str, needs: str = "") -> str:
    """A wheel of the package `tiny`; returns its line of the requirements."""
    path = directory / f"tiny-{version}-py3-none-any.whl"
    about = f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n" + (f"Requires-Dist: {needs}\n" if needs else "")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny.py", f"VERSION = {version!r}\n")
        archive.writestr(f"tiny-{version}.dist-info/METADATA", about)
        archive.writestr(
            f"tiny-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"tiny-{version}.dist-info/RECORD", "")
    return f"tiny=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


class Installation:
    def __init__(self, directory: Path) -> None:
        self.wheels, self.root = directory / "wheels", directory / "root"
        self.wheels.mkdir()
        self.requirements = directory / "requirements.txt"

    def run(self, version: str, check: bool = False) -> dict:
        arguments = {"version": version, "requirements": str(self.requirements), "wheels": str(self.wheels)}
        return run_module("python_environment", {**arguments, "root": str(self.root), "python": sys.executable}, check)

    def installed(self) -> str:
        command = [str(self.root / "current" / "bin" / "python"), "-c", "import tiny; print(tiny.VERSION)"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def installation(tmp_path):
    return Installation(tmp_path)


def test_install_upgrade_and_go_back(installation):
    planned = installation.run("1.0", check=True)
    assert planned["changed"] and not installation.root.exists()  # its archive isn't unpacked yet
    first = wheel(installation.wheels, "1.0")
    installation.requirements.write_text(first)
    made = installation.run("1.0")
    assert made["changed"] and made["made"] and made["switched"], made
    assert installation.installed() == "1.0"
    assert not installation.run("1.0")["changed"]

    installation.requirements.write_text(wheel(installation.wheels, "2.0"))
    assert installation.run("2.0", check=True)["made"]
    assert installation.installed() == "1.0"
    assert installation.run("2.0")["removed"] == []
    assert installation.installed() == "2.0"

    installation.requirements.write_text(first)
    back = installation.run("1.0")
    assert (back["made"], back["switched"]) == (False, True)  # it is there yet
    assert installation.installed() == "1.0"


def test_what_a_killed_run_left_is_made_anew(installation):
    installation.requirements.write_text(wheel(installation.wheels, "1.0"))
    made = installation.run("1.0")
    (Path(made["path"]) / ".receipt.json").unlink()
    shutil.rmtree(Path(made["path"]) / "lib")
    again = installation.run("1.0")
    assert again["made"] and not again["switched"]
    assert installation.installed() == "1.0"


def test_wheels_that_are_not_what_was_pinned_are_refused(installation):
    line = wheel(installation.wheels, "1.0")
    installation.requirements.write_text(line.replace(line[-10:-1], "0" * 9))
    refused = installation.run("1.0")
    assert refused["failed"] and "don't go together" in refused["msg"]
    assert not (installation.root / "current").exists()

    installation.requirements.write_text("tiny==1.0\n")
    assert "doesn't pin tiny==1.0 to a version and its hashes" in installation.run("1.0")["msg"]

    installation.requirements.write_text(wheel(installation.wheels, "1.0", needs="absent-thing>=1"))
    lacking = installation.run("1.0")
    assert "a requirement of a package is missing" in lacking["msg"] and "absent-thing" in lacking["msg"]
    assert not (installation.root / "current").exists()
