"""What agents share, on Redis Cluster: the seed's key namespaces, updates that don't overwrite each other, and word of them.

A document is a hash with the fields `version`, `value` (JSON) and `writer`. Every update names the version that it is based on, so of two
that were based on the same one, the second is made anew on what the first wrote. `writer` makes a repeated command harmless: a client
whose answer was lost in a failover finds that its own update is there.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from sutazai_runtime.settings import RedisSettings, host_and_port, read_secret

T = TypeVar("T")
Value = dict[str, Any]

# How often an update is made anew because another client was faster.
ATTEMPTS = 50
CHANNEL = "updates:"

# Keys --------------------------------------------------------------------------------------------


def _key(kind: str, name: str, what: str) -> str:
    """The name in braces is the key's hash tag: all keys of one agent, session or model are in one slot, so on one node."""
    if not name or any(character in "{}" or character.isspace() for character in name):
        raise ValueError(f"{name!r} can't be the name of a {kind}: it has to have characters, but no braces or spaces")
    return f"{kind}:{{{name}}}:{what}"


def agent_state(agent_id: str) -> str:
    return _key("agent", agent_id, "state")


def session_data(session_id: str) -> str:
    return _key("session", session_id, "data")


def model_cache(model_name: str) -> str:
    return _key("model", model_name, "weights")


def metrics(service: str, metric_name: str) -> str:
    return _key("metrics", service, metric_name)


def task_answer(task_id: str) -> str:
    return _key("task", task_id, "answer")


# Seconds after which what nobody has written again is forgotten; None is never.
TTL_SECONDS: Mapping[str, int | None] = {
    "agent": None,
    "session": 86_400,
    "model": None,
    "metrics": 3_600,
    "task": 86_400,
}


def ttl_of(key: str) -> int | None:
    return TTL_SECONDS[key.split(":", 1)[0]]


# The client --------------------------------------------------------------------------------------


def connect(settings: RedisSettings) -> RedisCluster:
    """A client that outlives failovers: it asks again with growing pauses, and always knows the members that it was told."""
    setting = "SUTAZAI_REDIS_NODES"
    options: dict[str, Any] = {}
    if settings.tls:
        options |= {"ssl": True, "ssl_ca_certs": str(settings.ca_file)}
    if settings.password_file:
        options |= {
            "username": settings.username,
            "password": read_secret(settings.password_file, "SUTAZAI_REDIS_PASSWORD_FILE"),
        }
    return RedisCluster(
        startup_nodes=[ClusterNode(*host_and_port(node, setting)) for node in settings.nodes],  # type: ignore[no-untyped-call]  # redis-py has no types here
        # Otherwise the members of the moment replace the names that Consul answers for, and those may all be gone one day.
        dynamic_startup_nodes=False,
        require_full_coverage=False,
        retry=Retry(ExponentialWithJitterBackoff(base=0.1, cap=2.0), settings.retries),
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        decode_responses=True,
        **options,
    )


def again_after_a_move(client: RedisCluster, call: Callable[[], T]) -> T:
    """redis-py (8.1) meets a master that had no slots when it last looked with an AttributeError, before it has sent anything."""
    try:
        return call()
    except AttributeError as error:
        if "redis_connection" not in str(error):
            raise
        client.nodes_manager.initialize()
        return call()


# Documents ---------------------------------------------------------------------------------------


class Conflict(Exception):
    """Other clients were faster, again and again."""


@dataclass(frozen=True)
class Document:
    version: int
    value: Value


# 1: the version the update is based on; 2: value; 3: writer; 4: seconds to live, 0 is for ever; 5: channel.
# Answers the new version, or 0 when the document has another version by now.
_PUT = """
local found = redis.call('HMGET', KEYS[1], 'version', 'writer')
local version = tonumber(found[1] or '0')
if found[2] == ARGV[3] then return version end
if version ~= tonumber(ARGV[1]) then return 0 end
version = version + 1
redis.call('HSET', KEYS[1], 'version', version, 'value', ARGV[2], 'writer', ARGV[3])
if ARGV[4] == '0' then redis.call('PERSIST', KEYS[1]) else redis.call('EXPIRE', KEYS[1], ARGV[4]) end
redis.call('PUBLISH', ARGV[5], cjson.encode({version = version}))
return version
"""


class State:
    """Documents by key. Keys are made by the functions above."""

    def __init__(self, client: RedisCluster) -> None:
        self.client = client

    def read(self, key: str) -> Document | None:
        found = cast(
            "list[str | None]", again_after_a_move(self.client, lambda: self.client.hmget(key, ["version", "value"]))
        )
        version, value = found
        if version is None or value is None:
            return None
        return Document(int(version), json.loads(value))

    def put(self, key: str, value: Value, based_on: int, ttl_seconds: int | None = None) -> Document | None:
        """Write unless the document has another version than the one that this is based on (0: there is none); then None."""
        seconds = ttl_of(key) if ttl_seconds is None else ttl_seconds
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
        arguments = [str(based_on), text, uuid.uuid4().hex, str(seconds or 0), CHANNEL + key]
        version = cast(int, again_after_a_move(self.client, lambda: self.client.eval(_PUT, 1, key, *arguments)))
        return Document(version, value) if version else None

    def update(self, key: str, change: Callable[[Value], Value], ttl_seconds: int | None = None) -> Document:
        """What `change` makes of the value ({} if there is none). It may be called several times and mustn't do anything else."""
        for _ in range(ATTEMPTS):
            before = self.read(key) or Document(0, {})
            written = self.put(key, change(dict(before.value)), before.version, ttl_seconds)
            if written:
                return written
        raise Conflict(
            f"{key} was changed by others {ATTEMPTS} times while this client changed it: too many write it at once"
        )

    def delete(self, key: str) -> bool:
        return bool(again_after_a_move(self.client, lambda: self.client.delete(key)))

    def first(self, key: str, value: Value, ttl_seconds: int | None = None) -> Value:
        """What was written there first: this value, or an earlier one, which stays."""
        seconds = ttl_of(key) if ttl_seconds is None else ttl_seconds
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
        found = again_after_a_move(self.client, lambda: self.client.set(key, text, nx=True, get=True, ex=seconds))
        return cast(Value, json.loads(cast(str, found))) if found else value

    def first_of(self, key: str) -> Value | None:
        found = again_after_a_move(self.client, lambda: self.client.get(key))
        return cast(Value, json.loads(cast(str, found))) if found else None

    def first_of_all(self, keys: Mapping[str, str]) -> dict[str, Value]:
        """Those of many keys that are there, asked for in one round; the keys have names of the caller's."""

        def read() -> list[str | None]:
            with self.client.pipeline() as pipeline:  # type: ignore[no-untyped-call]  # redis-py has no types here
                for key in keys.values():
                    pipeline.get(key)
                return cast("list[str | None]", pipeline.execute())

        found = zip(keys, again_after_a_move(self.client, read))
        return {name: json.loads(text) for name, text in found if text is not None}

    def follow(self, key: str, seconds: float, poll_seconds: float = 1.0) -> Iterator[Document]:
        """The document as it is, then each newer one that is seen, for so many seconds. Versions only grow; some may be left out.

        Redis forgets what it publishes while a subscriber isn't there, so after each loss of the connection, and when nothing was heard
        for a while, the document is read.
        """
        deadline, seen = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            subscription = self.client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]  # redis-py has no types here
            try:
                subscription.subscribe(CHANNEL + key)
                # The answer to the subscription: only from here on nothing is missed.
                subscription.get_message(timeout=poll_seconds)
                while True:
                    found = self.read(key)
                    if found and found.version > seen:
                        seen = found.version
                        yield found
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return
                    subscription.get_message(timeout=min(poll_seconds, left))
            except (RedisConnectionError, RedisTimeoutError):
                time.sleep(min(0.2, max(deadline - time.monotonic(), 0)))
            finally:
                # Its node may be gone, and the subscription with it.
                with contextlib.suppress(RedisError):
                    subscription.close()
