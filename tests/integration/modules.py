"""Runs modules as they run on a host, in a process of their own with arguments in JSON, and what needs Ansible around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULES = "ansible_collections.sutazai.platform.plugins.modules"


def run_module(name: str, arguments: dict, check: bool = False, through: Sequence[str] = ()) -> dict:
    """What the module returns; `through` is a command that the module's own is appended to."""
    payload = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}}
    done = subprocess.run(
        [*through, sys.executable, "-m", f"{MODULES}.{name}"],
        input=json.dumps(payload),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT / ".ansible" / "collections")},
    )
    assert done.stdout.strip(), done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_ansible(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Ansible with the checkout's settings; it leaves no facts and no failure bundle behind."""
    settings = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.memory",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "PLATFORM_FAILURE_BUNDLE": "0",
        **environment,
    }
    command = [str(Path(sys.executable).with_name(program)), *arguments]
    return subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, timeout=300, check=False)


RESTART = """
- hosts: {host}
  connection: local
  gather_facts: false
  tasks:
    - name: Take the host for a Debian 13
      ansible.builtin.set_fact:
        distribution_major_version: "13"
        cacheable: true
    - name: Restart this member
      ansible.builtin.include_role:
        name: sutazai.platform.patroni
        tasks_from: restart
"""


def restart_by_role(
    directory: Path, members: dict[str, str], hosts: Sequence[str], port: int, **variables: object
) -> subprocess.CompletedProcess:
    """The restart tasks of the role patroni, on one host after the other in the order given. Nothing is sent to a service manager."""
    variables = {
        "ansible_python_interpreter": sys.executable,
        "patroni_rest_port": port,
        "patroni_tls_ca_file": "",
        "patroni_tls_cert_file": "",
        "patroni_tls_key_file": "",
        **variables,
    }
    inventory = {name: {"platform_address": address} for name, address in members.items()}
    (directory / "hosts.json").write_text(json.dumps({"postgresql": {"hosts": inventory, "vars": variables}}))
    (directory / "restart.yml").write_text("".join(RESTART.format(host=host) for host in hosts))
    return run_ansible("ansible-playbook", f"--inventory={directory / 'hosts.json'}", str(directory / "restart.yml"))
