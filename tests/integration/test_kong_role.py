"""The role kong's own verify against a server that answers as Kong does, since no registry has a Kong to be tested with."""

from __future__ import annotations

import json
import sys

from tests.integration.envoy_gateway import Backend
from tests.integration.modules import run_ansible
from tests.integration.ports import free_ports

PLAYBOOK = """
- hosts: gateways
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: sutazai.platform.kong, tasks_from: verify}
"""


def verify(directory, status_port, port):
    variables = {
        "ansible_python_interpreter": sys.executable,
        "platform_address": "127.0.0.1",
        "gateway_routes": {},
        "kong_package_url": "https://packages.example.org/kong_3.9.1_amd64.deb",
        "kong_package_sha256": "0" * 64,
        "kong_tls_enabled": False,
        "kong_port": port,
        "kong_status_port": status_port,
        "kong_wait_seconds": 1,
    }
    (directory / "hosts.json").write_text(json.dumps({"gateways": {"hosts": {"gateway-1": None}, "vars": variables}}))
    (directory / "play.yml").write_text(PLAYBOOK)
    return run_ansible("ansible-playbook", f"--inventory={directory}/hosts.json", f"{directory}/play.yml")


def test_any_answer_to_a_request_will_do_but_none_will_not(tmp_path):
    status, proxy = Backend("status"), Backend("proxy")
    proxy.status = 404  # no route is for this
    unused = free_ports(1)[0]
    try:
        done = verify(tmp_path, status.port, proxy.port)
        assert done.returncode == 0, done.stdout + done.stderr
        silent = verify(tmp_path, status.port, unused)
        assert silent.returncode != 0
        assert f"is ready but does not answer on http://127.0.0.1:{unused}" in silent.stdout
    finally:
        status.stop()
        proxy.stop()


def test_a_kong_that_is_not_ready_is_refused(tmp_path):
    status = Backend("status")
    status.status = 503
    try:
        done = verify(tmp_path, status.port, free_ports(1)[0])
        assert done.returncode != 0
        assert f"is not ready (http://127.0.0.1:{status.port}/status/ready says 503)" in done.stdout
    finally:
        status.stop()
