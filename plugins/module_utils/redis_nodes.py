# Apache License 2.0 (see LICENSE)
"""Talking to each node of a Redis Cluster, and reading what it answers."""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Node
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import (
    Observation,
    flagged_slots,
    observation,
)

try:
    import redis
except ImportError:
    redis = None
    REDIS_IMPORT_ERROR = traceback.format_exc()
else:
    REDIS_IMPORT_ERROR = None


NODE_OPTIONS = {
    "name": {"type": "str", "required": True},
    "host": {"type": "str", "required": True},
    "port": {"type": "int", "default": 6379},
    "failure_domain": {"type": "str", "default": ""},
}


def argument_spec(**more: dict) -> dict:
    """The options of the fragment sutazai.platform.redis, and a module's own."""
    return {
        "nodes": {"type": "list", "elements": "dict", "required": True, "options": NODE_OPTIONS},
        "username": {"type": "str", "default": "default"},
        "password": {"type": "str", "default": "", "no_log": True},
        "tls": {"type": "bool", "default": True},
        "ca_file": {"type": "path"},
        "cert_file": {"type": "path"},
        "key_file": {"type": "path"},
        "connect_timeout_seconds": {"type": "float", "default": 3.0},
        **more,
    }


# A host that is gone for good is looked for this often; each time costs the whole connect_timeout_seconds.
ASK_DEAD_AGAIN_SECONDS = 10.0


class NodeError(Exception):
    """A node didn't answer (`gone`), or refused; the text says which and why."""

    def __init__(self, text: str, gone: bool = False) -> None:
        super().__init__(text)
        self.gone = gone


class Connections:
    """One client per node, opened when first needed. `nodes` are the members that stay, `leaving` those that go (removed_nodes)."""

    def __init__(self, parameters: dict) -> None:
        self.parameters = parameters
        self.nodes, self.leaving = (
            [
                Node(**{key: given[key] for key in ("name", "host", "port", "failure_domain")})
                for given in parameters.get(option) or []
            ]
            for option in ("nodes", "removed_nodes")
        )
        self.by_name = {node.name: node for node in (*self.nodes, *self.leaving)}
        self._clients: dict[tuple[str, float], object] = {}
        self._dead: dict[str, tuple[float, Observation]] = {}

    def client(self, name: str, patience_seconds: float = 0) -> object:
        if (name, patience_seconds) not in self._clients:
            node, wanted = self.by_name[name], self.parameters
            options = {
                "host": node.host,
                "port": node.port,
                "decode_responses": True,
                "encoding_errors": "surrogateescape",  # keys are bytes, not text
                "socket_timeout": patience_seconds or wanted["connect_timeout_seconds"],
                "socket_connect_timeout": wanted["connect_timeout_seconds"],
            }
            if wanted["password"]:
                options.update(username=wanted["username"], password=wanted["password"])
            if wanted["tls"]:
                options.update(
                    ssl=True,
                    ssl_cert_reqs="required",
                    ssl_check_hostname=True,
                    ssl_ca_certs=wanted["ca_file"],
                    ssl_certfile=wanted["cert_file"],
                    ssl_keyfile=wanted["key_file"],
                )
            client = redis.Redis(**options)
            client.response_callbacks.clear()  # plain replies, the same from every version of redis-py
            self._clients[name, patience_seconds] = client
        return self._clients[name, patience_seconds]

    def call(self, name: str, *command: object) -> object:
        """One command on one node, its plain reply."""
        try:
            return self.client(name).execute_command(*command)
        except (redis.RedisError, OSError) as error:
            raise self._error(name, command, error) from error

    def ask(self, name: str, commands: Sequence[tuple], patience_seconds: float = 0) -> list:
        """Several commands on one node in one go, their plain replies."""
        if not commands:
            return []
        try:
            pipeline = self.client(name, patience_seconds).pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            replies = pipeline.execute(raise_on_error=False)
        except (redis.RedisError, OSError) as error:
            raise self._error(name, commands[0], error) from error
        for command, reply in zip(commands, replies, strict=True):
            if isinstance(reply, Exception):
                raise self._error(name, command, reply) from reply
        return replies

    def _error(self, name: str, command: tuple, error: Exception) -> NodeError:
        words = " ".join(str(word) for word in command[:2])
        text = f"{name} ({self.by_name[name].address}): {words}: {str(error).strip() or type(error).__name__}"
        return NodeError(text, gone=isinstance(error, (redis.ConnectionError, redis.TimeoutError, OSError)))

    def every(self, ask: Callable[[str], object], names: Sequence[str] | None = None) -> list:
        """The answers of all nodes (or those named), asked at the same time, in their order."""
        names = list(self.by_name) if names is None else names
        with ThreadPoolExecutor(max_workers=min(16, len(names) or 1)) as pool:
            return list(pool.map(ask, names))

    def observe(self) -> dict[str, Observation]:
        """What every node says about itself and the others."""
        now = time.monotonic()
        dead = {name: one for name, (since, one) in self._dead.items() if now - since < ASK_DEAD_AGAIN_SECONDS}
        asked = [name for name in self.by_name if name not in dead]
        seen = {**dict(zip(asked, self.every(self._observe, asked), strict=True)), **dead}
        for node in self.leaving:
            if node.name in asked and seen[node.name].error:
                self._dead[node.name] = (time.monotonic(), seen[node.name])
        half = flagged_slots([one for one in seen.values() if not one.error])
        if half:
            seen = {one.name: one for one in self.every(lambda name: self._count_keys(seen[name], half))}
        return seen

    def _count_keys(self, one: Observation, slots: list[int]) -> Observation:
        """How many keys of half-moved slots it has."""
        if one.error or one.me.is_replica:
            return one
        try:
            counts = self.ask(one.name, [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots])
        except NodeError as error:
            return Observation(name=one.name, address=one.address, error=str(error))
        return dataclasses.replace(
            one, half_moved={slot: int(count) for slot, count in zip(slots, counts, strict=True) if int(count)}
        )

    def _observe(self, name: str) -> Observation:
        node = self.by_name[name]
        try:
            info = self.call(name, "INFO")
            if "cluster_enabled:1" not in info:
                return Observation(
                    name=name, address=node.address, error=f"{name} ({node.address}) runs without cluster mode."
                )
            return observation(
                node,
                self.call(name, "CLUSTER MYID"),
                self.call(name, "CLUSTER INFO"),
                self.call(name, "CLUSTER NODES"),
                info,
            )
        except NodeError as error:
            return Observation(name=name, address=node.address, error=str(error))


def settings(connections: Connections, name: str, wanted: list[str]) -> dict:
    """CONFIG GET of one node and its users, without secrets."""
    try:
        flat = connections.call(name, "CONFIG", "GET", *wanted)
        users = connections.call(name, "ACL", "LIST")
    except NodeError:
        return {"config": {}, "users": []}
    pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
    secret = ("pass", "auth")
    return {
        "config": {key: value for key, value in pairs if not any(word in key for word in secret)},
        "users": [" ".join(word for word in user.split() if not word.startswith("#")) for user in users],
    }


def missing_library() -> str:
    """What to say when redis-py isn't there."""
    return missing_required_lib("redis")
