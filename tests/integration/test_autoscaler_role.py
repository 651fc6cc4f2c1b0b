"""What the role autoscaler writes passes the runtime package's own check."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.tools import runtime
from tests.unit.roles.rendering import by_path
from tests.unit.roles.test_autoscaler_role import AGENT, SETTINGS, role, rules


@pytest.fixture(scope="module", autouse=True)
def environment():
    runtime.venv()


def check(path, text: str) -> subprocess.CompletedProcess:
    path.write_text(text)
    command = [str(runtime.PYTHON), "-m", "sutazai_runtime.autoscaler", "check", "--config", str(path)]
    where = {**os.environ, "PYTHONPATH": str(runtime.RUNTIME / "src")}
    return subprocess.run(command, env=where, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("host", [{}, AGENT])
def test_the_package_takes_the_rendered_settings(tmp_path, host):
    done = check(tmp_path / "settings.yml", by_path(role(**host).value("__autoscaler_files"))[SETTINGS]["content"])
    assert done.returncode == 0, done.stderr
    assert "rules for ai-agent" in done.stdout


def test_the_package_refuses_what_the_role_refuses(tmp_path):
    rendered = json.loads(role().value("__autoscaler_rendered"))
    done = check(tmp_path / "settings.yml", json.dumps({**rendered, "rules": rules(min_replicas=51)}))
    assert done.returncode == 1 and "is 51, more than max_replicas" in done.stderr
