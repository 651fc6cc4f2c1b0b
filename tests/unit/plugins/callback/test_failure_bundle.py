"""The callback in real runs against the controller itself: when it writes, what it writes, and that it never leaks."""

from __future__ import annotations

import json
import os
import pathlib
import stat
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[4]
SECRET = "Tr0ub4dor-and-3-horses"
FAILS = f"""
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    app_password: {SECRET}
    app_tokens: ["{{{{ app_password | reverse }}}}"]
  tasks:
    - name: Say too much
      ansible.builtin.command:
        argv: [sh, -c, "echo error {{{{ app_password }}}} {{{{ app_tokens[0] }}}}; exit 4"]
"""
HARMLESS = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - block:
        - ansible.builtin.command: "false"
      rescue:
        - ansible.builtin.debug:
            msg: rescued
    - ansible.builtin.command: "false"
      ignore_errors: true
"""


def run(tmp_path, text, **environment):
    playbook = tmp_path / "play.yml"
    playbook.write_text(text)
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", str(playbook)],
        cwd=ROOT,
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
            "ANSIBLE_CALLBACKS_ENABLED": "sutazai.platform.failure_bundle",
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "ansible"),
            "ANSIBLE_CACHE_PLUGIN": "memory",
            "ANSIBLE_NOCOLOR": "1",
            "PLATFORM_FAILURE_DIR": str(tmp_path / "failures"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_failure_is_explained_without_its_secrets(tmp_path):
    answer = run(tmp_path, FAILS)
    assert answer.returncode == 2
    (bundle,) = (tmp_path / "failures").iterdir()
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o700
    names = sorted(path.name for path in bundle.iterdir())
    assert names == ["failure.json", "summary.txt"]
    for path in bundle.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        text = path.read_text()
        assert SECRET not in text and SECRET[::-1] not in text
    told = json.loads((bundle / "failure.json").read_text())
    assert told["failures"][0]["task"] == "Say too much"
    assert told["failures"][0]["result"]["rc"] == 4
    assert "WHY IT FAILED" in answer.stdout and bundle.name in answer.stdout
    assert SECRET not in answer.stdout.split("WHY IT FAILED")[1]


def test_rescued_and_ignored_failures_are_none(tmp_path):
    answer = run(tmp_path, HARMLESS)
    assert answer.returncode == 0
    assert not (tmp_path / "failures").exists()


@pytest.mark.parametrize("how", [{"PLATFORM_FAILURE_BUNDLE": "0"}, {"PLATFORM_FAILURE_DIR": "/proc/nowhere"}])
def test_the_end_of_the_run_stays_the_same(tmp_path, how):
    answer = run(tmp_path, FAILS, **how)
    assert answer.returncode == 2
    assert not (tmp_path / "failures").exists()
    assert "Traceback" not in answer.stderr
