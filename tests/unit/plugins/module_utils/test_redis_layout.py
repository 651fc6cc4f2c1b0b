"""Where masters and replicas go: every layout is valid, and what has none is explained."""

from __future__ import annotations

from collections import Counter

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import (
    SLOTS,
    LayoutError,
    Node,
    assign,
    plan,
    split_slots,
    violations,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def nodes_in(*domains: str) -> list[Node]:
    return [Node(f"redis-{n:03}", f"10.0.{n // 250}.{n % 250 + 1}", 6379, domain) for n, domain in enumerate(domains)]


def hosts(count: int) -> list[Node]:
    return nodes_in(*[""] * count)


def test_six_hosts_make_three_masters_with_a_replica_each():
    layout = plan(hosts(6))
    assert layout.as_dict() == {
        "redis-000": {"slots": "0-5460", "replicas": ["redis-003"]},
        "redis-001": {"slots": "5461-10921", "replicas": ["redis-004"]},
        "redis-002": {"slots": "10922-16383", "replicas": ["redis-005"]},
    } or sorted(entry["replicas"] for entry in layout.as_dict().values()) == [
        ["redis-003"],
        ["redis-004"],
        ["redis-005"],
    ]


def test_three_racks_with_two_nodes_each():
    nodes = nodes_in("a", "a", "b", "b", "c", "c")
    layout = plan(nodes)
    domain = {node.name: node.domain for node in nodes}
    assert sorted(domain[name] for name in layout.masters) == ["a", "b", "c"]
    assert all(domain[replica] != domain[master] for replica, master in layout.master_of.items())


@pytest.mark.parametrize(
    ("nodes", "replicas", "says"),
    [
        (
            hosts(5),
            1,
            "5 nodes make 2 masters with 1 replicas each; a cluster needs at least 3 masters, so at least 6 nodes",
        ),
        (hosts(8), 2, "at least 9 nodes"),
        ([], 1, "0 nodes make 0 masters"),
        (nodes_in("a", "a", "a", "a", "b", "c"), 1, "Failure domain a has 4 of the 6 nodes"),
        (nodes_in("a", "a", "a", "b", "b", "b"), 1, "3 masters can't be spread over 2 failure domains (a: 3, b: 3)"),
        (hosts(6), -1, "can't be negative"),
        ([*hosts(6), Node("redis-000", "10.9.9.9")], 1, "The name redis-000 is used by more than one node"),
        ([*hosts(6), Node("other", "10.0.0.1")], 1, "The address 10.0.0.1:6379 is used by more than one node"),
    ],
)
def test_refuses_and_says_why(nodes, replicas, says):
    with pytest.raises(LayoutError) as refused:
        plan(nodes, replicas)
    assert says in str(refused.value)


def possible(sizes: list[int], masters: int, replicas: int) -> bool:
    """Whether a layout exists, by trying every distribution of masters (Hall's condition for the replicas)."""
    cap = (masters - 1) // 2
    spare = sum(sizes) - masters

    def distribute(rest: list[int], left: int) -> bool:
        if not rest:
            return left == 0
        return any(
            (not replicas or rest[0] - here + replicas * here <= spare) and distribute(rest[1:], left - here)
            for here in range(min(rest[0], cap, left) + 1)
        )

    return distribute(sizes, masters)


@settings(max_examples=300, deadline=None)
@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=7), replicas=st.integers(0, 3), data=st.data())
def test_a_plan_is_valid_or_there_is_none(sizes, replicas, data):
    nodes = nodes_in(*[f"rack-{rack}" for rack, size in enumerate(sizes) for _unused in range(size)])
    masters = len(nodes) // (1 + replicas)
    try:
        layout = plan(data.draw(st.permutations(nodes)), replicas)
    except LayoutError as error:
        assert str(error)  # noqa: PT017 - which of the two happens is what is tested
        assert masters < 3 or not possible(sizes, masters, replicas)
        return
    assert layout == plan(nodes, replicas)
    assert len(layout.masters) == masters
    assert set(layout.masters) | set(layout.master_of) == {node.name for node in nodes}
    assert not set(layout.masters) & set(layout.master_of)
    assert violations(layout.masters, layout.master_of, nodes, replicas) == []
    if replicas:
        counts = Counter(layout.master_of.values())
        assert max(counts.values()) <= replicas + len(nodes) - masters * (1 + replicas)


@given(st.integers(1, 1000))
def test_slots_are_all_given_once(masters):
    ranges = split_slots(masters)
    assert [slot for first, last in ranges for slot in range(first, last + 1)] == list(range(SLOTS))
    sizes = {last - first + 1 for first, last in ranges}
    assert max(sizes) - min(sizes) <= 1


def test_a_thousand_hosts_are_planned_in_a_moment():
    nodes = hosts(400)
    assert violations(plan(nodes).masters, plan(nodes).master_of, nodes, 1) == []


def test_a_free_node_goes_to_the_neediest_master_outside_its_domain():
    nodes = nodes_in("a", "b", "c", "a", "b", "c", "a")
    masters, free = nodes[:3], [nodes[6]]
    existing = {"redis-003": "redis-001", "redis-004": "redis-002"}
    # redis-000 has no replica, but is in the same rack; redis-001 has one in this rack already.
    assert assign(masters, free, existing, nodes) == {"redis-006": "redis-002"}
    assert assign(masters, [nodes[5]], existing, nodes) == {"redis-005": "redis-000"}
    with pytest.raises(LayoutError, match="all masters are in its failure domain"):
        assign([nodes[0]], [nodes[3]], {}, nodes)


def test_violations_after_failovers():
    nodes = nodes_in("a", "a", "b", "b", "c", "c")
    found = violations(
        ["redis-000", "redis-001", "redis-004"], {"redis-005": "redis-004", "redis-002": "redis-000"}, nodes, 1
    )
    assert found == [
        "Failure domain a has 2 of 3 masters: its loss leaves no majority. At most 1 may be there.",
        "redis-005 is in the same failure domain (c) as its master redis-004.",
        "redis-001 has 0 of 1 replicas.",
    ]
