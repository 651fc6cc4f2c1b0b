"""Servers on loopback, started when a test asks for them and ended with the tests. What can't be started is skipped with its reason."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pika
import pytest
import yaml

from sutazai_runtime.settings import BrokerSettings, RedisSettings, read_secret
from tests.integration import rabbitmq_servers, redis_servers
from tests.integration.ports import free_ports

# Other ports than the nodes of the collection's own tests.
NODE_NUMBER = 7
CHECKOUT = Path(__file__).resolve().parents[2]


TLS_FILES = {"cacert": "ca.crt", "cert": "host.crt", "key": "host.key"}


def tls_port(node: rabbitmq_servers.Node) -> int:
    return node.distribution + 1


@pytest.fixture(scope="session")
def broker() -> Iterator[rabbitmq_servers.Node]:
    if reason := rabbitmq_servers.unavailable():
        pytest.skip(reason)
    # Not below pytest's directory, which only its own user may enter.
    directory = Path(tempfile.mkdtemp(prefix="sutazai-runtime-"))
    directory.chmod(0o755)
    node = rabbitmq_servers.Node(directory, NODE_NUMBER)
    redis_servers.certificates(node.directory, ",DNS:rabbitmq.service.consul")
    tls = {"listeners.ssl.1": f"127.0.0.1:{tls_port(node)}"}
    tls |= {f"ssl_options.{name}file": str(node.directory / f"{file}") for name, file in TLS_FILES.items()}
    with (node.directory / "rabbitmq.conf").open("a") as configuration:
        configuration.writelines(f"{name} = {value}\n" for name, value in tls.items())
    shutil.chown(node.directory / "host.key", "rabbitmq")
    node.start()
    try:
        node.wait()
        yield node
    finally:
        node.kill()
        rabbitmq_servers.stop_port_mapper()
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def redis_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSettings]:
    """A cluster of three masters without replicas, with TLS and users as the role makes them."""
    if not redis_servers.BINARY:
        pytest.skip("no redis-server: install Debian's or set REDIS_SERVER to the path of one")
    directory = tmp_path_factory.mktemp("redis")
    servers = redis_servers.Servers(directory, 3)
    password = directory / "password"
    password.touch(0o600)
    password.write_text(redis_servers.PASSWORD)
    try:
        wait_for(lambda: all(servers.call(name, "PING") for name in servers.ports), "Redis doesn't start")
        ports = list(servers.ports.values())
        for name, (first, last) in zip(servers.ports, ((0, 5460), (5461, 10922), (10923, 16383))):
            servers.call(name, "CLUSTER", "ADDSLOTSRANGE", first, last)
            servers.call(name, "CLUSTER", "MEET", "127.0.0.1", ports[0])
        wait_for(
            lambda: (
                all("cluster_state:ok" in str(servers.call(name, "CLUSTER", "INFO")) for name in servers.ports)
                and all(str(servers.call(name, "CLUSTER", "SLOTS")).count("127.0.0.1") == 3 for name in servers.ports)
            ),
            "the Redis cluster doesn't form",
        )
        yield RedisSettings(
            nodes=[f"127.0.0.1:{port}" for port in ports], password_file=password, ca_file=directory / "ca.crt"
        )
    finally:
        for name in list(servers.processes):
            servers.stop(name)


@pytest.fixture(scope="session")
def topology(broker: rabbitmq_servers.Node) -> Iterator[httpx.Client]:
    """The management API of a broker that has what the role's rabbitmq_topology declares."""
    role = yaml.safe_load((CHECKOUT / "roles/rabbitmq/defaults/main.yml").read_text(encoding="utf-8"))
    wanted, dead = role["rabbitmq_topology"], role["rabbitmq_dead_letters"]
    login = (rabbitmq_servers.ADMINISTRATOR, rabbitmq_servers.PASSWORD)
    with httpx.Client(base_url=f"{broker.url}/api", auth=login, timeout=30, trust_env=False) as api:

        def put(path: str, body: dict[str, object]) -> None:
            assert api.put(path, json=body).is_success, path

        def bind(exchange: str, queue: str, routing_key: str) -> None:
            answer = api.post(f"/bindings/%2F/e/{exchange}/q/{queue}", json={"routing_key": routing_key})
            assert answer.is_success, answer.text

        def quorum(queue: str, **arguments: object) -> None:
            put(f"/queues/%2F/{queue}", {"durable": True, "arguments": {"x-queue-type": "quorum", **arguments}})

        for exchange in wanted["exchanges"]:
            put(f"/exchanges/%2F/{exchange['name']}", {"type": exchange["type"], "durable": True})
        put(f"/exchanges/%2F/{dead}", {"type": "fanout", "durable": True})
        quorum(dead)
        bind(dead, dead, "")
        for queue in wanted["queues"]:
            quorum(queue["name"])
            for binding in queue["bindings"]:
                bind(binding["exchange"], queue["name"], binding["routing_key"])
        for entry in wanted["partitions"]:
            for number in range(entry["partitions"]):
                name = entry["routing_key_pattern"].replace("{partition}", str(number))
                quorum(name, **{"x-single-active-consumer": True})
                bind(entry["exchange"], name, name)
        definition = {"dead-letter-exchange": dead, "delivery-limit": role["rabbitmq_delivery_limit"]}
        pattern = f"^(?!{dead}$)(?!celery)"
        put("/policies/%2F/dead-letters", {"pattern": pattern, "definition": definition, "apply-to": "queues"})
        yield api


@pytest.fixture(scope="session")
def broker_settings(broker: rabbitmq_servers.Node, tmp_path_factory: pytest.TempPathFactory) -> BrokerSettings:
    password = tmp_path_factory.mktemp("secrets") / "rabbitmq"
    password.touch(0o600)
    password.write_text(rabbitmq_servers.PASSWORD)
    return BrokerSettings(
        nodes=[f"127.0.0.1:{broker.amqp}"],
        username=rabbitmq_servers.ADMINISTRATOR,
        password_file=password,
        tls=False,
    )


@pytest.fixture
def tls_broker_settings(broker: rabbitmq_servers.Node, broker_settings: BrokerSettings) -> BrokerSettings:
    changes = {"nodes": [f"127.0.0.1:{tls_port(broker)}"], "tls": True, "ca_file": broker.directory / "ca.crt"}
    return broker_settings.model_copy(update=changes)


@contextlib.contextmanager
def consul_agent(directory: Path, dns_port: int = -1, *more: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A Consul of one server, without a memory; its process and its HTTP address."""
    binary = os.environ.get("CONSUL_BIN") or shutil.which("consul")
    if not binary:
        pytest.skip("no Consul binary: set CONSUL_BIN to the path of one")
    http, server, serf, wan = free_ports(4)
    ports = {"dns": dns_port, "grpc": -1, "grpc-tls": -1, "https": -1}
    ports |= {"http": http, "server": server, "serf-lan": serf, "serf-wan": wan}
    options = [f"-{name}-port={number}" for name, number in ports.items()]
    with (directory / "consul.log").open("w") as sink:
        process = subprocess.Popen(
            [binary, "agent", "-dev", "-bind=127.0.0.1", *options, *more], stdout=sink, stderr=sink, cwd=directory
        )
    try:
        url = f"http://127.0.0.1:{http}"
        wait_for(
            lambda: httpx.get(f"{url}/v1/status/leader", trust_env=False).text.strip('"\n'), "Consul has no leader"
        )
        yield process, url
    finally:
        process.kill()
        process.wait()


def environment(broker: BrokerSettings, redis: RedisSettings, **more: str) -> dict[str, str]:
    """What a program of this package is started with, as the roles will write it."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SUTAZAI_")},
        "PYTHONPATH": str(CHECKOUT / "runtime" / "src"),
        "SUTAZAI_RABBITMQ_NODES": ",".join(broker.nodes),
        "SUTAZAI_RABBITMQ_USERNAME": broker.username,
        "SUTAZAI_RABBITMQ_PASSWORD_FILE": str(broker.password_file),
        "SUTAZAI_RABBITMQ_TLS": "false",
        "SUTAZAI_REDIS_NODES": ",".join(redis.nodes),
        "SUTAZAI_REDIS_PASSWORD_FILE": str(redis.password_file),
        "SUTAZAI_REDIS_CA_FILE": str(redis.ca_file),
        **more,
    }


@contextlib.contextmanager
def worker(directory: Path, variables: dict[str, str], *queues: str) -> Iterator[subprocess.Popen]:
    """In a session of its own, so that its processes can be killed together."""
    log = directory / f"worker-{uuid.uuid4().hex[:6]}.log"
    command = [sys.executable, "-m", "celery", "-A", "sutazai_runtime.tasks.worker", "worker", "-Q", ",".join(queues)]
    more = [
        "-n",
        f"{uuid.uuid4().hex}@%h",
        "--concurrency",
        "1",
        "--loglevel",
        "INFO",
        "--without-mingle",
        "--without-gossip",
    ]
    with log.open("w") as sink:
        process = subprocess.Popen(
            [*command, *more], env=variables, stdout=sink, stderr=sink, start_new_session=True, cwd=directory
        )
    try:
        wait_for(lambda: " ready." in log.read_text() or process.poll() is not None, "the worker doesn't start")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(log.read_text())


def messages_in(broker: BrokerSettings, queue: str) -> int:
    """Ready ones. The management API's figures are seconds old, and partitions can't be read by it (single active consumer)."""
    host, port = broker.nodes[-1].split(":")
    login = pika.PlainCredentials(broker.username, read_secret(broker.password_file, "password"))
    with pika.BlockingConnection(pika.ConnectionParameters(host, int(port), credentials=login)) as connection:
        return connection.channel().queue_declare(queue, passive=True).method.message_count


def wait_for(condition: Callable[[], object], complaint: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except Exception as error:  # whatever a server says that isn't up yet
            last = error
        time.sleep(0.1)
    raise AssertionError(f"{complaint}: {last}")
