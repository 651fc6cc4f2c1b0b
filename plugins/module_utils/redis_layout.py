# Apache License 2.0 (see LICENSE)
"""Where the masters and replicas of a Redis Cluster go. Pure: nodes in, layout out, or a sentence why there is none.

A layout is valid when
 - there are at least three masters,
 - the loss of one failure domain leaves a majority of the masters (who vote on failovers), and
 - every master has the wanted number of replicas, none of them in its own failure domain.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
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


@dataclass(frozen=True)
class Target:
    """What a cluster with data is changed into: its masters, of each replica its master, and who takes over from whom.

    A promoted replica takes the slots of a master that goes; nothing is copied. What else has to be a master and is a replica
    (`reset`) becomes an empty node first.
    """

    masters: tuple[str, ...]
    master_of: dict[str, str]
    promoted: dict[str, str] = field(default_factory=dict)
    reset: tuple[str, ...] = ()


@dataclass(frozen=True)
class Move:
    """Slots that go from one master to another."""

    source: str
    target: str
    slots: tuple[int, ...]


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


def count_masters(nodes: list[Node], replicas_per_master: int) -> int:
    """How many of the nodes are masters."""
    if replicas_per_master < 0:
        raise LayoutError(f"replicas_per_master is {replicas_per_master}; it can't be negative.")
    group_size = 1 + replicas_per_master
    masters = len(nodes) // group_size
    if masters < MINIMUM_MASTERS:
        raise LayoutError(
            f"{len(nodes)} nodes make {masters} masters with {replicas_per_master} replicas each; a cluster needs at least "
            f"{MINIMUM_MASTERS} masters, so at least {MINIMUM_MASTERS * group_size} nodes."
        )
    return masters


def plan(nodes: list[Node], replicas_per_master: int = 1) -> Layout:
    """The layout for nodes that are all free. The same nodes give the same layout, in whatever order they come."""
    check_nodes(nodes)
    nodes = sorted(nodes, key=lambda node: node.name)
    masters = count_masters(nodes, replicas_per_master)
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


def _most_masters(sizes: dict[str, int], masters: int, replicas: int) -> dict[str, int]:
    """How many masters each failure domain may have at most.

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
    return most


def _masters_by_domain(sizes: dict[str, int], masters: int, replicas: int) -> dict[str, int]:
    """How many masters each failure domain gets."""
    most = _most_masters(sizes, masters, replicas)
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


# --------------------------------------------------------------------------------------------------------------- resizing


def resize(nodes: list[Node], slots: dict[str, int], master_of: dict[str, str], replicas_per_master: int = 1) -> Target:
    """The valid layout for `nodes` that is nearest to the one that runs.

    `slots` says of each master how many slots it has, `master_of` of each replica its master; both may name nodes that aren't in
    `nodes` (they go). Masters stay masters where they may. If more are needed, a replica of a master that goes takes over, then
    come free nodes, and only then replicas of masters that stay. Asked again while it is being carried out it gives the same.
    """
    check_nodes(nodes)
    nodes = sorted(nodes, key=lambda node: node.name)
    masters = count_masters(nodes, replicas_per_master)
    by_name = {node.name: node for node in nodes}
    room = _most_masters(Counter(node.domain for node in nodes), masters, replicas_per_master)
    followers = Counter(master_of.values())
    chosen: list[str] = []
    promoted: dict[str, str] = {}

    def take(name: str) -> bool:
        """Make it a master, if another one is needed and its failure domain may have one more."""
        domain = by_name[name].domain
        if len(chosen) == masters or name in chosen or room[domain] <= 0:
            return False
        room[domain] -= 1
        chosen.append(name)
        return True

    # Who stays first, and then those with most slots: one that is half emptied already goes on being emptied.
    owners = sorted((name for name in slots if slots[name]), key=lambda name: (name not in by_name, -slots[name], name))
    candidates = {
        master: [
            name
            for name in (master, *sorted(replica for replica, its in master_of.items() if its == master))
            if name in by_name
        ]
        for master in owners
    }
    for master, keeper in _keep_data(
        candidates, {name: node.domain for name, node in by_name.items()}, room, masters
    ).items():
        take(keeper)
        if keeper != master:
            promoted[keeper] = master
    free = [name for name in by_name if name not in owners and name not in master_of]
    for _unused in range(masters - len(chosen)):
        best = min(
            (name for name in free if name not in chosen and room[by_name[name].domain] > 0),
            key=lambda name: (-followers[name], -room[by_name[name].domain], name),
            default=None,
        )
        if best is not None:
            take(best)
    # What is left is a replica; one of the master that can spare it best.
    reset = [
        name
        for name in sorted(
            (name for name in by_name if name in master_of), key=lambda name: (-followers[master_of[name]], name)
        )
        if take(name)
    ]
    # Who followed a master that goes, and that master itself, follow the one that took over.
    heir = {old: new for new, old in promoted.items()}
    current = {name: heir.get(name) or heir.get(master_of.get(name, ""), master_of.get(name, "")) for name in by_name}
    links = _keep_or_match(
        [by_name[name] for name in chosen],
        [node for node in nodes if node.name not in chosen],
        {name: master for name, master in current.items() if master in chosen and name not in chosen},
        replicas_per_master,
    )
    return Target(tuple(sorted(chosen)), links, promoted, tuple(reset))


def _keep_data(
    candidates: dict[str, list[str]], domain: dict[str, str], room: dict[str, int], most: int
) -> dict[str, str]:
    """Who keeps each master's slots: itself or one of its replicas, so that no failure domain gets more than its room.

    A bipartite matching of the masters' data to places in failure domains. Masters stay where they can; where one can't, another may have to
    hand over too (an augmenting path), which costs a failover and spares moving the data.
    """
    keeper: dict[str, str] = {}

    def occupants(where: str) -> list[str]:
        return [master for master, name in keeper.items() if domain[name] == where]

    def place(master: str, seen: set[str]) -> bool:
        open_ones = [name for name in candidates[master] if domain[name] not in seen]
        for name in open_ones:
            if len(occupants(domain[name])) < room[domain[name]]:
                keeper[master] = name
                return True
        for name in open_ones:
            if domain[name] in seen:
                continue
            seen.add(domain[name])
            for other in occupants(domain[name]):
                if other != master and place(other, seen):
                    keeper[master] = name
                    return True
        return False

    first = list(candidates)[:most]
    for master in first:
        if master in candidates[master] and len(occupants(domain[master])) < room[domain[master]]:
            keeper[master] = master
    for master in [*first, *list(candidates)[most:]]:
        if len(keeper) < most and master not in keeper:
            place(master, set())
    return keeper


def _keep_or_match(masters: list[Node], rest: list[Node], current: dict[str, str], replicas: int) -> dict[str, str]:
    """A master outside its domain for each node of `rest`: the one it has where possible, `replicas` for each master.

    A bipartite matching that begins with the links there are; a shortest alternating path re-points as few as possible.
    """
    domain = {node.name: node.domain for node in (*masters, *rest)}
    links: dict[str, str] = {}
    replicas_of: dict[str, list[str]] = {master.name: [] for master in masters}

    def link(replica: str, master: str) -> None:
        if replica in links:
            replicas_of[links[replica]].remove(replica)
        links[replica] = master
        replicas_of[master].append(replica)

    for name, master in sorted(current.items()):
        if domain[name] != domain[master] and len(replicas_of[master]) < replicas:
            link(name, master)
    for needy in sorted(master.name for master in masters):
        while len(replicas_of[needy]) < replicas:
            path = _path_to_free(needy, rest, links, domain)
            if not path:
                break
            for replica, master in path:
                link(replica, master)
    for node in rest:
        if node.name in links:
            continue
        outside = [master.name for master in masters if master.domain != node.domain]
        if current.get(node.name) in outside:
            link(node.name, current[node.name])
        elif outside:
            link(
                node.name,
                min(
                    outside,
                    key=lambda name: (
                        len(replicas_of[name]),
                        node.domain in [domain[other] for other in replicas_of[name]],
                        name,
                    ),
                ),
            )
    return links


def _path_to_free(needy: str, rest: list[Node], links: dict[str, str], domain: dict[str, str]) -> list[tuple[str, str]]:
    """Who has to be linked to whom so that `needy` gets one more replica and nobody else loses one; [] if that can't be."""
    parent: dict[str, tuple[str, str]] = {}  # who loses a replica -> that replica, and the master that gets it
    open_masters = deque([needy])
    # A free node ends the path: those come first.
    ranked = sorted(rest, key=lambda node: (node.name in links, node.name))
    while open_masters:
        master = open_masters.popleft()
        for node in ranked:
            if node.domain == domain[master] or links.get(node.name) == master:
                continue
            if node.name not in links:
                path = [(node.name, master)]
                while master != needy:
                    path.append(parent[master])
                    master = parent[master][1]
                return path
            loser = links[node.name]
            if loser != needy and loser not in parent:
                parent[loser] = (node.name, master)
                open_masters.append(loser)
    return []


def fair_shares(owned: dict[str, int], masters: list[str]) -> dict[str, int]:
    """How many slots each master should have; who has most now gets the odd ones."""
    least, odd = divmod(SLOTS, len(masters))
    ranked = sorted(masters, key=lambda name: (-owned.get(name, 0), name))
    return {name: least + (index < odd) for index, name in enumerate(ranked)}


def is_even(owned: dict[str, int], tolerance_percent: int) -> bool:
    """Whether no master has much more or less than its share."""
    if not owned:
        return True
    share = SLOTS / len(owned)
    allowed = max(1, share * tolerance_percent / 100)
    return all(abs(count - share) <= allowed for count in owned.values())


def slot_moves(owned: dict[str, tuple[tuple[int, int], ...]], masters: list[str]) -> list[Move]:
    """The fewest slots that have to move so that `masters` have all of them, evenly."""
    slots = {
        name: [slot for first, last in ranges for slot in range(first, last + 1)] for name, ranges in owned.items()
    }
    counts = {name: len(its) for name, its in slots.items()}
    shares = fair_shares(counts, masters)
    spare = {name: counts[name] - shares.get(name, 0) for name in sorted(counts) if counts[name] > shares.get(name, 0)}
    moves = []
    for target in sorted(masters):
        missing = shares[target] - counts.get(target, 0)
        while missing > 0:
            source = max(spare, key=lambda name: spare[name])
            count = min(missing, spare[source])
            moves.append(Move(source, target, tuple(slots[source][-count:])))
            del slots[source][-count:]
            spare[source] -= count
            missing -= count
    return moves


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
