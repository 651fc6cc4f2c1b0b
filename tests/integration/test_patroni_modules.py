"""Patroni's modules as Ansible runs them, against an HTTP server that answers as Patroni 4.0.7 does."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.integration.modules import restart_by_role, run_module

PASSWORD = "integration-password"
NEVER = 1_000_000
IDENTIFIER = "7711562886193480413"
# All of a host's loopback addresses are its own, so that three members have one port.
MEMBERS = {"pg-1": "127.0.0.1", "pg-2": "127.0.0.2", "pg-3": "127.0.0.3"}


class Cluster:
    """Three members and what they share."""

    def __init__(self) -> None:
        self.leader = "pg-1"
        self.down: set[str] = set()
        self.pending: set[str] = set()
        self.away: dict[str, int] = {}  # how often a member that was stopped still answers that it is starting
        self.answers_away = 0
        self.deaf: set[str] = set()  # members that don't learn of maintenance mode
        self.refusals: dict[str, tuple[int, str]] = {}  # path: answer
        self.broken_rules: list[str] = []
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

    def is_back(self, name: str) -> bool:
        return self.away.get(name, 0) <= 0

    def stop_for_a_while(self, name: str) -> None:
        """PostgreSQL restarts there, and nothing waits for a restart any more."""
        if not all(self.is_back(other) for other in MEMBERS if other != name):
            self.broken_rules.append(f"{name} was stopped while another member was away")
        self.away[name] = self.answers_away
        self.pending.discard(name)

    def status(self, name: str) -> dict:
        others = [other for other in MEMBERS if other != self.leader and other not in self.down and self.is_back(other)]
        status: dict = {
            "state": "running" if self.is_back(name) else "starting",
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
        if self.config.get("pause") and name not in self.deaf:
            status["pause"] = True
        return status

    def listing(self) -> dict:
        members = [
            {
                "name": name,
                "role": "leader" if name == self.leader else "replica",
                "state": "running" if self.is_back(name) else "starting",
                "lag": 0,
            }
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
                answers = {"/patroni": cluster.status(name), "/cluster": cluster.listing(), "/config": cluster.config}
                if self.path == "/patroni":
                    cluster.away[name] = cluster.away.get(name, 0) - 1
                self.answer(200 if self.path in answers else 404, answers.get(self.path, "unknown"))

            def change(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
                if self.headers.get("Authorization") != expected:
                    self.answer(401, "no auth header received")
                    return
                cluster.told.append((name, self.path, body))
                if self.path in cluster.refusals:
                    self.answer(*cluster.refusals[self.path])
                elif self.path == "/config":
                    cluster.merge(cluster.config, body)
                    self.answer(200, cluster.config)
                elif self.path == "/restart" and not cluster.is_back(name):
                    self.answer(503, "restart failed")  # while PostgreSQL starts, Patroni does nothing else
                elif self.path == "/restart":
                    cluster.stop_for_a_while(name)
                    self.answer(200, "restarted successfully")
                elif self.path == "/switchover":
                    # Patroni answers when the new leader leads; the old one has yet to come up as its replica.
                    cluster.stop_for_a_while(name)
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
    common = {"members": MEMBERS, "port": cluster.port, "timeout_seconds": 3}
    return run_module(module, {**common, **arguments}, check)


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


def test_a_former_leader_takes_orders_when_step_down_is_done(cluster):
    cluster.answers_away = 3
    cluster.pending.update(MEMBERS)
    stepped_down = tell(cluster, "patroni_member", name="pg-1", action="step_down")
    assert stepped_down["changed"]
    assert stepped_down["leader"] == "pg-2"
    restarted = tell(cluster, "patroni_member", name="pg-1", action="restart")
    assert restarted["changed"], restarted["msg"]


def test_a_former_leader_that_does_not_follow_is_told(cluster):
    cluster.answers_away = NEVER
    result = tell(cluster, "patroni_member", name="pg-1", action="step_down", wait_seconds=2)
    assert result["failed"]
    assert "pg-2 leads instead of pg-1, but pg-1 doesn't follow it after 2 s." in result["msg"]
    assert "PostgreSQL on pg-1 (127.0.0.1) is starting" in result["msg"]
    assert result["leader"] == "pg-2"


def test_who_is_to_lead_is_said_beforehand_and_can_be_chosen(cluster):
    planned = tell(cluster, "patroni_member", check=True, name="pg-1", action="step_down")
    assert (planned["changed"], planned["leader"]) == (True, "pg-2")  # the synchronous one
    assert cluster.told == []
    made = tell(cluster, "patroni_member", name="pg-1", action="step_down", candidate="pg-3")
    assert made["leader"] == "pg-3"
    assert cluster.told == [("pg-1", "/switchover", {"leader": "pg-1", "candidate": "pg-3"})]


def test_a_candidate_that_is_down_does_not_lead(cluster):
    cluster.down.add("pg-3")
    result = tell(cluster, "patroni_member", name="pg-1", action="step_down", candidate="pg-3")
    assert result["failed"]
    assert "Nobody can take over from pg-1" in result["msg"]
    assert cluster.told == []


def test_a_member_that_is_to_leave_hands_over_to_one_that_stays(cluster):
    leaving = {"leaving": ["pg-1", "pg-2"]}
    result = run(cluster, "patroni_cluster_info", leaving=["pg-1"], synchronous_among_staying=True)
    assert (result["healthy"], result["refused"], result["leader"]) == (True, [], "pg-1")
    assert result["slots"]["pg-3"] == "pg_3"
    assert "pg-3 would stay" in run(cluster, "patroni_cluster_info", **leaving)["refused"][0]
    assert not run(cluster, "patroni_cluster_info", **leaving, synchronous_among_staying=True)["healthy"]
    assert tell(cluster, "patroni_member", name="pg-1", action="step_down", **leaving)["leader"] == "pg-3"


def test_what_is_gone_for_good_keeps_nobody_from_leaving(cluster):
    cluster.down.add("pg-3")
    assert run(cluster, "patroni_cluster_info")["problems"]
    result = run(cluster, "patroni_cluster_info", leaving=["pg-3"])
    assert (result["healthy"], result["refused"]) == (True, [])
    # It is listed as long as its session lasts.
    assert not run(cluster, "patroni_cluster_info", left=["pg-3"])["healthy"]


def test_a_refused_switchover_is_told(cluster):
    cluster.refusals["/switchover"] = (412, "no good candidates have been found")
    result = tell(cluster, "patroni_member", name="pg-1", action="step_down")
    assert result["failed"]
    assert "pg-1 did not step down" in result["msg"]
    assert "no good candidates have been found" in result["msg"]
    assert cluster.leader == "pg-1"


def test_a_switchover_that_does_not_happen_is_told(cluster):
    cluster.refusals["/switchover"] = (200, "Successfully switched over")
    result = tell(cluster, "patroni_member", name="pg-1", action="step_down", wait_seconds=2)
    assert result["failed"]
    assert "pg-1 was told to hand over to pg-2, but didn't within 2 s." in result["msg"]


def test_a_refused_restart_is_told(cluster):
    cluster.refusals["/restart"] = (503, "restart failed")
    result = tell(cluster, "patroni_member", name="pg-3", action="restart")
    assert result["failed"]
    assert "pg-3 did not restart" in result["msg"]
    assert "restart failed" in result["msg"]


def test_maintenance_mode_has_begun_when_every_member_knows(cluster):
    cluster.deaf.add("pg-3")
    result = tell(cluster, "patroni_member", action="pause", wait_seconds=2)
    assert result["failed"]
    assert "Not every member noticed within 2 s." in result["msg"]
    threading.Timer(1.5, cluster.deaf.clear).start()
    assert tell(cluster, "patroni_member", action="resume")["changed"]
    cluster.deaf.add("pg-2")
    threading.Timer(1.5, cluster.deaf.clear).start()
    assert tell(cluster, "patroni_member", action="pause", wait_seconds=20)["changed"]
    assert cluster.deaf == set()


def restart(cluster: Cluster, directory: Path, *hosts: str, wait_seconds: int = 60) -> subprocess.CompletedProcess:
    return restart_by_role(
        directory,
        MEMBERS,
        hosts,
        cluster.port,
        patroni_rest_password=PASSWORD,
        patroni_health_timeout_seconds=wait_seconds,
    )


def test_a_rolling_restart_takes_no_member_while_another_is_away(cluster, tmp_path):
    cluster.answers_away = 3
    cluster.pending.update(MEMBERS)
    done = restart(cluster, tmp_path, "pg-3", "pg-2", "pg-1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.told == [
        ("pg-3", "/restart", {}),
        ("pg-2", "/restart", {}),
        ("pg-1", "/switchover", {"leader": "pg-1", "candidate": "pg-2"}),
    ]
    assert cluster.broken_rules == []
    assert cluster.pending == set()
    assert run(cluster, "patroni_cluster_info")["healthy"]


def test_a_serving_member_of_an_unhealthy_cluster_is_not_restarted(cluster, tmp_path):
    cluster.pending.update(MEMBERS)
    cluster.away["pg-3"] = NEVER
    done = restart(cluster, tmp_path, "pg-2", wait_seconds=2)
    assert done.returncode != 0
    assert "pg-2 was not restarted, because the cluster isn't healthy" in done.stdout
    assert cluster.told == []
