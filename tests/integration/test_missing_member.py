"""The info modules against real servers: the lab's clusters, whole, with a member missing, and whole again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
COMPONENTS = {
    # role: group, unit, the variable that says how long verify waits
    "consul": ("consul_servers", "consul", "consul_wait_seconds"),
    "rabbitmq": ("rabbitmq", "rabbitmq-server", "rabbitmq_health_timeout_seconds"),
    "redis": ("redis", "redis-server", "redis_verify_wait_seconds"),
    "patroni": ("postgresql", "patroni", "patroni_health_timeout_seconds"),
}
PLAYBOOK = "tests/integration/missing_member.yml"


@pytest.fixture(scope="session", autouse=True)
def _lab():
    command = [sys.executable, "-m", "lab", "status"]
    if subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False).returncode:
        pytest.skip("the lab isn't up and healthy (make lab)")


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_missing_member_is_named_and_forgiven_when_it_is_back(component, tmp_path):
    group, unit, wait = COMPONENTS[component]
    values = {"component": component, "component_group": group, "component_unit": unit}
    values[wait] = "{{ 20 if hurried | default(false) else 120 }}"
    variables = tmp_path / "variables.json"
    variables.write_text(json.dumps(values))
    result = subprocess.run(
        ["ansible-playbook", "-i", "inventories/lab", f"--extra-vars=@{variables}", PLAYBOOK],
        cwd=CHECKOUT,
        env={**os.environ, "PLATFORM_FAILURE_BUNDLE": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
