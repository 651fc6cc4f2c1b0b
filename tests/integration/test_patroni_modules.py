"""Patroni's modules as Ansible runs them, against an HTTP server that answers as Patroni 4.0.7 does."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COLLECTIONS = Path(__file__).resolve().parents[2] / ".ansible" / "collections"
MODULES = "ansible_collections.sutazai.platform.plugins.modules"
PASSWORD = "integration-password"
IDENTIFIER = "7711562886193480413"
# All of a host's loopback addresses are its own, so that three members have one port.
MEMBERS = {"pg-1": "127.0.0.1", "pg-2": "127.0.0.2", "pg-3": "127.0.0.3"}


class Cluster:
    """Three members and what they share."""

    def __init__(self) -> None:
        self.leader = "pg-1"
        self.down: set[str] = set()
        self.pending: set[str] = set()
        self.told: list[tuple[str, str, object]] = []
        self.config: dict = {"ttl": 30, "postgresql": {"parameters": {"max_connections": 100, "work_mem": "4MB"}}}
        self.port = 0
        self.servers: list[ThreadingHTTPServer] = []
        for name, address in MEMBERS.items():
            server = ThreadingHTTPServer((address, self.port), self.handler(name))
            self.port = server.server_address[1]
            self.servers.append(server)
            threading.Thread(target=server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def status(self, name: str) -> dict:
        others = [other for other in MEMBERS if other != self.leader and other not in self.down]
        status: dict = {
            "state": "running",
            "role": "primary" if name == self.leader else "replica",
            "server_version": 170012,
            "timeline": 1,
            "database_system_identifier": IDENTIFIER,
            "patroni": {"version": "4.0.7", "scope": "test", "name": name},
        }
        if name == self.leader:
            status["replication"] = [{"application_name": other, "state": "streaming"} for other in others]
        elif others and name == others[0]:
            status["sync_standby"] = True
        if name in self.pending:
            status["pending_restart"] = True
        if self.config.get("pause"):
            status["pause"] = True
        return status

    def listing(self) -> dict:
        members = [
            {"name": name, "role": "leader" if name == self.leader else "replica", "state": "running", "lag": 0}
            for name in MEMBERS
        ]
        return {"members": members, "scope": "test", **({"pause": True} if self.config.get("pause") else {})}

    def merge(self, live: dict, patch: dict) -> None:
        for key, value in patch.items():
            if value is None:
                live.pop(key, None)
            elif isinstance(value, dict) and isinstance(live.get(key), dict):
                self.merge(live[key], value)
            else:
                live[key] = value

    def handler(cluster, name: str) -> type[BaseHTTPRequestHandler]:
        expected = "Basic " + base64.b64encode(f"patroni:{PASSWORD}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def answer(self, code: int, content: object) -> None:
                body = (json.dumps(content) if isinstance(content, dict) else str(content)).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if name in cluster.down:
                    self.close_connection = True
                    return
                paths = {"/patroni": cluster.status(name), "/cluster": cluster.listing(), "/config": cluster.config}
                self.answer(200 if self.path in paths else 404, paths.get(self.path, "unknown"))

            def change(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                if self.headers.get("Authorization") != expected:
                    self.answer(401, "no auth header received")
                    return
                cluster.told.append((name, self.path, body))
                if self.path == "/config":
                    cluster.merge(cluster.config, body)
                    self.answer(200, cluster.config)
                elif self.path == "/restart":
                    cluster.pending.discard(name)
                    self.answer(200, "restarted successfully")
                elif self.path == "/switchover":
                    cluster.leader = body["candidate"]
                    self.answer(200, f'Successfully switched over to "{body["candidate"]}"')

            do_PATCH = change
            do_POST = change

        return Handler


@pytest.fixture
def cluster():
    started = Cluster()
    yield started
    started.stop()


def run(cluster: Cluster, module: str, check: bool = False, **arguments: object) -> dict:
    arguments = {"members": MEMBERS, "port": cluster.port, "timeout_seconds": 3, **arguments}
    payload = {"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_check_mode": check, "_ansible_remote_tmp": "/tmp"}}
    done = subprocess.run(
        [sys.executable, "-m", f"{MODULES}.{module}"],
        input=json.dumps(payload),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
    )
    assert done.stdout.strip(), done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def tell(cluster: Cluster, module: str, check: bool = False, **arguments: object) -> dict:
    return run(cluster, module, check, username="patroni", password=PASSWORD, **arguments)


def test_a_healthy_cluster(cluster):
    result = run(cluster, "patroni_cluster_info")
    assert result["healthy"], result["problems"]
    assert (result["leader"], result["sync_standbys"], result["system_identifier"]) == ("pg-1", ["pg-2"], IDENTIFIER)


def test_a_member_that_is_down_is_a_problem_and_no_crash(cluster):
    cluster.down.add("pg-3")
    result = run(cluster, "patroni_cluster_info")
    assert not result.get("failed")
    assert not result["healthy"]
    assert "pg-3 (127.0.0.3) doesn't answer" in result["problems"][0]
    assert result["leader"] == "pg-1"


def test_settings_are_changed_once(cluster):
    wanted = {"ttl": 20, "postgresql": {"parameters": {"max_connections": 200}}}
    planned = tell(cluster, "patroni_config", check=True, config=wanted)
    assert planned["changed"]
    assert cluster.told == []
    made = tell(cluster, "patroni_config", config=wanted)
    assert made["changed"]
    assert cluster.config == {"ttl": 20, "postgresql": {"parameters": {"max_connections": 200}}}
    assert not tell(cluster, "patroni_config", config=wanted)["changed"]


def test_a_wrong_password_is_told(cluster):
    result = run(cluster, "patroni_config", username="patroni", password="wrong-password-here", config={"ttl": 20})
    assert result["failed"]
    assert "no auth header" in result["msg"]


def test_the_leader_steps_down_once(cluster):
    result = tell(cluster, "patroni_member", name="pg-1", action="step_down")
    assert result["changed"]
    assert result["leader"] == "pg-2"
    assert not tell(cluster, "patroni_member", name="pg-1", action="step_down")["changed"]


def test_nobody_can_take_over(cluster):
    cluster.down.update({"pg-2", "pg-3"})
    result = tell(cluster, "patroni_member", name="pg-1", action="step_down")
    assert result["failed"]
    assert "Nobody can take over from pg-1" in result["msg"]
    assert cluster.leader == "pg-1"


def test_only_what_waits_is_restarted(cluster):
    assert not tell(cluster, "patroni_member", name="pg-3", action="restart", only_if_pending=True)["changed"]
    cluster.pending.add("pg-3")
    assert run(cluster, "patroni_cluster_info")["pending_restart"] == ["pg-3"]
    assert tell(cluster, "patroni_member", name="pg-3", action="restart", only_if_pending=True)["changed"]
    assert cluster.told == [("pg-3", "/restart", {})]


def test_maintenance_mode_begins_and_ends_once(cluster):
    assert tell(cluster, "patroni_member", action="pause")["changed"]
    assert not tell(cluster, "patroni_member", action="pause")["changed"]
    assert not run(cluster, "patroni_cluster_info")["healthy"]
    assert tell(cluster, "patroni_member", action="resume")["changed"]
    assert "pause" not in cluster.config
