# Apache License 2.0 (see LICENSE)
"""Whether a Swarm has room for a service, before it is touched. Pure: nothing here talks to an engine.

The scheduler's own rules: a node that isn't ready and active gets nothing, every constraint has to hold, and a reservation has to be free on
one node. All tasks of a service are of one size, so how many fit is what fits on each node, added up; no order of packing does better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

NANO = 1_000_000_000
#: Tasks in these states hold nothing any more.
ENDED = frozenset({"complete", "shutdown", "failed", "rejected", "remove", "orphaned"})
FIELDS = ("node.id", "node.hostname", "node.role", "node.platform.os", "node.platform.arch")
LABELS = ("node.labels.", "engine.labels.")
CONSTRAINT = re.compile(r"^\s*([A-Za-z_][\w.-]*)\s*(==|!=)\s*(\S.*?)\s*$")
# The scheduler takes both names of an architecture for the same.
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Node:
    """What is free for the service on a node: what its other tasks have reserved is taken off."""

    id: str
    hostname: str
    role: str
    accepts: bool  # ready and active
    nano_cpus: int
    memory_bytes: int
    labels: Mapping[str, str] = field(default_factory=dict)
    engine_labels: Mapping[str, str] = field(default_factory=dict)
    os: str = "linux"
    architecture: str = "amd64"


@dataclass(frozen=True)
class Resources:
    """0 is none: nothing reserved, or no limit."""

    nano_cpus: int = 0
    memory_bytes: int = 0


@dataclass(frozen=True)
class Demand:
    replicas: int
    reservation: Resources = Resources()
    limit: Resources = Resources()
    constraints: tuple[str, ...] = ()
    max_per_node: int = 0  # 0: no maximum
    maximum: int = 0  # the most replicas that are allowed at all; 0: no maximum
    extra: int = 0  # tasks that an update starts before it stops others


@dataclass(frozen=True)
class Settings:
    """What the values are called where they are set, for messages."""

    replicas: str = "replicas"
    maximum: str = "maximum_replicas"
    constraints: str = "constraints"
    reservation_cpus: str = "reservation_cpus"
    reservation_memory: str = "reservation_memory_bytes"
    limit_cpus: str = "limit_cpus"
    limit_memory: str = "limit_memory_bytes"
    max_per_node: str = "max_replicas_per_node"
    parallelism: str = "update_parallelism"


#: In the order of the fields.
NAMES = tuple(str(each.default) for each in fields(Settings))


@dataclass(frozen=True)
class Constraint:
    key: str
    equal: bool
    value: str


class WrongConstraint(Exception):
    """It can't be read. The message is for people."""


def parse_constraint(text: str) -> Constraint:
    found = CONSTRAINT.match(text)
    if not found:
        raise WrongConstraint(f"{text!r} isn't a constraint: write it as `node.role == worker`, with == or !=")
    key, operator, value = found.groups()
    if key not in FIELDS and not any(key.startswith(prefix) and key != prefix for prefix in LABELS):
        known = ", ".join((*FIELDS, *(f"{prefix}<name>" for prefix in LABELS)))
        raise WrongConstraint(f"{text!r} asks for {key}, which nodes don't have: use one of {known}")
    return Constraint(key, operator == "==", value)


def value_of(node: Node, key: str) -> str:
    """A label that a node doesn't have is empty: it is different from every value."""
    for prefix, labels in zip(LABELS, (node.labels, node.engine_labels), strict=True):
        if key.startswith(prefix):
            return labels.get(key.removeprefix(prefix), "")
    own = (node.id, node.hostname, node.role, node.os, node.architecture)
    return dict(zip(FIELDS, own, strict=True))[key]


def satisfies(node: Node, constraint: Constraint) -> bool:
    """As the scheduler compares: upper and lower case are the same."""
    found, wanted = value_of(node, constraint.key).lower(), constraint.value.lower()
    if constraint.key == "node.platform.arch":
        found, wanted = ARCHITECTURES.get(found, found), ARCHITECTURES.get(wanted, wanted)
    return (found == wanted) == constraint.equal


def fitting(node: Node, demand: Demand) -> int | None:
    """How many of its tasks the node can hold; None is any number."""
    each, found = demand.reservation, []
    if each.nano_cpus:
        found.append(max(0, node.nano_cpus) // each.nano_cpus)
    if each.memory_bytes:
        found.append(max(0, node.memory_bytes) // each.memory_bytes)
    if demand.max_per_node:
        found.append(demand.max_per_node)
    return min(found, default=None)


def problems(demand: Demand, nodes: Iterable[Node], names: Settings = Settings()) -> list[str]:
    """Everything for which the service couldn't be what it is to be: what, where it is set, what to do."""
    found = _sizes(demand, names)
    constraints = []
    for text in demand.constraints:
        try:
            constraints.append((text, parse_constraint(text)))
        except WrongConstraint as wrong:
            found.append(f"{names.constraints}: {wrong}")
    if len(constraints) < len(demand.constraints):
        return found
    return found + _places(demand, constraints, list(nodes), names)


def _sizes(demand: Demand, names: Settings) -> list[str]:
    found = []
    if demand.replicas < 0:
        found.append(f"{names.replicas} is {demand.replicas}: it has to be 0 or more")
    if demand.maximum and demand.replicas > demand.maximum:
        found.append(
            f"{names.replicas} is {demand.replicas}, and {names.maximum} allows {demand.maximum}: lower the one or raise the other"
        )
    sizes = (
        (names.limit_cpus, names.reservation_cpus, demand.limit.nano_cpus, demand.reservation.nano_cpus, cpus),
        (
            names.limit_memory,
            names.reservation_memory,
            demand.limit.memory_bytes,
            demand.reservation.memory_bytes,
            mebibytes,
        ),
    )
    for limit_name, reservation_name, limit, reservation, said in sizes:
        if 0 < limit < reservation:
            found.append(
                f"{limit_name} ({said(limit)}) is below {reservation_name} ({said(reservation)}): a task can't be promised more than it may use; "
                "raise the limit or lower the reservation"
            )
    return found


def _places(demand: Demand, constraints: list[tuple[str, Constraint]], nodes: list[Node], names: Settings) -> list[str]:
    places = nodes
    for text, constraint in constraints:
        left = [node for node in places if satisfies(node, constraint)]
        if not left:
            among = (
                "no node of the Swarm"
                if len(places) == len(nodes)
                else "none of the nodes that the other constraints leave"
            )
            return [
                f"{names.constraints}: {among} satisfies `{text}` ({constraint.key} is {_values(places, constraint.key)}): "
                "label a node (swarm_node_labels), put a host into the group that it is about, or take the constraint out"
            ]
        places = left
    ready = [node for node in places if node.accepts]
    if not ready:
        return [
            f"{', '.join(node.hostname for node in places) or 'The Swarm'}: none of the nodes that {names.constraints} allow is ready and active; "
            "bring one back, or set its availability to active"
        ]
    fits = {node.hostname: fitting(node, demand) for node in ready}
    counts = [count for count in fits.values() if count is not None]
    if len(counts) < len(ready):
        return []
    room = sum(counts)
    if room < demand.replicas:
        return [
            f"{names.replicas} is {demand.replicas}, but the Swarm has room for {room}: {_room(ready, fits, demand)}. {_remedy(demand, names)}"
        ]
    if room < demand.replicas + demand.extra:
        return [
            f"{names.replicas} is {demand.replicas}, and an update starts {demand.extra} more before it stops any ({names.parallelism}), but the "
            f"Swarm has room for {room}: {_room(ready, fits, demand)}. An update would wait for ever. {_remedy(demand, names)}, or let "
            "updates stop the old ones first"
        ]
    return []


def _values(nodes: list[Node], key: str) -> str:
    found = sorted({value_of(node, key) for node in nodes})
    shown = ", ".join(value or "not set" for value in found[:5]) or "unknown, there are no nodes"
    return shown + (f" and {len(found) - 5} others" if len(found) > 5 else "")


def _room(nodes: list[Node], fits: Mapping[str, int | None], demand: Demand) -> str:
    """The nodes with the least room first; a Swarm may have a thousand."""
    ordered = sorted(nodes, key=lambda node: (fits[node.hostname] or 0, node.hostname))
    said = [
        f"{node.hostname} {fits[node.hostname]} (free: {cpus(node.nano_cpus)}, {mebibytes(node.memory_bytes)})"
        for node in ordered[:5]
    ]
    more = f" and {len(ordered) - 5} other nodes" if len(ordered) > 5 else ""
    each = f"each reserves {cpus(demand.reservation.nano_cpus)} and {mebibytes(demand.reservation.memory_bytes)}"
    return f"{'; '.join(said)}{more}; {each}"


def _remedy(demand: Demand, names: Settings) -> str:
    reservations = [
        name
        for name, value in (
            (names.reservation_cpus, demand.reservation.nano_cpus),
            (names.reservation_memory, demand.reservation.memory_bytes),
        )
        if value
    ]
    others = [f"lower {' or '.join(reservations)}"] if reservations else []
    others += [f"raise {names.max_per_node} ({demand.max_per_node})"] if demand.max_per_node else []
    return f"Lower {names.replicas}, {', '.join(others)}, or add nodes"


def cpus(nano: int) -> str:
    return f"{nano / NANO:.4g} CPUs"


def mebibytes(number: int) -> str:
    return f"{number / 2**20:.0f} MiB"


def nodes_of(nodes: Iterable[Mapping[str, Any]], tasks: Iterable[Mapping[str, Any]], service_id: str) -> list[Node]:
    """From the engine's /nodes and /tasks. What the service's own tasks have reserved is free for it: they are what is replaced."""
    taken: dict[str, list[int]] = {}
    for task in tasks:
        if task.get("ServiceID") == service_id or (task.get("Status") or {}).get("State") in ENDED:
            continue
        reserved = ((task.get("Spec") or {}).get("Resources") or {}).get("Reservations") or {}
        sums = taken.setdefault(task.get("NodeID") or "", [0, 0])
        sums[0] += reserved.get("NanoCPUs") or 0
        sums[1] += reserved.get("MemoryBytes") or 0
    return [_node_of(answer, *taken.get(answer["ID"], [0, 0])) for answer in nodes]


def _node_of(answer: Mapping[str, Any], nano_cpus: int, memory_bytes: int) -> Node:
    spec, said = answer.get("Spec") or {}, answer.get("Description") or {}
    resources, platform = said.get("Resources") or {}, said.get("Platform") or {}
    return Node(
        id=answer["ID"],
        hostname=said.get("Hostname", ""),
        role=spec.get("Role", "worker"),
        accepts=spec.get("Availability") == "active" and (answer.get("Status") or {}).get("State") == "ready",
        nano_cpus=(resources.get("NanoCPUs") or 0) - nano_cpus,
        memory_bytes=(resources.get("MemoryBytes") or 0) - memory_bytes,
        labels=dict(spec.get("Labels") or {}),
        engine_labels=dict((said.get("Engine") or {}).get("Labels") or {}),
        os=platform.get("OS", "linux"),
        architecture=platform.get("Architecture", "amd64"),
    )
