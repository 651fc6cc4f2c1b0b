"""Where things go: an agent's tasks to a partition of the broker, a collection of vectors to a shard. Pure functions.

An agent's partition is found the way RabbitMQ's consistent hash exchange finds it (the exchange `ai.tasks`, which hashes the header
`agent_id`; RabbitMQ 4.0 and newer), so a task lands in the same queue whether it is published there by a program in any language, or by
this package to the exchange `tasks` with the partition's name as routing key. Before 4.0 the broker hashed the header's type along with
it: there, publish by routing key only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from uhashring import HashRing

# The seed's EXCHANGE_PARTITIONS, and the default of the collection's rabbitmq_topology.
PARTITIONS = 10
ROUTING_KEY_PATTERN = "ai.tasks.{partition}"

# Partitions of the broker ------------------------------------------------------------------------


def partition_of(agent_id: str, partitions: int = PARTITIONS) -> int:
    """The number of the partition that has this agent's tasks. All tasks of an agent are in one, so they stay in order."""
    if not agent_id:
        raise ValueError("an agent without an id belongs to no partition: give agent_id")
    if partitions < 1:
        raise ValueError(f"there are {partitions} partitions: at least 1 is needed")
    return _jump(_phash2(agent_id.encode()), partitions)


def routing_key_of(agent_id: str, partitions: int = PARTITIONS, pattern: str = ROUTING_KEY_PATTERN) -> str:
    """The routing key on the exchange `tasks`, which is also the name of the queue."""
    return partition_names(partitions, pattern)[partition_of(agent_id, partitions)]


def partition_names(partitions: int = PARTITIONS, pattern: str = ROUTING_KEY_PATTERN) -> list[str]:
    """The queues of all partitions, in the order of their numbers, as the collection's rabbitmq_topology names them."""
    if "{partition}" not in pattern:
        raise ValueError(
            f"the routing key pattern {pattern!r} lacks {{partition}}: all queues would have the same name"
        )
    return [pattern.replace("{partition}", str(number)) for number in range(partitions)]


_32, _64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_GOLDEN = 0x9E3779B9
# How far each of the hash's nine mixing steps shifts; negative is to the left.
_SHIFTS = (13, -8, 13, 12, -16, 5, 3, -10, 15)


def _mixed(words: tuple[int, int, int]) -> tuple[int, int, int]:
    first, second, third = words
    for shift in _SHIFTS:
        moved = third << -shift if shift < 0 else third >> shift
        # The one that was changed becomes the last, as the next step takes it.
        first, second, third = second, third, ((first - second - third) ^ moved) & _32
    return first, second, third


def _phash2(key: bytes) -> int:
    """Erlang's erlang:phash2/1 of a binary: Bob Jenkins' hash of 1996, 27 bits of it."""
    words = (_GOLDEN, _GOLDEN, 13 * _GOLDEN & _32)
    whole = len(key) // 12 * 12
    for start in range(0, whole, 12):
        words = _mixed(_added(words, [key[start + at : start + at + 4] for at in (0, 4, 8)]))
    rest = key[whole:]
    # The length goes into the last word's lowest byte, so what is left of the key starts one byte higher there.
    first, second, third = _added(words, [rest[0:4], rest[4:8], b"\0" + rest[8:11]])
    return _mixed((first, second, (third + len(key)) & _32))[2] & 0x7FFFFFF


def _added(words: tuple[int, int, int], parts: Sequence[bytes]) -> tuple[int, int, int]:
    first, second, third = ((word + int.from_bytes(part, "little")) & _32 for word, part in zip(words, parts))
    return first, second, third


def _numbers(seed: int) -> Iterator[float]:
    """Erlang's rand:uniform_s/1 of exs1024s that was seeded with {seed, seed, seed}: xorshift1024*, filled by xorshift64*."""
    low = (1 << 21) - 1
    parts = [((seed & low) + 1) * factor & low for factor in (2097131, 2097133, 2097143)]
    value = parts[0] << 43 | parts[1] << 22 | parts[2] << 1 | 1
    state: list[int] = []
    for _ in range(16):
        value ^= value >> 12
        value = (value ^ value << 25) & _64
        value ^= value >> 27
        state.insert(0, value * 2685821657736338717 & _64)
    at = 0
    while True:
        before, at = state[at], (at + 1) % 16
        here = state[at]
        here = (here ^ here << 31) & _64
        state[at] = here ^ here >> 11 ^ before ^ before >> 30
        yield ((state[at] * 1181783497276652981 & _64) >> 11) * 2.0**-53


def _jump(key: int, buckets: int) -> int:
    """Jump consistent hash (Lamping and Veach 2014): of n buckets, one more takes 1/n of the keys from the others."""
    bucket, following = 0, 0
    numbers = _numbers(key)
    while following < buckets:
        bucket = following
        following = int((bucket + 1) / next(numbers))
    return bucket


# Shards of the vector stores ---------------------------------------------------------------------


class ShardRouter(Protocol):
    """Which shard has a collection."""

    @property
    def shards(self) -> Sequence[str]: ...

    def get_shard(self, collection_name: str) -> str: ...


def _checked(shards: Iterable[str]) -> tuple[str, ...]:
    names = tuple(shards)
    if not names:
        raise ValueError("no vector shards are given: name at least one")
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"vector shards are named twice: {', '.join(twice)}")
    return names


class ModuloRouter:
    """The seed's rule: md5 of the name modulo the number of shards, in the order in which they are named.

    For data that was placed by it. One shard more moves nearly all collections.
    """

    def __init__(self, shards: Iterable[str]) -> None:
        self.shards = _checked(shards)

    def get_shard(self, collection_name: str) -> str:
        # md5 spreads here and protects nothing.
        digest = hashlib.md5(collection_name.encode(), usedforsecurity=False).hexdigest()
        return self.shards[int(digest, 16) % len(self.shards)]


class ConsistentRouter:
    """Consistent hashing (uhashring): of n shards, one more takes about 1/n of the collections, and none moves between the others.

    The shards' order doesn't matter, their names do: a shard that moves to another address keeps its name.
    """

    def __init__(self, shards: Iterable[str]) -> None:
        self.shards = _checked(shards)
        self._ring = HashRing(nodes=list(self.shards))

    def get_shard(self, collection_name: str) -> str:
        shard: str = self._ring.get_node(collection_name)
        return shard


@dataclass(frozen=True)
class Move:
    """A collection that has to be copied before clients use the new rule."""

    collection: str
    source: str
    target: str


def moves(collections: Iterable[str], before: ShardRouter, after: ShardRouter) -> list[Move]:
    """What another rule or other shards move, in the order of the collections."""
    found = [Move(name, before.get_shard(name), after.get_shard(name)) for name in collections]
    return [move for move in found if move.source != move.target]
