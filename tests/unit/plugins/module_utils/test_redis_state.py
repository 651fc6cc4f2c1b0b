"""What nodes say, and what is done about it: against a small simulation of a cluster, interrupted wherever it hurts."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Node, plan
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import (
    Member,
    Observation,
    Refusal,
    assess,
    observation,
    parse_nodes,
    replica_to_promote,
    running_layout,
    slots_text,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_steps import next_step
from hypothesis import given, settings
from hypothesis import strategies as st

NODES = [Node(f"redis-{n}", f"10.0.0.{n}") for n in range(1, 7)]
PLAN = plan(NODES)
LINES = """\
07c3 10.0.0.1:6379@16379,,tls-port=0,shard-id=69bc myself,master - 0 0 1 connected 0-5460 5462 [5463->-67ed]
67ed 10.0.0.2:6379@16379 master,fail? - 0 1426238316232 2 connected 5461
292f 10.0.0.3:6379@16379 slave 67ed 0 1426238318243 2 disconnected
6ec2 :0@0 handshake - 1426238317239 0 0 connected
vars currentEpoch 3 lastVoteEpoch 0
"""


class World:
    """Six nodes that do what the commands of redis_state say; gossip is instant."""

    def __init__(self) -> None:
        self.state = {
            node.name: {"id": f"id-{node.name}", "knows": set(), "slots": (), "epoch": 0, "master": "", "keys": 0}
            for node in NODES
        }
        self.names = {entry["id"]: name for name, entry in self.state.items()}
        self.silent: set[str] = set()
        self.flags: dict[str, set[str]] = {}
        self.commands = 0

    def run(self, action) -> None:
        self.commands += 1
        me, (_cluster, verb, *arguments) = self.state[action.node], action.command
        if verb == "SET-CONFIG-EPOCH":
            assert not me["knows"]
            assert not me["epoch"]
            me["epoch"] = arguments[0]
        elif verb == "ADDSLOTSRANGE":
            assert not me["slots"]
            me["slots"] = ((arguments[0], arguments[1]),)
        elif verb == "MEET":
            other = next(node.name for node in NODES if node.host == arguments[0])
            group = {action.node, other} | me["knows"] | self.state[other]["knows"]
            for name in group & set(self.state):
                self.state[name]["knows"] = group - {name}
        elif verb == "REPLICATE":
            assert not me["slots"]
            assert not me["keys"]
            assert self.names[arguments[0]] in me["knows"]
            me["master"] = arguments[0]
        elif verb == "FORGET":
            me["knows"].discard(arguments[0])
        else:
            raise AssertionError(verb)

    def see(self) -> dict[str, Observation]:
        def member(name: str, viewer: str) -> Member:
            entry = self.state.get(name, {"id": name, "slots": (), "epoch": 9, "master": ""})
            address = next((node.address for node in NODES if node.name == name), ":0")
            flags = {"slave" if entry["master"] else "master"} | (
                {"myself"} if name == viewer else self.flags.get(name, set())
            )
            return Member(entry["id"], address, frozenset(flags), entry["master"], entry["epoch"], True, entry["slots"])

        seen = {}
        for node in NODES:
            mine = self.state[node.name]
            if node.name in self.silent:
                seen[node.name] = Observation(
                    name=node.name, address=node.address, error=f"{node.name}: connection refused"
                )
                continue
            members = {
                self.state.get(name, {"id": name})["id"]: member(name, node.name)
                for name in {node.name, *mine["knows"]}
            }
            seen[node.name] = Observation(
                name=node.name,
                address=node.address,
                id=mine["id"],
                state="ok" if len(mine["knows"]) >= 5 else "fail",
                members=members,
                keys=mine["keys"],
                link_up=bool(mine["master"]),
                last_io_seconds=1,
            )
        return seen

    def form(self, stop_after: int = 10_000) -> str:
        for _unused in range(20):
            step = next_step(NODES, PLAN, self.see())
            if step.kind != "act":
                return step.kind
            for action in step.actions:
                if self.commands >= stop_after:
                    return "killed"
                self.run(action)
        raise AssertionError("no end")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def formed(world: World) -> World:
    assert world.form() == "done"
    return world


def test_forms_the_planned_layout_with_the_fewest_commands(formed):
    assert running_layout(formed.see()) == PLAN.as_dict()
    assert formed.commands == 3 + 3 + 5 + 3
    assert {name: entry["epoch"] for name, entry in formed.state.items() if entry["slots"]} == dict(
        zip(PLAN.masters, (1, 2, 3), strict=True)
    )


@pytest.mark.parametrize("stop_after", range(14))
def test_goes_on_where_it_was_killed(world, stop_after):
    assert world.form(stop_after) == "killed"
    assert world.form() == "done"
    assert world.commands == 14
    assert running_layout(world.see()) == PLAN.as_dict()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 13), max_size=4), st.permutations(NODES))
def test_any_number_of_kills_and_any_order_of_the_inventory(kills, order):
    world = World()
    for stop in sorted(kills):
        world.form(stop)
    assert next_step(order, plan(order), world.see()).kind in ("act", "done")
    assert world.form() == "done"


def test_a_whole_cluster_is_left_alone_after_a_failover(formed):
    old = PLAN.masters[0]
    new = next(name for name, master in PLAN.master_of.items() if master == old)
    formed.state[new].update(slots=formed.state[old]["slots"], master="", epoch=7)
    formed.state[old].update(slots=(), master=formed.state[new]["id"])
    assert next_step(NODES, PLAN, formed.see()).kind == "done"


def test_a_node_with_keys_is_never_taken(world):
    world.state["redis-5"]["keys"] = 3
    with pytest.raises(Refusal, match="redis-5 .* is in no cluster but holds 3 keys. They are never overwritten"):
        world.form()
    assert world.commands == 0


def test_a_member_of_another_cluster_is_refused(world):
    world.state["redis-2"]["knows"] = {"stranger"}
    seen = world.see()
    stranger = Member("stranger", "10.9.9.9:6379", frozenset({"master"}), "", 1, True, ())
    seen["redis-2"].members["stranger"] = stranger
    with pytest.raises(Refusal, match="belongs to a cluster with 10.9.9.9:6379, which is not one of the nodes given"):
        next_step(NODES, PLAN, seen)


def test_slots_that_were_not_planned_are_refused(world):
    world.state["redis-6"]["slots"] = ((0, 100),)
    with pytest.raises(Refusal, match="redis-6 .* already has the slots 0-100 .* gives it"):
        world.form()


def test_no_cluster_without_all_members(world):
    world.silent = {"redis-3", "redis-4"}
    step = next_step(NODES, PLAN, world.see())
    assert step.kind == "blocked"
    assert "redis-3, redis-4 of 6 members can't be talked to" in step.why


def test_a_dead_member_is_no_reason_to_touch_a_cluster(formed):
    formed.silent = {"redis-6"}
    step = next_step(NODES, PLAN, formed.see())
    assert step.kind == "done"
    assert "redis-6 doesn't answer" in step.warnings[0]


def test_a_rebuilt_host_takes_the_place_of_the_lost_member(formed):
    """A replica's host comes back empty, with a new id; the others remember the old one without an address."""
    name = next(iter(PLAN.master_of))
    formed.state[name].update(id="id-new", knows=set(), master="", epoch=0)
    formed.names["id-new"] = name
    for other in formed.state.values():
        if name in other["knows"]:
            other["knows"] = (other["knows"] - {name}) | {"lost"}
    formed.flags["lost"] = {"noaddr", "fail"}
    assert formed.form() == "done"
    assert all("lost" not in entry["knows"] for entry in formed.state.values())
    assert running_layout(formed.see()) == PLAN.as_dict()


def test_lost_slots_are_not_given_away(formed):
    seen = formed.see()
    gone = Member("gone", "10.0.0.6:6379", frozenset({"master", "fail"}), "", 1, False, ((0, 5),))
    seen["redis-1"].members["gone"] = gone
    with pytest.raises(Refusal, match="gone with the slots 0-5 and no replica took them over"):
        next_step(NODES, PLAN, seen)


def test_reads_cluster_nodes():
    members = parse_nodes(LINES)
    assert list(members) == ["07c3", "67ed", "292f", "6ec2"]
    assert members["07c3"].address == "10.0.0.1:6379"
    assert members["07c3"].slots == ((0, 5460), (5462, 5462))
    assert members["07c3"].moving == ("5463->-67ed",)
    assert slots_text(members["07c3"].slots) == "0-5460 5462"
    assert members["67ed"].failed
    assert members["292f"].is_replica
    assert members["292f"].master_id == "67ed"
    assert not members["292f"].connected


def test_reads_a_node():
    info = (
        "# Server\r\nredis_version:8.0.2\r\nrole:slave\r\nmaster_link_status:down\r\nmaster_last_io_seconds_ago:40\r\nslave_repl_offset:70"
        "\r\nmaster_repl_offset:9\r\nloading:0\r\nrdb_last_bgsave_status:err\r\n# Keyspace\r\ndb0:keys=12,expires=0,avg_ttl=0\r\n"
    )
    one = observation(NODES[0], "07c3", "cluster_state:fail\r\ncluster_known_nodes:4\r\n", LINES, info)
    assert (one.version, one.keys, one.offset, one.link_up, one.last_io_seconds, one.state) == (
        "8.0.2",
        12,
        70,
        False,
        40,
        "fail",
    )
    assert one.persistence == ("its last snapshot failed",)
    assert set(one.others) == {"67ed", "292f"}
    assert one.slot_count == 5462


def test_a_healthy_cluster_has_no_problems(formed):
    result = assess(NODES, formed.see(), 1, True, 30)
    assert result["healthy"], result["problems"]
    assert result["masters"] == sorted(PLAN.masters)
    assert result["slots_covered"] == 16384
    assert result["members"]["redis-1"]["role"] == "master"


def test_problems_are_sentences(formed):
    formed.silent = {"redis-1"}
    formed.flags["redis-1"] = {"fail"}
    seen = formed.see()
    seen["redis-6"] = dataclasses.replace(seen["redis-6"], link_up=False, persistence=("its last snapshot failed",))
    result = assess(NODES, seen, 1, True, 30)
    assert not result["healthy"]
    assert result["unreachable_members"] == ["redis-1"]
    assert result["failed_members"] == ["redis-1"]
    text = "\n".join(result["problems"])
    assert "redis-1: connection refused" in text
    assert "redis-1 is counted as failed by other members." in text
    assert "slots are served by no node that answers" in text
    assert "redis-6: its last snapshot failed." in text
    assert "redis-6 has no replication link" in text


def test_nothing_answers():
    seen = {
        node.name: Observation(name=node.name, address=node.address, error=f"{node.name}: refused") for node in NODES
    }
    result = assess(NODES, seen, 1, True, 30)
    assert result["state"] == "fail"
    assert result["masters"] == []
    assert len(result["unreachable_members"]) == 6


def test_the_replica_most_in_sync_is_promoted(formed):
    master = PLAN.masters[0]
    first, second = "redis-4", "redis-5"
    for name in (first, second):
        formed.state[name].update(master=formed.state[master]["id"])
    seen = formed.see()
    seen[master] = dataclasses.replace(seen[master], offset=100)
    seen[first] = dataclasses.replace(seen[first], offset=90)
    seen[second] = dataclasses.replace(seen[second], offset=95)
    assert replica_to_promote(seen, master, 1000)[0] == second
    seen[second] = dataclasses.replace(seen[second], link_up=False)
    assert replica_to_promote(seen, master, 1000)[0] == first
    assert replica_to_promote(seen, master, 5) == (
        "",
        ["redis-4 is 10 bytes behind.", "redis-5 has no link to its master."],
    )
    members = dict(seen[first].members)
    members[seen[master].id] = dataclasses.replace(seen[master].me, slots=((0, 1),))
    seen[first] = dataclasses.replace(seen[first], members=members)
    assert replica_to_promote(seen, master, 1000) == (
        "",
        [f"redis-4 doesn't know yet which slots {master} has.", "redis-5 has no link to its master."],
    )
