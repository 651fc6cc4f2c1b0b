# Apache License 2.0 (see LICENSE)
"""What the nodes of a Redis Cluster say, what that means, and what to do next. Pure.

`next_step` is all the thinking of the module redis_cluster: observe, do what it says, observe again, until it says done. It keeps no
memory of its own, so it goes on where a killed run stopped.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import (
    SLOTS,
    Layout,
    LayoutError,
    Node,
    assign,
    violations,
)


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
    )


def slots_text(ranges: tuple[tuple[int, int], ...]) -> str:
    """Slot ranges the way CLUSTER NODES writes them."""
    return " ".join(f"{first}-{last}" if last > first else str(first) for first, last in ranges)


def _covered(seen: list[Observation]) -> int:
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


# --------------------------------------------------------------------------------------------------------------- deciding


@dataclass(frozen=True)
class Action:
    """One command on one node."""

    node: str
    command: tuple
    text: str


@dataclass(frozen=True)
class Step:
    """done: the cluster is whole. act: do this now. wait: what was done needs time (`why`). blocked: someone doesn't answer."""

    kind: str
    actions: tuple[Action, ...] = ()
    why: str = ""
    warnings: tuple[str, ...] = ()


RESET_HINT = "If nothing on it is needed any more, empty it (FLUSHALL, then CLUSTER RESET HARD) or stop it and remove its data directory's files."


def next_step(nodes: list[Node], planned: Layout, seen: dict[str, Observation]) -> Step:
    """What brings the observed nodes closer to one whole cluster, or Refusal."""
    answered = [seen[node.name] for node in nodes if not seen[node.name].error]
    silent = [seen[node.name] for node in nodes if seen[node.name].error]
    lost = _check_strangers(nodes, answered, silent)
    if silent:
        return _with_silent(answered, silent)
    loading = [one.name for one in answered if one.loading]
    if loading:
        return Step("wait", why=f"{', '.join(loading)} still loads its data.")
    owners = [one for one in answered if one.me.slots]
    _check_owners(planned, answered, owners)
    if _covered(owners) < SLOTS:
        return _give_slots(nodes, planned, answered)
    return (
        _meet(nodes, answered, owners)
        or _forget(answered, lost)
        or _replicate(nodes, planned, answered, owners)
        or _settle(answered)
    )


def _check_strangers(nodes: list[Node], answered: list[Observation], silent: list[Observation]) -> set[str]:
    """Refuse members that aren't ours; return the ids of members whose place an empty node has taken (a rebuilt host)."""
    ours = {one.id for one in answered}
    addresses = {node.address for node in nodes}
    silent_addresses = {one.address for one in silent}
    lost = set()
    for one in answered:
        for member in one.others.values():
            if member.id in ours or member.address in silent_addresses:
                continue
            if "noaddr" not in member.flags and member.address not in addresses:
                raise Refusal(
                    f"{one.name} ({one.address}) belongs to a cluster with {member.address}, which is not one of the nodes given. Is that "
                    f"another cluster, or is a host missing in the inventory's group? Nothing was changed. {RESET_HINT}"
                )
            if silent:
                continue
            if member.slots and member.failed:
                raise Refusal(
                    f"The member {member.id} ({member.address}) is gone with the slots {slots_text(member.slots)} and no replica took them "
                    f"over, says {one.name}. Its data is not in the cluster any more; restore it from its data directory or a backup."
                )
            lost.add(member.id)
    return lost


def _with_silent(answered: list[Observation], silent: list[Observation]) -> Step:
    """Members that don't answer are no reason to touch a cluster that exists, and no cluster is made without them."""
    why = _reasons(silent)
    names = ", ".join(one.name for one in silent)
    known = {member.address for one in answered for member in one.members.values()}
    missing = [one for one in silent if one.address not in known]
    view = max((one for one in answered), key=lambda one: len(one.members), default=None)
    if view and not missing:
        slots = {
            slot for member in view.members.values() for first, last in member.slots for slot in range(first, last + 1)
        }
        if len(slots) == SLOTS and view.state == "ok":
            return Step("done", warnings=(f"The cluster exists, but {names} doesn't answer: {why}",))
    return Step(
        "blocked",
        why=f"{names} of {len(answered) + len(silent)} members can't be talked to, and the cluster isn't formed without them. {why} "
        "Cure that, or run on all hosts of the group (is this run limited to some?).",
    )


def _reasons(silent: list[Observation]) -> str:
    """The different errors, each once."""
    reasons = {one.error.split(": ", 1)[-1].replace(one.address, "").strip(): one for one in reversed(silent)}
    return " ".join(one.error if one.error.endswith(".") else f"{one.error}." for one in reversed(reasons.values()))


def _check_owners(planned: Layout, answered: list[Observation], owners: list[Observation]) -> None:
    """Refuse slots and keys that a half-made cluster of ours can't have."""
    whole = _covered(owners) == SLOTS
    ids = {one.id for one in owners}
    joined = all(ids <= set(one.members) for one in owners)
    if not (whole and joined):
        for one in owners:
            if one.me.slots != (planned.slots.get(one.name),):
                wanted = planned.slots.get(one.name)
                raise Refusal(
                    f"{one.name} ({one.address}) already has the slots {slots_text(one.me.slots)} ({one.keys} keys); these nodes' layout "
                    f"gives it {f'{wanted[0]}-{wanted[1]}' if wanted else 'none'}. It belongs to another cluster, or the inventory changed "
                    f"while the cluster was being made. Nothing was changed. {RESET_HINT}"
                )
    for one in answered:
        if one.keys and not one.me.slots and not one.me.is_replica:
            raise Refusal(
                f"{one.name} ({one.address}) is in no cluster but holds {one.keys} keys. They are never overwritten: nothing was "
                f"changed. {RESET_HINT}"
            )


def _give_slots(nodes: list[Node], planned: Layout, answered: list[Observation]) -> Step:
    """Epochs and slots before the nodes meet: so the masters never argue about them."""
    by_name = {one.name: one for one in answered}
    actions = []
    for number, (name, (first, last)) in enumerate(planned.slots.items(), start=1):
        one = by_name[name]
        if one.me.slots:
            continue
        if one.me.is_replica:
            raise Refusal(
                f"{name} ({one.address}) has to become a master but is a replica of another node. Nothing was changed. {RESET_HINT}"
            )
        if not one.others and not one.me.epoch:
            actions.append(
                Action(name, ("CLUSTER", "SET-CONFIG-EPOCH", number), f"{name}: take configuration epoch {number}")
            )
        actions.append(
            Action(name, ("CLUSTER", "ADDSLOTSRANGE", first, last), f"{name}: take the slots {first}-{last}")
        )
    if not actions:
        # Each planned master has its range, yet slots are missing: the nodes changed under our hands.
        return Step("wait", why="The slots don't add up yet.")
    return Step("act", tuple(actions))


def _meet(nodes: list[Node], answered: list[Observation], owners: list[Observation]) -> Step | None:
    """Every node is introduced to the one that most know already."""
    ids = {one.id for one in answered}
    strangers = [one for one in answered if not ids <= {one.id, *one.others}]
    if not strangers:
        return None
    known_by = Counter(key for one in answered for key in one.others)
    first = max(owners, key=lambda one: (known_by[one.id], len(one.others)))
    address = {node.name: node for node in nodes}
    actions = tuple(
        Action(
            first.name,
            ("CLUSTER", "MEET", address[one.name].host, address[one.name].port),
            f"{first.name}: meet {one.name} ({one.address})",
        )
        for one in answered
        if one is not first and (one.id not in first.others or first.id not in one.others)
    )
    if actions:
        return Step("act", actions)
    return Step("wait", why=f"{', '.join(one.name for one in strangers)} doesn't know all others yet.")


def _forget(answered: list[Observation], lost: set[str]) -> Step | None:
    """Members that an empty node has replaced. Told to all at once: gossip brings a forgotten one back after a minute."""
    if not lost:
        return None
    unsure = [
        one.name
        for one in answered
        for key in lost
        if key in one.others and not one.others[key].failed and "noaddr" not in one.others[key].flags
    ]
    if unsure:
        return Step("wait", why=f"{', '.join(sorted(set(unsure)))} still counts a member that was replaced as alive.")
    actions = []
    for one in answered:
        for key in sorted(lost & set(one.others)):
            if one.me.master_id == key:
                return Step("wait", why=f"{one.name} still replicates from a member that was replaced.")
            actions.append(
                Action(one.name, ("CLUSTER", "FORGET", key), f"{one.name}: forget the lost member {key[:8]}")
            )
    return Step("act", tuple(actions))


def _replicate(
    nodes: list[Node], planned: Layout, answered: list[Observation], owners: list[Observation]
) -> Step | None:
    """Give nodes without slots their master: the planned one, or if the cluster has other masters by now the neediest."""
    names = {one.id: one.name for one in answered}
    existing = {one.name: names.get(one.me.master_id, "") for one in answered if one.me.is_replica}
    free = {one.name for one in answered if not one.me.is_replica and not one.me.slots}
    if not free:
        return None
    masters = {one.name for one in owners}
    if masters == set(planned.slots) and all(
        planned.master_of.get(name) == master for name, master in existing.items()
    ):
        links = {name: planned.master_of[name] for name in sorted(free)}
    else:
        try:
            links = assign(
                [node for node in nodes if node.name in masters],
                [node for node in nodes if node.name in free],
                existing,
                nodes,
            )
        except LayoutError as error:
            raise Refusal(str(error)) from error
    id_of = {one.name: one.id for one in answered}
    return Step(
        "act",
        tuple(
            Action(name, ("CLUSTER", "REPLICATE", id_of[master]), f"{name}: become a replica of {master}")
            for name, master in links.items()
        ),
    )


def _settle(answered: list[Observation]) -> Step:
    for one in answered:
        failed = [member.address for member in one.others.values() if member.failed]
        if failed:
            return Step("wait", why=f"{one.name} counts {', '.join(failed)} as failed.")
        if one.state != "ok":
            return Step("wait", why=f"{one.name} reports the cluster's state as '{one.state}'.")
        if one.me.is_replica and not one.link_up:
            return Step("wait", why=f"{one.name} isn't in sync with its master yet.")
    odd = disagreeing(answered)
    if odd:
        return Step("wait", why=f"{', '.join(odd)} doesn't see the same roles and slots as the others yet.")
    return Step("done")


def disagreeing(answered: list[Observation]) -> list[str]:
    """Nodes whose view of roles and slots isn't the most common one."""

    def view(one: Observation) -> frozenset:
        return frozenset(
            (key, member.master_id, member.slots if not member.is_replica else ())
            for key, member in one.members.items()
            if "handshake" not in member.flags
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
    covered = _covered(answered) if answered else 0
    if covered < SLOTS:
        problems.append(f"{SLOTS - covered} of {SLOTS} slots are served by no node that answers.")
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
        "slots_covered": covered,
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
        elif master.offset - one.offset > max_lag_bytes:
            reasons.append(f"{one.name} is {master.offset - one.offset} bytes behind.")
        else:
            fit.append(one)
    best = max(fit, key=lambda one: (one.offset, one.name), default=None)
    return (best.name if best else "", reasons)
