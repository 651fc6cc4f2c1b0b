# Apache License 2.0 (see LICENSE)
"""Which nodes hold a copy of which quorum queue, and in which steps that becomes what it should be. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_cluster import queue_name

ADD, REMOVE = "add_member", "delete_member"
# With fewer nodes than this, the loss of one is the loss of the majority.
FEWEST_NODES = 3
MOST_SHOWN = 5


@dataclass(frozen=True)
class Step:
    """One change of one queue's members."""

    action: str
    vhost: str
    queue: str
    node: str

    def says(self) -> str:
        if self.action == ADD:
            return f"add a member of {self.vhost}:{self.queue} on {self.node}"
        return f"remove the member of {self.vhost}:{self.queue} from {self.node}"


@dataclass
class Plan:
    """The steps, queue by queue; or why none is taken."""

    steps: list[Step] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass
class _Members:
    """A quorum queue's members while the plan is made."""

    queue: dict[str, Any]
    now: list[str]
    online: set[str]
    steps: list[Step] = field(default_factory=list)

    @property
    def leader(self) -> str:
        return self.queue.get("leader") or self.queue.get("node") or ""

    def step(self, action: str, node: str) -> None:
        self.steps.append(Step(action, self.queue.get("vhost", "/"), self.queue["name"], node))
        if action == ADD:
            self.now.append(node)
            self.online.add(node)
        else:
            self.now.remove(node)
            self.online.discard(node)

    def has_majority(self) -> bool:
        return len(self.online & set(self.now)) * 2 > len(self.now)


def plan(
    queues: list[dict[str, Any]],
    nodes: list[str],
    running: list[str],
    leaving: list[str],
    group_size: int,
    accept_loss: bool = False,
) -> Plan:
    """Give every quorum queue its members on the nodes that stay, and none on those that leave.

    Members are added before others are removed, so that there are never fewer copies than there are to be; only the member of a node
    that is gone is removed first, which loses nothing and makes a majority easier. Nodes without their share are given it.
    """
    found = Plan(refused=cluster_refusals(nodes, running, leaving))
    found.refused += [] if accept_loss else losses(queues, nodes, leaving)
    staying = [node for node in nodes if node in running]
    quorum = [
        _Members(queue, list(queue["members"]), set(queue.get("online") or []))
        for queue in sorted(queues, key=queue_name)
        if queue.get("type") == "quorum" and "members" in queue
    ]
    load = {node: sum(node in members.now for members in quorum) for node in staying}
    for members in quorum:
        _settle(members, staying, leaving, min(group_size, len(nodes)), load, found.refused)
    if not leaving and not found.refused and not set(nodes) - set(running):
        _spread(quorum, load)
    if not found.refused:
        found.steps = [step for members in quorum for step in members.steps]
    return found


def cluster_refusals(nodes: list[str], running: list[str], leaving: list[str]) -> list[str]:
    """Why no node may leave this cluster."""
    if not leaving:
        return []
    refused = []
    if len(nodes) < FEWEST_NODES:
        refused.append(
            f"{', '.join(leaving)} can't leave: {_count(len(nodes), 'node')} would stay, and with fewer than {FEWEST_NODES} the loss of one "
            "is the loss of the majority. Put the host back into the group rabbitmq, or add another one first"
        )
    stopped = sorted(set(nodes) - set(running))
    if stopped:
        refused.append(
            f"{', '.join(leaving)} can't leave while {', '.join(stopped)}, which is to stay, doesn't run: its queues may need the copies of "
            "the node that leaves. Start it, or list it in the group rabbitmq_removed too if it is gone for good"
        )
    both = sorted(set(nodes) & set(leaving))
    if both:
        refused.append(
            f"{', '.join(both)} can't both stay and leave; it is in the groups rabbitmq and rabbitmq_removed"
        )
    return refused


def losses(queues: list[dict[str, Any]], nodes: list[str], leaving: list[str]) -> list[str]:
    """Queues that aren't quorum queues and whose only copy is on a node that leaves."""
    refused = []
    for queue in sorted(queues, key=queue_name):
        home = queue.get("node") or queue.get("leader") or ""
        if queue.get("type") == "stream":
            copies = set(queue.get("members") or [home])
            if copies & set(leaving):
                refused.append(
                    f"the stream {queue_name(queue)} has a copy on {', '.join(sorted(copies & set(leaving)))}. Give it others and take this one "
                    "away with `rabbitmq-streams add_replica` and `delete_replica`, then run again"
                )
        elif queue.get("type") != "quorum" and home in leaving and _outlives_its_node(queue):
            mirrors = set(queue.get("synchronised_slave_nodes") or []) & set(nodes)
            if not mirrors:
                refused.append(
                    f"the classic queue {queue_name(queue)} ({_count(queue.get('messages') or 0, 'message')}) is on {home} alone and would be "
                    "gone with it. Let its consumers empty it and remove it, or move it to a quorum queue with a shovel; "
                    "rabbitmq_scale_in_accept_loss: true gives it up"
                )
    return refused


def _outlives_its_node(queue: dict[str, Any]) -> bool:
    return bool(queue.get("durable", True) and not queue.get("exclusive") and not queue.get("auto_delete"))


def _settle(
    members: _Members, staying: list[str], leaving: list[str], wanted: int, load: dict[str, int], refused: list[str]
) -> None:
    """As many members as wanted on the nodes that stay, none on those that leave."""
    # Counted are members on nodes that stay, also those that are only down for a while.
    kept = [node for node in members.now if node not in leaving]
    missing = wanted - len(kept)
    gone = [node for node in members.now if node in leaving and node not in members.online]
    parting = [node for node in members.now if node in leaving and node in members.online]
    if missing <= 0 and not gone and not parting:
        return
    if not members.has_majority():
        refused.append(
            f"the quorum queue {queue_name(members.queue)} has lost its majority: of its members on {', '.join(sorted(members.now))} only "
            f"{', '.join(sorted(members.online)) or 'none'} answer, so neither its messages can be read nor its members changed. Start one of "
            "the others; if they are gone for good, its messages are: remove the queue (`rabbitmqctl delete_queue`) and run again"
        )
        return
    for node in gone:
        members.step(REMOVE, node)
    free = sorted(
        (node for node in staying if node not in members.now), key=lambda node: (load[node], staying.index(node))
    )
    for node in free[: max(0, missing)]:
        members.step(ADD, node)
        load[node] += 1
    # The leader last: each time it goes, the queue stands still for a moment.
    for node in sorted(parting, key=lambda node: node == members.leader):
        members.step(REMOVE, node)


def _spread(quorum: list[_Members], load: dict[str, int]) -> None:
    """Where a node has less than half of its share, as a new one has, even out; otherwise leave things as they are."""
    if not load or min(load.values()) * 2 * len(load) >= sum(load.values()):
        return
    while True:
        least = min(load, key=lambda node: load[node])
        moved = False
        for most in sorted(load, key=lambda node: -load[node]):
            if load[most] - load[least] < 2:
                break
            movable = [
                members
                for members in quorum
                if most in members.now and least not in members.now and members.online >= set(members.now)
            ]
            # One member each of many queues, rather than two of a few: then the new nodes can't take a majority with them. And a
            # follower moves unnoticed, a leader doesn't.
            movable.sort(key=lambda members: (len(members.steps), members.leader == most))
            if movable:
                movable[0].step(ADD, least)
                movable[0].step(REMOVE, most)
                load[most] -= 1
                load[least] += 1
                moved = True
                break
        if not moved:
            return


# Whether a new member has caught up ---------------------------------------------------------------


def behind(status: list[dict[str, Any]], nodes: list[str], goal: int) -> list[str]:
    """Of these nodes, those whose member doesn't have the log up to the goal or has no vote yet, by `quorum_status`."""
    rows = {row.get("Node Name"): row for row in status}
    return [
        node
        for node in nodes
        if node not in rows
        or _number(rows[node], "Last Log Index", "Log Index") < goal
        or rows[node].get("Membership", "voter") not in ("voter", "")
    ]


def committed(status: list[dict[str, Any]]) -> int:
    """How far the queue's log is agreed on."""
    return max((_number(row, "Commit Index") for row in status), default=0)


def _number(row: dict[str, Any], *names: str) -> int:
    for name in names:
        value = row.get(name)
        if isinstance(value, int):
            return value
        if isinstance(value, str) and value.lstrip("-").isdigit():
            return int(value)
    return -1


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
