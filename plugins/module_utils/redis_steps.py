# Apache License 2.0 (see LICENSE)
"""What to do next about a Redis Cluster. Pure.

`next_step` is all the thinking of the module redis_cluster: observe, do what it says, observe again, until it says done. It keeps no
memory of its own, so it goes on where a killed run stopped. How a cluster that has data gets other members is in redis_resize.
"""

from __future__ import annotations

from collections import Counter

from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import (
    SLOTS,
    Layout,
    LayoutError,
    Node,
    assign,
    is_even,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_resize import (
    Goal,
    Leaving,
    check_dead,
    half_moved,
    leave,
    next_resize,
    scaling,
    who_leaves,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import (
    Action,
    Observation,
    Refusal,
    Step,
    covered,
    settle,
    slots_text,
)

RESET_HINT = "If nothing on it is needed any more, empty it (FLUSHALL, then CLUSTER RESET HARD) or stop it and remove its data directory's files."


def next_step(nodes: list[Node], planned: Layout, seen: dict[str, Observation], goal: Goal | None = None) -> Step:
    """What brings the observed nodes closer to one whole cluster, or Refusal."""
    goal = goal or Goal()
    answered = [seen[node.name] for node in nodes if not seen[node.name].error]
    silent = [seen[node.name] for node in nodes if seen[node.name].error]
    leaving = who_leaves(goal, seen, answered)
    everyone = [*answered, *leaving.members]
    lost = _check_strangers(nodes, answered, silent, goal, leaving)
    # Also when others are silent: until then some keys are where nobody looks for them.
    step = half_moved(everyone)
    if step:
        return step
    if silent:
        return _with_silent(answered, silent, leaving, planned, goal)
    loading = [one.name for one in everyone if one.loading]
    if loading:
        return Step("wait", why=f"{', '.join(loading)} still loads its data.")
    step = check_dead(leaving, answered) if goal.remove else None
    if step:
        return step
    owners = [one for one in everyone if one.me.slots]
    _check_owners(planned, answered, owners)
    if covered(owners) < SLOTS:
        return _give_slots(nodes, planned, answered)
    step = _meet(nodes, answered, owners) or _forget(answered, lost)
    if step:
        return step
    if leaving.ids and not goal.remove:
        names = ", ".join(sorted(set(leaving.ids.values())))
        warning = f"{names} is to be removed and still a member. Until it is, the others keep the roles and slots that they have."
        return Step("done", warnings=(*leaving.warnings, warning))
    resizing = scaling(nodes, everyone, goal, len(planned.slots))
    step = next_resize(nodes, everyone, goal, leaving) if resizing else _replicate(nodes, planned, answered, owners)
    step = step or (leave(leaving, answered) if goal.remove else None) or settle(answered)
    return Step("done", warnings=leaving.warnings) if step.kind == "done" else step


def _check_strangers(
    nodes: list[Node], answered: list[Observation], silent: list[Observation], goal: Goal, leaving: Leaving
) -> set[str]:
    """Refuse members that aren't ours; return the ids of members whose place an empty node has taken (a rebuilt host)."""
    ours = {one.id for one in answered} | set(leaving.ids)
    addresses = {node.address for node in nodes}
    silent_addresses = {one.address for one in silent} | {node.address for node in goal.leaving}
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


def _unfinished(view: Observation, planned: Layout, goal: Goal) -> str:
    """What is still to be done about a cluster that serves all slots, besides members that join or leave."""
    owned = {
        key: sum(last - first + 1 for first, last in member.slots)
        for key, member in view.members.items()
        if member.slots
    }
    if len(owned) != len(planned.slots) or not is_even(owned, goal.tolerance_percent):
        return "slots move only"
    return "the layout is mended only" if goal.rebalance else ""


def _with_silent(
    answered: list[Observation], silent: list[Observation], leaving: Leaving, planned: Layout, goal: Goal
) -> Step:
    """Members that don't answer are no reason to touch a cluster that exists, and no cluster is made or changed without them."""
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
            coming = [one.name for one in answered if not one.others and not one.me.slots]
            waiting = _unfinished(view, planned, goal)
            if coming or leaving.ids:
                waiting = f"{', '.join([*coming, *leaving.ids.values()])} can join or leave only"
            if waiting:
                return Step(
                    "blocked",
                    why=f"{names} doesn't answer: {why} The cluster serves, but {waiting} when all members answer.",
                )
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
    whole = covered(owners) == SLOTS
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
