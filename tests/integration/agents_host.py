"""A host with the agents' roles: a real Consul, and a systemctl that only notes. CONSUL_BIN names the binary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.consul_server import running
from tests.integration.modules import run_ansible

HOST = "agent-1"
TOKEN = str(uuid.uuid4())
# Which units it has, what they do and since when, and in the log what it was told.
SYSTEMCTL = """#!{python}
import json, pathlib, sys, time

path = pathlib.Path("{directory}/units.json")
units = json.loads(path.read_text())
words = [word for word in sys.argv[1:] if not word.startswith("-")]
verb, name = words[0], words[1] if len(words) > 1 else ""
unit = units.get(name, units.get(name + ".service"))
if verb == "show":
    active, enabled, since = unit or ("inactive", "", 0)
    print(f"LoadState={{'loaded' if unit else 'not-found'}}\\nActiveState={{active}}\\nUnitFileState={{enabled}}\\nNeedDaemonReload=no")
    print(f"ExecMainStartTimestampMonotonic={{since}}")
elif verb == "is-enabled":
    print(unit[1])
    sys.exit(unit[1] != "enabled")
elif verb in ("stop", "disable", "restart"):
    place, state = {{"stop": (0, "inactive"), "disable": (1, "disabled"), "restart": (2, time.monotonic_ns() // 1000)}}[verb]
    unit[place] = state
    path.write_text(json.dumps(units))
    with open("{directory}/log", "a") as log:
        log.write(f"{{verb}} {{name}}\\n")
"""
PLAYBOOK = """
- hosts: agents_removed
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: "sutazai.platform.{{ item }}", tasks_from: "{{ part }}"}
      loop: "{{ roles }}"
"""


class Host:
    """One of the agents' hosts, with the directories of its roles below one of the test's own."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory, self.url, self.log = directory, url, directory / "log"
        systemctl = directory / "bin/systemctl"
        systemctl.parent.mkdir()
        systemctl.write_text(SYSTEMCTL.format(python=sys.executable, directory=directory))
        systemctl.chmod(0o755)
        (directory / "play.yml").write_text(PLAYBOOK)
        self.units()

    def units(self, *names: str) -> None:
        self.log.write_text("")
        units = {f"{name}.service": ["active", "enabled", time.monotonic_ns() // 1000] for name in (*names, "consul")}
        (self.directory / "units.json").write_text(json.dumps(units))

    def file(self, name: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
        return path

    def ask(self, method: str, path: str, content: object = None):
        data = json.dumps(content).encode() if content else None
        asked = urllib.request.Request(self.url + path, data, {"X-Consul-Token": TOKEN}, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.loads(answer.read() or "null")

    def register(self, name: str, owner: str, **meta: str) -> None:
        service = {"Name": name, "ID": name, "Meta": {"registrar": owner, **meta}}
        self.ask("PUT", "/v1/agent/service/register", service)

    def tokens(self, role: str = "") -> list[str]:
        """The secrets of its own."""
        described = [(token["Description"].lower(), token["SecretID"]) for token in self.ask("GET", "/v1/acl/tokens")]
        return [secret for description, secret in described if HOST in description and role in description]

    def policies(self) -> set[str]:
        return {policy["Name"] for policy in self.ask("GET", "/v1/acl/policies") if HOST in policy["Name"]}

    def run(self, part: str, *roles: str, **variables: object) -> str:
        done = self.play(part, *roles, **variables)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        return done.stdout

    def play(self, part: str, *roles: str, check: bool = False, **variables: object) -> subprocess.CompletedProcess:
        own = str(self.directory)
        private = {
            **{f"__{role}_configuration": f"{own}/{role}" for role in ("celery", "flower", "autoscaler", "registrar")},
            "__fabio_configuration": f"{own}/fabio",
            "__fabio_consul_url": self.url,
            "__fabio_health_url": f"{self.url}/v1/status/leader",  # it says whether Fabio takes requests
            "__registrar_url": self.url,
            "__autoscaler_url": self.url,
            "__consul_service_url": self.url,
            "__consul_service_directory": f"{own}/consul.d",
            "__celery_unit": f"{own}/units/celery-worker@.service",
            "__registrar_user": "root",
            "__autoscaler_user": "root",
        }
        shared = {
            "ansible_python_interpreter": sys.executable,
            "platform_address": "127.0.0.1",
            "platform_consul_management_token": TOKEN,
            "fabio_artifact_sha256": "0" * 64,
            "fabio_tls_enabled": False,
            "fabio_drain_seconds": 1,
        }
        groups = {
            "agents_removed": {"hosts": {HOST: {}}, "vars": shared},
            "consul_servers": {"hosts": {HOST: {}}},
            **{group: {"hosts": {}} for group in ("swarm_managers", "rabbitmq")},
        }
        (self.directory / "hosts.json").write_text(json.dumps(groups))
        return run_ansible(
            "ansible-playbook",
            *(["--check"] if check else []),
            f"--inventory={own}/hosts.json",
            f"--extra-vars={json.dumps({'part': part, 'roles': roles, **private, **variables})}",
            f"{own}/play.yml",
            PATH=f"{own}/bin:{os.environ['PATH']}",
        )

    def told(self) -> set[str]:
        return set(self.log.read_text().splitlines())


@contextmanager
def managed(directory: Path) -> Iterator[str]:
    """The address of a Consul that has been given its management token."""
    with running(directory) as url:
        bootstrap = urllib.request.Request(
            f"{url}/v1/acl/bootstrap", json.dumps({"BootstrapSecret": TOKEN}).encode(), method="PUT"
        )
        end = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(bootstrap, timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.2)
        yield url
