"""The packages module on the machine that runs the tests: Debian's own records, apt only in check mode."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not shutil.which("dpkg"), reason="no dpkg on this machine")
INSTALLED = "base-files"
# Small, in every Debian, and on no machine by accident.
ABSENT = "sysvbanner"


def run(*names: str, check: bool = True) -> dict:
    play = [
        {
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "tasks": [{"name": "Ask", "sutazai.platform.packages": {"name": list(names)}}],
        }
    ]
    environment = {
        **os.environ,
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_CALLBACKS_ENABLED": "sutazai.platform.warm_workers",
    }
    command = ["ansible-playbook", "-i", "localhost,", *(["--check"] if check else []), "/dev/stdin"]
    done = subprocess.run(
        command, input=json.dumps(play), cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    report = json.loads(done.stdout[done.stdout.index("{") :])
    return report["plays"][0]["tasks"][0]["hosts"]["localhost"]


def test_what_is_installed_is_left_to_dpkg():
    result = run(INSTALLED, check=False)
    assert not result["changed"]
    assert result["missing"] == []


def test_what_is_missing_is_apts_business():
    result = run(INSTALLED, ABSENT)
    assert result["missing"] == [ABSENT]
    # apt was asked; whether it knows the package depends on its lists.
    assert "cache_updated" in result or "No package matching" in result["msg"]


def test_another_version_is_missing():
    assert run(f"{INSTALLED}=0.0")["missing"] == [f"{INSTALLED}=0.0"]
