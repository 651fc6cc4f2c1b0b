"""The role fabio's own tasks with real Fabios and real agents of Consul, and a real Envoy before them where there is one.

CONSUL_BIN, FABIO_BIN and ENVOY_BIN name the binaries.
"""

from __future__ import annotations

import collections
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.integration.envoy_gateway import BINARY as ENVOY
from tests.integration.envoy_gateway import Gateway
from tests.integration.modules import ROOT, run_ansible
from tests.integration.ports import free_ports
from tests.integration.redis_servers import certificates

CONSUL, FABIO = os.environ.get("CONSUL_BIN"), os.environ.get("FABIO_BIN")
pytestmark = pytest.mark.skipif(
    not (CONSUL and FABIO), reason="CONSUL_BIN and FABIO_BIN don't name a Consul and a Fabio"
)

HOSTS = ("fabio-1", "fabio-2")
START_SECONDS = 30
TOKEN = str(uuid.uuid4())
SCRIPT = ROOT / "roles/fabio/files/fabio_turn.py"
PLAYBOOK = """
- hosts: fabio
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: sutazai.platform.fabio, tasks_from: "{{ item }}"}
      loop: "{{ apply }}"
"""


def until(holds: Callable[[], object], why: Callable[[], object] = lambda: "") -> None:
    end = time.monotonic() + START_SECONDS
    while not holds():
        assert time.monotonic() < end, why()
        time.sleep(0.05)


class Agent:
    """Answers with its name and what it was sent, after as many seconds as the query asks for."""

    def __init__(self, name: str) -> None:
        self.name, self.healthy = name, True
        agent = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                path, _, seconds = self.path.partition("?")
                time.sleep(float(seconds or 0))  # what is asked for
                seen = {"name": agent.name, "path": path, **{k.lower(): v for k, v in self.headers.items()}}
                body = json.dumps(seen).encode()
                self.send_response(503 if path == "/ready" and not agent.healthy else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", free_ports(1)[0]), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def registration(self) -> dict:
        check = {"HTTP": f"http://127.0.0.1:{self.port}/ready", "Interval": "1s", "Timeout": "1s"}
        return {"Name": "ai-agent", "ID": self.name, "Port": self.port, "Tags": ["urlprefix-/v1/"], "Check": check}

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Consul:
    """A server, which other hosts' agents join."""

    def __init__(self, name: str, directory: Path, server: Consul | None) -> None:
        self.directory = directory / f"consul-{name}"
        self.directory.mkdir()
        self.port, self.serf, serf_wan, rpc, dns = free_ports(5)
        ports = {"http": self.port, "serf_lan": self.serf, "serf_wan": serf_wan, "server": rpc, "dns": dns}
        tokens = {"initial_management": TOKEN, "agent": TOKEN}
        role = (
            {"retry_join": [f"127.0.0.1:{server.serf}"], "retry_interval": "1s"} if server else {"bootstrap_expect": 1}
        )
        settings = {
            "server": server is None,
            "node_name": name,
            "datacenter": "test",
            "bind_addr": "127.0.0.1",
            "data_dir": str(self.directory / "data"),
            "performance": {"raft_multiplier": 1},
            "acl": {"enabled": True, "default_policy": "deny", "tokens": tokens},
            "ports": {**ports, "grpc": -1, "grpc_tls": -1},
            **role,
        }
        (self.directory / "consul.json").write_text(json.dumps(settings))
        log = (self.directory / "log").open("w")
        command = [str(CONSUL), "agent", f"-config-file={self.directory / 'consul.json'}"]
        self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        until(lambda: self.answers("GET", f"/v1/catalog/node/{name}", "Node"), (self.directory / "log").read_text)

    def answers(self, method: str, path: str, word: str) -> bool:
        status, body = self.ask(method, path)
        return status == 200 and word in body

    def ask(self, method: str, path: str, content: object = None, token: str = TOKEN) -> tuple[int, str]:
        data = json.dumps(content).encode() if content else None
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, headers={"X-Consul-Token": token}, method=method
        )
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def register(self, agent: Agent) -> None:
        assert self.ask("PUT", "/v1/agent/service/register", agent.registration()) == (200, "")

    def deregister(self, agent: Agent) -> None:
        assert self.ask("PUT", f"/v1/agent/service/deregister/{agent.name}") == (200, "")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=20)


class Fabio:
    """One as its unit runs it."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.directory, self.authority = name, directory / name, directory / "ca.crt"
        self.port, self.ui_port = free_ports(2)
        self.process: subprocess.Popen | None = None

    def environment(self) -> dict[str, str]:
        """What the unit's EnvironmentFile says."""
        name, _, value = (self.directory / "consul.env").read_text().strip().partition("=")
        return {name: value}

    def turn(self, turn: str) -> None:
        pid = {"MAINPID": str(self.process.pid)} if self.process and self.process.poll() is None else {}
        command = [sys.executable, str(SCRIPT), turn, str(self.directory / "turn.json")]
        environment = {**{k: v for k, v in os.environ.items() if k != "MAINPID"}, **self.environment(), **pid}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=90)
        assert done.returncode == 0, done.stderr + self.log()

    def start(self) -> None:
        log = (self.directory / "log").open("a")
        command = [str(FABIO), "-cfg", str(self.directory / "fabio.properties")]
        # Fabio warns and waits when it is root, as a test in a container may be; it is told that this is meant.
        environment = {**os.environ, **self.environment(), "FABIO_INSECURE": "true"}
        self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self.turn("up")

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.turn("down")
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=40)

    def kill(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=10)

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def ask(self, path: str, **headers: str) -> tuple[int, dict]:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context(), timeout=10)
        try:
            connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body) if body.startswith(b"{") else {}
        except OSError:
            return 0, {}
        finally:
            connection.close()

    def names(self, count: int = 20) -> set[str]:
        """Who answers; no answer and an error count as one called by its status."""
        answers = [self.ask("/v1/tasks") for _ in range(count)]
        return {seen.get("name", str(status)) for status, seen in answers}

    def page(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ui_port}{path}", timeout=5) as answer:
            return answer.read().decode()


class Site:
    def __init__(self, directory: Path) -> None:
        certificates(directory, ",DNS:localhost,DNS:fabio.service.consul")
        self.directory = directory
        (directory / "play.yml").write_text(PLAYBOOK)
        self.fabios = {name: Fabio(name, directory) for name in HOSTS}
        self.consuls: dict[str, Consul] = {}
        self.agents: list[Agent] = []
        for name in HOSTS:
            self.consuls[name] = Consul(name, directory, self.consuls.get(HOSTS[0]))

    @property
    def server(self) -> Consul:
        return self.consuls[HOSTS[0]]

    def role(self, *tasks: str, **variables: object) -> subprocess.CompletedProcess:
        shared = {
            "ansible_python_interpreter": sys.executable,
            "platform_address": "127.0.0.1",
            "platform_consul_management_token": TOKEN,
            "fabio_artifact_sha256": "0" * 64,
            "fabio_tls_ca_file": f"{self.directory}/ca.crt",
            "fabio_tls_cert_file": f"{self.directory}/host.crt",
            "fabio_tls_key_file": f"{self.directory}/host.key",
            "fabio_drain_seconds": 3,
            "fabio_shutdown_seconds": 20,
            "fabio_wait_seconds": 10,
            **variables,
        }
        hosts = {
            name: {
                "fabio_port": fabio.port,
                "fabio_ui_port": fabio.ui_port,
                "consul_url": f"http://127.0.0.1:{self.consuls[name].port}",
            }
            for name, fabio in self.fabios.items()
        }
        inventory = {"fabio": {"hosts": hosts, "vars": shared}, "consul_servers": {"hosts": {HOSTS[0]: {}}}}
        (self.directory / "hosts.json").write_text(json.dumps(inventory))
        own = f"{self.directory}/{{{{ inventory_hostname }}}}"
        private = {
            "__fabio_configuration": own,
            "__fabio_user": "root",
            "__fabio_turn": f"{own}/bin/fabio-turn",
            "__fabio_unit": f"{own}/fabio.service",
            "__fabio_consul_url": "{{ consul_url }}",
        }
        return run_ansible(
            "ansible-playbook",
            f"--inventory={self.directory}/hosts.json",
            f"--extra-vars={json.dumps({'apply': tasks, **private})}",
            f"{self.directory}/play.yml",
        )

    def agent(self, name: str, host: str = HOSTS[0]) -> Agent:
        agent = Agent(name)
        self.agents.append(agent)
        self.consuls[host].register(agent)
        return agent

    def until_answered_by(self, *names: str) -> None:
        """By these and no others, from every Fabio."""
        seen: dict[str, set[str]] = {}

        def so() -> bool:
            seen.update({name: fabio.names() for name, fabio in self.fabios.items()})
            return all(found == set(names) for found in seen.values())

        until(so, lambda: f"{seen} instead of {names}")

    def stop(self) -> None:
        for fabio in self.fabios.values():
            fabio.kill()
        for agent in self.agents:
            agent.stop()
        for consul in reversed(self.consuls.values()):
            consul.stop()


def succeeded(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


pytestmark = [pytestmark, pytest.mark.skipif(os.getuid() != 0, reason="the role's files are root's")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("fabio"))
    try:
        succeeded(site.role("preflight", "cluster", "configure"))
        for fabio in site.fabios.values():
            fabio.start()
        yield site
    finally:
        site.stop()


@pytest.fixture
def agents(site):
    """Two, one on each host."""
    pair = [site.agent(f"agent-{uuid.uuid4().hex[:6]}", host) for host in HOSTS]
    site.until_answered_by(*(agent.name for agent in pair))
    yield pair
    for agent, host in zip(pair, HOSTS, strict=True):
        site.consuls[host].deregister(agent)
    site.until_answered_by("503")


def test_what_the_role_has_written_is_healthy_and_written_once(site):
    assert "changed=0" in succeeded(site.role("preflight", "cluster", "configure", "verify"))


def test_routes_come_and_go_with_the_agents(site):
    site.until_answered_by("503")
    first = site.agent("first")
    site.until_answered_by("first")
    second = site.agent("second", HOSTS[1])
    site.until_answered_by("first", "second")
    site.server.deregister(first)
    site.until_answered_by("second")
    site.consuls[HOSTS[1]].deregister(second)
    site.until_answered_by("503")


def test_an_agent_that_is_not_healthy_gets_no_requests(site, agents):
    agents[0].healthy = False
    site.until_answered_by(agents[1].name)
    agents[0].healthy = True
    site.until_answered_by(*(agent.name for agent in agents))


def test_a_host_asks_only_its_own_key(site):
    """fabio-1's keys don't begin like fabio-10's."""
    for name in HOSTS:
        status, body = site.server.ask("GET", f"/v1/kv/fabio/hosts/{name}/routes/health?raw")
        assert (status, body) == (200, f"route add fabio-health /health http://127.0.0.1:{site.fabios[name].ui_port}/")
    assert (
        site.server.ask("PUT", "/v1/kv/fabio/hosts/fabio-10/routes/x", "route add x /x http://127.0.0.1:1/")[0] == 200
    )
    assert "127.0.0.1:1/" not in site.fabios["fabio-1"].page("/api/routes")


def test_clients_must_speak_tls(site):
    fabio = site.fabios["fabio-1"]
    assert fabio.ask("/health")[0] == 200, "its certificate is the host's"
    connection = http.client.HTTPConnection("127.0.0.1", fabio.port, timeout=5)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 400
    connection.close()


def test_what_the_gateway_says_of_the_client_is_kept(site, agents):
    status, seen = site.fabios["fabio-1"].ask(
        "/v1/x", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https", X_Request_ID="abc", Host="api.example.org"
    )
    assert (status, seen["x-forwarded-for"], seen["x-forwarded-proto"]) == (200, "192.0.2.7, 127.0.0.1", "https")
    assert (seen["x-request-id"], seen["x-forwarded-host"], seen["path"]) == ("abc", "api.example.org", "/v1/x")


def test_its_token_is_nowhere_to_be_seen_and_may_little(site):
    fabio = site.fabios["fabio-2"]
    token = fabio.environment()["CONSUL_HTTP_TOKEN"]
    settings = (fabio.directory / "fabio.properties").read_text() + (fabio.directory / "turn.json").read_text()
    arguments = Path(f"/proc/{fabio.process.pid}/cmdline").read_text()
    for shown in (fabio.log(), fabio.page("/api/config"), settings, arguments):
        assert shown and token not in shown and TOKEN not in shown
    consul = site.consuls[fabio.name]
    denied = {
        "/v1/kv/fabio/hosts/fabio-1/routes/health": "route del ai-agent",
        "/v1/kv/flags/x": "on",
        "/v1/agent/service/register": {"Name": "ai-agent", "Port": 1},
        "/v1/agent/force-leave/fabio-1": None,
    }
    for path, content in denied.items():
        assert consul.ask("PUT", path, content, token)[0] == 403, path


def test_its_pages_are_only_to_be_read(site):
    assert site.fabios["fabio-1"].page("/health").strip() == "OK"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        site.fabios["fabio-1"].page("/api/manual/x")


def test_a_renewed_certificate_is_shown_without_a_restart(site, tmp_path):
    fabio = site.fabios["fabio-1"]
    kept = tmp_path / "kept"
    kept.mkdir()
    for name in ("ca.crt", "host.crt", "host.key"):
        shutil.copy(site.directory / name, kept / name)
    certificates(tmp_path, ",DNS:localhost,DNS:fabio.service.consul")
    wanted = (tmp_path / "host.crt").read_text()
    try:
        for name in ("ca.crt", "host.crt", "host.key"):
            shutil.copy(tmp_path / name, site.directory / name)
        until(lambda: ssl.get_server_certificate(("127.0.0.1", fabio.port)).split() == wanted.split(), fabio.log)
    finally:
        for name in ("ca.crt", "host.crt", "host.key"):
            shutil.copy(kept / name, site.directory / name)
    until(lambda: fabio.ask("/health")[0] == 200, fabio.log)


def test_one_that_takes_no_requests_is_noticed(site):
    fabio = site.fabios["fabio-2"]
    fabio.turn("down")
    done = site.role("verify", fabio_wait_seconds=1)
    fabio.turn("up")
    assert done.returncode != 0 and "has been told to take none" in done.stdout
    succeeded(site.role("verify"))


def test_it_is_known_to_gateways_before_it_stops_and_ends_what_it_has_begun(site, agents):
    fabio = site.fabios["fabio-2"]
    answers: list[tuple[int, dict]] = []
    asked = threading.Thread(target=lambda: answers.append(fabio.ask("/v1/slow?6")))
    asked.start()
    stopped = threading.Thread(target=fabio.stop)
    stopped.start()
    until(lambda: fabio.ask("/health")[0] == 503, fabio.log)
    assert fabio.names() == {agent.name for agent in agents}, "it still answers who hasn't seen it yet"
    assert site.fabios["fabio-1"].ask("/health")[0] == 200, "only this one is taken out"
    asked.join(timeout=30)
    stopped.join(timeout=30)
    assert [status for status, _seen in answers] == [200]
    assert fabio.process.poll() == 0
    fabio.start()
    succeeded(site.role("verify"))


def routes(site: Site) -> dict:
    """As docs/fabio.md gives them to the gateways, with these hosts."""
    text = (ROOT / "docs/fabio.md").read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "gateway_routes" in block)
    table = yaml.safe_load(block)["gateway_routes"]
    table["upstreams"][0]["hosts"] = [{"address": "127.0.0.1", "port": fabio.port} for fabio in site.fabios.values()]
    return table


class Posts(threading.Thread):
    """One POST after the other, which nobody repeats once it was sent: whatever isn't a 200 is a failure."""

    def __init__(self, gateway: Gateway, pause: float) -> None:
        super().__init__(daemon=True)
        self.gateway, self.pause = gateway, pause
        self.answered: collections.Counter = collections.Counter()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self.answered[self.gateway.request("POST", "/v1/tasks?0.05")[0]] += 1
            except (OSError, http.client.HTTPException) as error:
                self.answered[repr(error)] += 1
            self.ended.wait(self.pause)


@pytest.mark.skipif(not ENVOY, reason="ENVOY_BIN doesn't name an Envoy")
def test_a_restart_fails_no_request_through_a_gateway(site, agents, tmp_path):
    gateway = Gateway(tmp_path, upstream_ca_file=str(site.directory / "ca.crt"))
    table = routes(site)
    # The gateway's check as documented, with the test's shorter time to drain: (0.5 + 0.5) * 2 is less than 3.
    table["services"][0]["active_check"] |= {"interval_seconds": 0.5, "timeout_seconds": 0.5}
    # Nor may the gateway send a task again, which would hide what is shown here.
    table["routes"][0]["repeatable"] = False
    gateway.apply(table)
    gateway.start()
    clients = [Posts(gateway, pause) for pause in (0.0, 0.0, 0.01, 0.05, 0.2, 0.5)]
    try:
        until(lambda: gateway.request("GET", "/v1/x")[0] == 200, gateway.log)
        for client in clients:
            client.start()
        for fabio in site.fabios.values():
            fabio.stop()
            before = {client: client.answered.total() for client in clients}
            until(lambda before=before: all(c.answered.total() > n + 2 for c, n in before.items()), gateway.log)
            fabio.start()
            time.sleep(3)  # as restart.yml does: the next one goes when the gateway has this one back
        for client in clients:
            client.ended.set()
        for client in clients:
            client.join(timeout=20)
        answered = sum((client.answered for client in clients), collections.Counter())
        assert set(answered) == {200}, answered
        assert answered[200] > 100
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    "wrong",
    [
        {"fabio_artifact_sha256": ""},
        {"fabio_no_route_status": 200},
        {"fabio_drain_seconds": 0},
        {"fabio_open_files_limit": 1024},
        {"fabio_version": "1.5.15", "fabio_metrics_target": "prometheus"},
    ],
)
def test_what_cannot_work_is_refused(site, wrong):
    done = site.role("preflight", **wrong)
    assert done.returncode != 0 and "Fabio can't run as set" in done.stdout
