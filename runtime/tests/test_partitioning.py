"""Partitions and shards, without any server. That a real broker agrees is in test_partitioning_broker.py."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai_runtime import partitioning as model

ROLE = Path(__file__).resolve().parents[2] / "roles" / "rabbitmq"
names = st.lists(st.text("abcdefgh0123", min_size=1, max_size=12), min_size=2, max_size=8, unique=True)
COLLECTIONS = [f"tenant-{number}-documents" for number in range(2000)]


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # Said by Erlang/OTP 25: erlang:phash2(<<"a">>).
        ("a", 112802447),
        ("agent-1", 82020754),
        ("123456789012", 40293642),
        ("0f8fad5b-d9cb-469f-a165-70867728950e", 47474837),
    ],
)
def test_the_hash_is_erlangs(key, hashed):
    assert model._phash2(key.encode()) == hashed


def test_the_random_numbers_are_erlangs():
    """rand:uniform_s of exs1024s with the seed phash2(<<"a">>), the first numbers and some after its sixteen words were used."""
    said = list(itertools.islice(model._numbers(112802447), 20))
    assert said[:3] == [0.7147277264447202, 0.29603143120134034, 0.6398366417625997]
    assert said[15:] == [
        0.8002842807051783,
        0.43225066133957224,
        0.44745962124132943,
        0.23549258283496488,
        0.8527748951947725,
    ]


def test_partitions_are_those_of_the_collections_topology():
    """Who changes the role's default changes the client's, or tasks go where no queue is."""
    topology = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))["rabbitmq_topology"]
    (entry,) = topology["partitions"]
    assert entry["partitions"] == model.PARTITIONS
    assert entry["routing_key_pattern"] == model.ROUTING_KEY_PATTERN
    assert entry["partition_by"] == "agent_id"
    assert entry["exchange"] == "tasks"
    assert model.partition_names() == [f"ai.tasks.{number}" for number in range(10)]


@given(st.text(min_size=1, max_size=60), st.integers(1, 64))
@settings(max_examples=60)
def test_an_agent_has_one_partition_and_one_more_takes_it_or_leaves_it(agent_id, partitions):
    partition = model.partition_of(agent_id, partitions)
    assert 0 <= partition < partitions
    assert model.partition_of(agent_id, partitions) == partition
    assert model.partition_of(agent_id, partitions + 1) in (partition, partitions)


def test_agents_are_spread_evenly():
    counts = Counter(model.partition_of(f"agent-{number}") for number in range(5000))
    assert set(counts) == set(range(10))
    assert max(counts.values()) < 1.25 * min(counts.values())


def test_no_agent_and_no_partitions_are_refused():
    with pytest.raises(ValueError, match="without an id belongs to no partition"):
        model.partition_of("")
    with pytest.raises(ValueError, match="there are 0 partitions"):
        model.partition_of("a", 0)
    with pytest.raises(ValueError, match=r"lacks \{partition\}"):
        model.routing_key_of("a", pattern="ai.tasks")


@given(names)
@settings(max_examples=25, deadline=None)
def test_a_shard_that_is_added_only_takes(shards):
    """None moves between shards that were there before."""
    *before, added = shards
    found = model.moves(COLLECTIONS[:300], model.ConsistentRouter(before), model.ConsistentRouter(shards))
    assert {move.target for move in found} <= {added}


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_few_collections_move_when_a_shard_is_added(count):
    """The figure: the share that moves is 1/n of all, within a third of it; with the seed's rule nearly all move."""
    shards = [f"vectors-{number}" for number in range(count + 1)]
    share = len(model.moves(COLLECTIONS, model.ConsistentRouter(shards[:-1]), model.ConsistentRouter(shards)))
    modulo = len(model.moves(COLLECTIONS, model.ModuloRouter(shards[:-1]), model.ModuloRouter(shards)))
    ideal = len(COLLECTIONS) / (count + 1)
    assert 0.67 * ideal < share < 1.33 * ideal
    assert modulo > 0.9 * len(COLLECTIONS) * count / (count + 1)


def test_shards_have_like_shares_whatever_their_order():
    shards = [f"vectors-{number}" for number in range(4)]
    ring, turned = model.ConsistentRouter(shards), model.ConsistentRouter(reversed(shards))
    assert [ring.get_shard(name) for name in COLLECTIONS] == [turned.get_shard(name) for name in COLLECTIONS]
    counts = Counter(ring.get_shard(name) for name in COLLECTIONS)
    assert max(counts.values()) < 2 * min(counts.values())


def test_the_seeds_rule_is_the_seeds():
    """md5("docs") = e3e2a9bfd88566b05001b02a3f51d286."""
    assert model.ModuloRouter(["a", "b"]).get_shard("docs") == "a"
    assert model.ModuloRouter(["a", "b", "c"]).get_shard("docs") == "abc"[0xE3E2A9BFD88566B05001B02A3F51D286 % 3]


@pytest.mark.parametrize("router", [model.ModuloRouter, model.ConsistentRouter])
def test_shards_that_make_no_sense_are_refused(router):
    with pytest.raises(ValueError, match="no vector shards"):
        router([])
    with pytest.raises(ValueError, match="named twice: a"):
        router(["a", "b", "a"])
