"""The role haproxy's own tasks with real HAProxys: two load balancers before gateways, each at an address of loopback."""

from __future__ import annotations

import datetime
import grp
import http.client
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.integration.envoy_gateway import Backend
from tests.integration.modules import run_ansible
from tests.integration.ports import free_ports
from tests.integration.redis_servers import certificates

BINARY = shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin")


def has_group(name: str) -> bool:
    return name in {group.gr_name for group in grp.getgrall()}


pytestmark = [
    pytest.mark.skipif(
        not (BINARY and has_group("haproxy")),
        reason="there is no haproxy (apt-get install --no-install-recommends haproxy)",
    ),
    pytest.mark.skipif(os.getuid() != 0, reason="the role's files are root's"),
]

START_SECONDS = 20
UNIT = Path(__file__).parents[2] / "roles/haproxy/templates/unit.conf.j2"
BALANCERS, GATEWAYS = ("lb-1", "lb-2"), ("gateway-1", "gateway-2", "impostor")
ADDRESSES = {name: f"127.0.0.{number}" for number, name in enumerate((*BALANCERS, *GATEWAYS), 2)}
PLAYBOOK = """
- hosts: load_balancers
  connection: local
  gather_facts: false
  any_errors_fatal: false
  tasks:
    - ansible.builtin.include_role: {name: sutazai.platform.haproxy, tasks_from: "{{ item }}"}
      loop: "{{ apply }}"
"""


class Balancer:
    """A HAProxy as Debian's unit runs it: a master, whose workers are replaced when it is told to reload."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name, self.address, self.directory = name, ADDRESSES[name], directory / name
        self.directory.mkdir()
        ports = free_ports(4, addresses=(self.address, "127.0.0.1"))
        self.port, self.redirect_port, self.status_port, self.tcp_port = ports
        self.authority = directory / "ca.crt"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        log = (self.directory / "log").open("w")
        command = [str(BINARY), "-W", "-f", str(self.directory / "haproxy.cfg"), "-p", str(self.directory / "pid")]
        self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.until(lambda: "UP" in self.states().values())

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=10)

    def drain(self) -> None:
        """As `systemctl stop` begins it: the unit's signal goes to the master alone (KillMode=mixed in Debian's unit)."""
        assert self.process
        self.process.send_signal(signal.Signals[re.search(r"^KillSignal=(\w+)$", UNIT.read_text(), re.MULTILINE)[1]])

    def reload(self) -> None:
        """Until a new worker answers."""
        assert self.process
        before = self.workers()
        self.process.send_signal(signal.SIGUSR2)
        self.until(lambda: self.workers() - before)

    def workers(self) -> set[str]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children") if self.process else Path("/")
        return set(children.read_text().split())

    def until(self, holds) -> None:
        until = time.monotonic() + START_SECONDS
        while not holds():
            assert self.process and self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < until, (self.directory / "log").read_text()
            time.sleep(0.05)

    def status(self, path: str) -> str:
        connection = http.client.HTTPConnection(self.address, self.status_port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()

    def states(self, backend: str = "gateways") -> dict[str, str]:
        """Of each of its servers, as the statistics have it."""
        rows = [line.split(",") for line in self.status("/stats;csv").splitlines()]
        return {
            row[1]: row[17].split()[0] for row in rows if row[0] == backend and row[1] not in ("FRONTEND", "BACKEND")
        }

    def connect(self, **settings: object) -> http.client.HTTPSConnection:
        """To what the certificate is for, whichever address it has here."""
        context = ssl.create_default_context(cafile=str(self.authority))
        context.check_hostname = False
        return http.client.HTTPSConnection(self.address, self.port, context=context, timeout=10, **settings)

    def request(self, source: str = "127.0.0.1", **headers: str) -> tuple[int, dict, dict]:
        connection = self.connect(source_address=(source, 0))
        try:
            connection.request("GET", "/x", headers={name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(body)
        finally:
            connection.close()


class Names(socketserver.ThreadingTCPServer):
    """Says its name, then sends back what it gets until the client has said all: nothing that a proxy of HTTP would pass on."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, name: str, address: str, port: int) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.sendall(name.encode() + b"\0")
                while received := self.request.recv(65536):
                    self.request.sendall(received)

        super().__init__((address, port), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Edge:
    def __init__(self, directory: Path) -> None:
        certificates(directory, "".join(f",DNS:{name}" for name in ADDRESSES if name != "impostor"))
        directory.chmod(0o755)
        self.directory = directory
        ports = free_ports(3, addresses=tuple(ADDRESSES[name] for name in GATEWAYS))
        port, status_port, self.tcp_port = ports
        self.gateways = {name: Backend(name, directory, ADDRESSES[name], port) for name in GATEWAYS}
        self.statuses = {name: Backend(name, None, ADDRESSES[name], status_port) for name in GATEWAYS}
        self.names = {name: Names(name, ADDRESSES[name], self.tcp_port) for name in ("gateway-1", "gateway-2")}
        self.balancers = {name: Balancer(name, directory) for name in BALANCERS}
        tcp_servers = [{"name": name, "address": ADDRESSES[name], "port": self.tcp_port} for name in self.names]
        (directory / "play.yml").write_text(PLAYBOOK)
        self.variables = {
            "ansible_python_interpreter": sys.executable,
            "haproxy_address": "{{ platform_address }}",
            "haproxy_peers_port": free_ports(1, addresses=tuple(ADDRESSES[name] for name in BALANCERS))[0],
            "haproxy_gateways": ["gateway-1", "gateway-2"],
            "haproxy_gateways_port": port,
            "haproxy_gateways_status_port": status_port,
            "haproxy_tcp_frontends": [{"name": "names", "port": "{{ tcp_port }}", "servers": tcp_servers}],
            "haproxy_platform_ca_file": f"{directory}/ca.crt",
            "haproxy_platform_cert_file": f"{directory}/host.crt",
            "haproxy_tls_cert_file": f"{directory}/host.crt",
            "haproxy_tls_reload_directory": str(directory),
            "haproxy_client_requests_per_second": 100_000,  # what the tests send isn't limited but where they say so
            "haproxy_connections_maximum": 500,
            "haproxy_register_service": False,
            "haproxy_wait_seconds": 5,
        }

    def role(self, *tasks: str, of: dict[str, dict] | None = None, check: bool = False, **variables: object):
        hosts = {
            name: {
                "platform_address": ADDRESSES[name],
                "haproxy_port": balancer.port,
                "haproxy_redirect_port": balancer.redirect_port,
                "haproxy_status_port": balancer.status_port,
                "tcp_port": balancer.tcp_port,
                **((of or {}).get(name, {})),
            }
            for name, balancer in self.balancers.items()
        }
        gateways = {name: {"platform_address": ADDRESSES[name]} for name in GATEWAYS}
        inventory = {
            "load_balancers": {"hosts": hosts, "vars": {**self.variables, **variables}},
            "gateways": {"hosts": gateways},
        }
        (self.directory / "hosts.json").write_text(json.dumps(inventory))
        # What the role keeps to itself goes in as extra variables, which stand before a role's own.
        own = f"{self.directory}/{{{{ inventory_hostname }}}}"
        private = {"__haproxy_configuration": f"{own}/haproxy.cfg", "__haproxy_socket": f"{own}/admin.sock"}
        return run_ansible(
            "ansible-playbook",
            f"--inventory={self.directory}/hosts.json",
            f"--extra-vars={json.dumps({'apply': tasks, **private})}",
            *(["--check"] if check else []),
            f"{self.directory}/play.yml",
        )

    def stop(self) -> None:
        for balancer in self.balancers.values():
            balancer.stop()
        for backend in (*self.gateways.values(), *self.statuses.values(), *self.names.values()):
            backend.stop()


def succeeded(done) -> str:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    edge = Edge(tmp_path_factory.mktemp("edge"))
    try:
        succeeded(edge.role("preflight", "configure"))
        for balancer in edge.balancers.values():
            balancer.start()
        yield edge
    finally:
        edge.stop()


def test_what_the_role_has_written_is_in_force_and_written_once(edge):
    assert "changed=0" in succeeded(edge.role("preflight", "configure", "verify"))


def test_a_configuration_that_has_not_been_read_is_noticed(edge):
    done = edge.role("verify", haproxy_client_timeout_seconds=61)
    assert done.returncode != 0
    assert "goes by another configuration than its file" in done.stdout


def test_only_the_edge_says_who_the_client_is(edge):
    given = {"X_Forwarded_For": "10.0.0.1", "X_Forwarded_Proto": "http", "X_Edge_Request_Id": "mine"}
    status, headers, seen = edge.balancers["lb-1"].request(**given)
    assert (status, seen["x-forwarded-for"], seen["x-forwarded-proto"]) == (200, "127.0.0.1", "https")
    assert str(uuid.UUID(seen["x-edge-request-id"])) == seen["x-edge-request-id"]
    assert headers["strict-transport-security"].startswith("max-age=")


def test_http_leads_to_https(edge):
    balancer = edge.balancers["lb-1"]
    connection = http.client.HTTPConnection(balancer.address, balancer.redirect_port, timeout=5)
    connection.request("GET", "/v1/x?y=1", headers={"Host": "edge.example.org"})
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("location")) == (308, "https://edge.example.org/v1/x?y=1")
    connection.close()


def test_http_2_is_offered(edge):
    balancer = edge.balancers["lb-1"]
    command = ["openssl", "s_client", "-connect", f"{balancer.address}:{balancer.port}", "-alpn", "h2,http/1.1"]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=20)
    assert "ALPN protocol: h2" in done.stdout


def test_a_body_that_is_too_large_is_not_waited_for(edge):
    connection = edge.balancers["lb-1"].connect()
    connection.putrequest("POST", "/v1/x")
    connection.putheader("Content-Length", str(20 * 1024 * 1024))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("content-type")) == (413, "application/problem+json")
    assert json.loads(answer.read())["status"] == 413
    connection.close()


def test_a_gateway_that_is_not_ready_is_left_out(edge):
    """At once, also when it doesn't close the check's connection, as Envoy does that drains."""
    balancer, status = edge.balancers["lb-1"], edge.statuses["gateway-2"]
    # The first check after a start decides alone; later ones have to agree.
    balancer.until(lambda: balancer.status("/stats;csv").count(",L7OK,") == len(balancer.states()))
    status.status, status.lingers_seconds = 503, 3.5
    began = time.monotonic()
    try:
        balancer.until(lambda: balancer.states()["gateway-2"] == "DOWN")
        assert time.monotonic() - began < 5
        assert balancer.states()["gateway-1"] == "UP"
    finally:
        status.status, status.lingers_seconds = 200, 0.0
    balancer.until(lambda: balancer.states()["gateway-2"] == "UP")


def test_gateways_that_all_fail_their_checks_are_asked_nevertheless(edge):
    """It is the checks that are likelier wrong then."""
    balancer = edge.balancers["lb-1"]
    for status in edge.statuses.values():
        status.status = 503
    try:
        balancer.until(lambda: set(balancer.states().values()) == {"DOWN"})
        assert {balancer.request()[0] for _ in range(10)} == {200}
    finally:
        for status in edge.statuses.values():
            status.status = 200
    balancer.until(lambda: set(balancer.states().values()) == {"UP"})


def named(balancer: Balancer, sent: bytes = b"x") -> tuple[str, bytes]:
    """Who answers on the TCP frontend, and what comes back when all has been sent."""
    with socket.create_connection((balancer.address, balancer.tcp_port), timeout=10) as connection:
        threading.Thread(target=lambda: (connection.sendall(sent), connection.shutdown(socket.SHUT_WR))).start()
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    name, _, rest = received.partition(b"\0")
    return name.decode(), rest


def test_tcp_is_passed_on_as_it_is(edge):
    """To all servers in turn, byte for byte, in both directions, also after one side has said all."""
    balancer = edge.balancers["lb-1"]
    sent = bytes(range(256)) * 4096
    answers = [named(balancer, sent) for _ in range(4)]
    assert {name for name, _received in answers} == {"gateway-1", "gateway-2"}
    assert all(received == sent for _name, received in answers)


def test_a_tcp_server_that_is_gone_is_left_out(edge):
    """At once: a connection that it refuses goes to another one, before the checks have noticed."""
    balancer = edge.balancers["lb-1"]
    edge.names["gateway-2"].stop()
    try:
        assert {named(balancer) for _ in range(4)} == {("gateway-1", b"x")}
        balancer.until(lambda: balancer.states("tcp-names") == {"gateway-1": "UP", "gateway-2": "DOWN"})
        assert {named(balancer) for _ in range(4)} == {("gateway-1", b"x")}
    finally:
        edge.names["gateway-2"] = Names("gateway-2", ADDRESSES["gateway-2"], edge.tcp_port)
    balancer.until(lambda: set(balancer.states("tcp-names").values()) == {"UP"})
    assert {named(balancer)[0] for _ in range(10)} == {"gateway-1", "gateway-2"}


class Client(threading.Thread):
    """Requests over a connection that is kept, with pauses. It doesn't try again: whatever isn't a 200 is a failure."""

    def __init__(self, balancer: Balancer, pause: float) -> None:
        super().__init__(daemon=True)
        self.balancer, self.pause = balancer, pause
        self.answered, self.failures = 0, []
        self.ended = threading.Event()

    def run(self) -> None:
        connection = self.balancer.connect()
        while not self.ended.is_set():
            try:
                connection.request("GET", "/x")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failures.append(answer.status)
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.ended.wait(self.pause)
        connection.close()


def test_a_reload_fails_no_request(edge):
    """Neither one that is being answered, nor the next one on a connection that was idle when the worker was told to end."""
    balancer = edge.balancers["lb-1"]
    clients = [Client(balancer, pause) for pause in (0.0, 0.01, 0.02, 0.1, 0.3, 0.5)]
    for client in clients:
        client.start()
    for _ in range(4):
        balancer.reload()
        before = {client: client.answered for client in clients}
        balancer.until(lambda before=before: all(client.answered > number + 1 for client, number in before.items()))
    for client in clients:
        client.ended.set()
    for client in clients:
        client.join(timeout=20)
    assert [client.failures for client in clients] == [[] for _client in clients]


def test_a_stop_waits_for_what_is_open_and_takes_nothing_new(edge):
    """A request and a TCP connection go on to their end, and HAProxy ends with them."""
    balancer = edge.balancers["lb-1"]
    gateways = edge.gateways.values()
    asked = sum(len(gateway.asked) for gateway in gateways)
    request, tcp = balancer.connect(), socket.create_connection((balancer.address, balancer.tcp_port), timeout=10)
    try:
        assert tcp.recv(100).startswith(b"gateway-")
        for gateway in gateways:
            gateway.answers.clear()
        request.request("GET", "/x")
        balancer.until(lambda: sum(len(gateway.asked) for gateway in gateways) > asked)

        balancer.drain()
        for port in (balancer.port, balancer.redirect_port, balancer.tcp_port):
            balancer.until(lambda port=port: refused(balancer.address, port))
        tcp.sendall(b"still here")
        assert tcp.recv(100) == b"still here"
        assert balancer.process.poll() is None
        for gateway in gateways:
            gateway.answers.set()
        answer = request.getresponse()
        assert (answer.status, json.loads(answer.read())["path"], answer.getheader("connection")) == (
            200,
            "/x",
            "close",
        )
        tcp.shutdown(socket.SHUT_WR)
        assert tcp.recv(100) == b""
        balancer.process.wait(timeout=5)
    finally:
        for gateway in gateways:
            gateway.answers.set()
        request.close()
        tcp.close()
        balancer.stop()
        balancer.start()


def refused(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_client_that_sends_too_much_is_refused_by_both(edge):
    """By its address or by its key: the counts go from one to the other."""
    one, other = edge.balancers["lb-1"], edge.balancers["lb-2"]
    succeeded(edge.role("configure", haproxy_client_requests_per_second=5, haproxy_key_requests_per_second=2))
    one.reload()
    other.reload()

    def sent(count: int, **request: str) -> list[int]:
        return [one.request(**request)[0] for _ in range(count)]

    def told(**request: str) -> bool:
        """Within fewer requests than it would need to find out by itself."""
        for _ in range(10):
            if other.request(**request)[0] == 429:
                return True
            time.sleep(0.2)  # between the tries, for what is told all the time
        return False

    assert sent(25, source="127.0.1.1", X_API_Key="a").count(200) == 20
    status, headers, problem = one.request(source="127.0.1.2", X_API_Key="a")
    assert (status, headers["content-type"]) == (429, "application/problem+json")
    assert (headers["retry-after"], problem["status"], problem["title"]) == ("1", 429, "Too Many Requests")
    assert one.request(source="127.0.1.2", X_API_Key="b")[0] == 200
    assert told(source="127.0.1.2", X_API_Key="a")

    assert sent(55, source="127.0.1.3").count(200) == 50
    assert told(source="127.0.1.3")
    assert other.request(source="127.0.1.4")[0] == 200


def test_a_gateway_with_another_ones_certificate_is_left_out(edge):
    """It says that it is ready, but a request to it would fail."""
    balancer = edge.balancers["lb-2"]
    succeeded(edge.role("configure", haproxy_gateways=list(GATEWAYS)))
    balancer.reload()
    balancer.until(lambda: balancer.states() == {"gateway-1": "UP", "gateway-2": "UP", "impostor": "DOWN"})
    answers = [balancer.request() for _ in range(20)]
    assert {status for status, _headers, _seen in answers} == {200}
    assert {seen["name"] for _status, _headers, seen in answers} == {"gateway-1", "gateway-2"}
    assert edge.gateways["impostor"].asked == []


def expired(directory: Path) -> Path:
    """The host's certificate, but over since yesterday."""
    key = serialization.load_pem_private_key((directory / "host.key").read_bytes(), None)
    authority = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    sound = x509.load_pem_x509_certificate((directory / "host.crt").read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(sound.subject)
        .issuer_name(sound.issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now - datetime.timedelta(days=1))
        .sign(authority, hashes.SHA256())
    )
    (directory / "expired.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    shutil.copy(directory / "host.key", directory / "expired.key")
    return directory / "expired.crt"


def test_wrong_certificates_are_refused_before_anything_changes(edge, tmp_path):
    certificates(tmp_path)
    shutil.copy(edge.directory / "host.crt", tmp_path / "mixed.crt")
    shutil.copy(tmp_path / "host.key", tmp_path / "mixed.key")
    before = [(balancer.directory / "haproxy.cfg").read_text() for balancer in edge.balancers.values()]
    wrong = {
        "lb-1": {"haproxy_tls_cert_file": f"{tmp_path}/mixed.crt"},
        "lb-2": {"haproxy_tls_cert_file": str(expired(edge.directory))},
    }
    done = edge.role("preflight", "configure", of=wrong, haproxy_client_timeout_seconds=62)
    assert done.returncode != 0
    assert f"mixed.crt (haproxy_tls_cert_file) on lb-1 isn't that of the key {tmp_path}/mixed.key" in done.stdout
    assert "expired.crt (haproxy_tls_cert_file) on lb-2 has expired" in done.stdout
    assert [(balancer.directory / "haproxy.cfg").read_text() for balancer in edge.balancers.values()] == before


def test_a_rate_of_nothing_is_refused(edge):
    done = edge.role("preflight", haproxy_client_requests_per_second=0)
    assert done.returncode != 0
    assert "haproxy_client_requests_per_second (0)" in done.stdout.replace("\\n", " ")
