# Apache License 2.0 (see LICENSE)
"""What to do next about a master with its replicas and sentinels. Pure.

Who is master is decided here once, for servers that have no role and no data. From then on the sentinels decide, and what they say is
never written over: newcomers follow the master that they name, and a handover is theirs. Nothing is remembered between two looks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Node
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_state import (
    CHANGING,
    MASTER,
    NOBODY,
    REPLICA,
    UNASSIGNED,
    Sentinel,
    Server,
    World,
    elected,
    majority,
    sentinel_of,
    unlike,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import Action, Refusal, Step

MINIMUM_MEMBERS = 3
SECRETS = ("auth-user", "auth-pass")  # no sentinel tells them


@dataclass(frozen=True)
class Goal:
    """What all sentinels are to have, and who goes."""

    master_name: str
    sentinel_port: int
    #: Of SENTINEL SET. SECRETS among them are set whenever one of the others is.
    options: dict[str, object] = field(default_factory=dict)
    #: The user that sentinels sign in with at the servers.
    sentinel_user: str = ""
    leaving: tuple[Node, ...] = ()
    #: Whether those that leave are taken out now, or just known.
    remove: bool = True


def next_step(nodes: list[Node], world: World, goal: Goal) -> Step:
    """done, act, wait, blocked as everywhere, or hand_over: let a replica take over from the server `why`. Or Refusal."""
    if len(nodes) < MINIMUM_MEMBERS:
        raise Refusal(
            f"{len(nodes)} hosts ({', '.join(node.name for node in nodes)}) would be left: sentinels need a majority, so there have to be at "
            f"least {MINIMUM_MEMBERS}. Nothing was changed."
        )
    master = elected(world)
    if not master:
        return _form(nodes, world, goal)
    by_address = {node.address: node for node in (*nodes, *goal.leaving)}
    if master not in by_address:
        raise Refusal(
            f"The sentinels say that the master is {master}, which is not one of the nodes given. Is that another platform's, or is a host "
            "missing in the inventory's group? Nothing was changed."
        )
    head = world.servers[by_address[master].name]
    step = _follow(nodes, world, goal, head)
    if step:
        return step
    if still_members(nodes, world, goal):
        if goal.remove:
            return _leave(nodes, world, goal, head)
        names = ", ".join(still_members(nodes, world, goal))
        warning = f"{names} is to be removed and still a member. Until it is, it stays what it is."
        return Step("done", warnings=(warning,))
    return settle(nodes, world, goal)


# --------------------------------------------------------------------------------------------------------------- forming


def _form(nodes: list[Node], world: World, goal: Goal) -> Step:
    """No sentinel knows a master: there was none yet, or forming was interrupted."""
    silent = [
        one.error for node in nodes for one in (world.servers[node.name], world.sentinels[node.name]) if one.error
    ]
    if silent:
        # Whoever is silent could be the master.
        return Step(
            "blocked", why=f"No sentinel knows a master yet, and one is chosen only when all answer. {silent[0]}"
        )
    answered = [one for one in world.servers.values() if not one.error]
    loading = [one.name for one in answered if one.loading]
    if loading:
        return Step("wait", why=f"{', '.join(loading)} still loads its data.")
    masters = [one for one in answered if one.role == MASTER]
    if len(masters) > 1:
        raise Refusal(
            f"{' and '.join(one.name for one in masters)} are masters, and no sentinel says which of them is the right one. Nothing was "
            "changed. Keep the one with the data that counts: stop the others and move their data directory's files away, then run again."
        )
    lost = [one for one in answered if one.role == REPLICA and (not masters or one.master != masters[0].address)]
    if lost:
        raise Refusal(
            f"{lost[0].name} is a replica of {lost[0].master}, and no sentinel knows a master. Nothing was changed: its data may be the only "
            f"copy. If it is to be the master, run REPLICAOF NO ONE and CONFIG REWRITE on it, then run again."
        )
    if not masters:
        full = [one for one in answered if one.keys]
        if full:
            raise Refusal(
                f"{full[0].name} has {full[0].keys} keys, and nothing says whether it was the master. They are never overwritten: if it is to "
                "be the master, run REPLICAOF NO ONE and CONFIG REWRITE on it, otherwise move its data directory's files away; then run again."
            )
        first = nodes[0].name
        return Step("act", (*_become(first, "NO", "ONE", text=f"{first} becomes the first master"),))
    head = masters[0]
    return Step("act", tuple(action for node in nodes for action in _watch(node.name, head, len(nodes), goal)))


def _become(name: str, host: object, port: object, text: str) -> tuple[Action, ...]:
    """Another role, kept over restarts."""
    return (
        Action(name, ("REPLICAOF", host, port), text),
        Action(name, ("CONFIG", "REWRITE"), f"{name} keeps that over restarts"),
    )


def _watch(name: str, head: Server, members: int, goal: Goal) -> tuple[Action, ...]:
    host, port = head.address.rsplit(":", 1)
    target = sentinel_of(name)
    monitor = ("SENTINEL", "MONITOR", goal.master_name, host, int(port), majority(members))
    return (
        Action(target, monitor, f"{target} watches the master {head.name}"),
        *_set_all(name, goal),
    )


def _set_all(name: str, goal: Goal) -> tuple[Action, ...]:
    """The secrets first: where the others are set, those are too, whenever a run is killed."""
    return tuple(
        _set(name, key, goal.options[key], goal)
        for key in sorted(goal.options, key=lambda key: (key not in SECRETS, key))
    )


def _set(name: str, key: str, value: object, goal: Goal) -> Action:
    target = sentinel_of(name)
    shown = "" if key in SECRETS else f" {value}"
    return Action(target, ("SENTINEL", "SET", goal.master_name, key, value), f"{target}: {key}{shown}")


# ------------------------------------------------------------------------------------------------------------- following


def _follow(nodes: list[Node], world: World, goal: Goal, head: Server) -> Step | None:
    """Whoever has no role follows the sentinels' master; sentinels that watch none begin to."""
    servers = [world.servers[node.name] for node in nodes]
    sentinels = [world.sentinels[node.name] for node in nodes]
    new = [one for one in servers if not one.error and one.role == UNASSIGNED]
    blind = [one for one in sentinels if not one.error and not one.master]
    if head.error or head.role != MASTER or head.loading:
        why = (
            head.error
            or f"{head.name} is the sentinels' master, and {'still loads its data' if head.loading else 'a replica'}."
        )
        return Step("wait", why=why)
    actions: list[Action] = []
    # Those that leave count until they have left.
    members = len(nodes) + len(still_members(nodes, world, goal))
    for one in blind:
        actions += _watch(one.name, head, members, goal)
    host, port = head.address.rsplit(":", 1)
    for one in new:
        actions += _become(one.name, host, int(port), text=f"{one.name} becomes a replica of {head.name}")
    for one in sentinels:
        if one.error or not one.master:
            continue
        if unlike(one, goal.options):
            actions += _set_all(one.name, goal)
        if one.quorum != majority(members):
            actions.append(_set(one.name, "quorum", majority(members), goal))
    return Step("act", tuple(actions)) if actions else None


def settle(nodes: list[Node], world: World, goal: Goal) -> Step:
    """Wait until all that answer agree that all is well."""
    master = elected(world)
    for node in nodes:
        one = world.servers[node.name]
        if one.error or one.address == master:
            continue
        if one.role == MASTER:
            return Step(
                "wait", why=f"{one.name} still is a master; the sentinels are to make it a replica of {master}."
            )
        if one.master != master:
            return Step(
                "wait", why=f"{one.name} replicates from {one.master}; the sentinels are to make it follow {master}."
            )
        if not one.link_up:
            return Step("wait", why=f"{one.name} isn't in sync with its master yet.")
    for node in nodes:
        beside = world.sentinels[node.name]
        if beside.error:
            continue
        why = _behind(beside, nodes, world, goal, master)
        if why:
            return Step("wait", why=why)
    for node in nodes:
        step = _cut_off(world.sentinels[node.name], nodes, world, goal)
        if step:
            return step
    return Step("done")


def _cut_off(one: Sentinel, nodes: list[Node], world: World, goal: Goal) -> Step | None:
    """A sentinel that takes for down who answers.

    That passes within seconds, but for one case. When a password was changed and it connected with the older one, it never does so again as
    long as the connection lasts. So, should it last, connections that nobody has signed in on are closed.
    """
    if one.error:
        return None
    down = {seen.address for seen in (*one.sentinels, *one.replicas) if seen.down}
    down |= {one.master} if one.flags & {"s_down", "o_down", "disconnected"} else set()
    for node in nodes:
        for target, address, silent in (
            (node.name, node.address, world.servers[node.name].error),
            (sentinel_of(node.name), f"{node.host}:{goal.sentinel_port}", world.sentinels[node.name].error),
        ):
            if address in down and not silent:
                text = f"{target} closes the connections that nobody signed in on"
                return Step(
                    "wait",
                    (Action(target, ("CLIENT", "KILL", "USER", "default"), text),),
                    why=f"{sentinel_of(one.name)} takes {target} for down.",
                )
    return None


def _behind(one: Sentinel, nodes: list[Node], world: World, goal: Goal, master: str) -> str:
    """What a sentinel doesn't know yet."""
    if one.flags & CHANGING:
        return f"{sentinel_of(one.name)} is in the middle of a failover."
    if one.master != master:
        return f"{sentinel_of(one.name)} doesn't know yet that the master is {master}."
    missing = _wanted_sentinels(one.name, nodes, world, goal) - {seen.address for seen in one.sentinels}
    if missing:
        return f"{sentinel_of(one.name)} doesn't know the sentinel {min(missing)} yet."
    replicas = {world.servers[node.name].address for node in nodes if not world.servers[node.name].error} - {master}
    missing = replicas - {seen.address for seen in one.replicas}
    return f"{sentinel_of(one.name)} doesn't know the replica {min(missing)} yet." if missing else ""


def _wanted_sentinels(name: str, nodes: list[Node], world: World, goal: Goal) -> set[str]:
    return {
        f"{node.host}:{goal.sentinel_port}"
        for node in nodes
        if node.name != name and not world.sentinels[node.name].error
    }


# --------------------------------------------------------------------------------------------------------------- leaving


def still_members(nodes: list[Node], world: World, goal: Goal) -> list[str]:
    """Those that leave and are still known, or still take part."""
    answered = [world.sentinels[node.name] for node in nodes if not world.sentinels[node.name].error]
    known = {seen.address for one in answered for seen in (*one.sentinels, *one.replicas)}
    known |= {one.master for one in answered}
    found = []
    for node in goal.leaving:
        one, beside = world.servers[node.name], world.sentinels[node.name]
        takes_part = (not one.error and one.role != UNASSIGNED) or (not beside.error and beside.master)
        if takes_part or known & {node.address, f"{node.host}:{goal.sentinel_port}"}:
            found.append(node.name)
    return found


def _leave(nodes: list[Node], world: World, goal: Goal, head: Server) -> Step:
    silent = [
        one.error for node in nodes for one in (world.servers[node.name], world.sentinels[node.name]) if one.error
    ]
    if silent:
        raise Refusal(
            f"Hosts can leave only when all members that stay answer: {silent[0]} Bring it back, or remove it too. Nothing was changed."
        )
    settled = settle(nodes, world, goal) if head.name in {node.name for node in nodes} else None
    actions: list[Action] = []
    for node in goal.leaving:
        one, beside = world.servers[node.name], world.sentinels[node.name]
        if not beside.error and beside.master:
            target = sentinel_of(node.name)
            actions.append(
                Action(target, ("SENTINEL", "REMOVE", goal.master_name), f"{target} watches the master no longer")
            )
        if not one.error and one.role == REPLICA:
            actions += _part(node.name, goal)
    if actions:
        # Before a copy goes, the others have to be whole.
        return settled if settled and settled.kind == "wait" else Step("act", tuple(actions))
    return (
        _forget(nodes, world, goal, head)
        or (Step("hand_over", why=head.name) if head.name in {node.name for node in goal.leaving} else None)
        or settle(nodes, world, goal)
    )


def _part(name: str, goal: Goal) -> tuple[Action, ...]:
    """Replicates no more. Sentinels would bring it back before they have forgotten it, so they may not sign in any more."""
    shut = (
        (
            Action(name, ("ACL", "SETUSER", goal.sentinel_user, "off"), f"{name} takes no orders from sentinels"),
            Action(name, ("CLIENT", "KILL", "USER", goal.sentinel_user), f"{name} closes the sentinels' connections"),
        )
        if goal.sentinel_user
        else ()
    )
    return (*shut, *_become(name, *NOBODY, text=f"{name} replicates no longer"))


def _forget(nodes: list[Node], world: World, goal: Goal, head: Server) -> Step | None:
    """One sentinel after the other forgets what it knows and finds the members anew: meanwhile the others are a majority."""
    sentinels = {f"{node.host}:{goal.sentinel_port}" for node in nodes}
    replicas = {node.address for node in nodes} | {head.address}
    full = []
    for node in nodes:
        one = world.sentinels[node.name]
        strangers = {seen.address for seen in one.sentinels} - sentinels
        strangers |= {seen.address for seen in one.replicas} - replicas
        if strangers:
            full.append(node.name)
    if not full:
        return None
    for node in nodes:
        why = _behind(world.sentinels[node.name], nodes, world, goal, head.address)
        if why:
            return Step("wait", why=why)
    target = sentinel_of(full[0])
    gone = ", ".join(node.name for node in goal.leaving)
    return Step("act", (Action(target, ("SENTINEL", "RESET", goal.master_name), f"{target} forgets {gone}"),))
