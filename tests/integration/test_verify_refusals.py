"""What roles' verify say on a host that has nothing of theirs, or something else: the sentence for the operator, not a module's failure."""

from __future__ import annotations

import json
import os
import sys

import pytest
import yaml

from tests.integration.modules import run_ansible

COMMANDS = {
    "celery-ping": 'echo "celery@agent-1 doesn\'t answer"; exit 1',
    "systemctl": "echo inactive; exit 3",
}
CASES = {
    "runtime": (
        {"runtime_version": "0.2.0"},
        "has no working sutazai-runtime in {directory}/current, runtime_version is 0.2.0",
    ),
    "celery": (
        {"__celery_names": ["celery@agent-1"]},
        "answer through the broker: celery@agent-1 doesn't answer. Their log",
    ),
    "autoscaler": (
        {"__autoscaler_units": ["sutazai-not-there.service"], "__autoscaler_decides": True},
        "The autoscaler doesn't run on localhost: sutazai-not-there.service is inactive",
    ),
}


def verify(directory, role, *options, **variables):
    playbook = directory / "play.yml"
    # What else the role would want, secrets for example, has nothing to do with what is looked at here.
    asked = {"name": f"sutazai.platform.{role}", "tasks_from": "verify", "rolespec_validate": False}
    task = {"name": "Verify", "ansible.builtin.include_role": asked}
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]))
    given = {"ansible_python_interpreter": sys.executable, "platform_address": "127.0.0.1", **variables}
    path = f"{directory}:{os.environ['PATH']}"
    return run_ansible("ansible-playbook", f"--extra-vars={json.dumps(given)}", *options, str(playbook), PATH=path)


@pytest.fixture
def paths(tmp_path):
    for name, does in COMMANDS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    return {"__runtime_root": str(tmp_path), "__celery_ping": str(tmp_path / "celery-ping")}


@pytest.mark.parametrize("role", CASES)
def test_what_is_missing_is_said(tmp_path, paths, role):
    variables, said = CASES[role]
    done = verify(tmp_path, role, **paths, **variables)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said.format(directory=tmp_path) in " ".join(done.stdout.split())


@pytest.mark.parametrize("role", CASES)
def test_a_fresh_host_in_check_mode_is_no_finding(tmp_path, paths, role):
    done = verify(tmp_path, role, "--check", **paths, **CASES[role][0])
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_version_of_the_package_is_named(tmp_path, paths):
    python = tmp_path / "current" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 0.1.0\n")
    python.chmod(0o755)
    done = verify(tmp_path, "runtime", runtime_version="0.2.0", **paths)
    assert done.returncode == 2
    assert "localhost has sutazai-runtime 0.1.0, runtime_version is 0.2.0" in " ".join(done.stdout.split())
    assert verify(tmp_path, "runtime", runtime_version="0.1.0", **paths).returncode == 0
