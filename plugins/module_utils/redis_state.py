# Apache License 2.0 (see LICENSE)
"""What the nodes of a Redis Cluster say and what that means. Pure. What to do about it is in redis_steps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import SLOTS, Move, Node, violations


class Refusal(Exception):
    """Going on could destroy something, or can't work; the text is for the operator."""


# ---------------------------------------------------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Member:
    """A member of the cluster in the view of one node: a line of CLUSTER NODES."""

    id: str
    address: str
    flags: frozenset[str]
    master_id: str
    epoch: int
    connected: bool
    slots: tuple[tuple[int, int], ...]
    moving: tuple[str, ...] = ()

    @property
    def is_replica(self) -> bool:
        return "slave" in self.flags

    @property
    def failed(self) -> bool:
        return bool(self.flags & {"fail", "fail?"})


@dataclass(frozen=True)
class Observation:
    """What one node says. With `error` it said nothing else."""

    name: str
    address: str
    error: str = ""
    id: str = ""
    state: str = ""
    members: dict[str, Member] = field(default_factory=dict)
    keys: int = 0
    link_up: bool = False
    last_io_seconds: int = -1
    offset: int = 0
    loading: bool = False
    version: str = ""
    persistence: tuple[str, ...] = ()
    dataset_bytes: int = 0
    used_bytes: int = 0
    maxmemory_bytes: int = 0
    #: Of slots that are half moved, how many of their keys this node has.
    half_moved: dict[int, int] = field(default_factory=dict)

    @property
    def me(self) -> Member:
        return self.members[self.id]

    @property
    def others(self) -> dict[str, Member]:
        """Members it knows besides itself. Handshakes that aren't through don't count."""
        return {
            key: member for key, member in self.members.items() if key != self.id and "handshake" not in member.flags
        }

    @property
    def slot_count(self) -> int:
        return sum(last - first + 1 for first, last in self.me.slots)


def parse_info(text: str) -> dict[str, str]:
    """INFO and CLUSTER INFO: key:value lines."""
    return dict(
        line.split(":", 1) for line in text.replace("\r", "").split("\n") if ":" in line and not line.startswith("#")
    )


def parse_nodes(text: str) -> dict[str, Member]:
    """CLUSTER NODES, by id."""
    members = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 8:
            continue
        ranges, moving = [], []
        for word in words[8:]:
            if word.startswith("["):
                moving.append(word.strip("[]"))
            else:
                first, _dash, last = word.partition("-")
                ranges.append((int(first), int(last or first)))
        members[words[0]] = Member(
            id=words[0],
            address=words[1].split(",")[0].split("@")[0],
            flags=frozenset(words[2].split(",")),
            master_id="" if words[3] == "-" else words[3],
            epoch=int(words[6]),
            connected=words[7] == "connected",
            slots=tuple(ranges),
            moving=tuple(moving),
        )
    return members


def observation(node: Node, node_id: str, cluster_info: str, cluster_nodes: str, info: str) -> Observation:
    """All replies of one node in one value."""
    cluster, general = parse_info(cluster_info), parse_info(info)
    keyspace = [value for key, value in general.items() if key.startswith("db") and "keys=" in value]
    persistence = [
        f"{what} failed"
        for key, what in (
            ("rdb_last_bgsave_status", "its last snapshot"),
            ("aof_last_write_status", "its last write to the append-only file"),
        )
        if general.get(key, "ok") != "ok"
    ]
    replica = general.get("role") == "slave"
    return Observation(
        name=node.name,
        address=node.address,
        id=node_id,
        state=cluster.get("cluster_state", "unknown"),
        members=parse_nodes(cluster_nodes),
        keys=sum(int(value.split("keys=")[1].split(",")[0]) for value in keyspace),
        link_up=general.get("master_link_status") == "up",
        last_io_seconds=int(general.get("master_last_io_seconds_ago", -1)),
        offset=int(general.get("slave_repl_offset" if replica else "master_repl_offset", 0)),
        loading=general.get("loading", "0") != "0",
        version=general.get("redis_version", ""),
        persistence=tuple(persistence),
        dataset_bytes=int(general.get("used_memory_dataset", 0)),
        used_bytes=int(general.get("used_memory", 0)),
        maxmemory_bytes=int(general.get("maxmemory", 0)),
    )


def slots_text(ranges: tuple[tuple[int, int], ...]) -> str:
    """Slot ranges the way CLUSTER NODES writes them."""
    return " ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def flagged_slots(seen: list[Observation]) -> list[int]:
    """Slots that some node marks as being moved."""
    return sorted({int(text.split("-", 1)[0]) for one in seen for text in one.me.moving})


def covered(seen: list[Observation]) -> int:
    """How many slots these nodes serve."""
    slots: set[int] = set()
    for one in seen:
        for first, last in one.me.slots:
            slots.update(range(first, last + 1))
    return len(slots)


def running_layout(seen: dict[str, Observation]) -> dict:
    """The layout that runs, in the form of Layout.as_dict; {} before there is one."""
    answered = [one for one in seen.values() if not one.error]
    names = {one.id: one.name for one in answered}
    layout = {
        one.name: {"slots": slots_text(one.me.slots), "replicas": []}
        for one in sorted(answered, key=lambda one: one.me.slots)
        if one.me.slots
    }
    for one in answered:
        master = names.get(one.me.master_id)
        if one.me.is_replica and master in layout:
            layout[master]["replicas"].append(one.name)
    for entry in layout.values():
        entry["replicas"].sort()
    return layout


def roles(seen: dict[str, Observation]) -> dict[str, str]:
    """master or replica, of every node that answers."""
    return {one.name: "replica" if one.me.is_replica else "master" for one in seen.values() if not one.error}


# ------------------------------------------------------------------------------------------------------------------ steps


@dataclass(frozen=True)
class Action:
    """One command on one node. An error that contains `unless` says that it was done already."""

    node: str
    command: tuple
    text: str
    unless: str = ""


@dataclass(frozen=True)
class Step:
    """done: the cluster is as it should be. act: do this now. move: move these slots, `left` of all that have to move.
    wait: what was done needs time (`why`). blocked: someone doesn't answer."""

    kind: str
    actions: tuple[Action, ...] = ()
    why: str = ""
    warnings: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    left: int = 0


def settle(answered: list[Observation], ignoring: frozenset[str] = frozenset()) -> Step:
    """Wait until all agree that all is well; what they think of the members `ignoring` (ids) doesn't count."""
    for one in answered:
        failed = [member.address for member in one.others.values() if member.failed and member.id not in ignoring]
        if failed:
            return Step("wait", why=f"{one.name} counts {', '.join(failed)} as failed.")
        if one.state != "ok":
            return Step("wait", why=f"{one.name} reports the cluster's state as '{one.state}'.")
        if one.me.is_replica and not one.link_up:
            return Step("wait", why=f"{one.name} isn't in sync with its master yet.")
    odd = disagreeing(answered, ignoring)
    if odd:
        return Step("wait", why=f"{', '.join(odd)} doesn't see the same roles and slots as the others yet.")
    return Step("done")


def disagreeing(answered: list[Observation], ignoring: frozenset[str] = frozenset()) -> list[str]:
    """Nodes whose view of roles and slots isn't the most common one."""

    def view(one: Observation) -> frozenset:
        return frozenset(
            (key, member.master_id, member.slots if not member.is_replica else ())
            for key, member in one.members.items()
            if "handshake" not in member.flags and key not in ignoring
        )

    views = {one.name: view(one) for one in answered}
    common = Counter(views.values()).most_common(1)
    return [name for name, its in views.items() if its != common[0][0]]


# -------------------------------------------------------------------------------------------------------------- assessing


def assess(
    nodes: list[Node],
    seen: dict[str, Observation],
    replicas_per_master: int,
    check_layout: bool,
    max_silence_seconds: int,
) -> dict:
    """The result of redis_cluster_info."""
    answered = [seen[node.name] for node in nodes if not seen[node.name].error]
    names = {one.id: one.name for one in answered}
    offsets = {one.name: one.offset for one in answered}
    problems = [one.error for one in seen.values() if one.error]
    by_address = {node.address: node.name for node in nodes}
    failed: set[str] = set()
    for one in answered:
        if one.loading:
            problems.append(f"{one.name} still loads its data.")
        if one.state != "ok":
            problems.append(f"{one.name} reports the cluster's state as '{one.state}'.")
        problems.extend(f"{one.name}: {what}." for what in one.persistence)
        for member in one.others.values():
            name = names.get(member.id) or by_address.get(member.address) or member.address
            if member.failed:
                failed.add(name)
            if member.id not in names and (member.address not in by_address or "noaddr" in member.flags):
                problems.append(
                    f"{one.name} knows a member {member.id[:8]} ({member.address}) that isn't in the inventory."
                )
        missing = sorted(set(names) - set(one.members))
        if missing:
            problems.append(
                f"{one.name} doesn't know {', '.join(names[key] for key in missing)}: they aren't in one cluster."
            )
        if one.me.is_replica and not one.link_up:
            problems.append(
                f"{one.name} has no replication link to its master {names.get(one.me.master_id, one.me.master_id)}."
            )
        elif one.me.is_replica and one.last_io_seconds > max_silence_seconds:
            problems.append(f"{one.name} heard nothing of its master for {one.last_io_seconds} s.")
        if not one.me.is_replica and not one.me.slots:
            problems.append(f"{one.name} is a master without slots: it serves nothing and protects nothing.")
    problems.extend(f"{name} is counted as failed by other members." for name in sorted(failed))
    served = covered(answered) if answered else 0
    half = flagged_slots(answered)
    if half:
        problems.append(
            f"{len(half)} slots are half moved (the first is {half[0]}): moving them was interrupted. The playbook that moved them goes on "
            "from there."
        )
    if served < SLOTS:
        problems.append(f"{SLOTS - served} of {SLOTS} slots are served by no node that answers.")
    odd = disagreeing(answered) if answered else []
    if odd:
        problems.append(f"{', '.join(odd)} doesn't see the same roles and slots as the others.")
    masters = sorted(one.name for one in answered if one.me.slots)
    master_of = {one.name: names.get(one.me.master_id, one.me.master_id) for one in answered if one.me.is_replica}
    layout_problems = violations(masters, master_of, nodes, replicas_per_master) if masters else []
    if check_layout:
        problems.extend(layout_problems)
    members = {}
    for node in nodes:
        one = seen[node.name]
        entry = {"address": node.address, "failure_domain": node.domain, "reachable": not one.error, "role": "unknown"}
        if not one.error:
            master = master_of.get(node.name)
            entry.update(
                id=one.id,
                role="replica" if one.me.is_replica else "master",
                state=one.state,
                version=one.version,
                keys=one.keys,
                slots=slots_text(one.me.slots),
                slot_count=one.slot_count,
                moving_slots=list(one.me.moving),
                master=master or "",
                link_up=one.link_up if master else None,
                lag_bytes=max(0, offsets[master] - one.offset) if master in offsets else None,
            )
        members[node.name] = entry
    return {
        "healthy": not problems,
        "problems": problems,
        "state": "ok" if answered and all(one.state == "ok" for one in answered) else "fail",
        "masters": masters,
        "replicas": sorted(master_of),
        "members": members,
        "slots_covered": served,
        "views_agree": not odd,
        "failed_members": sorted(failed),
        "unreachable_members": sorted(one.name for one in seen.values() if one.error),
        "layout": running_layout(seen),
        "layout_problems": layout_problems,
        "versions": sorted({one.version for one in answered}),
    }


def replica_to_promote(seen: dict[str, Observation], name: str, max_lag_bytes: int) -> tuple[str, list[str]]:
    """Which replica can take over from a master now ("" if none), and why the others can't."""
    master = seen[name]
    reasons, fit = [], []
    for one in seen.values():
        if one.error:
            reasons.append(one.error)
        elif one.me.master_id != master.id:
            continue
        elif not one.link_up:
            reasons.append(f"{one.name} has no link to its master.")
        elif one.loading:
            reasons.append(f"{one.name} still loads its data.")
        elif one.state != "ok":
            reasons.append(f"{one.name} reports the cluster's state as '{one.state}'.")
        elif one.members[master.id].slots != master.me.slots:
            # It would claim the slots that it knows of, also one that has just been given away, whose new owner would then drop its keys.
            reasons.append(f"{one.name} doesn't know yet which slots {name} has.")
        elif master.offset - one.offset > max_lag_bytes:
            reasons.append(f"{one.name} is {master.offset - one.offset} bytes behind.")
        else:
            fit.append(one)
    best = max(fit, key=lambda one: (one.offset, one.name), default=None)
    return (best.name if best else "", reasons)
