# Apache License 2.0 (see LICENSE)
"""Which Celery workers run on which host, and what can't work. Pure functions.

The rules about queues, priorities and routes are those of the runtime package (sutazai_runtime.tasks.routing), which refuses to start with
what breaks them; here they are said before any host is touched. tests/integration/test_celery_role.py holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

HIGHEST_PRIORITY = 10
MOST_PARTITIONS = 1000
PLACEHOLDER = "{partition}"
NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
# Goes into a command line and a unit's Environment=.
QUEUE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
POOL_KEYS = {
    "name",
    "queues",
    "partitions",
    "concurrency",
    "memory_max_bytes",
    "memory_per_child_bytes",
    "cpu_weight",
}


@dataclass(frozen=True)
class Finding:
    what: str
    where: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} ({self.where}) {self.remedy}"


@dataclass(frozen=True)
class Worker:
    """One systemd instance."""

    name: str
    queues: tuple[str, ...]
    concurrency: int
    memory_max_bytes: int
    memory_per_child_bytes: int
    cpu_weight: int


class CannotPlan(Exception):
    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = tuple(findings)


def partition_names(settings: Mapping[str, Any]) -> list[str]:
    """None for a number that is refused: there would be no end of them."""
    pattern, count = str(settings.get("partition_pattern", "")), _whole(settings.get("partitions")) or 0
    return [pattern.replace(PLACEHOLDER, str(number)) for number in range(count if count <= MOST_PARTITIONS else 0)]


def _whole(value: Any) -> int | None:
    """A whole number; text of one too, as templates make it."""
    if isinstance(value, bool):
        return None
    try:
        return int(value) if float(value) == int(float(value)) else None
    except (TypeError, ValueError, OverflowError):
        return None


def examine(settings: Mapping[str, Any]) -> list[Finding]:
    """Everything that is wrong."""
    findings, priorities = _queues(settings)
    findings += _routes(settings, priorities)
    findings += _pools(settings, priorities)
    return findings


def _queues(settings: Mapping[str, Any]) -> tuple[list[Finding], dict[str, int | None]]:
    """The declared queues' priorities, partitions included."""
    findings: list[Finding] = []
    priorities: dict[str, int | None] = {}
    wanted = []
    for number, entry in enumerate(_list(settings.get("queues"))):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if not isinstance(name, str) or not QUEUE.match(name) or not entry.get("routing_key"):
            findings.append(
                Finding(
                    f"Queue {number + 1} has no usable name or no routing_key.",
                    f"celery_queues[{number}]",
                    "Write {name: inference, routing_key: ai.inference, priority: 10}.",
                )
            )
            continue
        wanted.append((name, entry.get("priority"), f"celery_queues[{name}]"))
    if not wanted:
        findings.append(Finding("No queue is declared.", "celery_queues", "List those of rabbitmq_topology."))
    partitions = _whole(settings.get("partitions"))
    if partitions is None or not 0 <= partitions <= MOST_PARTITIONS:
        findings.append(
            Finding(
                f"celery_partitions is {settings.get('partitions')!r}.",
                "celery_partitions",
                f"Use 0 to {MOST_PARTITIONS}.",
            )
        )
    elif partitions and PLACEHOLDER not in str(settings.get("partition_pattern", "")):
        findings.append(
            Finding(
                f"celery_partition_pattern is {settings.get('partition_pattern')!r}: all partitions would have one name.",
                "celery_partition_pattern",
                f"Put {PLACEHOLDER} into it, as routing_key_pattern of rabbitmq_topology has it.",
            )
        )
    elif partitions:
        names = partition_names(settings)
        wanted += [(name, settings.get("partition_priority"), "celery_partition_priority") for name in names]
    for name, priority, where in wanted:
        if name in priorities:
            findings.append(Finding(f"The queue {name} is declared twice.", where, "Keep one of them."))
        value = _whole(priority)
        if value is None or not 0 <= value <= HIGHEST_PRIORITY:
            finding = Finding(
                f"The priority of the queue {name} is {priority!r}, out of range.",
                where,
                f"It goes from 0 to {HIGHEST_PRIORITY}.",
            )
            if where != "celery_partition_priority" or not any(known.where == where for known in findings):
                findings.append(finding)
        priorities[name] = value
    return findings, priorities


def _routes(settings: Mapping[str, Any], priorities: Mapping[str, Any]) -> list[Finding]:
    routes = settings.get("routes")
    if not isinstance(routes, Mapping) or not routes:
        return [
            Finding(
                "No task has a route.",
                "celery_routes",
                "Write a pattern of tasks' names and a queue: {ai.inference.*: inference}.",
            )
        ]
    return [
        Finding(
            f"Tasks {pattern} are routed to the queue {queue}, which isn't declared.",
            f"celery_routes[{pattern}]",
            f"Route them to one of {_some(priorities)}, or declare it in celery_queues and rabbitmq_topology.",
        )
        for pattern, queue in routes.items()
        if str(queue) not in priorities
    ]


def _pools(settings: Mapping[str, Any], priorities: Mapping[str, int | None]) -> list[Finding]:
    findings: list[Finding] = []
    owners: dict[str, str] = {}
    names: set[str] = set()
    partitions = partition_names(settings)
    for number, pool in enumerate(_list(settings.get("pools"))):
        where = f"celery_pools[{pool.get('name', number) if isinstance(pool, Mapping) else number}]"
        if not isinstance(pool, Mapping) or not NAME.match(str(pool.get("name", ""))):
            findings.append(
                Finding(
                    f"Pool {number + 1} has no usable name.",
                    where,
                    "Use lower-case letters, digits and -: it becomes a unit's name.",
                )
            )
            continue
        name = str(pool["name"])
        made = [f"{name}-{index}" for index in range(len(partitions))] if pool.get("partitions") else [name]
        if names & set(made):
            findings.append(
                Finding(f"The pool {name} would have a worker's name that is taken.", where, "Give it another name.")
            )
        names |= set(made)
        unknown = sorted(set(pool) - POOL_KEYS)
        if unknown:
            findings.append(
                Finding(
                    f"The pool {name} has {', '.join(unknown)}, which is unknown.",
                    where,
                    f"Known are {', '.join(sorted(POOL_KEYS))}.",
                )
            )
        if bool(pool.get("partitions")) == bool(pool.get("queues")):
            findings.append(
                Finding(
                    f"The pool {name} has no queues, or both queues and partitions.", where, "Give it one of the two."
                )
            )
            continue
        queues = partitions if pool.get("partitions") else [str(queue) for queue in _list(pool.get("queues"))]
        for queue in queues:
            if queue not in priorities:
                findings.append(
                    Finding(
                        f"The pool {name} works on the queue {queue}, which isn't declared.",
                        where,
                        f"Use one of {_some(priorities)}.",
                    )
                )
            elif queue in owners:
                findings.append(
                    Finding(
                        f"The queue {queue} is in the pools {owners[queue]} and {name}.",
                        where,
                        "Keep it in one: a second pool would spend its processes on another priority.",
                    )
                )
            owners.setdefault(queue, name)
        mixed = sorted({priorities[queue] for queue in queues if priorities.get(queue) is not None}, key=int)
        if len(mixed) > 1:
            findings.append(
                Finding(
                    f"The pool {name} has queues of the priorities {', '.join(map(str, mixed))}.",
                    where,
                    "Make a pool for each priority: long tasks of the lower one would hold up the higher one.",
                )
            )
        findings += _resources(pool, name, where)
    for queue in priorities:
        if queue not in owners and queue not in partitions:
            findings.append(
                Finding(
                    f"No pool works on the queue {queue}.", "celery_pools", "Add it to one, or its tasks wait forever."
                )
            )
    if partitions and not any(queue in owners for queue in partitions):
        findings.append(
            Finding(
                f"No pool works on the {len(partitions)} partitions.",
                "celery_pools",
                "Add {name: partition, partitions: true}.",
            )
        )
    return findings


def _resources(pool: Mapping[str, Any], name: str, where: str) -> list[Finding]:
    findings = []
    concurrency = _whole(pool.get("concurrency", 1))
    if concurrency is None or concurrency < 1:
        findings.append(
            Finding(
                f"The concurrency of the pool {name} is {pool.get('concurrency')!r}.", where, "Use 1 or more processes."
            )
        )
    elif pool.get("partitions") and concurrency != 1:
        findings.append(
            Finding(
                f"The pool {name} has {concurrency} processes for each partition.",
                where,
                "Use 1: with more, tasks overtake each other.",
            )
        )
    limits = {}
    for key, least, most in (
        ("memory_max_bytes", 0, None),
        ("memory_per_child_bytes", 0, None),
        ("cpu_weight", 1, 10000),
    ):
        value = _whole(pool.get(key, least))
        if value is None or value < least or (most is not None and value > most):
            findings.append(
                Finding(
                    f"{key} of the pool {name} is {pool.get(key)!r}.",
                    where,
                    f"Use a whole number from {least}{f' to {most}' if most else ''}.",
                )
            )
        limits[key] = value or 0
    room, child = limits["memory_max_bytes"], limits["memory_per_child_bytes"]
    if room and child and concurrency and room <= child * concurrency:
        findings.append(
            Finding(
                f"The pool {name} may use {room} bytes, but its {concurrency} processes are only replaced at {child} bytes each.",
                where,
                "Raise memory_max_bytes above concurrency x memory_per_child_bytes: the kernel would kill them before.",
            )
        )
    return findings


def plan(settings: Mapping[str, Any], host: str) -> list[Worker]:
    """This host's workers. A partition has a few hosts; the broker lets one of them at a time work on it, in order."""
    findings = examine(settings)
    members = [str(member) for member in _list(settings.get("members"))]
    copies = _whole(settings.get("partition_copies", 2)) or 0
    if host not in members:
        findings.append(
            Finding(
                f"{host} is none of the workers' hosts.",
                "celery_members",
                "Add it, or apply the role to its members only.",
            )
        )
    if copies < 1:
        findings.append(
            Finding(
                f"celery_partition_copies is {settings.get('partition_copies')!r}.",
                "celery_partition_copies",
                "Use 1 or more; 2 outlive a host.",
            )
        )
    if findings:
        raise CannotPlan(findings)
    workers = []
    for pool in settings["pools"]:
        name = str(pool["name"])
        if not pool.get("partitions"):
            workers.append(_worker(pool, name, tuple(map(str, pool["queues"]))))
            continue
        for number, queue in enumerate(partition_names(settings)):
            if host in holders(members, number, copies):
                workers.append(_worker(pool, f"{name}-{number}", (queue,)))
    return workers


def holders(members: Sequence[str], number: int, copies: int) -> list[str]:
    """Neighbours in the list, so that each host has as many."""
    return [members[(number + step) % len(members)] for step in range(min(copies, len(members)))]


def _worker(pool: Mapping[str, Any], name: str, queues: tuple[str, ...]) -> Worker:
    numbers = {key: int(pool.get(key, 0)) for key in ("memory_max_bytes", "memory_per_child_bytes")}
    return Worker(name, queues, int(pool.get("concurrency", 1)), cpu_weight=int(pool.get("cpu_weight", 100)), **numbers)


def as_mappings(workers: Sequence[Worker]) -> list[dict[str, Any]]:
    return [{**asdict(worker), "queues": list(worker.queues)} for worker in workers]


def undeclared(settings: Mapping[str, Any], topology: Any) -> list[Finding]:
    """What the workers expect and rabbitmq_topology doesn't declare, or otherwise."""
    if not isinstance(topology, Mapping):
        return []
    findings = []
    declared = {
        str(queue.get("name")): queue
        for queue in _list(topology.get("queues"))
        if isinstance(queue, Mapping) and queue.get("state") != "absent"
    }
    for entry in _list(settings.get("queues")):
        if not isinstance(entry, Mapping):
            continue
        queue = declared.get(str(entry.get("name")))
        where = f"celery_queues[{entry.get('name')}]"
        if queue is None:
            findings.append(
                Finding(
                    f"The queue {entry.get('name')} isn't declared by rabbitmq_topology.",
                    where,
                    f"It declares {_some(declared)}.",
                )
            )
            continue
        keys = {
            str(binding.get("routing_key")) for binding in _list(queue.get("bindings")) if isinstance(binding, Mapping)
        }
        if str(entry.get("routing_key")) not in keys:
            findings.append(
                Finding(
                    f"No binding of the queue {entry.get('name')} has the routing key {entry.get('routing_key')}.",
                    where,
                    f"rabbitmq_topology binds it with {_some(keys)}.",
                )
            )
    names = set()
    for entry in _list(topology.get("partitions")):
        if isinstance(entry, Mapping):
            pattern = str(entry.get("routing_key_pattern") or f"{entry.get('name')}.{PLACEHOLDER}")
            names |= {
                pattern.replace(PLACEHOLDER, str(number)) for number in range(_whole(entry.get("partitions")) or 0)
            }
    lacking = [name for name in partition_names(settings) if name not in names]
    if lacking:
        findings.append(
            Finding(
                f"The partitions {_some(lacking)} aren't declared by rabbitmq_topology.",
                "celery_partitions, celery_partition_pattern",
                f"It declares {_some(sorted(names))}.",
            )
        )
    return findings


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _some(names: Any, most: int = 6) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "") or "none"
