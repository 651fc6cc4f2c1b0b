# Apache License 2.0 (see LICENSE)
"""Talking to each node of a Redis Cluster, and reading what it answers."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Node
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import Observation, observation

try:
    import redis
except ImportError:
    redis = None
    REDIS_IMPORT_ERROR = traceback.format_exc()
else:
    REDIS_IMPORT_ERROR = None


def argument_spec(**more: dict) -> dict:
    """The options of the fragment sutazai.platform.redis, and a module's own."""
    return {
        "nodes": {
            "type": "list",
            "elements": "dict",
            "required": True,
            "options": {
                "name": {"type": "str", "required": True},
                "host": {"type": "str", "required": True},
                "port": {"type": "int", "default": 6379},
                "failure_domain": {"type": "str", "default": ""},
            },
        },
        "username": {"type": "str", "default": "default"},
        "password": {"type": "str", "default": "", "no_log": True},
        "tls": {"type": "bool", "default": True},
        "ca_file": {"type": "path"},
        "cert_file": {"type": "path"},
        "key_file": {"type": "path"},
        "connect_timeout_seconds": {"type": "float", "default": 3.0},
        **more,
    }


class NodeError(Exception):
    """A node didn't answer, or refused; the text says which and why."""


class Connections:
    """One client per node, opened when first needed."""

    def __init__(self, parameters: dict) -> None:
        self.parameters = parameters
        self.nodes = [
            Node(**{key: given[key] for key in ("name", "host", "port", "failure_domain")})
            for given in parameters["nodes"]
        ]
        self.by_name = {node.name: node for node in self.nodes}
        self._clients: dict[str, object] = {}

    def client(self, name: str) -> object:
        if name not in self._clients:
            node, wanted = self.by_name[name], self.parameters
            options = {
                "host": node.host,
                "port": node.port,
                "decode_responses": True,
                "socket_timeout": wanted["connect_timeout_seconds"],
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
            self._clients[name] = client
        return self._clients[name]

    def call(self, name: str, *command: object) -> object:
        """One command on one node, its plain reply."""
        try:
            return self.client(name).execute_command(*command)
        except (redis.RedisError, OSError) as error:
            node = self.by_name[name]
            words = " ".join(str(word) for word in command[:2])
            raise NodeError(
                f"{name} ({node.address}): {words}: {str(error).strip() or type(error).__name__}"
            ) from error

    def every(self, ask: Callable[[str], object]) -> list:
        """The answers of all nodes, asked at the same time, in the order of the nodes."""
        with ThreadPoolExecutor(max_workers=min(16, len(self.nodes) or 1)) as pool:
            return list(pool.map(ask, [node.name for node in self.nodes]))

    def observe(self) -> dict[str, Observation]:
        """What every node says about itself and the others."""
        return {seen.name: seen for seen in self.every(self._observe)}

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


def missing_library() -> str:
    """What to say when redis-py isn't there."""
    return missing_required_lib("redis")
