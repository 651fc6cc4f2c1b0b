# Apache License 2.0 (see LICENSE)
"""What a failover probe writes to, through the addresses that clients use: PostgreSQL, Redis, Consul.

A target makes a place of its own for a run's records, opens sessions, reads everything back, and removes the place.
RabbitMQ, whose clients are told rather than ask, is in failover_rabbitmq.
"""

from __future__ import annotations

import binascii
import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import threading
import time
import traceback
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from ansible_collections.sutazai.platform.plugins.module_utils.failover_probe import Session

try:
    import psycopg

    PSYCOPG_ERROR = None
except ImportError:
    psycopg = None
    PSYCOPG_ERROR = traceback.format_exc()
try:
    import redis
    import redis.backoff
    import redis.cluster
    import redis.retry
    import redis.sentinel

    REDIS_ERROR = None
except ImportError:
    redis = None
    REDIS_ERROR = traceback.format_exc()

SLOTS = 16384
RUN = re.compile(r"^[a-z0-9_]{1,40}$")
KEPT_SECONDS = 86400  # should a run be killed before it removes its records
READ_AT_ONCE = 500
LOOK_SECONDS = 0.25


class NotAcknowledged(Exception):
    """The server answered, and the record isn't safe."""


@dataclass(frozen=True)
class Settings:
    """Where a client connects, and as whom."""

    run: str
    host: str
    port: int
    user: str = ""
    password: str = ""
    database: str = ""
    ca_file: str = ""
    token: str = ""
    deadline: float = 3.0
    slots: tuple[tuple[int, int], ...] = ()  # Redis: the records are to be in one of these
    replicas: int = 1  # Redis: how many have to have a record of the series with WAIT
    master_name: str = ""  # Redis with sentinels, whose address and port these are then: what they call the master


def cut_socket(descriptor: int) -> None:
    """End a connection under the feet of whoever waits for it."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as connection:
        connection.shutdown(socket.SHUT_RDWR)


class Postgresql:
    """Appends to a table without a key, so that a record that was written twice is there twice."""

    series = ({"name": "append", "may_lose": False},)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.table = f"failover_probe_{settings.run}"

    def open(self, timeout: float) -> Any:
        wanted = self.settings
        connection = psycopg.connect(
            host=wanted.host,
            port=wanted.port,
            user=wanted.user,
            password=wanted.password,
            dbname=wanted.database,
            # Without a CA it is somebody's own test server.
            sslmode="verify-full" if wanted.ca_file else "prefer",
            sslrootcert=wanted.ca_file or None,
            connect_timeout=max(2, round(timeout)),
            application_name="failover-probe",
            autocommit=True,
        )
        connection.prepare_threshold = None  # a pooler gives each transaction another server
        return connection

    def prepare(self) -> None:
        with self.open(10) as connection:
            connection.execute(f"create table {self.table} (series text not null, number bigint not null)")

    def connect(self) -> Session:
        return PostgresqlSession(self.open(self.settings.deadline), self.table)

    def found(self) -> dict[str, list[int]]:
        # What is there is asked of the leader: a replica may not have it yet.
        with self.open(10) as connection:
            rows = connection.execute(f"select number, pg_is_in_recovery() from {self.table}").fetchall()  # noqa: S608 a name of ours
        if any(replica for _number, replica in rows):
            raise NotAcknowledged(f"{self.settings.host} leads to a replica")
        return {"append": [number for number, _replica in rows]}

    def remove(self) -> None:
        with self.open(10) as connection:
            connection.execute(f"drop table if exists {self.table}")


class PostgresqlSession:
    def __init__(self, connection: Any, table: str) -> None:
        self.connection = connection
        self.statement = f"insert into {table} values (%s, %s)"  # noqa: S608 a name of ours
        self.descriptor = connection.fileno()

    def write(self, series: str, number: int) -> None:
        self.connection.execute(self.statement, (series, number))

    def cut(self) -> None:
        if not self.connection.closed:
            cut_socket(self.descriptor)

    def close(self) -> None:
        self.connection.close()


def slot_of(tag: str) -> int:
    """The slot of the keys with this hash tag."""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


def parse_slots(text: str) -> tuple[tuple[int, int], ...]:
    """Ranges as redis_cluster_info prints them: 0-5460 5462."""
    pairs = [part.partition("-") for part in re.split(r"[\s,]+", text.strip()) if part]
    return tuple((int(first), int(last or first)) for first, _dash, last in pairs)


def tag_within(prefix: str, slots: tuple[tuple[int, int], ...]) -> str:
    """A hash tag whose slot is one of these; any if there are none."""
    for number in range(100 * SLOTS):
        tag = f"{prefix}-{number}"
        if not slots or any(first <= slot_of(tag) <= last for first, last in slots):
            return tag
    raise ValueError(f"no hash tag leads to the slots {slots}")


class Redis:
    """One key per record, all in one slot, so that all of them are in the shard that the fault hits."""

    WAIT, PLAIN = "WAIT", "without WAIT"

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.series = (
            # While a shard has lost its master there is no replica to wait for: this gap lasts until there is one again.
            {"name": self.WAIT, "may_lose": False, "limited": False},
            {"name": self.PLAIN, "may_lose": True},
        )
        self.tag = tag_within(settings.run, settings.slots)
        self.client: Any = None
        self.lock = threading.Lock()
        self.looked = 0.0

    def key(self, series: str, number: int) -> str:
        return f"failover:{{{self.tag}}}:{'wait' if series == self.WAIT else 'plain'}:{number}"

    def open(self, timeout: float) -> Any:
        wanted = self.settings
        tls = {"ssl": True, "ssl_cert_reqs": "required", "ssl_ca_certs": wanted.ca_file} if wanted.ca_file else {}
        return redis.cluster.RedisCluster(
            host=wanted.host,
            port=wanted.port,
            username=wanted.user or None,
            password=wanted.password or None,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            require_full_coverage=False,
            **tls,
        )

    def prepare(self) -> None:
        connection = self.open(10)
        try:
            if connection.set(self.key(self.PLAIN, -1), "-1", ex=KEPT_SECONDS) is not True:
                raise NotAcknowledged("a first key can't be written")
        finally:
            connection.close()

    def connect(self) -> Session:
        """All writers share one client, as the threads of an application do."""
        with self.lock:
            if self.client is None:
                # A hung master must not eat the whole deadline: there has to be time left to ask another node.
                self.client = self.open(self.settings.deadline / 2)
        return RedisSession(self)

    def look_again(self) -> None:
        """Ask who has which slots, but not once for each of the writers that fail together."""
        with self.lock:
            if time.monotonic() - self.looked > LOOK_SECONDS:
                self.looked = time.monotonic()
                self.client.nodes_manager.initialize()

    def found(self) -> dict[str, list[int]]:
        connection = self.open(10)
        try:
            return {one["name"]: self._found(connection, one["name"]) for one in self.series}
        finally:
            connection.close()

    def _found(self, connection: Any, series: str) -> list[int]:
        pattern = self.key(series, 0)[:-1]
        node = connection.get_node_from_key(pattern)
        found, cursor = [], 0
        while True:
            cursor, keys = connection.get_redis_connection(node).scan(cursor, match=_literal(pattern) + "*", count=1000)
            found += [int(bytes(key).rpartition(b":")[2]) for key in keys]
            if cursor == 0:
                # SCAN may return a key twice, and -1 is the one that `prepare` wrote.
                return sorted({number for number in found if number >= 0})

    def remove(self) -> None:
        connection = self.open(10)
        try:
            keys = [self.key(name, number) for name, numbers in self.found().items() for number in numbers]
            keys.append(self.key(self.PLAIN, -1))
            for first in range(0, len(keys), READ_AT_ONCE):
                connection.delete(*keys[first : first + READ_AT_ONCE])
        finally:
            connection.close()


def _literal(pattern: str) -> str:
    return re.sub(r"([\[\]*?\\^])", r"\\\1", pattern)


class RedisSession:
    """A cluster client that any application could be; it follows the cluster by itself."""

    def __init__(self, target: Redis) -> None:
        self.target, self.client = target, target.client

    def write(self, series: str, number: int) -> None:
        key = self.target.key(series, number)
        if series == self.target.WAIT:
            self.write_and_wait(key, number)
        elif self.client.set(key, str(number), ex=KEPT_SECONDS) is not True:
            raise NotAcknowledged("SET wasn't answered with OK")

    def write_and_wait(self, key: str, number: int) -> None:
        """WAIT counts for the connection that wrote: both go out together, to the master of the key."""
        replicas, milliseconds = self.target.settings.replicas, round(self.target.settings.deadline * 250)
        node = self.client.get_node_from_key(key)
        try:
            if node is None:
                raise redis.exceptions.ClusterError("no node has the key's slot")
            with self.client.get_redis_connection(node).pipeline(transaction=False) as pipeline:
                pipeline.set(key, str(number), ex=KEPT_SECONDS)
                pipeline.execute_command("WAIT", replicas, milliseconds)
                _set, reached = pipeline.execute()
        except (redis.exceptions.RedisError, redis.exceptions.RedisClusterException):
            # What the cluster's client does by itself for every command but those that are sent to a node.
            self.target.look_again()
            raise
        if reached < replicas:
            raise NotAcknowledged(f"{reached} replicas have it, not {replicas}")

    def cut(self) -> None:
        """Its connections are the client's, and have timeouts of their own."""

    def close(self) -> None:
        """Its connections are the client's."""


class RedisSentinelSession(RedisSession):
    """A client with sentinels: where a connection broke, or led to a replica, it asks them again by itself."""

    def write_and_wait(self, key: str, number: int) -> None:
        replicas, milliseconds = self.target.settings.replicas, round(self.target.settings.deadline * 250)
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.set(key, str(number), ex=KEPT_SECONDS)
            pipeline.execute_command("WAIT", replicas, milliseconds)
            _set, reached = pipeline.execute()
        if reached < replicas:
            raise NotAcknowledged(f"{reached} replicas have it, not {replicas}")


class RedisSentinel(Redis):
    """One key per record, at the master that the sentinels name."""

    def open(self, timeout: float) -> Any:
        wanted = self.settings
        tls = {"ssl": True, "ssl_cert_reqs": "required", "ssl_ca_certs": wanted.ca_file} if wanted.ca_file else {}
        options = {
            "username": wanted.user or None,
            "password": wanted.password or None,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),  # an attempt is made once
            **tls,
        }
        found = socket.getaddrinfo(wanted.host, wanted.port, type=socket.SOCK_STREAM)
        sentinels = sorted({address[:2] for *_kind, address in found})
        return redis.sentinel.Sentinel(sentinels, sentinel_kwargs=options, **options).master_for(wanted.master_name)

    def connect(self) -> Session:
        super().connect()
        return RedisSentinelSession(self)

    def _found(self, connection: Any, series: str) -> list[int]:
        pattern = self.key(series, 0)[:-1]
        numbers = {int(bytes(key).rpartition(b":")[2]) for key in connection.scan_iter(_literal(pattern) + "*", 1000)}
        return sorted(number for number in numbers if number >= 0)


class Consul:
    """One key per record, made by check-and-set with index 0: it is only written if it isn't there."""

    series = ({"name": "check-and-set", "may_lose": False},)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.prefix = f"sutazai/failover/{settings.run}"

    def open(self, timeout: float) -> ConsulSession:
        return ConsulSession(self, timeout)

    def prepare(self) -> None:
        session = self.open(10)
        session.request("PUT", f"{self.prefix}/-1", b"-1")
        session.close()

    def connect(self) -> Session:
        return self.open(self.settings.deadline)

    def found(self) -> dict[str, list[int]]:
        session = self.open(10)
        # A consistent read: the leader asks the others whether it still leads.
        keys = session.request("GET", f"{self.prefix}/", query="keys&consistent")
        session.close()
        numbers = [int(key.rpartition("/")[2]) for key in keys]
        return {"check-and-set": [number for number in numbers if number >= 0]}

    def remove(self) -> None:
        session = self.open(10)
        session.request("DELETE", f"{self.prefix}/", query="recurse")
        session.close()


class ConsulSession:
    def __init__(self, target: Consul, timeout: float) -> None:
        wanted = target.settings
        self.target = target
        self.headers = {"X-Consul-Token": wanted.token} if wanted.token else {}
        address = urlsplit(wanted.host if "://" in wanted.host else f"http://{wanted.host}")
        host, port = address.hostname or "", wanted.port or address.port
        if address.scheme == "https":
            context = ssl.create_default_context(cafile=wanted.ca_file or None)
            self.connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=timeout, context=context
            )
        else:
            self.connection = http.client.HTTPConnection(host, port, timeout=timeout)

    def request(self, method: str, key: str, body: bytes | None = None, query: str = "") -> Any:
        path = f"/v1/kv/{quote(key)}" + (f"?{query}" if query else "")
        self.connection.request(method, path, body, self.headers)
        answer = self.connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        if answer.status != 200:
            raise NotAcknowledged(f"{answer.status} {text}".strip())
        return json.loads(text)

    def write(self, series: str, number: int) -> None:
        if self.request("PUT", f"{self.target.prefix}/{number}", str(number).encode(), "cas=0") is not True:
            raise NotAcknowledged("check-and-set found the key already there")

    def cut(self) -> None:
        if self.connection.sock is not None:
            cut_socket(self.connection.sock.fileno())

    def close(self) -> None:
        self.connection.close()
