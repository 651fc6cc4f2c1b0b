# Apache License 2.0 (see LICENSE)
"""What the Redis servers and the sentinels of one master say, and what that means. Pure. What to do about it is in redis_sentinel_steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Node
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import parse_info

# Whom a server replicates from as long as nobody has given it a role: no one answers there, so it serves nothing and is nobody's master.
NOBODY = ("127.0.0.1", 1)
MASTER, REPLICA, UNASSIGNED = "master", "replica", "unassigned"
#: A failover that goes on: sentinels and servers don't agree meanwhile.
CHANGING = frozenset({"failover_in_progress", "force_failover"})


def sentinel_of(name: str) -> str:
    """What the sentinel beside a server is called in messages, and among the connections."""
    return f"the sentinel of {name}"


@dataclass(frozen=True)
class Server:
    """What one redis-server says. With `error` it said nothing else."""

    name: str
    address: str
    error: str = ""
    role: str = ""
    master: str = ""
    link_up: bool = False
    syncing: bool = False
    last_io_seconds: int = -1
    offset: int = 0
    keys: int = 0
    replicas: int = 0
    loading: bool = False
    version: str = ""
    persistence: tuple[str, ...] = ()


@dataclass(frozen=True)
class Other:
    """Another sentinel, or a replica, in the view of a sentinel."""

    address: str
    flags: frozenset[str] = frozenset()

    @property
    def down(self) -> bool:
        return bool(self.flags & {"s_down", "o_down", "disconnected"})


@dataclass(frozen=True)
class Sentinel:
    """What one sentinel says about the master that it watches; `master` is empty when it watches none. With `error` it said nothing."""

    name: str
    address: str
    error: str = ""
    master: str = ""
    epoch: int = 0
    flags: frozenset[str] = frozenset()
    quorum: int = 0
    options: dict[str, str] = field(default_factory=dict)
    sentinels: tuple[Other, ...] = ()
    replicas: tuple[Other, ...] = ()


@dataclass(frozen=True)
class World:
    """What everybody says, by the name of the host."""

    servers: dict[str, Server]
    sentinels: dict[str, Sentinel]


def pairs(reply: object) -> dict[str, str]:
    """A map as RESP2 (a flat list) or RESP3 gives it."""
    if isinstance(reply, Mapping):
        return {str(key): str(value) for key, value in reply.items()}
    flat = list(reply) if isinstance(reply, Iterable) else []
    return {str(key): str(value) for key, value in zip(flat[::2], flat[1::2], strict=True)}


def server(node: Node, info: str) -> Server:
    """INFO of one server."""
    found = parse_info(info)
    replica = found.get("role") == "slave"
    master = (found.get("master_host", ""), int(found.get("master_port", 0))) if replica else ("", 0)
    keyspace = [value for key, value in found.items() if key.startswith("db") and "keys=" in value]
    return Server(
        name=node.name,
        address=node.address,
        role=UNASSIGNED if master == NOBODY else REPLICA if replica else MASTER,
        master=f"{master[0]}:{master[1]}" if replica and master != NOBODY else "",
        link_up=found.get("master_link_status") == "up",
        syncing=found.get("master_sync_in_progress", "0") != "0",
        last_io_seconds=int(found.get("master_last_io_seconds_ago", -1)),
        offset=int(found.get("slave_repl_offset" if replica else "master_repl_offset", 0)),
        keys=sum(int(value.split("keys=")[1].split(",")[0]) for value in keyspace),
        replicas=int(found.get("connected_slaves", 0)),
        loading=found.get("loading", "0") != "0",
        version=found.get("redis_version", ""),
        persistence=tuple(
            f"{what} failed"
            for key, what in (
                ("rdb_last_bgsave_status", "its last snapshot"),
                ("aof_last_write_status", "its last write to the append-only file"),
            )
            if found.get(key, "ok") != "ok"
        ),
    )


def other(reply: object) -> Other:
    """One entry of SENTINEL SENTINELS or SENTINEL REPLICAS."""
    found = pairs(reply)
    return Other(f"{found.get('ip')}:{found.get('port')}", frozenset(found.get("flags", "").split(",")))


def sentinel(name: str, address: str, master: object, sentinels: Iterable = (), replicas: Iterable = ()) -> Sentinel:
    """SENTINEL MASTER, SENTINELS and REPLICAS of one sentinel; `master` is None when it watches none of that name."""
    if master is None:
        return Sentinel(name, address)
    found = pairs(master)
    return Sentinel(
        name=name,
        address=address,
        master=f"{found.get('ip')}:{found.get('port')}",
        epoch=int(found.get("config-epoch", 0)),
        flags=frozenset(found.get("flags", "").split(",")),
        quorum=int(found.get("quorum", 0)),
        options=found,
        sentinels=tuple(map(other, sentinels)),
        replicas=tuple(map(other, replicas)),
    )


def has_role(running: str) -> bool:
    """Whether a server that was started from this file is a master or a replica."""
    return f"\nreplicaof {NOBODY[0]} {NOBODY[1]}\n" not in f"\n{running}\n"


def majority(count: int) -> int:
    """How many of so many sentinels have to agree."""
    return count // 2 + 1


def elected(world: World) -> str:
    """The master's address by the newest of what the sentinels say; empty when none of them watches one."""
    watching = [one for one in world.sentinels.values() if not one.error and one.master]
    # Two that say the same epoch and not the same master don't exist: an epoch is given to one failover by a majority.
    return max(watching, key=lambda one: (one.epoch, one.name)).master if watching else ""


def unlike(one: Sentinel, options: Mapping[str, object]) -> dict[str, object]:
    """Those of the wanted options that a sentinel can tell and has otherwise."""
    return {name: value for name, value in options.items() if name in one.options and one.options[name] != str(value)}


def roles(world: World) -> dict[str, str]:
    """master or replica, of every server that answers."""
    return {one.name: MASTER if one.role == MASTER else REPLICA for one in world.servers.values() if not one.error}


def layout(world: World) -> dict:
    """The masters and their replicas, in the form that a cluster's layout has."""
    found = {
        one.name: {"slots": "", "replicas": []}
        for one in world.servers.values()
        if not one.error and one.role == MASTER
    }
    names = {one.address: one.name for one in world.servers.values()}
    for one in world.servers.values():
        if not one.error and one.role == REPLICA and names.get(one.master) in found:
            found[names[one.master]]["replicas"].append(one.name)
    for entry in found.values():
        entry["replicas"].sort()
    return dict(sorted(found.items()))


# -------------------------------------------------------------------------------------------------------------- assessing


def assess(
    nodes: list[Node],
    sentinel_port: int,
    master_name: str,
    world: World,
    max_silence_seconds: int,
    leaving: tuple[str, ...] = (),
) -> dict:
    """The result of redis_sentinel_info. `leaving` are names of nodes that are known until they have left."""
    names = {one.address: one.name for one in world.servers.values()}
    members = {node.name for node in nodes}
    master = elected(world)
    failed: set[str] = set()
    problems: list[str] = []
    for node in nodes:
        problems += _server_problems(world.servers[node.name], master, names, max_silence_seconds)
    masters = sorted(one.name for one in world.servers.values() if not one.error and one.role == MASTER)
    if master and master not in names:
        problems.append(f"The sentinels say that the master is {master}, which isn't in the inventory.")
    elif not master:
        problems.append(f"No sentinel watches a master called '{master_name}'.")
    for node in nodes:
        one = world.sentinels[node.name]
        problems += _sentinel_problems(one, nodes, sentinel_port, master, world, leaving)
        if one.error:
            continue
        failed |= {names[seen.address] for seen in one.replicas if seen.down and names.get(seen.address) in members}
        if one.flags & {"s_down", "o_down"} and one.master in names:
            failed.add(names[one.master])
    problems += [f"{name} is counted as failed by sentinels." for name in sorted(failed)]
    usable = [one for one in world.sentinels.values() if one.name in members and not one.error and one.master == master]
    if master and len(usable) < majority(len(nodes)):
        problems.append(f"Only {len(usable)} of {len(nodes)} sentinels watch the master: no failover is possible.")
    answered = [world.servers[node.name] for node in nodes if not world.servers[node.name].error]
    return {
        "healthy": not problems,
        "problems": problems,
        "mode": "sentinel",
        "master": names.get(master, master),
        "masters": masters,
        "replicas": sorted(one.name for one in world.servers.values() if not one.error and one.role == REPLICA),
        "members": {name: _member(name, nodes, world, names, master) for name in [*members, *leaving]},
        "layout": layout(world),
        "failed_members": sorted(failed),
        "unreachable_members": sorted(node.name for node in nodes if world.servers[node.name].error),
        "unreachable_sentinels": sorted(node.name for node in nodes if world.sentinels[node.name].error),
        "versions": sorted({one.version for one in answered}),
    }


def _server_problems(one: Server, master: str, names: Mapping[str, str], max_silence_seconds: int) -> list[str]:
    if one.error:
        return [one.error]
    found = [f"{one.name}: {what}." for what in one.persistence]
    if one.loading:
        found.append(f"{one.name} still loads its data.")
    if one.role == UNASSIGNED:
        found.append(f"{one.name} has no role yet: it is neither master nor replica.")
    elif one.role == MASTER and one.address != master:
        found.append(
            f"{one.name} is a master and not the one that the sentinels name ({names.get(master, master) or 'none'})."
        )
    elif one.role == REPLICA and one.address == master:
        found.append(f"{one.name} is the sentinels' master, but a replica of {names.get(one.master, one.master)}.")
    elif one.role == REPLICA and one.master != master:
        found.append(f"{one.name} replicates from {names.get(one.master, one.master)}, which isn't the master.")
    elif one.role == REPLICA and not one.link_up:
        found.append(f"{one.name} has no replication link to its master {names.get(one.master, one.master)}.")
    elif one.role == REPLICA and one.last_io_seconds > max_silence_seconds:
        found.append(f"{one.name} heard nothing of its master for {one.last_io_seconds} s.")
    return found


def _sentinel_problems(
    one: Sentinel, nodes: list[Node], port: int, master: str, world: World, leaving: tuple[str, ...]
) -> list[str]:
    title = sentinel_of(one.name)
    title = title[0].upper() + title[1:]
    if one.error:
        return [one.error]
    if not one.master:
        return [f"{title} watches no master."]
    found = []
    if one.flags & CHANGING:
        found.append(f"{title} is in the middle of a failover.")
    if one.master != master:
        found.append(f"{title} says that the master is {one.master}, the newest word is {master}.")
    wanted_quorum = majority(len(nodes) + len(leaving))
    if one.quorum != wanted_quorum:
        found.append(f"{title} has the quorum {one.quorum} instead of {wanted_quorum}.")
    going = [world.servers[name].address for name in leaving]
    hosts = {address.rsplit(":", 1)[0] for address in going}
    wanted = {f"{node.host}:{port}" for node in nodes if node.name != one.name}
    known = {seen.address for seen in one.sentinels}
    strangers = sorted(known - wanted - {f"{host}:{port}" for host in hosts})
    found += [f"{title} remembers the sentinel {address}, which isn't in the inventory." for address in strangers]
    missing = sorted(wanted - known)
    if missing:
        found.append(f"{title} doesn't know the sentinels {', '.join(missing)}.")
    down = sorted(seen.address for seen in one.sentinels if seen.down and seen.address in wanted)
    found += [f"{title} doesn't reach the sentinel {address}." for address in down]
    replicas = {seen.address for seen in one.replicas}
    ours = {node.address for node in nodes}
    found += [
        f"{title} remembers the replica {address}, which isn't in the inventory."
        for address in sorted(replicas - ours - set(going))
    ]
    missing = sorted(ours - replicas - {one.master})
    if missing:
        found.append(f"{title} doesn't know the replicas {', '.join(missing)}.")
    return found


def _member(name: str, nodes: list[Node], world: World, names: Mapping[str, str], master: str) -> dict:
    one, beside = world.servers[name], world.sentinels[name]
    domains = {node.name: node.domain for node in nodes}
    found = {
        "address": one.address,
        "failure_domain": domains.get(name, name),
        "reachable": not one.error,
        "role": "unknown",
        "sentinel_reachable": not beside.error,
        "sentinel_master": "" if beside.error else names.get(beside.master, beside.master),
    }
    if one.error:
        return found
    source = next((its for its in world.servers.values() if its.address == one.master), None)
    return {
        **found,
        "role": one.role,
        "version": one.version,
        "keys": one.keys,
        "master": names.get(one.master, one.master),
        "link_up": one.link_up if one.role == REPLICA else None,
        "lag_bytes": max(0, source.offset - one.offset) if source and not source.error else None,
    }


def handed_over(world: World, members: Iterable[str], old: str, new: str) -> str:
    """Why the handover from one server to another isn't complete yet; "" when it is."""
    before, after = world.servers[old], world.servers[new]
    for one in (before, after):
        if one.error:
            return one.error
    if after.role != MASTER:
        return f"{new} is still a replica."
    if before.role != REPLICA or before.master != after.address:
        return f"{old} isn't a replica of {new} yet."
    members = list(members)
    for name in members:
        one = world.servers[name]
        if one.error or name == new:
            continue
        if one.master != after.address or not one.link_up:
            return f"{name} isn't in sync with {new} yet."
    said = Counter(
        one.master for one in (world.sentinels[name] for name in members) if not one.error and not one.flags & CHANGING
    )
    if said[after.address] < sum(not world.sentinels[name].error for name in members):
        return f"Not all sentinels name {new} as the master yet."
    return ""
