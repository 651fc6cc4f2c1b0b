# Apache License 2.0 (see LICENSE)
"""What a Docker Swarm says of itself, and what follows from it. Pure: nothing here talks to an engine."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field
from typing import Any


class CannotForm(Exception):
    """The hosts can't become one Swarm without losing something."""


@dataclass(frozen=True)
class Local:
    """What one engine knows of its own membership."""

    state: str  # inactive, pending, active, error, locked
    node_id: str
    address: str
    control: bool  # whether it is a manager that the others follow
    cluster_id: str  # only managers know it
    managers: tuple[str, ...]  # addresses, without ports
    error: str


@dataclass(frozen=True)
class Node:
    """A member as the managers see it."""

    id: str
    hostname: str
    address: str
    role: str
    availability: str
    state: str  # unknown, down, ready, disconnected
    leader: bool
    reachability: str  # of managers: unknown, unreachable, reachable
    version: int
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """A member as the inventory wants it."""

    hostname: str
    address: str
    role: str
    availability: str = "active"
    labels: dict[str, str] = field(default_factory=dict)


def without_port(address: str) -> str:
    """The host of `10.0.0.1:2377` and of `[fd00::1]:2377`."""
    if address.startswith("["):
        return address[1:].split("]")[0]
    return address.rsplit(":", 1)[0] if address.count(":") == 1 else address


def local_of(info: dict[str, Any]) -> Local:
    """From the engine's /info."""
    swarm = info.get("Swarm") or {}
    return Local(
        state=swarm.get("LocalNodeState") or "inactive",
        node_id=swarm.get("NodeID") or "",
        address=swarm.get("NodeAddr") or "",
        control=bool(swarm.get("ControlAvailable")),
        cluster_id=(swarm.get("Cluster") or {}).get("ID") or "",
        managers=tuple(sorted(without_port(peer.get("Addr", "")) for peer in swarm.get("RemoteManagers") or [])),
        error=swarm.get("Error") or "",
    )


def node_of(answer: dict[str, Any]) -> Node:
    """From one element of the engine's /nodes."""
    spec, status, manager = answer["Spec"], answer.get("Status") or {}, answer.get("ManagerStatus") or {}
    # A manager's Status.Addr is what the leader saw, for the leader itself 0.0.0.0 or 127.0.0.1 in old engines.
    return Node(
        id=answer["ID"],
        hostname=(answer.get("Description") or {}).get("Hostname", ""),
        address=without_port(manager.get("Addr", "")) or status.get("Addr", ""),
        role=spec.get("Role", "worker"),
        availability=spec.get("Availability", "active"),
        state=status.get("State", "unknown"),
        leader=bool(manager.get("Leader")),
        reachability=manager.get("Reachability", ""),
        version=answer["Version"]["Index"],
        labels=dict(spec.get("Labels") or {}),
    )


def choose_seed(found: dict[str, Local | None], order: list[str]) -> tuple[str, bool]:
    """The manager that the others join, and whether a new Swarm is made there.

    `found` has what each manager host's engine says, None for a host that didn't answer. A Swarm that is there is always
    kept: a new one is made only when every manager host answered and none is, or is becoming, a member.
    """
    locked = [name for name in order if (local := found.get(name)) and local.state == "locked"]
    if locked:
        raise CannotForm(
            f"the Swarm on {', '.join(locked)} is locked: unlock it there with `docker swarm unlock`, then run this again"
        )
    serving = [name for name in order if (local := found.get(name)) and local.state == "active" and local.control]
    clusters = {local.cluster_id for name in serving if (local := found[name])}
    if len(clusters) > 1:
        lines = "; ".join(f"{name} is in {local.cluster_id}" for name in serving if (local := found[name]))
        raise CannotForm(
            f"the managers are in different Swarms ({lines}): decide which one stays, and have the hosts of the other leave "
            "it with `docker swarm leave --force`"
        )
    if serving:
        return serving[0], False
    silent = [name for name in order if found.get(name) is None]
    if silent:
        raise CannotForm(
            f"no manager serves, and {', '.join(silent)} can't be asked whether a Swarm is there: bring these hosts back, or "
            "take them out of swarm_managers"
        )
    members = [name for name in order if (local := found[name]) and local.state in ("active", "error")]
    if members:
        raise CannotForm(
            f"{', '.join(members)} already belong to a Swarm of which no manager in swarm_managers serves (a lost majority?): "
            "bring its managers back, or make it anew from one that has its data with `docker swarm init --force-new-cluster`"
        )
    return order[0], True


def must_join(local: Local, managers: list[str]) -> tuple[bool, bool]:
    """Whether this host has to join, and whether it has to leave first what an interrupted run has left.

    A member of a Swarm that knows none of our managers is somebody else's: that is refused.
    """
    if local.state == "inactive":
        return True, False
    if local.state in ("pending", "error"):
        return True, True
    if local.state == "locked":
        raise CannotForm("the Swarm's data on this host are locked: unlock them with `docker swarm unlock`")
    if local.managers and not set(local.managers) & set(managers):
        raise CannotForm(
            f"this host is in a Swarm whose managers are {', '.join(local.managers)}, none of which is in swarm_managers "
            f"({', '.join(managers)}): have it leave with `docker swarm leave`, or correct the inventory"
        )
    return False, False


@dataclass(frozen=True)
class Update:
    """A node's specification that is to be written, and why."""

    node: Node
    spec: dict[str, Any]
    why: str


def _matching(nodes: list[Node], wanted: Wanted) -> Node | None:
    """The node of this host: by address, among several (a host made anew) the one that is up."""
    same = [node for node in nodes if node.address == wanted.address or node.hostname == wanted.hostname]
    return min(same, key=lambda node: (node.state != "ready", node.id), default=None)


def plan_updates(nodes: list[Node], wanted: list[Wanted], label_prefix: str) -> list[Update]:
    """Which nodes' role, availability and labels differ. Promotions come first, so that no moment has fewer managers.

    Labels that don't begin with the prefix are somebody else's and stay.
    """
    updates = []
    for member in wanted:
        node = _matching(nodes, member)
        if node is None:
            continue
        labels = {key: value for key, value in node.labels.items() if not key.startswith(label_prefix)}
        labels.update(member.labels)
        reasons = []
        if node.role != member.role:
            reasons.append(f"{node.role} becomes {member.role}")
        if node.availability != member.availability:
            reasons.append(f"{node.availability} becomes {member.availability}")
        if node.labels != labels:
            reasons.append("labels")
        if reasons:
            spec = {"Role": member.role, "Availability": member.availability, "Labels": labels}
            updates.append(Update(node, spec, f"{member.hostname}: {', '.join(reasons)}"))
    return sorted(updates, key=lambda update: update.spec["Role"] != "manager")


def drained(nodes: list[Node], wanted: list[Wanted]) -> list[Node]:
    """The nodes that are to run nothing."""
    found = [_matching(nodes, member) for member in wanted if member.availability == "drain"]
    return [node for node in found if node]


def problems(nodes: list[Node], wanted: list[Wanted]) -> list[str]:
    """The one definition of a healthy Swarm: every host is a ready node in its role, and all managers follow one leader."""
    found = []
    leaders = [node.hostname for node in nodes if node.leader]
    if len(leaders) != 1:
        found.append(f"the Swarm has {len(leaders)} leaders instead of one")
    for member in wanted:
        node = _matching(nodes, member)
        if node is None:
            found.append(f"{member.hostname} ({member.address}) is no node of the Swarm; playbooks/agents.yml joins it")
        elif node.state != "ready":
            found.append(f"{member.hostname} is {node.state}: is its host up, and docker.service on it?")
        elif node.role != member.role:
            found.append(f"{member.hostname} is a {node.role}, not a {member.role}")
        elif node.role == "manager" and node.reachability != "reachable":
            found.append(
                f"the manager {member.hostname} is {node.reachability}: is port 2377 open between the managers?"
            )
    return found


def quorum_problems(nodes: list[Node], leaving: str) -> list[str]:
    """Why this host can't leave, or be stopped: the managers that stay would have no majority of all."""
    managers = [node for node in nodes if node.role == "manager"]
    if leaving not in {node.hostname for node in managers}:
        return []
    staying = [node for node in managers if node.hostname != leaving and node.reachability == "reachable"]
    majority = len(managers) // 2 + 1
    if len(staying) >= majority or len(managers) == 1:
        return []
    return [
        f"without {leaving} only {len(staying)} of {len(managers)} managers would be left, and {majority} are needed: "
        "bring the others back, or add one first"
    ]


def pool_problems(pools: list[str], prefix_length: int, subnet: str) -> list[str]:
    """What is wrong with the networks that containers get their addresses from."""
    found = []
    networks = []
    for pool in pools:
        try:
            networks.append(ipaddress.ip_network(pool))
        except ValueError as error:
            found.append(f"swarm_address_pools: {error}")
    for position, network in enumerate(networks):
        if network.prefixlen > prefix_length:
            found.append(f"swarm_address_pools: {network} is smaller than one network of /{prefix_length}")
        others = [*networks[:position], ipaddress.ip_network(subnet)]
        clashing = [str(other) for other in others if other.version == network.version and network.overlaps(other)]
        if clashing:
            found.append(f"swarm_address_pools: {network} overlaps {', '.join(clashing)}")
    return found


def message_of(status: int, body: str) -> str:
    """What the engine says of a request that it refuses."""
    try:
        return f"{json.loads(body)['message']} ({status})"
    except (ValueError, KeyError, TypeError):
        return f"{body.strip() or 'no answer'} ({status})"
