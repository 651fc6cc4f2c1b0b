"""A service that fails, as its caller's sidecar sees it: real Envoys, told by a real Consul. CONSUL_BIN and ENVOY_BIN name the binaries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.integration.envoy_gateway import BINARY as ENVOY
from tests.integration.envoy_gateway import Backend
from tests.integration.ports import free_ports
from tests.integration.waiting import eventually
from tests.unit.roles.rendering import Role

CONSUL = os.environ.get("CONSUL_BIN") or shutil.which("consul")
pytestmark = pytest.mark.skipif(not (CONSUL and ENVOY), reason="no Consul or no Envoy: set CONSUL_BIN and ENVOY_BIN")


def ask(port: int, path: str, content: object = None) -> tuple[int, object]:
    data = json.dumps(content).encode() if content else None
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, method="PUT" if content else "GET")
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        return error.code, error.read()


class Mesh:
    """An agent that is all of Consul, and sidecars that are started as the role's unit starts them."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.processes = directory, []
        names = ("http", "grpc", "serf-lan", "serf-wan", "server", "dns")
        self.port, self.grpc, *_ = ports = free_ports(len(names))
        options = [f"-{name}-port={port}" for name, port in zip(names, ports, strict=True)]
        self.run("consul", CONSUL, "agent", "-dev", "-bind=127.0.0.1", "-grpc-tls-port=-1", *options)
        eventually(lambda: ask(self.port, "/v1/status/leader")[1])

    def run(self, name: str, *command: str) -> None:
        with (self.directory / f"{name}.log").open("w") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def sidecar(self, key: str, port: int, sidecar: dict) -> int:
        """Of a service on that port, as the role has it in envoy_sidecars. Returns the port of its administration."""
        role = Role("envoy", {"envoy_sidecars": [sidecar]}).value("__envoy_sidecars")[0]
        public, admin = free_ports(2)
        connect = {"sidecar_service": {"port": public, "proxy": {"upstreams": role["upstreams"]}, "checks": []}}
        service = {"name": role["service"], "id": key, "port": port, "connect": connect}
        assert ask(self.port, "/v1/agent/service/register", service)[0] == 200
        command = [CONSUL, "connect", "envoy", "-bootstrap", "-ignore-envoy-compatibility", f"-sidecar-for={key}"]
        command += [f"-grpc-addr=127.0.0.1:{self.grpc}", f"-http-addr=127.0.0.1:{self.port}"]
        command += [f"-admin-bind=127.0.0.1:{admin}", f"-envoy-binary={ENVOY}"]
        bootstrap = self.directory / f"{key}.json"
        bootstrap.write_text(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        self.run(key, ENVOY, "-c", str(bootstrap), "--disable-hot-restart", "--concurrency", "1")
        return admin


@pytest.fixture
def mesh(tmp_path):
    mesh = Mesh(tmp_path)
    yield mesh
    for process in reversed(mesh.processes):
        process.kill()
        process.wait()


def test_one_of_two_that_fails_gets_nothing_for_a_while(mesh):
    """No check of Consul's knows of it: the caller's sidecar sees the answers."""
    sound, failing = backends = [Backend(name) for name in ("inference-1", "inference-2")]
    ask(mesh.port, "/v1/config", {"Kind": "service-defaults", "Name": "inference", "Protocol": "http"})
    for backend in backends:
        mesh.sidecar(backend.name, backend.port, {"service": "inference"})
    local, unused = free_ports(2)
    check = {"interval": "500ms", "max_failures": 3, "base_ejection_time": "3s"}
    upstream = {"destination_name": "inference", "local_bind_port": local, "config": {"passive_health_check": check}}
    admin = mesh.sidecar("worker", unused, {"service": "worker", "upstreams": [upstream]})

    def answers() -> set[tuple[int, str]]:
        found = [ask(local, "/x") for _ in range(20)]
        return {(status, answer["name"] if status == 200 else "") for status, answer in found}

    def ejected() -> int:
        return ask(admin, "/stats?format=json&filter=inference.*ejections_active")[1]["stats"][0]["value"]

    both, one = {(200, sound.name), (200, failing.name)}, {(200, sound.name)}
    eventually(lambda: answers() == both)
    failing.status = 500
    assert (500, "") in answers()
    eventually(lambda: ejected() == 1 and answers() == one)
    failing.status = 200
    eventually(lambda: answers() == both)
    for backend in backends:
        backend.stop()
