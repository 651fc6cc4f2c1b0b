# Apache License 2.0 (see LICENSE)
"""Where the masters and replicas of a Redis Cluster go. Pure: nodes in, layout out, or a sentence why there is none.

A layout is valid when
 - there are at least three masters,
 - the loss of one failure domain leaves a majority of the masters (who vote on failovers), and
 - every master has the wanted number of replicas, none of them in its own failure domain.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

SLOTS = 16384
MINIMUM_MASTERS = 3


class LayoutError(Exception):
    """No valid layout exists for these nodes; the text is for the operator."""


@dataclass(frozen=True)
class Node:
    """A member as the inventory has it."""

    name: str
    host: str
    port: int = 6379
    failure_domain: str = ""

    @property
    def domain(self) -> str:
        return self.failure_domain or self.name

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Layout:
    """Masters (names) with their slots, and of each replica its master."""

    slots: dict[str, tuple[int, int]] = field(default_factory=dict)
    master_of: dict[str, str] = field(default_factory=dict)

    @property
    def masters(self) -> list[str]:
        return list(self.slots)

    def as_dict(self) -> dict:
        """The layout as the modules return and diff it."""
        return {
            master: {
                "slots": f"{first}-{last}",
                "replicas": sorted(replica for replica, its_master in self.master_of.items() if its_master == master),
            }
            for master, (first, last) in self.slots.items()
        }


def masters_per_domain(masters: int) -> int:
    """How many of the masters one failure domain may have so that its loss leaves a majority."""
    return (masters - 1) // 2


def split_slots(masters: int) -> list[tuple[int, int]]:
    """All slots in contiguous ranges of nearly equal size."""
    edges = [index * SLOTS // masters for index in range(masters + 1)]
    return [(edges[index], edges[index + 1] - 1) for index in range(masters)]


def check_nodes(nodes: list[Node]) -> None:
    """Refuse nodes that can't be told apart."""
    for what, values in (("name", [node.name for node in nodes]), ("address", [node.address for node in nodes])):
        twice = sorted(value for value, times in Counter(values).items() if times > 1)
        if twice:
            raise LayoutError(f"The {what} {', '.join(twice)} is used by more than one node; each node needs its own.")


def plan(nodes: list[Node], replicas_per_master: int = 1) -> Layout:
    """The layout for nodes that are all free. The same nodes give the same layout, in whatever order they come."""
    if replicas_per_master < 0:
        raise LayoutError(f"replicas_per_master is {replicas_per_master}; it can't be negative.")
    check_nodes(nodes)
    nodes = sorted(nodes, key=lambda node: node.name)
    group_size = 1 + replicas_per_master
    masters = len(nodes) // group_size
    if masters < MINIMUM_MASTERS:
        raise LayoutError(
            f"{len(nodes)} nodes make {masters} masters with {replicas_per_master} replicas each; a cluster needs at least "
            f"{MINIMUM_MASTERS} masters, so at least {MINIMUM_MASTERS * group_size} nodes."
        )
    in_domain: dict[str, list[Node]] = defaultdict(list)
    for node in nodes:
        in_domain[node.domain].append(node)
    sizes = {domain: len(members) for domain, members in in_domain.items()}
    quota = _masters_by_domain(sizes, masters, replicas_per_master)
    chosen = _interleave([in_domain[domain][: quota[domain]] for domain in in_domain])
    names = {node.name for node in chosen}
    free = [node for node in nodes if node.name not in names]
    links = _assign_all(chosen, free, replicas_per_master)
    return Layout(dict(zip([node.name for node in chosen], split_slots(masters), strict=True)), links)


def _masters_by_domain(sizes: dict[str, int], masters: int, replicas: int) -> dict[str, int]:
    """How many masters each failure domain gets.

    Replicas fit exactly when in each domain (its replicas + the replicas its masters need) <= all replicas: both compete
    for what is outside the domain. With s nodes and m masters in the domain this is s + (replicas - 1) * m <= nodes - masters.
    """
    spare = sum(sizes.values()) - masters
    cap = masters_per_domain(masters)
    most = {}
    for domain, size in sizes.items():
        if replicas and size > spare:
            raise LayoutError(
                f"Failure domain {domain} has {size} of the {sum(sizes.values())} nodes; a master and its replica would have to "
                f"share it. At most {spare} nodes may be in one failure domain."
            )
        most[domain] = min(size, cap, (spare - size) // (replicas - 1) if replicas > 1 else size)
    if sum(most.values()) < masters:
        raise LayoutError(
            f"{masters} masters can't be spread over {len(sizes)} failure domains ({_counted(sizes)}) so that the loss of one leaves "
            f"a majority of the masters and each master's replicas are elsewhere: one domain may have at most {cap} of the masters. "
            f"Use more failure domains, spread the nodes evenly, or change the number of nodes."
        )
    quota = dict.fromkeys(sizes, 0)
    for _unused in range(masters):
        domain = min((d for d in sizes if quota[d] < most[d]), key=lambda d: (quota[d], quota[d] - sizes[d], d))
        quota[domain] += 1
    return quota


def _counted(sizes: dict[str, int]) -> str:
    shown = [f"{domain}: {size}" for domain, size in sorted(sizes.items())]
    return ", ".join(shown if len(shown) <= 8 else [*shown[:8], "…"])


def _interleave(groups: list[list[Node]]) -> list[Node]:
    """First of each, second of each…: neighbours in slot order are in different domains."""
    longest = max(map(len, groups), default=0)
    return [group[index] for index in range(longest) for group in groups if index < len(group)]


def _assign_all(masters: list[Node], free: list[Node], replicas: int) -> dict[str, str]:
    """Give each free node a master outside its domain; every master gets `replicas` of them, what is left over is spread.

    Exact: as long as no domain's (free nodes + open demand) exceeds what is left, pairing the tightest domain keeps it so.
    """
    supply: dict[str, list[Node]] = defaultdict(list)
    for node in free:
        supply[node.domain].append(node)
    demand: dict[str, dict[str, int]] = defaultdict(dict)
    for master in masters:
        demand[master.domain][master.name] = replicas
    domains = sorted({*supply, *demand})

    def tightness(domain: str) -> int:
        return len(supply[domain]) + sum(demand[domain].values())

    for _unused in range(len(free) - replicas * len(masters)):
        roomy = min(
            (d for d in domains if demand[d] and tightness(d) < len(free)),
            key=lambda d: (min(demand[d].values()), tightness(d), d),
        )
        name = min(demand[roomy], key=lambda master: demand[roomy][master])
        demand[roomy][name] += 1

    links: dict[str, str] = {}
    domains_of: dict[str, set[str]] = defaultdict(set)
    for _unused in range(len(free)):
        first, *others = sorted(domains, key=lambda d: (-tightness(d), d))
        pair = next(
            pair
            for other in others
            for pair in ((first, other), (other, first))
            if supply[pair[0]] and any(demand[pair[1]].values())
        )
        replica = supply[pair[0]].pop(0)
        open_masters = [name for name, left in demand[pair[1]].items() if left]
        master = min(open_masters, key=lambda name: (replica.domain in domains_of[name], -demand[pair[1]][name]))
        demand[pair[1]][master] -= 1
        domains_of[master].add(replica.domain)
        links[replica.name] = master
    return links


def assign(masters: list[Node], free: list[Node], existing: dict[str, str], nodes: list[Node]) -> dict[str, str]:
    """Give free nodes to masters of a cluster that already has some replicas (`existing`: replica -> master).

    Each goes to the master outside its own failure domain that has the fewest replicas.
    """
    domain = {node.name: node.domain for node in nodes}
    replicas = {master.name: [name for name, its in existing.items() if its == master.name] for master in masters}
    links = {}
    # Who has the fewest choices chooses first.
    for node in sorted(free, key=lambda n: (sum(m.domain != n.domain for m in masters), n.name)):
        candidates = [master for master in masters if master.domain != node.domain]
        if not candidates:
            raise LayoutError(
                f"{node.name} can't be anyone's replica: all masters are in its failure domain {node.domain}."
            )
        master = min(
            candidates,
            key=lambda m: (
                len(replicas[m.name]),
                node.domain in [domain.get(name) for name in replicas[m.name]],
                m.name,
            ),
        )
        replicas[master.name].append(node.name)
        links[node.name] = master.name
    return links


def violations(masters: list[str], master_of: dict[str, str], nodes: list[Node], replicas_per_master: int) -> list[str]:
    """What is wrong with a layout that runs (after failovers it isn't the planned one), as sentences."""
    domain = {node.name: node.domain for node in nodes}
    found = []
    if len(masters) < MINIMUM_MASTERS:
        found.append(
            f"The cluster has {len(masters)} masters; it needs at least {MINIMUM_MASTERS} to survive the loss of one."
        )
    cap = masters_per_domain(len(masters))
    for where, count in sorted(Counter(domain.get(name, name) for name in masters).items()):
        if count > cap and len(masters) >= MINIMUM_MASTERS:
            found.append(
                f"Failure domain {where} has {count} of {len(masters)} masters: its loss leaves no majority. At most {cap} may be there."
            )
    for replica, master in sorted(master_of.items()):
        if domain.get(replica, replica) == domain.get(master, master):
            found.append(f"{replica} is in the same failure domain ({domain.get(replica)}) as its master {master}.")
    for master in sorted(masters):
        count = sum(its == master for its in master_of.values())
        if count < replicas_per_master:
            found.append(f"{master} has {count} of {replicas_per_master} replicas.")
    return found
