# Apache License 2.0 (see LICENSE)
"""Exchanges, queues and bindings: what is declared, what differs, and which requests declare it. Pure functions."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import path
from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_objects import Change, plan_policies

HASH = "x-consistent-hash"
# One bucket of the ring for each partition: a number, as text.
WEIGHT = "1"
PRIORITY_ARGUMENT, SINGLE_CONSUMER, QUEUE_TYPE = "x-max-priority", "x-single-active-consumer", "x-queue-type"
# The policies that are made here. Below those that people make, whose priority is 0 unless they say otherwise.
POLICIES = ("sutazai-quorum-queues", "sutazai-classic-queues", "sutazai-dead-letters")
POLICY_PRIORITY = -10
# Looking at a dead letter and putting it back counts as a delivery; it must not be what throws it away.
DEAD_LETTER_DELIVERY_LIMIT = 1_000_000
MOST_SHOWN = 10

Name = tuple[str, str]


@dataclass(frozen=True)
class Exchange:
    vhost: str
    name: str
    type: str = "topic"
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Queue:
    vhost: str
    name: str
    type: str = "quorum"
    arguments: dict[str, Any] = field(default_factory=dict)
    priority: int | None = None


@dataclass(frozen=True)
class Binding:
    vhost: str
    source: str
    destination: str
    routing_key: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)

    def says(self) -> str:
        return f"{self.source} to {self.destination} with the routing key {self.routing_key or 'empty'}"


@dataclass
class Topology:
    """What is declared. The order of the bindings is the order in which they are made."""

    exchanges: dict[Name, Exchange] = field(default_factory=dict)
    queues: dict[Name, Queue] = field(default_factory=dict)
    bindings: list[Binding] = field(default_factory=list)
    absent_exchanges: list[Name] = field(default_factory=list)
    absent_queues: list[Name] = field(default_factory=list)
    policies: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Plan:
    """The requests to make; why nothing is requested at all; what is there without being declared."""

    changes: list[Change] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    undeclared: list[str] = field(default_factory=list)


class CannotDeclare(Exception):
    """The declaration contradicts itself."""


# What is declared --------------------------------------------------------------------------------


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:3])


def partition_names(entry: dict[str, Any]) -> list[str]:
    """The queues of a partitioned exchange, in the order of their numbers."""
    pattern = entry.get("routing_key_pattern") or f"{entry['name']}.{{partition}}"
    if "{partition}" not in pattern:
        raise CannotDeclare(
            f"the routing_key_pattern {pattern!r} of the partitioned exchange {entry['name']} lacks {{partition}}: "
            "all its queues would have the same name"
        )
    return [pattern.replace("{partition}", str(number)) for number in range(entry["partitions"])]


def declared(wanted: dict[str, Any], version: tuple[int, ...]) -> Topology:
    """The module's options as objects. Raises CannotDeclare when they contradict each other."""
    topology, problems = Topology(), []
    default_type = "classic" if wanted["mirrored"] else "quorum"
    if wanted["mirrored"] and version >= (4,):
        raise CannotDeclare(
            f"mirrored classic queues are asked for, which RabbitMQ {'.'.join(map(str, version))} doesn't have: they were removed "
            "in 4.0. Set rabbitmq_mirrored_queues to false; quorum queues have their copies anyway"
        )
    highest = max((queue["priority"] or 0 for queue in wanted["queues"]), default=0)

    def add_queue(queue: Queue) -> None:
        if (queue.vhost, queue.name) in topology.queues:
            problems.append(f"the queue {queue.name} of {queue.vhost} is declared twice")
        topology.queues[queue.vhost, queue.name] = queue

    def add_exchange(exchange: Exchange) -> None:
        if (exchange.vhost, exchange.name) in topology.exchanges:
            problems.append(f"the exchange {exchange.name} of {exchange.vhost} is declared twice")
        topology.exchanges[exchange.vhost, exchange.name] = exchange

    for entry in wanted["exchanges"]:
        if entry["state"] == "absent":
            topology.absent_exchanges.append((entry["vhost"], entry["name"]))
        else:
            add_exchange(Exchange(entry["vhost"], entry["name"], entry["type"], entry["arguments"] or {}))
    for entry in wanted["queues"]:
        if entry["state"] == "absent":
            topology.absent_queues.append((entry["vhost"], entry["name"]))
            continue
        kind = entry["type"] or default_type
        arguments = dict(entry["arguments"] or {})
        if entry["single_active_consumer"]:
            arguments[SINGLE_CONSUMER] = True
        if kind == "classic" and highest:
            arguments.setdefault(PRIORITY_ARGUMENT, highest)
        add_queue(Queue(entry["vhost"], entry["name"], kind, arguments, entry["priority"]))
        topology.bindings += [
            Binding(
                entry["vhost"],
                binding["exchange"],
                entry["name"],
                binding["routing_key"] or "",
                binding["arguments"] or {},
            )
            for binding in entry["bindings"]
        ]
    for entry in wanted["partitions"]:
        vhost, name = entry["vhost"], entry["name"]
        add_exchange(Exchange(vhost, name, HASH, {"hash-header": entry["partition_by"]}))
        for queue in partition_names(entry):
            add_queue(Queue(vhost, queue, default_type, {SINGLE_CONSUMER: True}))
            topology.bindings.append(Binding(vhost, name, queue, WEIGHT))
            if entry["exchange"]:
                topology.bindings.append(Binding(vhost, entry["exchange"], queue, queue))
    if wanted["dead_letters"]:
        for vhost in dict.fromkeys([*wanted["vhosts"], *(vhost for vhost, _queue in topology.queues)]):
            add_exchange(Exchange(vhost, wanted["dead_letters"], "fanout"))
            add_queue(Queue(vhost, wanted["dead_letters"], default_type))
            topology.bindings.append(Binding(vhost, wanted["dead_letters"], wanted["dead_letters"]))
    problems += [
        f"the queue {binding.destination} of {binding.vhost} is bound to {binding.source}, which isn't declared"
        for binding in topology.bindings
        if (binding.vhost, binding.source) not in topology.exchanges and not binding.source.startswith("amq.")
    ]
    problems += [
        f"{'/'.join(name)} is declared both present and absent"
        for name in (
            *(name for name in topology.absent_queues if name in topology.queues),
            *(name for name in topology.absent_exchanges if name in topology.exchanges),
        )
    ]
    if problems:
        raise CannotDeclare(f"rabbitmq_topology contradicts itself: {'; '.join(problems)}")
    topology.policies = policies(topology, wanted, version)
    return topology


def policies(topology: Topology, wanted: dict[str, Any], version: tuple[int, ...]) -> list[dict[str, Any]]:
    """Dead-letter exchange, delivery limit and mirroring: by policy, so that they can be changed, and that clients that declare
    their queues themselves, as Celery does, needn't repeat them.

    Only one policy applies to a queue. Which queues one is for can be said by type from 3.12 on; before, by name.
    """
    letters, by_type = wanted["dead_letters"], version >= (3, 12)
    made = []

    def policy(name: str, vhost: str, apply_to: str, pattern: str, definition: dict[str, Any]) -> None:
        made.append(
            {
                "name": name,
                "vhost": vhost,
                "pattern": pattern,
                "apply_to": apply_to if by_type else "queues",
                "priority": POLICY_PRIORITY,
                "definition": definition,
                "state": "present",
            }
        )

    for vhost in dict.fromkeys([*wanted["vhosts"], *(vhost for vhost, _queue in topology.queues)]):
        names: dict[str, list[str]] = defaultdict(list)
        for queue in topology.queues.values():
            if queue.vhost == vhost and queue.name != letters:
                names[queue.type].append(queue.name)
        dead_letters = {"dead-letter-exchange": letters} if letters else {}
        mirroring = (
            {"ha-mode": "exactly", "ha-params": wanted["group_size"], "ha-sync-mode": "automatic"}
            if wanted["mirrored"]
            else {}
        )
        if by_type or names["quorum"]:
            all_but = f"^(?!{re.escape(letters)}$)" if letters else ".*"
            pattern = all_but if by_type else exactly(names["quorum"])
            policy(
                POLICIES[0],
                vhost,
                "quorum_queues",
                pattern,
                {"delivery-limit": wanted["delivery_limit"], **dead_letters},
            )
        if names["classic"] and (dead_letters or mirroring):
            policy(POLICIES[1], vhost, "classic_queues", exactly(names["classic"]), {**dead_letters, **mirroring})
        if letters and wanted["mirrored"]:
            policy(POLICIES[2], vhost, "classic_queues", exactly([letters]), mirroring)
        elif letters:
            limit = {"delivery-limit": max(DEAD_LETTER_DELIVERY_LIMIT, wanted["delivery_limit"])}
            policy(POLICIES[2], vhost, "quorum_queues", exactly([letters]), limit)
    return made


def exactly(names: list[str]) -> str:
    """A regular expression that matches these names and no others."""
    return f"^({'|'.join(re.escape(name) for name in sorted(names))})$"


def message_priority(queue: Queue, version: tuple[int, ...]) -> dict[str, Any]:
    """What a queue's priority means to the version that there is: the priority that its messages are to be published with.

    A broker has no priorities between queues: whoever consumes decides that. Within a queue it depends on the type.
    """
    if queue.type == "classic" and queue.arguments.get(PRIORITY_ARGUMENT):
        levels = queue.arguments[PRIORITY_ARGUMENT] + 1
    elif queue.type == "quorum" and version >= (4, 3):
        levels = 32
    elif queue.type == "quorum" and version >= (4,):
        levels = 2  # up to 4, and above
    else:
        levels = 1
    return {"priority": queue.priority, "levels": levels, "publish_with": queue.priority if levels > 1 else None}


# What differs ------------------------------------------------------------------------------------


def plan(live: dict[str, list[dict[str, Any]]], topology: Topology, ignore: list[str]) -> Plan:
    """The requests that declare what is missing, in an order in which each can succeed."""
    found = Plan()
    exchanges = {(each["vhost"], each["name"]): each for each in live["exchanges"]}
    queues = {(each["vhost"], each["name"]): each for each in live["queues"]}
    found.conflicts += exchange_conflicts(exchanges, topology)
    found.conflicts += queue_conflicts(queues, topology)
    found.conflicts += shadowed(queues, live["policies"], topology)
    missing = [binding for binding in topology.bindings if not any(same(each, binding) for each in live["bindings"])]
    found.conflicts += hash_conflicts(live["bindings"], queues, topology, missing)
    found.changes += [
        Change(
            f"make the {each.type} exchange {each.name} of {each.vhost}",
            "PUT",
            path("exchanges", *name),
            {
                "type": each.type,
                "durable": True,
                "auto_delete": False,
                "internal": False,
                "arguments": each.arguments,
            },
        )
        for name, each in topology.exchanges.items()
        if name not in exchanges
    ]
    found.changes += [
        Change(
            f"make the {each.type} queue {each.name} of {each.vhost}",
            "PUT",
            path("queues", *name),
            {"durable": True, "auto_delete": False, "arguments": {QUEUE_TYPE: each.type, **each.arguments}},
        )
        for name, each in topology.queues.items()
        if name not in queues
    ]
    found.changes += [bind(binding) for binding in missing]
    # After the exchange that they name: what is dead-lettered to nowhere is lost.
    found.changes += plan_policies(live["policies"], topology.policies)
    removals, refused = plan_removals(live, exchanges, queues, topology)
    found.changes += removals
    found.conflicts += refused
    found.undeclared = undeclared(live, topology, ignore)
    return found


def bind(binding: Binding) -> Change:
    return Change(
        f"bind {binding.says()} in {binding.vhost}",
        "POST",
        path("bindings", binding.vhost, "e", binding.source, "q", binding.destination),
        {"routing_key": binding.routing_key, "arguments": binding.arguments},
    )


def same(live: dict[str, Any], binding: Binding) -> bool:
    return (
        live["destination_type"] == "queue"
        and (live["vhost"], live["source"], live["destination"])
        == (
            binding.vhost,
            binding.source,
            binding.destination,
        )
        and live["routing_key"] == binding.routing_key
        and (live.get("arguments") or {}) == binding.arguments
    )


def queue_type(queue: dict[str, Any]) -> str:
    return queue.get("type") or (queue.get("arguments") or {}).get(QUEUE_TYPE) or "classic"


def arguments_of(queue: dict[str, Any]) -> dict[str, Any]:
    """A queue's arguments without its type, which is compared by itself."""
    return {key: value for key, value in (queue.get("arguments") or {}).items() if key != QUEUE_TYPE}


def differing(live: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{key} is {live.get(key, 'not set')} instead of {wanted.get(key, 'not set')}"
        for key in sorted({*live, *wanted})
        if live.get(key) != wanted.get(key)
    ]


def queue_conflicts(live: dict[Name, dict[str, Any]], topology: Topology) -> list[str]:
    conflicts = []
    for name, queue in topology.queues.items():
        there = live.get(name)
        if there is None:
            continue
        differences = []
        if queue_type(there) != queue.type:
            differences.append(f"its type is {queue_type(there)} instead of {queue.type}")
        differences += differing(arguments_of(there), queue.arguments)
        differences += [
            f"it is {word}"
            for word, is_so in (
                ("transient", not there.get("durable", True)),
                ("auto-delete", there.get("auto_delete")),
                ("exclusive", there.get("exclusive")),
            )
            if is_so
        ]
        if differences:
            conflicts.append(
                f"the queue {queue.name} of {queue.vhost} exists, but {', '.join(differences)}. That can't be changed in place, and it holds "
                f"{_messages(there)}. To migrate: declare a queue of another name in rabbitmq_topology with the same bindings, move the messages "
                f"(`rabbitmqctl set_parameter shovel` with src-delete-after=queue-length, plugin rabbitmq_shovel) and the consumers over; or "
                f"stop the publishers, let the consumers empty it, declare it with state: absent, run, and declare it again"
            )
    return conflicts


def exchange_conflicts(live: dict[Name, dict[str, Any]], topology: Topology) -> list[str]:
    conflicts = []
    for name, exchange in topology.exchanges.items():
        there = live.get(name)
        if there is None:
            continue
        differences = []
        if there["type"] != exchange.type:
            differences.append(f"its type is {there['type']} instead of {exchange.type}")
        differences += differing(there.get("arguments") or {}, exchange.arguments)
        differences += [
            f"it is {word}"
            for word, is_so in (
                ("transient", not there.get("durable", True)),
                ("auto-delete", there.get("auto_delete")),
                ("internal", there.get("internal")),
            )
            if is_so
        ]
        if differences:
            conflicts.append(
                f"the exchange {exchange.name} of {exchange.vhost} exists, but {', '.join(differences)}. That can't be changed in place. To "
                "migrate: declare an exchange of another name in rabbitmq_topology, bind the queues to both, move the publishers over; then "
                "declare the old one with state: absent. Messages stay where they are: in the queues"
            )
    return conflicts


def hash_conflicts(
    live: list[dict[str, Any]],
    queues: dict[Name, dict[str, Any]],
    topology: Topology,
    missing: list[Binding],
) -> list[str]:
    """A key's queue, and so the order of its messages, holds only while a hash exchange's bindings stay as they are."""
    conflicts = []
    for (vhost, name), exchange in topology.exchanges.items():
        if exchange.type != HASH:
            continue
        wanted = [binding for binding in topology.bindings if (binding.vhost, binding.source) == (vhost, name)]
        bound = [each for each in live if (each["vhost"], each["source"]) == (vhost, name)]
        strange = [each for each in bound if not any(same(each, binding) for binding in wanted)]
        if strange:
            shown = ", ".join(f"{each['destination']} (weight {each['routing_key']})" for each in strange[:MOST_SHOWN])
            conflicts.append(
                f"the hash exchange {name} of {vhost} has bindings that aren't declared: {shown}. Each takes a share of the keys away. Remove "
                "them when these queues are empty, or declare the number of partitions that is there"
            )
        waiting = sorted(
            binding.destination
            for binding in wanted
            if (queues.get((vhost, binding.destination)) or {}).get("messages")
        )
        if bound and waiting and any((binding.vhost, binding.source) == (vhost, name) for binding in missing):
            conflicts.append(
                f"the hash exchange {name} of {vhost} would get further bindings, which sends many keys to other queues while messages still "
                f"wait in {', '.join(waiting[:MOST_SHOWN])}: a key's messages would overtake each other. Stop the publishers, let the consumers "
                "empty these queues, and run again"
            )
    return conflicts


def shadowed(live: dict[Name, dict[str, Any]], policies_there: list[dict[str, Any]], topology: Topology) -> list[str]:
    """Queues to which another policy applies, and that so have no dead-letter exchange."""
    definitions = {(policy["vhost"], policy["name"]): policy["definition"] for policy in policies_there}
    own = {(policy["vhost"], policy["name"]): policy for policy in topology.policies}
    promised = {vhost for (vhost, _pattern), policy in own.items() if "dead-letter-exchange" in policy["definition"]}
    conflicts: dict[Name, list[str]] = defaultdict(list)
    for (vhost, name), queue in topology.queues.items():
        applied = (vhost, (live.get((vhost, name)) or {}).get("policy") or "")
        if vhost not in promised or applied in own or applied not in definitions:
            continue
        if "dead-letter-exchange" not in definitions[applied] and "x-dead-letter-exchange" not in queue.arguments:
            conflicts[applied].append(name)
    return [
        f"the policy {policy} of {vhost} applies to {', '.join(names[:MOST_SHOWN])} instead of those made here, because only one can, and it "
        "sets no dead-letter-exchange: messages that fail would be thrown away. Add dead-letter-exchange (and delivery-limit) to its "
        "definition in rabbitmq_policies, or narrow its pattern"
        for (vhost, policy), names in conflicts.items()
    ]


def plan_removals(
    live: dict[str, list[dict[str, Any]]],
    exchanges: dict[Name, dict[str, Any]],
    queues: dict[Name, dict[str, Any]],
    topology: Topology,
) -> tuple[list[Change], list[str]]:
    """What is declared absent: only if it is empty and unused. First what leads to a queue, so that nothing arrives in it any more."""
    changes, refused = [], []
    for name in topology.absent_queues:
        queue = queues.get(name)
        if queue is None:
            continue
        if queue.get("messages") or queue.get("consumers"):
            refused.append(
                f"the queue {name[1]} of {name[0]} is declared absent, but has {_messages(queue)} and "
                f"{_count(queue.get('consumers') or 0, 'consumer')}. Stop its consumers when they have emptied it, or purge it "
                f"(`rabbitmqctl purge_queue`), and run again"
            )
            continue
        changes += [
            unbind(each)
            for each in live["bindings"]
            if each["source"] and (each["vhost"], each["destination"]) == name and each["destination_type"] == "queue"
        ]
        changes.append(Change(f"remove the queue {name[1]} of {name[0]}", "DELETE", path("queues", *name)))
    for name in topology.absent_exchanges:
        if name not in exchanges:
            continue
        used = [
            each
            for each in live["bindings"]
            if (each["vhost"], each["source"]) == name
            and (each["vhost"], each["destination"]) not in topology.absent_queues
        ]
        if used:
            refused.append(
                f"the exchange {name[1]} of {name[0]} is declared absent, but still leads to "
                f"{', '.join(each['destination'] for each in used[:MOST_SHOWN])}. Declare these queues absent or remove their bindings, "
                "and run again"
            )
            continue
        changes.append(
            Change(
                f"remove the exchange {name[1]} of {name[0]}", "DELETE", f"{path('exchanges', *name)}?if-unused=true"
            )
        )
    return changes, refused


def unbind(live: dict[str, Any]) -> Change:
    kind = "q" if live["destination_type"] == "queue" else "e"
    where = path("bindings", live["vhost"], "e", live["source"], kind, live["destination"], live["properties_key"])
    return Change(f"unbind {live['destination']} from {live['source']} in {live['vhost']}", "DELETE", where)


def kept(live: list[dict[str, Any]], ignore: list[str]) -> list[dict[str, Any]]:
    """Those that outlive who made them, and that nobody else looks after."""
    patterns = [re.compile(pattern) for pattern in (r"^$", r"^amq\.", *ignore)]
    return [
        each
        for each in live
        if each.get("durable", True)
        and not each.get("auto_delete")
        and not each.get("exclusive")
        and not any(pattern.search(each["name"]) for pattern in patterns)
    ]


def undeclared(live: dict[str, list[dict[str, Any]]], topology: Topology, ignore: list[str]) -> list[str]:
    """What is there without being declared. Nothing of it is touched."""
    known = {*topology.absent_exchanges, *topology.absent_queues}
    found = [
        f"the {each['type']} exchange {each['name']} of {each['vhost']}"
        for each in kept(live["exchanges"], ignore)
        if (each["vhost"], each["name"]) not in topology.exchanges and (each["vhost"], each["name"]) not in known
    ]
    found += [
        f"the {queue_type(each)} queue {each['name']} of {each['vhost']}, which holds {_messages(each)}"
        for each in kept(live["queues"], ignore)
        if (each["vhost"], each["name"]) not in topology.queues and (each["vhost"], each["name"]) not in known
    ]
    patterns = [re.compile(pattern) for pattern in ignore]
    for each in live["bindings"]:
        if not each["source"] or any(pattern.search(each["source"]) for pattern in patterns):
            continue
        source, destination = (each["vhost"], each["source"]), (each["vhost"], each["destination"])
        if source not in topology.exchanges or destination not in topology.queues:
            continue
        # A strange binding of a hash exchange is a conflict.
        if topology.exchanges[source].type != HASH and not any(same(each, one) for one in topology.bindings):
            found.append(
                f"a binding of {each['vhost']}: {each['source']} to {each['destination']} by {each['routing_key']!r}"
            )
    return found


# The live topology as variables ------------------------------------------------------------------


def exported(live: dict[str, list[dict[str, Any]]], dead_letters: str, ignore: list[str]) -> dict[str, Any]:
    """The live topology as `rabbitmq_topology`. What is a default isn't said, except that nothing leads to a queue.

    Priorities of quorum queues can't be read back.
    """
    hidden = [*ignore, *([f"^{re.escape(dead_letters)}$"] if dead_letters else [])]
    exchanges = {(each["vhost"], each["name"]): each for each in kept(live["exchanges"], hidden)}
    queues = {(each["vhost"], each["name"]): each for each in kept(live["queues"], hidden)}
    bindings: dict[Name, list[dict[str, Any]]] = defaultdict(list)
    for each in live["bindings"]:
        if each["destination_type"] == "queue" and each["source"]:
            bindings[each["vhost"], each["destination"]].append(each)
    partitions = [
        entry
        for name in sorted(exchanges)
        if exchanges[name]["type"] == HASH and (entry := _partitioned(name, exchanges[name], queues, bindings))
    ]
    folded = {(entry.get("vhost", "/"), queue) for entry in partitions for queue in partition_names(entry)}
    whole = {(entry.get("vhost", "/"), entry["name"]) for entry in partitions}
    patterns = [re.compile(pattern) for pattern in hidden]
    return {
        "exchanges": [
            {
                **_named(name),
                "type": each["type"],
                **({"arguments": each["arguments"]} if each.get("arguments") else {}),
            }
            for name, each in sorted(exchanges.items())
            if name not in whole
        ],
        "queues": [
            {
                **_named(name),
                "type": queue_type(each),
                **_exported_arguments(each),
                **_exported_bindings(bindings[name], patterns),
            }
            for name, each in sorted(queues.items())
            if name not in folded
        ],
        "partitions": partitions,
    }


def _partitioned(
    name: Name,
    exchange: dict[str, Any],
    queues: dict[Name, dict[str, Any]],
    bindings: dict[Name, list[dict[str, Any]]],
) -> dict[str, Any] | None:
    """A hash exchange as one entry, if its queues are numbered as one would make them."""
    vhost, title = name
    by = (exchange.get("arguments") or {}).get("hash-header")
    bound = [
        queue for queue in queues if any(each["source"] == title and each["vhost"] == vhost for each in bindings[queue])
    ]
    prefixes = {re.sub(r"\d+$", "", queue[1]) for queue in bound}
    if not by or len(prefixes) != 1:
        return None
    prefix = prefixes.pop()
    entry = {**_named(name), "partitions": len(bound), "partition_by": by}
    if prefix != f"{title}.":
        entry["routing_key_pattern"] = f"{prefix}{{partition}}"
    if sorted(queue for _vhost, queue in bound) != sorted(partition_names(entry)):
        return None
    others = {each["source"] for queue in bound for each in bindings[queue] if each["routing_key"] == queue[1]}
    if len(others) == 1:
        entry["exchange"] = others.pop()
    return entry


def _named(name: Name) -> dict[str, str]:
    return {"name": name[1], **({} if name[0] == "/" else {"vhost": name[0]})}


def _exported_arguments(queue: dict[str, Any]) -> dict[str, Any]:
    arguments = arguments_of(queue)
    # Comes from the priorities.
    arguments.pop(PRIORITY_ARGUMENT, None)
    single = {"single_active_consumer": True} if arguments.pop(SINGLE_CONSUMER, False) else {}
    return {**single, **({"arguments": arguments} if arguments else {})}


def _exported_bindings(live: list[dict[str, Any]], hidden: list[re.Pattern[str]]) -> dict[str, Any]:
    bindings = [
        {
            "exchange": each["source"],
            **({"routing_key": each["routing_key"]} if each["routing_key"] else {}),
            **({"arguments": each["arguments"]} if each.get("arguments") else {}),
        }
        for each in sorted(live, key=lambda each: (each["source"], each["routing_key"]))
        if not any(pattern.search(each["source"]) for pattern in hidden)
    ]
    return {"bindings": bindings}


# Words -------------------------------------------------------------------------------------------


def _messages(queue: dict[str, Any]) -> str:
    return _count(queue.get("messages") or 0, "message")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
