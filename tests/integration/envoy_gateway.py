"""A real Envoy on loopback with servers behind it and a client in front. ENVOY_BIN names the binary."""

from __future__ import annotations

import collections
import http.client
import json
import os
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ansible_collections.sutazai.platform.plugins.module_utils import gateway_envoy as envoy
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_routes as reader

from tests.integration.modules import run_module
from tests.integration.ports import free_ports

BINARY = os.environ.get("ENVOY_BIN")
START_SECONDS = 30


class Backend:
    """A server that answers with its name and what it was asked, and `status`; `healthy` is what its health check says.

    As long as `answers` isn't set, it has been asked, but doesn't answer.
    """

    def __init__(self, name: str, certificates: Path | None = None, address: str = "127.0.0.1", port: int = 0) -> None:
        self.name, self.healthy, self.status, self.lingers_seconds = name, True, 200, 0.0
        self.asked: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # or each answer waits for an acknowledgement between its head and its body

            def do_GET(self) -> None:
                healthy = backend.healthy or self.path != "/health"
                backend.asked.append(self.path)
                names = ("x-request-id", "traceparent", "host", "x-envoy-retry-on", "x_under_score")
                names += ("x-forwarded-for", "x-forwarded-proto", "x-edge-request-id")
                seen = {"name": backend.name, "path": self.path, **{name: self.headers.get(name) for name in names}}
                self.answer(backend.status if healthy else 503, json.dumps(seen).encode())

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                self.do_GET()

            def answer(self, status: int, body: bytes) -> None:
                backend.answers.wait(START_SECONDS)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                # In one piece: who only wants the status closes the connection when it has it.
                self._headers_buffer.append(b"\r\n" + body)
                self.flush_headers()
                time.sleep(backend.lingers_seconds)  # before it closes a connection that is to be closed

            def log_message(self, *_arguments: object) -> None:
                pass

        self.port = port or free_ports(1)[0]
        self.server = ThreadingHTTPServer((address, self.port), Handler)
        self.server.daemon_threads = True
        if certificates:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificates / "host.crt", certificates / "host.key")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def host(self) -> dict:
        return {"address": "127.0.0.1", "port": self.port}

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Gateway:
    def __init__(self, directory: Path, **more: object) -> None:
        ports = free_ports(3)
        self.directory = directory
        self.watched = directory / "xds"
        self.watched.mkdir()
        self.settings = envoy.Settings(
            address="127.0.0.1",
            port=ports[0],
            admin_port=ports[1],
            status_port=ports[2],
            directory=str(self.watched),
            **more,
        )
        self.process: subprocess.Popen | None = None

    def files(self, table: dict) -> dict[str, str]:
        made = envoy.render(reader.read(table), self.settings)
        return {name: envoy.text_of(document) for name, document in made.items()}

    def apply(self, table: dict, check: bool = False, **more: object) -> dict:
        """As the role does it."""
        return run_module(
            "envoy_resources",
            {
                "directory": str(self.watched),
                "files": self.files(table),
                "group": str(os.getgid()),
                "admin_url": f"http://127.0.0.1:{self.settings.admin_port}",
                **more,
            },
            check,
        )

    def start(self, bootstrap: Path | None = None) -> None:
        if bootstrap is None:
            bootstrap = self.directory / "bootstrap.json"
            bootstrap.write_text(envoy.text_of(envoy.bootstrap(self.settings)))
        log = (self.directory / "envoy.log").open("w")
        command = [str(BINARY), "-c", str(bootstrap), "--concurrency", "1", "--log-level", "warn"]
        # No shared memory with another Envoy: none is to be replaced by this one.
        self.process = subprocess.Popen([*command, "--disable-hot-restart"], stdout=log, stderr=subprocess.STDOUT)
        until = time.monotonic() + START_SECONDS
        while self.status("/status/ready")[0] != 200:
            assert self.process.poll() is None and time.monotonic() < until, self.log()
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=10)

    def log(self) -> str:
        return (self.directory / "envoy.log").read_text()

    def status(self, path: str, port: int = 0) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{port or self.settings.status_port}{path}", timeout=5
            ) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def tell(self, path: str) -> None:
        """The administration to do something."""
        told = urllib.request.Request(f"http://127.0.0.1:{self.settings.admin_port}{path}", method="POST")
        with urllib.request.urlopen(told, timeout=5) as answer:
            assert answer.status == 200

    def request(self, method: str, path: str, **headers: str) -> tuple[int, dict, dict]:
        """Status, headers, and the JSON of the answer if it is the backend's."""
        connection = http.client.HTTPConnection("127.0.0.1", self.settings.port, timeout=10)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            body = answer.read()
            seen = json.loads(body) if body.startswith(b"{") else {}
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, seen
        finally:
            connection.close()

    def get_over_tls(self, ca: Path, path: str = "/") -> dict:
        """What the backend saw; the gateway's certificate has to be that of a CA."""
        context = ssl.create_default_context(cafile=str(ca))
        with urllib.request.urlopen(
            f"https://127.0.0.1:{self.settings.port}{path}", context=context, timeout=10
        ) as answer:
            return json.loads(answer.read())

    def serial_over_tls(self) -> str:
        """Of the certificate that it shows now, whoever has signed it."""
        text = ssl.get_server_certificate(("127.0.0.1", self.settings.port), timeout=10)
        command = ["openssl", "x509", "-noout", "-serial"]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout.strip()

    def statistics(self, pattern: str) -> dict[str, int]:
        answer = json.loads(self.status(f"/stats?format=json&filter={pattern}", self.settings.admin_port)[1])
        return {entry["name"]: entry["value"] for entry in answer["stats"] if "name" in entry}


class Client:
    """Requests at a constant rate over connections that stay open, from a thread. Every answer but 200 is a failure, and no answer is one."""

    def __init__(self, gateway: Gateway, path: str = "/v1/x", per_second: float = 100) -> None:
        self.gateway, self.path, self.interval = gateway, path, 1 / per_second
        self.answers: list[tuple[float, int, str]] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Client:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.ended.set()
        self.thread.join(timeout=30)
        assert not self.thread.is_alive()

    def run(self) -> None:
        connection, due = None, time.monotonic()
        while not self.ended.is_set():
            began = time.monotonic()
            try:
                connection = connection or http.client.HTTPConnection(
                    "127.0.0.1", self.gateway.settings.port, timeout=10
                )
                connection.request("GET", self.path)
                answer = connection.getresponse()
                body = answer.read()
                name = json.loads(body)["name"] if answer.status == 200 else body.decode(errors="replace")
                self.answers.append((began, answer.status, name))
                if answer.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.answers.append((began, 0, repr(error)))
                connection = None
            due += self.interval
            self.ended.wait(max(0.0, due - time.monotonic()))

    def failures(self) -> list[tuple[float, int, str]]:
        return [answer for answer in self.answers if answer[1] != 200]

    def shares(self, count: int) -> collections.Counter:
        """Who answered the next requests, from now on."""
        since = time.monotonic()
        until = since + 30
        while True:
            names = [name for began, status, name in self.answers[:] if began > since and status == 200]
            if len(names) >= count or time.monotonic() > until:
                return collections.Counter(names)
            time.sleep(0.05)
