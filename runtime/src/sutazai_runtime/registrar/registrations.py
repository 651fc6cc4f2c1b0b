"""From a host's containers to what Consul is to know of them. Nothing here asks anybody.

A container says by its labels what it is:

- `sutazai.service`: the name that others find it by
- `sutazai.port`: the container's port that is published, at any port of the host
- `sutazai.check-path`: asked by HTTP (default: /health); with `sutazai.check` = `grpc` gRPC's health service is asked
- `sutazai.tags`: separated by commas, such as `urlprefix-/v1/tasks` for Fabio

`sutazai.<name>.service`, `sutazai.<name>.port` and so on describe a second service of the same container.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PREFIX = "sutazai."
KEYS = ("service", "port", "tags", "check", "check-path")
CHECKS = ("http", "grpc")
#: Fabio and DNS follow within a second; a container that drains says so for longer than that.
CHECK_INTERVAL, CHECK_TIMEOUT = "1s", "2s"
#: Should this host's registrar be gone, too. Consul's least is a minute.
DEREGISTER_AFTER = "1m"
OWNER, DEFINITION, TOKEN = "registrar", "definition", "token"


@dataclass(frozen=True)
class Wrong:
    """A container that can't be registered, and why; for people."""

    container: str
    reason: str

    def __str__(self) -> str:
        return f"container {self.container[:12]}: {self.reason}"


Registration = dict[str, Any]


def groups_of(labels: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The services that the labels describe, by what stands between the prefix and the key; "" is the first."""
    result: dict[str, dict[str, str]] = {}
    for label, value in labels.items():
        group, _, key = label.removeprefix(PREFIX).rpartition(".")
        if label.startswith(PREFIX) and key in KEYS:
            result.setdefault(group, {})[key] = value.strip()
    return result


def public_port(container: Mapping[str, Any], private: str) -> int | None:
    """The host's port that leads to one of the container's."""
    for port in container.get("Ports") or ():
        if str(port.get("PrivatePort")) == private and port.get("Type") == "tcp" and port.get("PublicPort"):
            return int(port["PublicPort"])
    return None


def check_of(kind: str, address: str, port: int, path: str) -> dict[str, str]:
    host = f"[{address}]" if ":" in address else address
    check = {"GRPC": f"{host}:{port}"} if kind == "grpc" else {"HTTP": f"http://{host}:{port}{path}"}
    return {
        "Name": "answers",
        **check,
        "Interval": CHECK_INTERVAL,
        "Timeout": CHECK_TIMEOUT,
        "DeregisterCriticalServiceAfter": DEREGISTER_AFTER,
    }


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def registration(
    container: Mapping[str, Any], said: Mapping[str, str], address: str, node: str, token: str
) -> Registration | str:
    """One service of a container, or why there can't be one."""
    name, private, kind = said.get("service", ""), said.get("port", ""), said.get("check", "http")
    path = said.get("check-path", "/health")
    if not name:
        return "its labels describe a service without a name (sutazai.service)"
    if kind not in CHECKS:
        return f"{name} is to be checked by {kind!r} (sutazai.check): use one of {', '.join(CHECKS)}"
    if not path.startswith("/"):
        return f"{name} is to be checked at {path!r} (sutazai.check-path): begin it with a slash"
    port = public_port(container, private)
    if port is None:
        return (
            f"{name} is at port {private or '(none)'} of the container (sutazai.port), which the host doesn't publish"
        )
    labels = container.get("Labels") or {}
    meta = {OWNER: node, "container": container["Id"][:12]}
    if token:
        # The agent reports the service's health by the token that it was registered by, so another one means to register it again.
        meta[TOKEN] = digest(token)
    for key, label in (("swarm_service", "com.docker.swarm.service.name"), ("task", "com.docker.swarm.task.name")):
        if labels.get(label):
            meta[key] = labels[label]
    made: Registration = {
        "ID": f"{name}-{container['Id'][:12]}",
        "Name": name,
        "Address": address,
        "Port": port,
        "Tags": [tag.strip() for tag in said.get("tags", "").split(",") if tag.strip()],
        "Meta": meta,
        "Check": check_of(kind, address, port, path),
    }
    # Consul doesn't show a check as it was registered; whether it is this one is told by a digest.
    meta[DEFINITION] = digest(json.dumps(made, sort_keys=True))
    return made


def wanted(
    containers: Iterable[Mapping[str, Any]], address: str, node: str, token: str = ""
) -> tuple[dict[str, Registration], list[Wrong]]:
    """What Consul is to know, by id, and what it can't."""
    result: dict[str, Registration] = {}
    wrong = []
    for container in containers:
        for said in groups_of(container.get("Labels") or {}).values():
            made = registration(container, said, address, node, token)
            if isinstance(made, str):
                wrong.append(Wrong(container["Id"], made))
            else:
                result[made["ID"]] = made
    return result, wrong


@dataclass(frozen=True)
class Change:
    register: tuple[Registration, ...]
    deregister: tuple[str, ...]


def change(want: Mapping[str, Registration], known: Mapping[str, Mapping[str, Any]], node: str) -> Change:
    """From what the host's Consul agent knows. What another one has registered there is left alone."""
    own = {key: entry for key, entry in known.items() if (entry.get("Meta") or {}).get(OWNER) == node}
    new = [
        made
        for key, made in want.items()
        if key not in own or own[key]["Meta"].get(DEFINITION) != made["Meta"][DEFINITION]
    ]
    return Change(tuple(new), tuple(sorted(own.keys() - want.keys())))
