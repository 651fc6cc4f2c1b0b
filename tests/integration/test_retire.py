"""What the agents' roles leave behind on a host that left their group: nothing that runs, no secret, nothing in Consul. With a real Consul, and a
systemctl that only notes. CONSUL_BIN names the binary."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import pytest

from tests.integration.consul_server import BINARY, running
from tests.integration.modules import run_ansible

pytestmark = pytest.mark.skipif(not BINARY, reason="no Consul binary: set CONSUL_BIN to the path of one")

HOST = "agent-1"
TOKEN = str(uuid.uuid4())
# Which units it has, what they do, and in the log what it was told.
SYSTEMCTL = """#!{python}
import json, pathlib, sys

path = pathlib.Path("{directory}/units.json")
units = json.loads(path.read_text())
words = [word for word in sys.argv[1:] if not word.startswith("-")]
verb, name = words[0], words[1] if len(words) > 1 else ""
unit = units.get(name, units.get(name + ".service"))
if verb == "show":
    active, enabled = unit or ("inactive", "")
    print(f"LoadState={{'loaded' if unit else 'not-found'}}\\nActiveState={{active}}\\nUnitFileState={{enabled}}\\nNeedDaemonReload=no")
elif verb == "is-enabled":
    print(unit[1])
    sys.exit(unit[1] != "enabled")
elif verb in ("stop", "disable"):
    unit[verb == "disable"] = {{"stop": "inactive", "disable": "disabled"}}[verb]
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
    """A host that left, with the directories of its roles below one of the test's own."""

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
        units = {f"{name}.service": ["active", "enabled"] for name in (*names, "consul")}
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

    def register(self, name: str, owner: str) -> None:
        self.ask("PUT", "/v1/agent/service/register", {"Name": name, "ID": name, "Meta": {"registrar": owner}})

    def tokens(self) -> set[str]:
        return {token["Description"] for token in self.ask("GET", "/v1/acl/tokens")}

    def run(self, part: str, *roles: str) -> str:
        own = str(self.directory)
        private = {
            **{f"__{role}_configuration": f"{own}/{role}" for role in ("celery", "flower", "autoscaler", "registrar")},
            "__fabio_configuration": f"{own}/fabio",
            "__fabio_consul_url": self.url,
            "__registrar_url": self.url,
            "__autoscaler_url": self.url,
            "__consul_service_url": self.url,
            "__consul_service_directory": f"{own}/consul.d",
            "__celery_unit": f"{own}/units/celery-worker@.service",
        }
        shared = {
            "ansible_python_interpreter": sys.executable,
            "platform_address": "127.0.0.1",
            "platform_consul_management_token": TOKEN,
            "autoscaler_managers": [],
        }
        groups = {"agents_removed": {"hosts": {HOST: {}}, "vars": shared}, "consul_servers": {"hosts": {HOST: {}}}}
        (self.directory / "hosts.json").write_text(json.dumps(groups))
        done = run_ansible(
            "ansible-playbook",
            f"--inventory={own}/hosts.json",
            f"--extra-vars={json.dumps({'part': part, 'roles': roles, **private})}",
            f"{own}/play.yml",
            PATH=f"{own}/bin:{os.environ['PATH']}",
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        return done.stdout

    def told(self) -> set[str]:
        return set(self.log.read_text().splitlines())


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with running(tmp_path_factory.mktemp("consul")) as url:
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


@pytest.fixture
def host(consul, tmp_path):
    return Host(tmp_path, consul)


def stopped(*units: str) -> set[str]:
    return {f"{verb} {unit}.service" for unit in units for verb in ("stop", "disable")}


@pytest.mark.parametrize(
    ("role", "units"),
    [
        ("fabio", ["fabio"]),
        ("registrar", ["sutazai-registrar"]),
        ("autoscaler", ["sutazai-autoscaler", "sutazai-autoscaler-report"]),
    ],
)
def test_it_ends_and_its_token_with_it(host, role, units):
    host.units(*units)
    host.run("cluster", role)
    assert any(
        HOST in description for description in host.tokens() if description != "Bootstrap Token (Global Management)"
    )
    secret = host.file({"fabio": "fabio/consul.env"}.get(role, f"{role}/consul.token"))
    host.run("retire", role)
    assert host.told() == stopped(*units)
    assert not secret.exists()
    assert not any(HOST in description for description in host.tokens())
    assert "changed=0" in host.run("retire", role)


def test_what_the_registrar_has_left_goes_and_what_others_registered_stays(host):
    host.units("sutazai-registrar")
    host.register("agent-1234", HOST)
    host.register("web", "")
    host.run("retire", "registrar")
    assert set(host.ask("GET", "/v1/agent/services")) == {"web"}


def test_services_that_the_host_announced_are_taken_out(host):
    host.units("flower", "fabio")
    passwords = [host.file("flower/rabbitmq.password"), host.file("flower/flowerconfig.py")]
    definitions = [host.file(f"consul.d/service-{name}.json") for name in ("flower", "fabio")]
    host.run("retire", "flower", "fabio")
    assert stopped("flower", "fabio") <= host.told()
    assert not any(path.exists() for path in (*passwords, *definitions))


def test_all_workers_end(host):
    host.units("celery-worker@inference", "celery-worker@partition-3")
    for name in ("inference", "partition-3"):
        host.file(f"units/celery-worker@{name}.service.d/pool.conf")
    passwords = [host.file(f"celery/{name}.password") for name in ("rabbitmq", "redis")]
    host.run("retire", "celery")
    assert host.told() == stopped("celery-worker@inference", "celery-worker@partition-3")
    assert not any(path.exists() for path in passwords)
    assert list((host.directory / "units").iterdir()) == []
    assert "changed=0" in host.run("retire", "celery")


def test_a_host_that_never_had_any_is_left_alone(host):
    assert "changed=0" in host.run("retire", "celery", "flower", "autoscaler", "registrar", "fabio")
    assert host.told() == set()
