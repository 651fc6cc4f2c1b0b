"""How a layout that runs becomes the one for other nodes: always valid, with as little moved as possible, the same when asked again."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import (
    SLOTS,
    LayoutError,
    Node,
    fair_shares,
    is_even,
    plan,
    resize,
    slot_moves,
    violations,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def named(*names: str, **domains: str) -> list[Node]:
    return [Node(name, f"10.0.0.{number}", 6379, domains.get(name, "")) for number, name in enumerate(names, 1)]


SIX = named("a", "b", "c", "d", "e", "f")
SLOTS_OF_SIX = {"a": 5461, "b": 5461, "c": 5462}
LINKS_OF_SIX = {"d": "a", "e": "b", "f": "c"}


def test_the_same_nodes_stay_as_they_are():
    target = resize(SIX, SLOTS_OF_SIX, LINKS_OF_SIX)
    assert (target.masters, target.master_of, target.promoted, target.reset) == (("a", "b", "c"), LINKS_OF_SIX, {}, ())


def test_two_more_are_a_master_and_its_replica():
    target = resize([*SIX, Node("g", "10.0.0.7"), Node("h", "10.0.0.8")], SLOTS_OF_SIX, LINKS_OF_SIX)
    assert target.masters == ("a", "b", "c", "g")
    assert target.master_of == {**LINKS_OF_SIX, "h": "g"}


def test_of_a_master_and_its_replica_that_go_nothing_is_left():
    slots = {"a": 4096, "b": 4096, "c": 4096, "g": 4096}
    target = resize(SIX, slots, {**LINKS_OF_SIX, "h": "g"})
    assert target.masters == ("a", "b", "c")
    assert target.master_of == LINKS_OF_SIX


def test_replicas_are_pointed_to_who_lost_theirs():
    """g (master) and d (a's replica) go: g's replica h becomes a's."""
    nodes = [node for node in SIX if node.name != "d"] + [Node("h", "10.0.0.8")]
    target = resize(nodes, {"a": 4096, "b": 4096, "c": 4096, "g": 4096}, {**LINKS_OF_SIX, "h": "g"})
    assert target.masters == ("a", "b", "c")
    assert target.master_of == {"e": "b", "f": "c", "h": "a"}


def test_a_replica_takes_over_from_a_master_that_is_replaced():
    """a goes, g comes: a's replica has the data already, g becomes its replica."""
    nodes = [node for node in SIX if node.name != "a"] + [Node("g", "10.0.0.7")]
    target = resize(nodes, SLOTS_OF_SIX, LINKS_OF_SIX)
    assert target.masters == ("b", "c", "d")
    assert target.promoted == {"d": "a"}
    assert target.master_of == {"e": "b", "f": "c", "g": "d"}


def test_failovers_that_put_two_masters_into_one_rack_are_undone():
    nodes = named("a", "b", "c", "d", "e", "f", a="x", b="y", c="z", d="y", e="z", f="x")
    # e took over from b: z has two masters.
    target = resize(nodes, {"a": 5461, "e": 5461, "c": 5462}, {"d": "a", "b": "e", "f": "c"})
    assert target.masters in (("a", "b", "c"), ("a", "e", "f"))
    assert len(target.promoted) == 1
    assert violations(list(target.masters), target.master_of, nodes, 1) == []


def test_a_failover_is_undone_rather_than_data_moved():
    """Racks a, b, c; f took over from b and shares a's rack, and a itself has no replica where there is room."""
    nodes = named(*"abcdefgh", a="x", b="y", c="z", d="z", e="y", f="x", g="v", h="w")
    slots = {"a": 4200, "f": 4800, "c": 4500, "g": 2884}
    target = resize(nodes, slots, {"d": "a", "b": "f", "e": "c", "h": "g"})
    assert target.masters == ("a", "b", "c", "g")
    assert target.promoted == {"b": "f"}


def test_another_master_makes_room():
    """b goes; its replica f may only take over if a, in f's rack, hands over to d."""
    nodes = named(*"acdefg", a="x", c="z", d="y", e="y", f="x", g="z")
    target = resize(nodes, {"a": 5461, "b": 5461, "c": 5462}, {"d": "a", "f": "b", "e": "c", "g": "c"})
    assert target.promoted == {"d": "a", "f": "b"}
    assert target.masters == ("c", "d", "f")


def test_replicas_become_masters_only_when_nobody_else_can():
    eight = [*SIX, Node("g", "10.0.0.7"), Node("h", "10.0.0.8")]
    target = resize(eight, SLOTS_OF_SIX, {**LINKS_OF_SIX, "g": "a", "h": "b"})
    assert len(target.masters) == 4
    assert len(target.reset) == 1
    assert violations(list(target.masters), target.master_of, eight, 1) == []


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        (SIX[:4], "4 nodes make 2 masters with 1 replicas each; a cluster needs at least 3 masters"),
        (named("a", "b", "c", "d", "e", "f", a="x", b="x", c="x", d="x"), "Failure domain x has 4 of the 6 nodes"),
    ],
)
def test_refuses_what_has_no_valid_layout(nodes, says):
    with pytest.raises(LayoutError, match=says):
        resize(nodes, SLOTS_OF_SIX, LINKS_OF_SIX)


def ranges(counts: dict[str, int]) -> dict[str, tuple[tuple[int, int], ...]]:
    found, first = {}, 0
    for name, count in counts.items():
        if count:
            found[name] = ((first, first + count - 1),)
            first += count
    return found


@st.composite
def clusters(draw):
    """Nodes in racks, a layout that failovers and earlier runs may have twisted, and who stays."""
    racks = draw(st.integers(3, 6))
    count = draw(st.integers(6, 20))
    nodes = [Node(f"n{n:02}", f"10.0.1.{n}", 6379, f"rack-{draw(st.integers(0, racks - 1))}") for n in range(count)]
    masters = draw(st.permutations(nodes))[: draw(st.integers(1, count // 2))]
    cuts = sorted(draw(st.lists(st.integers(0, SLOTS), min_size=len(masters) - 1, max_size=len(masters) - 1)))
    slots = {
        node.name: last - first
        for node, first, last in zip(masters, [0, *cuts], [*cuts, SLOTS], strict=True)
        if last > first
    }
    master_of = {
        node.name: draw(st.sampled_from(sorted(slots)))
        for node in nodes
        if node.name not in slots and draw(st.booleans())
    }
    staying = [node for node in nodes if draw(st.integers(0, 5))]
    return nodes, staying, slots, master_of, draw(st.integers(0, 2))


@settings(max_examples=400, deadline=None)
@given(clusters())
def test_a_resized_layout_is_valid_or_there_is_none(case):
    _nodes, staying, slots, master_of, replicas = case
    try:
        target = resize(staying, slots, master_of, replicas)
    except LayoutError:
        with pytest.raises(LayoutError):
            plan(staying, replicas)
        return
    names = {node.name for node in staying}
    assert set(target.masters) | set(target.master_of) == names
    assert not set(target.masters) & set(target.master_of)
    assert violations(list(target.masters), target.master_of, staying, replicas) == []
    for replica, master in target.promoted.items():
        assert master_of[replica] == master
        assert master not in target.masters
    # Carried out, it is what is asked for again.
    heirs = {old: new for new, old in target.promoted.items()}
    owned = ranges({heirs.get(name, name): count for name, count in slots.items()})
    for move in slot_moves(owned, list(target.masters)):
        assert move.slots
    settled = resize(staying, dict.fromkeys(target.masters, SLOTS // len(target.masters)), target.master_of, replicas)
    assert (settled.masters, settled.master_of) == (target.masters, target.master_of)
    assert settled.promoted == {}
    assert settled.reset == ()


@settings(max_examples=200, deadline=None)
@given(clusters())
def test_slots_end_up_evenly_and_no_more_of_them_move_than_have_to(case):
    nodes, _staying, slots, _links, _replicas = case
    masters = [node.name for node in nodes][: max(3, len(nodes) // 2)]
    owned = ranges(slots)
    has = {name: {slot for first, last in its for slot in range(first, last + 1)} for name, its in owned.items()}
    moved = 0
    for move in slot_moves(owned, masters):
        assert set(move.slots) <= has[move.source]
        has[move.source] -= set(move.slots)
        has.setdefault(move.target, set()).update(move.slots)
        moved += len(move.slots)
    assert sorted(slot for its in has.values() for slot in its) == list(range(SLOTS))
    counts = {name: len(has.get(name, ())) for name in masters}
    assert sum(counts.values()) == SLOTS
    assert is_even(counts, 0)
    shares = fair_shares(slots, masters)
    assert moved == sum(max(0, share - slots.get(name, 0)) for name, share in shares.items())
    assert slot_moves(ranges(counts), masters) == []


def test_even_enough():
    assert is_even({"a": 5461, "b": 5461, "c": 5462}, 0)
    assert is_even({"a": 5300, "b": 5600, "c": 5484}, 5)
    assert not is_even({"a": 5300, "b": 5600, "c": 5484}, 1)
    assert not is_even({"a": 5461, "b": 5461, "c": 5462 - 200, "d": 200}, 5)


@settings(max_examples=400, deadline=None)
@given(clusters())
def test_failovers_one_after_the_other_come_to_an_end(case):
    _nodes, staying, slots, master_of, replicas = case
    try:
        target = resize(staying, slots, master_of, replicas)
    except LayoutError:
        return
    done = 0
    while target.promoted:
        replica, master = min(target.promoted.items())
        slots = {replica if name == master else name: count for name, count in slots.items()}
        master_of = {name: replica if its == master else its for name, its in master_of.items() if name != replica}
        master_of[master] = replica
        target = resize(staying, slots, master_of, replicas)
        done += 1
        assert done <= len(slots)
