# Apache License 2.0 (see LICENSE)
"""What a RabbitMQ cluster's answers mean. Pure functions: nothing here talks to anything."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

# Kinds of feature flags that an operator is to enable before an upgrade; the others are experiments.
STABLE = ("stable", "required")


@dataclass
class Snapshot:
    """The cluster as one node sees it, whichever way it was asked."""

    source: str
    cluster_name: str = ""
    nodes_running: list[str] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    partitions: dict[str, list[str]] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    maintenance: list[str] = field(default_factory=list)
    feature_flags_disabled: list[str] = field(default_factory=list)


def feature_flags_to_enable(flags: list[dict[str, Any]]) -> list[str]:
    return sorted(
        flag["name"] for flag in flags if flag.get("state") == "disabled" and flag.get("stability", "stable") in STABLE
    )


def snapshot_of_api(overview: dict[str, Any], nodes: list[dict[str, Any]], flags: list[dict[str, Any]]) -> Snapshot:
    running = [node for node in nodes if node.get("running")]
    alarms = [
        f"{node['name']} has a {kind} alarm"
        for node in running
        for kind in ("mem", "disk_free")
        if node.get(f"{kind}_alarm")
    ]
    return Snapshot(
        source="api",
        cluster_name=overview.get("cluster_name", ""),
        nodes_running=sorted(node["name"] for node in running),
        members=sorted(node["name"] for node in nodes),
        versions={
            node["name"]: application.get("version", "")
            for node in running
            for application in node.get("applications") or []
            if application.get("name") == "rabbit"
        },
        partitions={node["name"]: sorted(node["partitions"]) for node in running if node.get("partitions")},
        alarms=alarms,
        maintenance=sorted(node["name"] for node in running if node.get("being_drained")),
        feature_flags_disabled=feature_flags_to_enable(flags),
    )


def snapshot_of_cli(status: dict[str, Any]) -> Snapshot:
    """From `rabbitmqctl cluster_status --formatter json`."""
    maintenance = status.get("maintenance_status") or {}
    return Snapshot(
        source="cli",
        cluster_name=status.get("cluster_name", ""),
        nodes_running=sorted(status.get("running_nodes", [])),
        members=sorted({*status.get("disk_nodes", []), *status.get("ram_nodes", []), *status.get("running_nodes", [])}),
        versions={node: _version(known) for node, known in (status.get("versions") or {}).items()},
        partitions={node: sorted(others) for node, others in (status.get("partitions") or {}).items() if others},
        alarms=[_alarm(alarm) for alarm in status.get("alarms") or []],
        maintenance=sorted(
            node for node, state in maintenance.items() if state not in ("not under maintenance", "regular", None)
        ),
        feature_flags_disabled=feature_flags_to_enable(status.get("feature_flags") or []),
    )


def _version(known: Any) -> str:
    return str(known.get("rabbitmq_version", "")) if isinstance(known, dict) else str(known)


def _alarm(alarm: Any) -> str:
    if isinstance(alarm, dict):
        return f"{alarm.get('node', 'a node')} has a {alarm.get('resource') or alarm.get('type')} alarm"
    return f"alarm: {alarm}"


def cluster_problems(
    snapshot: Snapshot, expected: list[str], registered: str = "nodes", leaving: list[str] | None = None
) -> list[str]:
    """What keeps these nodes from being one healthy cluster, as sentences. Nodes that are to leave may be there or not."""
    problems = []
    missing = sorted(set(expected) - set(snapshot.members))
    stopped = sorted((set(expected) & set(snapshot.members)) - set(snapshot.nodes_running))
    foreign = sorted(set(snapshot.members) - set(expected) - set(leaving or []))
    if missing:
        problems.append(f"{_list(missing)} {_is(missing)} not in the cluster of {_list(snapshot.members)}")
    if stopped:
        problems.append(f"{_list(stopped)} {_is(stopped)} in the cluster but not running")
    if foreign:
        problems.append(
            f"{_list(foreign)} {_is(foreign)} in the cluster but not in {registered}; "
            "add the host to the group, or take the node out: put the host into the group rabbitmq_removed and run playbooks/scale.yml"
        )
    for node, others in sorted(snapshot.partitions.items()):
        problems.append(f"{node} is partitioned from {_list(others)}")
    problems += snapshot.alarms
    if snapshot.maintenance:
        problems.append(
            f"{_list(snapshot.maintenance)} {_is(snapshot.maintenance)} in maintenance mode; `rabbitmq-upgrade revive` ends it"
        )
    return problems


def cluster_warnings(snapshot: Snapshot, leaving: list[str] | None = None) -> list[str]:
    """What is no failure but wants to be seen to."""
    warnings = []
    staying_on = sorted(set(snapshot.members) & set(leaving or []))
    if staying_on:
        warnings.append(
            f"{_list(staying_on)} {_is(staying_on)} to leave the cluster and still there; run playbooks/scale.yml"
        )
    versions = sorted(set(snapshot.versions.values()))
    if len(versions) > 1:
        warnings.append(
            f"the nodes run different versions: {', '.join(f'{n} {v}' for n, v in sorted(snapshot.versions.items()))}"
        )
    if snapshot.feature_flags_disabled:
        warnings.append(
            f"feature flags are not enabled, which an upgrade will ask for: {', '.join(snapshot.feature_flags_disabled)}"
        )
    return warnings


def queue_name(queue: dict[str, Any]) -> str:
    return f"{queue.get('vhost', '/')}:{queue.get('name', '')}"


def queue_summary(queues: list[dict[str, Any]], group_size: int, leaving: list[str] | None = None) -> dict[str, Any]:
    """How many queues of each type there are, who leads them, and which quorum queues lack members.

    A member that isn't online on a node that is to leave, perhaps because it is gone for good, is no lack.
    """
    leaders: Counter[str] = Counter()
    short, offline = [], []
    for queue in queues:
        leader = queue.get("leader") or queue.get("node")
        if leader:
            leaders[leader] += 1
        if queue.get("type") != "quorum" or "members" not in queue:
            continue
        members, online = set(queue["members"]), set(queue.get("online") or [])
        if len(members) < group_size:
            short.append({"queue": queue_name(queue), "members": sorted(members), "wanted": group_size})
        absent = members - online - set(leaving or [])
        if absent:
            offline.append({"queue": queue_name(queue), "offline": sorted(absent)})
    return {
        "queues_by_type": dict(sorted(Counter(queue.get("type", "unknown") for queue in queues).items())),
        "leaders": dict(sorted(leaders.items())),
        "quorum_queues_short": short,
        "quorum_queues_offline": offline,
    }


def queue_problems(summary: dict[str, Any], shown: int = 3) -> list[str]:
    problems = []
    short, offline = summary["quorum_queues_short"], summary["quorum_queues_offline"]
    if short:
        named = ", ".join(f"{each['queue']} has {len(each['members'])} of {each['wanted']}" for each in short[:shown])
        problems.append(
            f"{_count(short, 'quorum queue')} with too few members: {named}; playbooks/messaging.yml adds them"
        )
    if offline:
        named = ", ".join(f"{each['queue']} on {_list(each['offline'])}" for each in offline[:shown])
        problems.append(f"{_count(offline, 'quorum queue')} with a member that isn't online: {named}")
    return problems


# Forming the cluster -----------------------------------------------------------------------------


@dataclass
class NodeView:
    """What one node says of the cluster that it is in."""

    node: str
    members: list[str]
    running: list[str]
    blank: bool


class CannotForm(Exception):
    """The nodes can't be brought together without losing what one of them holds."""


def plan_joins(views: list[NodeView], expected: list[str]) -> tuple[str, list[str]]:
    """Which node the others are to join, and which nodes have to join it.

    The cluster to join is the one that holds something; among several blank ones the largest, then the one of the first node.
    Raises CannotForm when that would throw away what another one holds.
    """
    clusters: dict[frozenset[str], list[NodeView]] = {}
    for view in views:
        clusters.setdefault(frozenset(view.members), []).append(view)
    holding = [members for members, seen in clusters.items() if any(not view.blank for view in seen)]
    if len(holding) > 1:
        described = " and ".join(_list(sorted(members)) for members in sorted(holding, key=sorted))
        raise CannotForm(
            f"there are {len(holding)} clusters that hold users, queues or virtual hosts: {described}. They are not merged, because one's "
            "content would be lost. Move what is needed with a shovel or an export of definitions, then reset the nodes "
            "that are to join (`rabbitmqctl stop_app`, `reset`, `start_app`)"
        )
    order = {node: position for position, node in enumerate(expected)}
    chosen = (
        holding[0]
        if holding
        else min(clusters, key=lambda members: (-len(members), min(order.get(node, len(order)) for node in members)))
    )
    seeds = sorted((view.node for view in clusters[chosen]), key=lambda node: order.get(node, len(order)))
    outside = [view.node for view in views if frozenset(view.members) != chosen]
    return seeds[0], sorted(outside, key=lambda node: order.get(node, len(order)))


# Taking nodes out --------------------------------------------------------------------------------


def removal_problems(
    snapshot: Snapshot, staying: list[str], leaving: list[str], queues: list[dict[str, Any]]
) -> list[str]:
    """Why these nodes can't be taken out yet."""
    problems = []
    both = sorted(set(staying) & set(leaving))
    if both:
        problems.append(f"{_list(both)} {_is(both)} to stay and to leave")
    stopped = sorted(set(staying) - set(snapshot.nodes_running))
    if stopped:
        problems.append(
            f"{_list(stopped)}, which {_is(stopped)} to stay, {'does' if len(stopped) == 1 else 'do'}n't run; start it first"
        )
    holding = sorted(
        queue_name(queue)
        for queue in queues
        if queue.get("type") == "quorum" and set(queue.get("members") or []) & set(leaving)
    )
    if holding:
        problems.append(
            f"{_count(holding, 'quorum queue')} still {'has' if len(holding) == 1 else 'have'} a member there ({_list(holding[:3])}); "
            "rabbitmq_queue_members moves it away"
        )
    return problems


# Words -------------------------------------------------------------------------------------------


def _list(names: list[str]) -> str:
    return ", ".join(names) if names else "nobody"


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _count(things: list[Any], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
