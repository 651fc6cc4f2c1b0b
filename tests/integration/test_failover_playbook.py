"""The failover playbook refuses where its inventory doesn't allow it, before it connects to anything."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def test_a_production_inventory_is_refused_without_a_connection():
    command = ["ansible-playbook", "-i", "inventories/production", "playbooks/failover_test.yml"]
    command += ["-e", "failover_component=redis", "-e", "failover_fault=stop_host"]
    # Whoever connects fails, and says so in another way.
    environment = {
        **os.environ,
        "ANSIBLE_SSH_EXECUTABLE": "/bin/false",
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.default",
    }
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "platform_failover_tests_allowed" in done.stdout and "isn't true in its inventory" in " ".join(
        done.stdout.split()
    )
    assert "UNREACHABLE" not in done.stdout and "Prepare the client" not in done.stdout
