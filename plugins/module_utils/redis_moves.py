# Apache License 2.0 (see LICENSE)
"""Moving slots with their keys from one master of a Redis Cluster to another, while clients go on.

A slot is marked at the target before it is at the source, so that a client that is sent on (ASK) is let in. Its new owner knows of it
first, then the old one, which refuses as long as it holds a key of it, then the others. Wherever that is interrupted, no key is lost and
the marks say how to go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Move, Node
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import Refusal

#: Asks one node several things at once: name, commands, seconds of patience.
Ask = Callable[[str, Sequence[tuple], float], list]
ASK_SIZES_AT_ONCE = 500
#: So many slots are half moved at the same time, each with fewer round trips than alone.
SLOTS_AT_ONCE = 8


@dataclass(frozen=True)
class Limits:
    """Both nodes stand still while a batch of keys is on its way; so it's a small one."""

    batch_keys: int = 200
    batch_bytes: int = 2 * 1024 * 1024
    key_bytes: int = 64 * 1024 * 1024


def batches(sizes: list[tuple[str, int]], limits: Limits) -> Iterator[list[str]]:
    """Keys in groups that one MIGRATE takes; one that is bigger than a group goes alone."""
    group: list[str] = []
    total = 0
    for key, size in sizes:
        if group and (len(group) >= limits.batch_keys or total + size > limits.batch_bytes):
            yield group
            group, total = [], 0
        group.append(key)
        total += size
    if group:
        yield group


def migrate(node: Node, username: str, password: str, timeout_milliseconds: int, keys: Sequence[str]) -> tuple:
    """MIGRATE for keys of one slot.

    With REPLACE: a key that an interrupted MIGRATE has left on both sides counts at the source, which answered for it until now.
    """
    sign_in = ("AUTH2", username, password) if password else ()
    return ("MIGRATE", node.host, node.port, "", 0, timeout_milliseconds, "REPLACE", *sign_in, "KEYS", *keys)


class Mover:
    """Carries out moves. `count` is told how many keys went."""

    def __init__(
        self,
        ask: Ask,
        nodes: dict[str, Node],
        ids: dict[str, str],
        credentials: tuple[str, str],
        node_timeout_milliseconds: int,
        limits: Limits,
    ) -> None:
        self.ask = ask
        self.nodes = nodes
        self.ids = ids
        self.credentials = credentials
        self.limits = limits
        # A node that stands still for longer than the node timeout is taken for dead.
        self.timeout_milliseconds = max(500, node_timeout_milliseconds * 4 // 5)
        self.patience_seconds = 2 * self.timeout_milliseconds / 1000 + 5
        self.keys_moved = 0

    def move(self, move: Move, masters: Sequence[str]) -> Iterator[int]:
        """Move the slots; yields how many more are done. `masters` are told of it besides source and target."""
        others = [name for name in masters if name not in (move.source, move.target)]
        self._copy_functions(move)
        counts = dict(zip(move.slots, self._each(move.source, "COUNTKEYSINSLOT", move.slots), strict=True))
        empty = [slot for slot in move.slots if not int(counts[slot])]
        if empty:
            self._mark(move, empty)
            # Since it is marked, the source takes no new keys of it. Some may have come before.
            counts.update(zip(empty, self._each(move.source, "COUNTKEYSINSLOT", empty), strict=True))
            done = [slot for slot in empty if not int(counts[slot])]
            self._give(move, done, others)
            yield len(done)
        filled = [slot for slot in move.slots if int(counts[slot])]
        for first in range(0, len(filled), SLOTS_AT_ONCE):
            group = filled[first : first + SLOTS_AT_ONCE]
            self._refuse_big_keys(move, {slot: int(counts[slot]) for slot in group})
            self._mark(move, group)
            while self._move_keys(move, group):
                pass
            self._give(move, group, others)
            yield len(group)

    def _each(self, name: str, verb: str, slots: Sequence[int], *arguments: object) -> list:
        return self.ask(name, [("CLUSTER", verb, slot, *arguments) for slot in slots], self.patience_seconds)

    def _set(self, name: str, slots: Sequence[int], *state: object) -> None:
        self.ask(name, [("CLUSTER", "SETSLOT", slot, *state) for slot in slots], self.patience_seconds)

    def _mark(self, move: Move, slots: Sequence[int]) -> None:
        self._set(move.target, slots, "IMPORTING", self.ids[move.source])
        self._set(move.source, slots, "MIGRATING", self.ids[move.target])

    def _give(self, move: Move, slots: Sequence[int], others: Sequence[str]) -> None:
        for name in (move.target, move.source, *others):
            self._set(name, slots, "NODE", self.ids[move.target])

    def _sizes(self, name: str, keys: Sequence[str]) -> list[tuple[str, int]]:
        sizes: list = []
        for first in range(0, len(keys), ASK_SIZES_AT_ONCE):
            some = keys[first : first + ASK_SIZES_AT_ONCE]
            sizes += self.ask(name, [("MEMORY", "USAGE", key) for key in some], self.patience_seconds)
        return [(key, int(size or 0)) for key, size in zip(keys, sizes, strict=True)]

    def _refuse_big_keys(self, move: Move, counts: dict[int, int]) -> None:
        """Before their slots are touched: both nodes stand still for as long as a key takes."""
        found = self.ask(
            move.source,
            [("CLUSTER", "GETKEYSINSLOT", slot, count) for slot, count in counts.items()],
            self.patience_seconds,
        )
        slot_of = {key: slot for slot, keys in zip(counts, found, strict=True) for key in keys}
        key, size = max(self._sizes(move.source, list(slot_of)), key=lambda entry: entry[1], default=("", 0))
        if size > self.limits.key_bytes:
            raise Refusal(
                f"The key '{key}' (slot {slot_of[key]}) on {move.source} takes about {size >> 20} MiB. A key moves in one piece, and both nodes "
                f"stand still meanwhile; more than {self.limits.key_bytes >> 20} MiB isn't risked (max_key_bytes). Split or delete the key, or "
                "allow more and raise cluster-node-timeout so that nobody takes them for dead. What was moved before stays; a repeated run goes on."
            )

    def _move_keys(self, move: Move, slots: Sequence[int]) -> int:
        """Some keys of each slot; says how many there were. Slots with few and small keys go in one round trip."""
        found = self._each(move.source, "GETKEYSINSLOT", slots, self.limits.batch_keys)
        sizes = dict(self._sizes(move.source, [key for keys in found for key in keys]))
        commands: list[tuple] = []
        waiting: list[str] = []
        for keys in found:
            for group in batches([(key, sizes[key]) for key in keys], self.limits):
                total = sum(sizes[key] for key in (*waiting, *group))
                if waiting and (total > self.limits.batch_bytes or len(waiting) + len(group) > self.limits.batch_keys):
                    self._send(move, commands, waiting, sizes)
                    commands, waiting = [], []
                commands.append(migrate(self.nodes[move.target], *self.credentials, self.timeout_milliseconds, group))
                waiting = [*waiting, *group]
        self._send(move, commands, waiting, sizes)
        return len(sizes)

    def _send(self, move: Move, commands: list[tuple], keys: list[str], sizes: dict[str, int]) -> None:
        try:
            self.ask(move.source, commands, self.patience_seconds)
        except Exception as error:
            if "IOERR" not in str(error):
                raise
            largest = max(keys, key=lambda key: sizes[key])
            raise Refusal(
                f"{error}. While {len(keys)} key(s) went from {move.source} to {move.target}, nothing was heard for {self.timeout_milliseconds} ms; "
                f"the largest of them is '{largest}' with about {sizes[largest] >> 10} KiB. No key is lost: it is on one side or both. "
                "If the nodes are well, a repeated run goes on from here."
            ) from error
        self.keys_moved += len(keys)

    def _copy_functions(self, move: Move) -> None:
        """A new master has no functions (FUNCTION LOAD goes to each master by itself)."""
        here, there = (
            self.ask(name, [("FUNCTION", "LIST")], self.patience_seconds)[0] for name in (move.source, move.target)
        )
        if here and not there:
            payload = self.ask(move.source, [("FUNCTION", "DUMP")], self.patience_seconds)[0]
            self.ask(move.target, [("FUNCTION", "RESTORE", payload)], self.patience_seconds)
