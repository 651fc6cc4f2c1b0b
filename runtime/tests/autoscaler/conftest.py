"""The package is tested from the checkout as it is; nothing needs to be installed first. And the servers that the tests talk to."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "src"
if str(SOURCES) not in sys.path:
    sys.path.insert(0, str(SOURCES))

from sutazai_runtime.autoscaler.http_api import Api, Tls, Unreachable  # noqa: E402 after the path is set


def of_the_collection(name: str) -> ModuleType:
    """A helper of the collection's own tests, by its path: both have a package called `tests`."""
    path = Path(__file__).resolve().parents[3] / "tests" / "integration" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"collection_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def collection_helper():
    return of_the_collection


@pytest.fixture
def free_port():
    return of_the_collection("ports").free_ports(1)[0]


# ----------------------------------------------------------------------------------------------------------------- a real Consul

BINARY = os.environ.get("CONSUL_BIN") or shutil.which("consul")
MANAGEMENT = "5b1f0a3e-53a5-4f5a-9d9e-1c1d2e3f4a5b"
#: All that an autoscaler needs to be allowed.
POLICY = 'key_prefix "autoscaler/" { policy = "write" }\nsession_prefix "" { policy = "write" }'


class Agent:
    """A Consul server with TLS and access control on loopback."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        rpc, serf, self.https = of_the_collection("ports").free_ports(3)
        for arguments in (["ca", "create"], ["cert", "create", "-server", "-dc=test"]):
            subprocess.run([BINARY, "tls", *arguments], cwd=directory, check=True, capture_output=True)
        self.ca_file = str(directory / "consul-agent-ca.pem")
        settings = {
            "server": True,
            "bootstrap_expect": 1,
            "node_name": "one",
            "datacenter": "test",
            "bind_addr": "127.0.0.1",
            "data_dir": str(directory / "data"),
            "performance": {"raft_multiplier": 1},
            # Shorter than anybody would set it, so that a test needn't wait for long until a session ends.
            "session_ttl_min": "1s",
            "acl": {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": MANAGEMENT}},
            "tls": {
                "https": {
                    "cert_file": str(directory / "test-server-consul-0.pem"),
                    "key_file": str(directory / "test-server-consul-0-key.pem"),
                }
            },
            "ports": {"http": -1, "dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1}
            | {"server": rpc, "serf_lan": serf, "https": self.https},
        }
        (directory / "agent.json").write_text(json.dumps(settings))
        self.url = f"https://127.0.0.1:{self.https}"
        with (directory / "agent.log").open("w") as log:
            self.process = subprocess.Popen(
                [BINARY, "agent", f"-config-file={directory / 'agent.json'}"], stdout=log, stderr=log
            )

    def management(self) -> Api:
        return Api(self.url, Tls(self.ca_file), lambda: {"X-Consul-Token": MANAGEMENT})

    def wait(self) -> None:
        """Until there is a leader, and access control has begun."""
        deadline = time.monotonic() + 60
        answer: object = "nothing was asked"
        while time.monotonic() < deadline:
            try:
                answer = self.management().request("GET", "/v1/acl/token/self")
                if answer.ok:
                    return
            except Unreachable as error:
                answer = error
            time.sleep(0.2)
        raise AssertionError(f"Consul doesn't start: {answer}; see {self.directory / 'agent.log'}")

    def make_token(self, name: str, rules: str) -> Path:
        """A token that may do just that, in a file."""
        api = self.management()
        made = api.request("PUT", "/v1/acl/policy", json.dumps({"Name": name, "Rules": rules}).encode())
        assert made.ok, made.text
        token = api.request("PUT", "/v1/acl/token", json.dumps({"Policies": [{"Name": name}]}).encode()).data
        path = self.directory / name
        path.write_text(token["SecretID"] + "\n")
        return path

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(scope="session")
def agent(tmp_path_factory):
    if not BINARY:
        pytest.skip("no Consul binary: set CONSUL_BIN to the path of one")
    started = Agent(tmp_path_factory.mktemp("consul"))
    try:
        started.wait()
        started.token_file = started.make_token("autoscaler", POLICY)
        yield started
    finally:
        started.stop()


# --------------------------------------------------------------------------- an engine that speaks the documented API on a socket


def service_document(name="ai-agent", replicas=3, version=10, running=None, state="", labels=None) -> dict:
    """A service as GET /services?status=true has it (Docker 26.1), with fields that nothing here knows."""
    document = {
        "ID": f"id-of-{name}",
        "Version": {"Index": version},
        "CreatedAt": "2026-01-01T00:00:00Z",
        "Spec": {
            "Name": name,
            "Labels": {"swarm.autoscaler": "true"} if labels is None else labels,
            "TaskTemplate": {
                "ContainerSpec": {"Image": "registry:5000/ai-agent:1.0@sha256:0123", "OomScoreAdj": 7},
                "Resources": {"Limits": {"NanoCPUs": 2_000_000_000}, "Reservations": {"NanoCPUs": 1_000_000_000}},
                "Networks": [{"Target": "net"}],
                "ForceUpdate": 0,
            },
            "Mode": {"Replicated": {"Replicas": replicas}},
            "UpdateConfig": {"Parallelism": 2, "FailureAction": "rollback"},
            "EndpointSpec": {"Mode": "dnsrr"},
            "FieldOfTomorrow": {"kept": True},
        },
        "ServiceStatus": {"RunningTasks": replicas if running is None else running, "DesiredTasks": replicas},
    }
    if state:
        document["UpdateStatus"] = {"State": state, "Message": f"update {state}"}
    return document


class SwarmEngine:
    """Answers as a manager's engine does, from what `services` holds."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.services = {"ai-agent": service_document()}
        self.answers: dict[str, object] = {}
        self.updates: list[tuple[str, dict]] = []
        self.requests: list[str] = []
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                engine.requests.append(self.path)
                path = re.sub(r"^/v[0-9.]+", "", self.path)
                if path == "/version":
                    self.answer(200, {"ApiVersion": "1.45", "MinAPIVersion": "1.24"})
                elif path in engine.answers:
                    self.answer(200, engine.answers[path])
                elif path == "/services?status=true":
                    self.answer(200, list(engine.services.values()))
                else:
                    self.answer(404, {"message": f"no such thing: {path}"})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service, version = re.fullmatch(
                    r"/v1\.45/services/id-of-(.+)/update\?version=(\d+)", self.path
                ).groups()
                document = engine.services[service]
                if int(version) != document["Version"]["Index"]:
                    self.answer(500, {"message": "rpc error: code = Unknown desc = update out of sequence"})
                    return
                document["Version"]["Index"] += 1
                document["Spec"] = body
                replicas = body["Mode"]["Replicated"]["Replicas"]
                document["ServiceStatus"] = {"RunningTasks": replicas, "DesiredTasks": replicas}
                engine.updates.append((service, body))
                self.answer(200, {"Warnings": None})

            def answer(self, status: int, document: object) -> None:
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing to note."""

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        self.server = Server(path, Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def replicas(self) -> int:
        return self.services["ai-agent"]["Spec"]["Mode"]["Replicated"]["Replicas"]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def swarm():
    # A socket's path may have 107 characters; those of pytest's directories are longer under some runners.
    with tempfile.TemporaryDirectory(prefix="engine-") as directory:
        started = SwarmEngine(str(Path(directory) / "engine.sock"))
        yield started
        started.stop()
