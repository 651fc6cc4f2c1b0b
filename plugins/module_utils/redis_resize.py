# Apache License 2.0 (see LICENSE)
"""What to do next about a Redis Cluster that has data and gets other members. Pure.

The order protects the data: newcomers become replicas before slots move, so that a new master is never alone; a replica that takes over
spares moving slots; only what is empty and has no replica any more is forgotten.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import (
    LayoutError,
    Move,
    Node,
    Target,
    is_even,
    resize,
    slot_moves,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import (
    Action,
    Member,
    Observation,
    Refusal,
    Step,
    flagged_slots,
    settle,
    slots_text,
)

CHUNK_SLOTS = 64


@dataclass(frozen=True)
class Goal:
    """What the cluster should be like, besides being one of all nodes."""

    replicas_per_master: int = 1
    #: Mend what failovers have made of the layout, and share the slots evenly.
    rebalance: bool = False
    #: Without that, shares of slots that differ by more than this (or masters without any) are taken for an unfinished move.
    tolerance_percent: int = 1
    #: Nodes that go. They are emptied, forgotten and reset if `remove`, otherwise just known.
    leaving: tuple[Node, ...] = ()
    remove: bool = True


# -------------------------------------------------------------------------------------------------------- half-moved slots


def half_moved(everyone: list[Observation]) -> Step | None:
    """Finish the slots that are marked as being moved; a run was killed, or a master died over it."""
    by_id = {one.id: one for one in everyone}
    by_name = {one.name: one for one in everyone}
    marks: dict[int, dict[str, tuple[str, str]]] = defaultdict(dict)
    for one in everyone:
        for text in one.me.moving:
            slot, way, other = text.split("-", 2)
            marks[int(slot)][one.name] = (way, other)
    moves: dict[tuple[str, str], list[int]] = defaultdict(list)
    actions, waiting = [], ""
    for slot in flagged_slots(everyone):
        claims = [one for one in everyone if _owns(one, slot)]
        if not claims:
            waiting = f"Slot {slot} is half moved, and no member that answers has it."
            continue
        owner = max(claims, key=lambda one: one.me.epoch)
        late = [one for one in claims if one is not owner]
        if late:
            actions += [
                Action(
                    one.name,
                    ("CLUSTER", "SETSLOT", slot, "NODE", owner.id),
                    f"{one.name}: take note that slot {slot} is {owner.name}'s",
                )
                for one in late
                if marks[slot].get(one.name, ("", ""))[1] == owner.id
            ]
            waiting = f"{', '.join(one.name for one in late)} doesn't know yet that slot {slot} is {owner.name}'s."
            continue
        target, why = _destination(slot, owner, marks[slot], everyone, by_id)
        if target:
            moves[owner.name, target].append(slot)
        elif why:
            waiting = why
        else:
            actions += [
                Action(name, ("CLUSTER", "SETSLOT", slot, "STABLE"), f"{name}: slot {slot} isn't being moved any more")
                for name in sorted(marks[slot])
            ]
    if actions:
        return Step("act", tuple(actions))
    if moves:
        (source, target), slots = next(iter(moves.items()))
        late = _who_takes_for_replica(everyone, source, target)
        if late:
            return Step("wait", why=f"{', '.join(late)} doesn't know yet that {source} and {target} are masters.")
        told = _tell_importer(by_name[source], by_name[target], slots)
        if told:
            return Step("act", told)
        left = sum(map(len, moves.values()))
        return Step("move", moves=(Move(source, target, tuple(slots[:CHUNK_SLOTS])),), left=left)
    return Step("blocked", why=waiting) if waiting else None


def _who_takes_for_replica(everyone: list[Observation], *names: str) -> list[str]:
    """Masters that haven't heard of a takeover yet; they refuse to give or take slots because of it."""
    ids = {one.id for one in everyone if one.name in names}
    return [
        one.name
        for one in everyone
        if not one.me.is_replica and any(one.others[key].is_replica for key in ids & one.others.keys())
    ]


def _tell_importer(source: Observation, target: Observation, slots: list[int]) -> tuple[Action, ...]:
    """Name the owner of slots to who imports them.

    Redis believes no gossip about a slot that it imports: when the owner was replaced by its replica meanwhile, the slot has no owner in
    the importer's view, for good, and it takes no key of it (CLUSTERDOWN).
    """
    owner = target.others.get(source.id)
    unknown = [slot for slot in slots if owner and not _has(owner, slot)]
    return tuple(
        Action(
            target.name,
            ("CLUSTER", "SETSLOT", slot, "NODE", source.id),
            f"{target.name}: take note that slot {slot} is {source.name}'s",
        )
        for slot in unknown
    )


def _owns(one: Observation, slot: int) -> bool:
    return not one.me.is_replica and _has(one.me, slot)


def _has(member: Member, slot: int) -> bool:
    return any(first <= slot <= last for first, last in member.slots)


def _destination(
    slot: int,
    owner: Observation,
    marks: dict[str, tuple[str, str]],
    everyone: list[Observation],
    by_id: dict[str, Observation],
) -> tuple[str, str]:
    """Where the rest of a half-moved slot goes: (name, "") or ("", why that can't be said now), both empty if it stays."""

    def master(one: Observation | None) -> Observation | None:
        return by_id.get(one.me.master_id) if one and one.me.is_replica else one

    others = [one for one in everyone if one is not owner and not one.me.is_replica]
    # Who has keys of it already, whatever the marks say: a replica that took over doesn't inherit them.
    holding = [one for one in others if one.half_moved.get(slot)]
    if holding:
        return max(holding, key=lambda one: (one.half_moved[slot], one.name)).name, ""
    way, wanted = marks.get(owner.name, ("", ""))
    if way == ">":
        target = master(by_id.get(wanted))
        if target and target is not owner:
            return target.name, ""
        if not target and wanted in owner.members:
            return "", (
                f"Slot {slot} is half moved from {owner.name} to {owner.members[wanted].address}, which doesn't answer and may have keys of it."
            )
    importing = sorted(one.name for one in others if marks.get(one.name, ("", ""))[0] == "<")
    return (importing[0], "") if importing else ("", "")


# --------------------------------------------------------------------------------------------------------------- resizing


def scaling(nodes: list[Node], everyone: list[Observation], goal: Goal, masters: int) -> bool:
    """Whether members or slots have to change places. Failovers alone are no reason."""
    owned = {one.name: one.slot_count for one in everyone if one.me.slots}
    staying = {node.name for node in nodes}
    return (
        goal.rebalance
        or any(one.name not in staying for one in everyone)
        or len(owned) != masters
        or not is_even(owned, goal.tolerance_percent)
    )


def target_of(nodes: list[Node], everyone: list[Observation], goal: Goal) -> Target:
    """The layout to be reached."""
    names = {one.id: one.name for one in everyone}
    slots = {one.name: one.slot_count for one in everyone if one.me.slots}
    links = {one.name: names.get(one.me.master_id, "") for one in everyone if one.me.is_replica}
    try:
        return resize(nodes, slots, links, goal.replicas_per_master)
    except LayoutError as error:
        raise Refusal(f"{_what_remains(goal)}{error}") from error


def _what_remains(goal: Goal) -> str:
    if not goal.leaving:
        return ""
    return f"Without {', '.join(node.name for node in goal.leaving)} no valid layout is left: "


def next_resize(nodes: list[Node], everyone: list[Observation], goal: Goal, leaving: Leaving) -> Step | None:
    """The next thing on the way to the layout that these nodes should have; None when it is reached."""
    target = target_of(nodes, everyone, goal)
    by_name = {one.name: one for one in everyone}
    names = {one.id: one.name for one in everyone}
    staying = {node.name for node in nodes}
    step = _attach(target, by_name, staying)
    if step:
        return step
    # Who has nothing any more may be half forgotten already.
    unsettled = settle(everyone, leaving.empty_ids)
    if unsettled.kind != "done":
        return unsettled
    for one in everyone:
        if one.name not in staying and one.me.slots and not {by_name[name].id for name in staying} <= set(one.others):
            return Step("wait", why=f"{one.name} doesn't know all others yet.")
    if target.promoted:
        # One at a time, so that a majority of masters is always at rest.
        replica, master = next(iter(sorted(target.promoted.items())))
        text = f"{replica}: take over from {master}"
        return Step(
            "act", (Action(replica, ("CLUSTER", "FAILOVER"), text),), why=f"{replica} is still a replica of {master}."
        )
    if target.reset:
        name = target.reset[0]
        text = f"{name}: become an empty node instead of a replica of {names.get(by_name[name].me.master_id, '?')}"
        return Step("act", (Action(name, ("CLUSTER", "RESET", "SOFT"), text),))
    moves = slot_moves({one.name: one.me.slots for one in everyone if one.me.slots}, list(target.masters))
    if moves:
        _check_memory(everyone, target)
        first = moves[0]
        chunk = Move(first.source, first.target, first.slots[:CHUNK_SLOTS])
        return Step("move", moves=(chunk,), left=sum(len(move.slots) for move in moves))
    return _point_anew(target, by_name, names)


def _attach(target: Target, by_name: dict[str, Observation], staying: set[str]) -> Step | None:
    """Newcomers and emptied masters become replicas, as soon as who they should follow is a master."""
    actions = tuple(
        Action(name, ("CLUSTER", "REPLICATE", by_name[master].id), f"{name}: become a replica of {master}")
        for name, master in sorted(target.master_of.items())
        if name in staying
        and not by_name[name].me.is_replica
        and not by_name[name].me.slots
        and not by_name[master].me.is_replica
        and by_name[master].id in by_name[name].others
    )
    return Step("act", actions) if actions else None


def _point_anew(target: Target, by_name: dict[str, Observation], names: dict[str, str]) -> Step | None:
    """One replica after the other goes to its new master."""
    for name, master in sorted(target.master_of.items()):
        one = by_name[name]
        if one.me.is_replica and names.get(one.me.master_id) != master:
            text = (
                f"{name}: become a replica of {master} instead of {names.get(one.me.master_id, one.me.master_id[:8])}"
            )
            return Step("act", (Action(name, ("CLUSTER", "REPLICATE", by_name[master].id), text),))
    return None


def _check_memory(everyone: list[Observation], target: Target) -> None:
    """Refuse to pour more into the masters than they hold."""
    share = sum(one.dataset_bytes for one in everyone if one.me.slots) // len(target.masters)
    for one in everyone:
        overhead = max(0, one.used_bytes - one.dataset_bytes)
        if one.name in target.masters and one.maxmemory_bytes and share + overhead > one.maxmemory_bytes:
            raise Refusal(
                f"The data doesn't fit: {len(target.masters)} masters would have {share >> 20} MiB each besides {overhead >> 20} MiB of "
                f"buffers, but {one.name} has maxmemory {one.maxmemory_bytes >> 20} MiB. Nothing was moved. Raise redis_maxmemory_bytes or "
                "redis_memory_percent, delete data, or keep more masters."
            )


def preview(nodes: list[Node], seen: dict[str, Observation], goal: Goal) -> tuple[list[str], dict] | None:
    """What a resize comes to, as sentences and as the layout afterwards; None if there is nothing to resize.

    Nodes that don't answer count as empty ones: in check mode a new host has no Redis yet.
    """
    staying = {node.name for node in nodes}
    everyone = [one for one in seen.values() if not one.error and (one.name in staying or one.others)]
    target = target_of(nodes, everyone, goal)
    names = {one.id: one.name for one in everyone}
    links = {one.name: names.get(one.me.master_id, "") for one in everyone if one.me.is_replica}
    owned = {one.name: one.me.slots for one in everyone if one.me.slots}
    lines = []
    for replica, master in sorted(target.promoted.items()):
        lines.append(f"{replica}: take over from {master}")
        owned[replica] = owned.pop(master)
    moves = slot_moves(owned, list(target.masters))
    lines += [f"move {len(move.slots)} slots from {move.source} to {move.target}" for move in moves]
    after = {name: {slot for first, last in its for slot in range(first, last + 1)} for name, its in owned.items()}
    for move in moves:
        after[move.source] -= set(move.slots)
        after.setdefault(move.target, set()).update(move.slots)
    heirs = {old: new for new, old in target.promoted.items()}
    for name, master in sorted(target.master_of.items()):
        if heirs.get(links.get(name, ""), links.get(name)) != master and heirs.get(name) != master:
            lines.append(f"{name}: become a replica of {master}")
    lines += [f"{one.name}: leave the cluster" for one in everyone if one.name not in staying]
    layout = {
        name: {
            "slots": slots_text(_ranges(after.get(name, set()))),
            "replicas": sorted(replica for replica, its in target.master_of.items() if its == name),
        }
        for name in sorted(target.masters, key=lambda name: min(after.get(name) or {0}))
    }
    return (lines, layout) if lines else None


def _ranges(slots: set[int]) -> tuple[tuple[int, int], ...]:
    found: list[list[int]] = []
    for slot in sorted(slots):
        if found and found[-1][1] == slot - 1:
            found[-1][1] = slot
        else:
            found.append([slot, slot])
    return tuple((first, last) for first, last in found)


# ---------------------------------------------------------------------------------------------------------------- leaving


@dataclass(frozen=True)
class Leaving:
    """Nodes that go, by how far they have come."""

    #: Members like all others.
    members: tuple[Observation, ...] = ()
    #: The others don't know them any more, but they still know the others.
    forgotten: tuple[Observation, ...] = ()
    #: They don't answer, but the others know them: id -> name.
    dead: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def ids(self) -> dict[str, str]:
        return {**{one.id: one.name for one in self.members}, **self.dead}

    @property
    def empty_ids(self) -> frozenset[str]:
        """Those that have no slots any more (of dead ones that is checked before)."""
        gone = (one.id for one in (*self.members, *self.forgotten) if not one.me.slots)
        return frozenset({*self.dead, *gone})


def who_leaves(goal: Goal, seen: dict[str, Observation], answered: list[Observation]) -> Leaving:
    """Sort the nodes that go. One that knows nobody and has no slots has gone already."""
    known: dict[str, Member] = {key: member for one in answered for key, member in one.others.items()}
    ours = {one.id for one in answered}
    members, forgotten, warnings, dead = [], [], [], {}
    for node in goal.leaving:
        one = seen[node.name]
        dead.update({key: node.name for key, its in known.items() if its.address == node.address and key != one.id})
        if one.error:
            continue
        if one.id in known:
            members.append(one)
        elif ours & set(one.others):
            forgotten.append(one)
        elif one.others or one.me.slots:
            warnings.append(
                f"{one.name} ({one.address}) is to be removed, but belongs to another cluster. Nothing is done with it."
            )
    return Leaving(tuple(members), tuple(forgotten), dead, tuple(warnings))


def still_members(nodes: list[Node], leaving: list[Node], seen: dict[str, Observation]) -> list[Node]:
    """Which of the nodes that go the others still count as members."""
    answered = [seen[node.name] for node in nodes if not seen[node.name].error]
    names = set(who_leaves(Goal(leaving=tuple(leaving)), seen, answered).ids.values())
    return [node for node in leaving if node.name in names]


def check_dead(leaving: Leaving, answered: list[Observation]) -> Step | None:
    """A dead member's slots have to be with its replica, and all have to agree that it is dead."""
    for one in answered:
        for key in sorted(set(leaving.dead) & set(one.others)):
            member, name = one.others[key], leaving.dead[key]
            where = f"{name} ({member.address})"
            if "fail" not in member.flags:
                return Step(
                    "blocked",
                    why=f"{where} can't be talked to, but {one.name} doesn't count it as failed: it may be alive. Let it be reached from here, "
                    "or stop it.",
                )
            if member.slots:
                return Step(
                    "blocked",
                    why=f"{where} is dead and still has the slots {slots_text(member.slots)}; no replica took them over. Forgetting it would "
                    "give up their data. Start it again, or restore its data directory, then remove it.",
                )
    return None


def leave(leaving: Leaving, answered: list[Observation]) -> Step | None:
    """All forget who goes at the same time (gossip of one would bring it back to the others after a minute), then it is reset."""
    actions = []
    for one in answered:
        for key in sorted(set(leaving.ids) & set(one.others)):
            if one.me.master_id == key:
                return Step("wait", why=f"{one.name} still replicates from {leaving.ids[key]}.")
            actions.append(
                Action(
                    one.name,
                    ("CLUSTER", "FORGET", key),
                    f"{one.name}: forget {leaving.ids[key]}",
                    unless="Unknown node",  # a forgetting member tells others of it (Redis 7.2)
                )
            )
    if actions:
        return Step("act", tuple(actions))
    for one in leaving.forgotten:
        if one.me.slots or (one.keys and not one.me.is_replica):
            raise Refusal(
                f"{one.name} ({one.address}) is no member any more but holds {one.keys} keys in the slots {slots_text(one.me.slots) or '(none)'}. "
                "The cluster goes on without them: it was away while its replica took over, or it was removed by hand. Nothing was deleted. "
                "If they aren't needed, empty it (FLUSHALL, then CLUSTER RESET HARD) or stop it and remove its data directory's files."
            )
        actions.append(Action(one.name, ("CLUSTER", "RESET", "HARD"), f"{one.name}: know nobody any more"))
    return Step("act", tuple(actions)) if actions else None
