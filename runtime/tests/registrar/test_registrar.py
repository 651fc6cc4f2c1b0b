"""The registrar as a process with a real Consul. The engine is a stand-in at a socket: what it says is what the API's documents say."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import queue
import signal
import socketserver
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from servers_here import CHECKOUT, consul_agent, wait_for

from tests.integration.ports import free_ports


class Engine:
    """Containers as Docker lists them, each with a web server at its published port."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "docker.sock"
        self.containers: dict[str, dict] = {}
        self.servers: dict[str, http.server.ThreadingHTTPServer] = {}
        self.sick: set[str] = set()
        self.listeners: list[queue.Queue[bytes]] = []
        self.server: socketserver.ThreadingUnixStreamServer | None = None

    def start(self) -> None:
        engine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                if "/events" not in self.path:
                    self.wfile.write(json.dumps(list(engine.containers.values())).encode())
                    return
                events: queue.Queue[bytes] = queue.Queue()
                engine.listeners.append(events)
                self.wfile.flush()
                while event := events.get():
                    self.wfile.write(event + b"\n")
                    self.wfile.flush()

            def address_string(self) -> str:
                return "socket"

            def log_message(self, *_arguments: object) -> None:
                pass

        self.socket.unlink(missing_ok=True)
        self.server = socketserver.ThreadingUnixStreamServer(str(self.socket), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        assert self.server
        self.server.shutdown()
        self.server.server_close()
        for events in self.listeners:
            events.put(b"")
        self.listeners.clear()

    def tell(self, action: str, key: str) -> None:
        for events in self.listeners:
            events.put(json.dumps({"Type": "container", "Action": action, "Actor": {"ID": key}}).encode())

    def run(self, key: str) -> None:
        sick = self.sick

        class Container(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(503 if key in sick else 200)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        (port,) = free_ports(1)
        self.servers[key] = http.server.ThreadingHTTPServer(("127.0.0.1", port), Container)
        threading.Thread(target=self.servers[key].serve_forever, daemon=True).start()
        labels = {"sutazai.service": "ai-agent", "sutazai.port": "8080", "sutazai.tags": "urlprefix-/v1"}
        published = [{"PrivatePort": 8080, "PublicPort": port, "Type": "tcp"}]
        self.containers[key] = {"Id": key, "Labels": labels, "Ports": published}
        self.tell("start", key)

    def die(self, key: str) -> None:
        del self.containers[key]
        server = self.servers.pop(key)
        server.shutdown()
        server.server_close()
        self.tell("die", key)

    def end(self) -> None:
        for key in list(self.servers):
            self.die(key)
        self.stop()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    engine.start()
    yield engine
    engine.end()


@contextlib.contextmanager
def registrar(directory: Path, consul: str, engine: Engine, **more: str) -> Iterator[subprocess.Popen]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SUTAZAI_")}
    variables = {
        "PYTHONPATH": str(CHECKOUT / "runtime" / "src"),
        "SUTAZAI_CONSUL_URL": consul,
        "SUTAZAI_REGISTRAR_ADDRESS": "127.0.0.1",
        "SUTAZAI_REGISTRAR_NODE": "here",
        "SUTAZAI_REGISTRAR_DOCKER_SOCKET": str(engine.socket),
        "SUTAZAI_REGISTRAR_INTERVAL_SECONDS": "60",
        **more,
    }
    with (directory / "registrar.log").open("a") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sutazai_runtime.registrar"], env={**ours, **variables}, stdout=log, stderr=log
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        print((directory / "registrar.log").read_text())


def passing(consul: str, token: str = "") -> set[str]:
    headers = {"X-Consul-Token": token}
    found = httpx.get(f"{consul}/v1/health/service/ai-agent?passing", headers=headers, trust_env=False).json()
    return {each["Service"]["ID"] for each in found}


def registered(consul: str) -> set[str]:
    found = httpx.get(f"{consul}/v1/agent/services", trust_env=False).json()
    return set(found)


ONE, TWO, THREE = ("1" * 12, "2" * 12, "3" * 12)


def test_containers_come_and_go(tmp_path, engine):
    """Events say so: looking without one happens once in a minute here."""
    engine.run(ONE)
    with consul_agent(tmp_path) as (_process, consul), registrar(tmp_path, consul, engine):
        wait_for(lambda: passing(consul) == {f"ai-agent-{ONE}"}, "the container that was there isn't passing")
        engine.run(TWO)
        wait_for(lambda: passing(consul) == {f"ai-agent-{ONE}", f"ai-agent-{TWO}"}, "the new one isn't passing", 20)
        engine.die(ONE)
        wait_for(lambda: registered(consul) == {f"ai-agent-{TWO}"}, "the dead one is still registered", 20)


def test_it_outlives_the_engine_and_finds_what_happened_meanwhile(tmp_path, engine):
    with consul_agent(tmp_path) as (_process, consul):
        own = {"Name": "redis", "ID": "redis"}
        httpx.put(f"{consul}/v1/agent/service/register", json=own, trust_env=False).raise_for_status()
        with registrar(tmp_path, consul, engine):
            engine.run(ONE)
            engine.run(TWO)
            wait_for(lambda: len(passing(consul)) == 2, "the containers aren't passing")
            engine.stop()
            engine.die(ONE)
            engine.run(THREE)
            engine.start()
            wait_for(
                lambda: registered(consul) == {"redis", f"ai-agent-{TWO}", f"ai-agent-{THREE}"},
                "what happened is unknown",
                30,
            )
        # Ended: what was registered stays, because the containers do; the next one takes it over.
        engine.die(TWO)
        assert f"ai-agent-{TWO}" in registered(consul)
        with registrar(tmp_path, consul, engine):
            wait_for(lambda: registered(consul) == {"redis", f"ai-agent-{THREE}"}, "what was left isn't removed", 20)
            wait_for(lambda: passing(consul) == {f"ai-agent-{THREE}"}, "what stayed isn't passing", 20)


def test_consul_that_forgot_everything_is_told_again(tmp_path, engine):
    engine.run(ONE)
    with consul_agent(tmp_path) as (_process, consul), registrar(tmp_path, consul, engine):
        wait_for(lambda: passing(consul) == {f"ai-agent-{ONE}"}, "the container isn't passing")
        httpx.put(f"{consul}/v1/agent/service/deregister/ai-agent-{ONE}", trust_env=False).raise_for_status()
        engine.run(TWO)  # any event
        wait_for(lambda: len(passing(consul)) == 2, "what Consul had lost isn't registered again", 20)


def test_health_is_known_by_a_new_token_when_the_former_one_is_gone(tmp_path, engine):
    management = str(uuid.uuid4())
    tokens = f'tokens {{ initial_management = "{management}" agent = "{management}" }}'
    acl = f'-hcl=acl {{ enabled = true default_policy = "deny" {tokens} }}'
    file = tmp_path / "consul.token"
    file.touch(0o600)
    more = {"SUTAZAI_CONSUL_TOKEN_FILE": str(file), "SUTAZAI_REGISTRAR_INTERVAL_SECONDS": "1"}
    engine.run(ONE)
    with consul_agent(tmp_path, -1, acl) as (_process, consul):
        client = httpx.Client(base_url=consul, headers={"X-Consul-Token": management}, trust_env=False)
        identity = {"ServiceIdentities": [{"ServiceName": "ai-agent"}]}
        wait_for(lambda: client.get("/v1/acl/token/self").is_success, "the ACLs aren't there")
        former, new = (client.put("/v1/acl/token", json=identity).raise_for_status().json() for _ in range(2))
        file.write_text(former["SecretID"])
        with registrar(tmp_path, consul, engine, **more):
            wait_for(lambda: passing(consul, management) == {f"ai-agent-{ONE}"}, "the container isn't passing", 20)

            def registered_by() -> str:
                return str(client.get(f"/v1/agent/service/ai-agent-{ONE}").json()["Meta"]["token"])

            before = registered_by()
            file.write_text(new["SecretID"])
            wait_for(lambda: registered_by() != before, "it isn't registered by the new token", 20)
            assert passing(consul, management) == {f"ai-agent-{ONE}"}
            client.delete(f"/v1/acl/token/{former['AccessorID']}").raise_for_status()
            engine.sick.add(ONE)
            wait_for(lambda: passing(consul, management) == set(), "that it is sick isn't known", 20)


def test_settings_that_cannot_work_are_named(tmp_path):
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SUTAZAI_")}
    more = {"PYTHONPATH": str(CHECKOUT / "runtime" / "src"), "SUTAZAI_REGISTRAR_NODE": "here"}
    command = [sys.executable, "-m", "sutazai_runtime.registrar"]
    done = subprocess.run(command, env={**ours, **more}, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "The registrar can't start" in done.stderr and "address" in done.stderr
