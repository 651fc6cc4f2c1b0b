"""Slots move with their keys in the order that loses none, in batches that don't make a node stand still for long."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Move, Node
from ansible_collections.sutazai.platform.plugins.module_utils.redis_moves import Limits, Mover, batches, migrate
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import Refusal
from hypothesis import given
from hypothesis import strategies as st

NODES = {name: Node(name, f"10.0.0.{number}") for number, name in enumerate(("old", "new", "third"), 1)}


class Servers:
    """Three masters that know enough commands to be moved between, and refuse what Redis would refuse."""

    def __init__(self, keys: dict[int, dict[str, int]]) -> None:
        self.keys = {"old": keys, "new": {}, "third": {}}
        self.owner = {name: dict.fromkeys(range(10), "old") for name in NODES}
        self.marks: dict[str, dict[int, str]] = {name: {} for name in NODES}
        self.functions = {"old": ["lib"], "new": [], "third": []}
        self.log: list[tuple] = []
        self.late: dict[int, dict[str, int]] = {}
        self.error = ""

    def ask(self, name: str, commands, _patience: float) -> list:
        return [self.one(name, *command) for command in commands]

    def one(self, name: str, *command):
        self.log.append((name, *command))
        verb, *rest = command
        mine = self.keys[name]
        if verb == "MEMORY":
            return next((keys[rest[1]] for keys in mine.values() if rest[1] in keys), None)
        if verb == "FUNCTION":
            if rest[0] == "RESTORE":
                self.functions[name] = list(rest[1])
            return self.functions[name]
        if verb == "MIGRATE":
            if self.error:
                raise RuntimeError(self.error)
            target = next(other for other, node in NODES.items() if node.host == rest[0])
            for key in rest[rest.index("KEYS") + 1 :]:
                slot = next(slot for slot, keys in mine.items() if key in keys)
                assert self.marks[name][slot] == "new-id"
                assert self.marks[target][slot] == "old-id"
                self.keys[target].setdefault(slot, {})[key] = mine[slot].pop(key)
            return "OK"
        subcommand, slot, *rest = rest
        if subcommand == "COUNTKEYSINSLOT":
            return str(len(mine.get(slot, {})))
        if subcommand == "GETKEYSINSLOT":
            return list(mine.get(slot, {}))[: rest[0]]
        assert subcommand == "SETSLOT"
        if rest[0] in ("IMPORTING", "MIGRATING"):
            assert (self.owner[name][slot] == name) == (rest[0] == "MIGRATING")
            self.marks[name][slot] = rest[1]
            if rest[0] == "MIGRATING":
                assert self.marks["new"][slot] == "old-id", "a client that is sent on has to be let in"
        else:
            assert rest == ["NODE", "new-id"]
            assert name != "old" or not mine.get(slot), "the source refuses while it has keys"
            assert name != "third" or self.owner["new"][slot] == "new"
            self.owner[name][slot] = "new"
            self.marks[name].pop(slot, None)
        if rest[0] == "IMPORTING" and slot in self.late:
            mine_of_source = self.keys["old"].setdefault(slot, {})
            mine_of_source.update(self.late.pop(slot))
        return "OK"

    def mover(self, **limits) -> Mover:
        ids = {name: f"{name}-id" for name in NODES}
        return Mover(self.ask, NODES, ids, ("admin", "secret"), 5000, Limits(**limits))

    def run(self, *slots: int, **limits) -> tuple[int, Mover]:
        mover = self.mover(**limits)
        return sum(mover.move(Move("old", "new", slots), list(NODES))), mover


def test_everything_arrives_and_everybody_knows():
    servers = Servers({1: {"a": 10, "b": 20}, 3: {f"k{n}": 5 for n in range(450)}})
    moved, mover = servers.run(0, 1, 2, 3)
    assert moved == 4
    assert mover.keys_moved == 452
    assert set(servers.keys["new"]) == {1, 3}
    assert not any(servers.keys["old"].values())
    assert all(servers.owner[name][slot] == "new" for name in NODES for slot in range(4))
    assert not any(servers.marks.values())
    assert servers.functions["new"] == ["lib"]


def test_a_key_that_comes_before_the_mark_is_taken_along():
    servers = Servers({})
    servers.late = {2: {"late": 5}}
    assert servers.run(1, 2)[0] == 2
    assert servers.keys["new"] == {2: {"late": 5}}


def test_a_big_key_is_refused_before_its_slot_is_touched():
    servers = Servers({1: {"small": 10}, 2: {"small too": 10, "huge": 200 << 20}})
    with pytest.raises(Refusal, match="The key 'huge' .slot 2. on old takes about 200 MiB"):
        servers.run(0, 1, 2)
    assert servers.owner["old"][0] == "new"
    assert servers.owner["old"][1] == "old"
    assert servers.owner["old"][2] == "old"
    assert not any(servers.marks.values())


def test_few_round_trips_but_small_ones():
    """Small slots go together; no round trip carries more than a batch."""
    servers = Servers({slot: {f"{slot}-{n}": 40 for n in range(3)} for slot in range(8)})
    sent: list[list[tuple]] = []
    ask = servers.ask
    servers.ask = lambda name, commands, patience: (sent.append(list(commands)), ask(name, commands, patience))[1]
    assert servers.run(*range(8), batch_bytes=250)[0] == 8
    carried = [
        sum(len(command) - command.index("KEYS") - 1 for command in some)
        for some in sent
        if some[:1] and some[0][0] == "MIGRATE"
    ]
    assert carried == [6, 6, 6, 6]


def test_a_timeout_names_the_likely_culprit():
    servers = Servers({1: {"big": 5 << 20}})
    servers.error = "old (10.0.0.1:6379): MIGRATE 10.0.0.2: IOERR error or timeout reading to target instance"
    with pytest.raises(Refusal, match="the largest of them is 'big' with about 5120 KiB"):
        servers.run(1)
    servers.error = ""
    assert servers.run(1)[0] == 1, "the marks are set already, and it goes on"
    assert servers.keys["new"][1] == {"big": 5 << 20}


def test_other_errors_are_passed_on():
    servers = Servers({1: {"small": 10}})
    servers.error = "OOM command not allowed"
    with pytest.raises(RuntimeError, match="OOM"):
        servers.run(1)


def test_nodes_stand_still_for_less_than_the_node_timeout():
    assert Servers({}).mover().timeout_milliseconds == 4000


def test_signs_in_at_the_target():
    assert migrate(NODES["new"], "admin", "secret", 4000, ["a"]) == (
        "MIGRATE",
        "10.0.0.2",
        6379,
        "",
        0,
        4000,
        "REPLACE",
        "AUTH2",
        "admin",
        "secret",
        "KEYS",
        "a",
    )
    assert "AUTH2" not in migrate(NODES["new"], "default", "", 4000, ["a"])


@given(st.lists(st.integers(0, 50)), st.integers(1, 5), st.integers(1, 100))
def test_batches_are_small_and_complete(sizes, most_keys, most_bytes):
    keys = [(f"key{number}", size) for number, size in enumerate(sizes)]
    size_of = dict(keys)
    groups = list(batches(keys, Limits(batch_keys=most_keys, batch_bytes=most_bytes)))
    assert [key for group in groups for key in group] == list(size_of)
    for group in groups:
        assert 0 < len(group) <= most_keys
        assert len(group) == 1 or sum(size_of[key] for key in group) <= most_bytes
