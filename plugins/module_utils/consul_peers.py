# Apache License 2.0 (see LICENSE)
"""Which servers may leave a Consul cluster, and in which order. No input or output here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# With fewer servers than this, the loss of one is the loss of the majority.
FEWEST_SERVERS = 3


@dataclass(frozen=True)
class Leaving:
    """A server that is to leave: what the others see of it."""

    name: str
    alive: bool  # gossip hears of it
    peer: str  # its id among the Raft peers; empty when it is none
    leader: bool
    member: bool  # gossip knows it, alive or not

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "alive": self.alive, "peer": bool(self.peer), "leader": self.leader}


@dataclass
class Plan:
    leaving: list[Leaving] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    # Like refused, but time may cure it: a server that has just joined votes after autopilot's stabilisation time.
    unready: list[str] = field(default_factory=list)


def peer_of(name: str, address: str, peers: list[dict[str, Any]]) -> dict[str, Any]:
    """The Raft peer of a server. Gossip forgets a dead one after some days, and Raft then knows it by its address alone."""
    for peer in peers:
        if peer.get("Node") == name:
            return peer
    for peer in peers:
        if peer.get("Node") in ("", "(unknown)", None) and str(peer.get("Address", "")).rpartition(":")[0] == address:
            return peer
    return {}


def plan(
    peers: list[dict[str, Any]],
    servers: list[dict[str, Any]],
    members: dict[str, list[str]],
    staying: list[str],
    removed: dict[str, str],
    replacing: bool = False,
) -> Plan:
    """Who leaves next, and why nobody may.

    `peers` are Raft's, `servers` autopilot's (`servers_of`), `members` gossip's (`members_of`). What is dead leaves first, as it only counts
    against the majority; the leader last. A dead server that is replaced (`replacing`) leaves as many as there were.
    """
    found = Plan()
    known = {name for state in ("alive", "failed", "leaving") for name in members.get(state, [])}
    for name in sorted(removed):
        peer = peer_of(name, removed[name], peers)
        leaving = Leaving(
            name, name in members.get("alive", []), peer.get("ID", ""), bool(peer.get("Leader")), name in known
        )
        if leaving.peer or leaving.member:
            found.leaving.append(leaving)
    found.leaving.sort(key=lambda one: (one.leader, one.alive, one.name))
    if found.leaving:
        found.refused = refusals(found.leaving, staying, replacing)
        found.unready = [] if found.refused else unready(found.leaving, staying, servers)
    return found


def refusals(leaving: list[Leaving], staying: list[str], replacing: bool) -> list[str]:
    """Why these may not leave."""
    who = ", ".join(one.name for one in leaving)
    both = sorted({one.name for one in leaving} & set(staying))
    if both:
        return [
            f"{', '.join(both)} can't both stay and leave; it is in the groups consul_servers and consul_servers_removed."
        ]
    refused = []
    if replacing:
        refused += [
            f"{one.name} can't be replaced: the others hear of it. Switch the old machine off first."
            for one in leaving
            if one.alive
        ]
    elif len(staying) < FEWEST_SERVERS:
        refused.append(
            f"{who} can't leave: {len(staying)} {'server' if len(staying) == 1 else 'servers'} would stay, and with fewer than "
            f"{FEWEST_SERVERS} the loss of one is the loss of the majority. Put the host back into the group consul_servers, or add another "
            "one first."
        )
    elif len(staying) % 2 == 0:
        refused.append(
            f"{who} can't leave: {len(staying)} servers would stay, and an even number survives no more losses than one less. "
            "Let one more leave, or one less."
        )
    return refused


def unready(leaving: list[Leaving], staying: list[str], servers: list[dict[str, Any]]) -> list[str]:
    """Which of those that stay can't carry the cluster, yet."""
    who = ", ".join(one.name for one in leaving)
    found = []
    state = {server["name"]: server for server in servers}
    for name in sorted(staying):
        server = state.get(name)
        wrong = (
            "isn't among the Raft peers"
            if server is None
            else f"is {server['status'] or 'in an unknown state'}"
            if server["status"] != "alive"
            else "isn't healthy"
            if not server["healthy"]
            else "doesn't vote yet"
            if not server["voter"]
            else ""
        )
        if wrong:
            found.append(
                f"{who} can't leave while {name}, which is to stay, {wrong}. Start consul.service there (journalctl -u consul), or list the "
                "host in the group consul_servers_removed too if it is gone for good."
            )
    return found


def successor(servers: list[dict[str, Any]], staying: list[str]) -> str:
    """Who of those that stay is to lead: the one whose log is the longest. Empty when none can."""
    able = [server for server in servers if server["name"] in staying and server["voter"] and server["healthy"]]
    able.sort(key=lambda server: (-server["last_index"], server["name"]))
    return able[0]["name"] if able else ""


def settled(name: str, peer_id: str, peers: list[dict[str, Any]], members: dict[str, list[str]]) -> bool:
    """Whether neither Raft nor gossip counts on a server any more."""
    waiting = {one for state in ("alive", "failed", "leaving") for one in members.get(state, [])}
    return name not in waiting and all(peer.get("ID") != peer_id and peer.get("Node") != name for peer in peers)
