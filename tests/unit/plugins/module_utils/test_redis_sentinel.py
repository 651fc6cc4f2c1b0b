"""What servers and sentinels say, and what is done about it: against a small simulation, interrupted wherever it hurts."""

from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Node
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_state import (
    MASTER,
    NOBODY,
    REPLICA,
    UNASSIGNED,
    Other,
    Sentinel,
    Server,
    World,
    assess,
    elected,
    handed_over,
    has_role,
    majority,
    sentinel,
    sentinel_of,
    server,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_steps import (
    Goal,
    next_step,
    still_members,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import Refusal

NODES = [Node(f"redis-{n}", f"10.0.0.{n}") for n in range(1, 6)]
THREE = NODES[:3]
PORT = 26379
OPTIONS = {"down-after-milliseconds": 5000, "auth-user": "sentinel", "auth-pass": "secret"}
REPLICA_INFO = """\
# Replication
role:slave
master_host:10.0.0.1
master_port:6379
master_link_status:up
master_last_io_seconds_ago:1
slave_repl_offset:90
# Keyspace
db0:keys=3,expires=0,avg_ttl=0
"""


class Simulation:
    """Servers and sentinels that do what they are told, and learn of each other at once."""

    def __init__(self, nodes=THREE) -> None:
        self.nodes = nodes
        self.roles = {node.name: NOBODY for node in nodes}
        self.keys: dict[str, int] = {}
        self.silent: set[str] = set()
        self.watched: dict[str, dict] = {}  # of a sentinel: what it watches, and whom it remembers
        self.shut: set[str] = set()
        self.commands: list[tuple] = []
        self.learn_again: dict[str, int] = {}

    def address(self, name: str) -> str:
        return next(node.address for node in self.nodes if node.name == name)

    def name(self, address: tuple) -> str:
        return next((node.name for node in self.nodes if node.address == f"{address[0]}:{address[1]}"), "")

    def run(self, action) -> None:
        self.commands.append((action.node, *action.command))
        name = action.node.removeprefix(sentinel_of(""))
        verb = action.command[:2]
        if action.command[0] == "REPLICAOF":
            to = action.command[1:]
            self.roles[name] = None if to == ("NO", "ONE") else to
        elif verb == ("SENTINEL", "MONITOR"):
            _name, host, port, quorum = action.command[2:]
            self.watched[name] = {"master": f"{host}:{port}", "quorum": str(quorum), "known": set(), "replicas": set()}
        elif verb == ("SENTINEL", "SET"):
            self.watched[name][action.command[3]] = str(action.command[4])
        elif verb == ("SENTINEL", "REMOVE"):
            del self.watched[name]
        elif verb == ("SENTINEL", "RESET"):
            self.watched[name].update(known=set(), replicas=set())
            self.learn_again[name] = 2
        elif verb == ("ACL", "SETUSER"):
            self.shut.add(name)

    def fail_over(self, old: str, new: str) -> None:
        self.roles[new] = None
        host, port = self.address(new).split(":")
        for name, role in self.roles.items():
            if name != new and name not in self.silent and (role != NOBODY):
                self.roles[name] = (host, int(port))
        for its in self.watched.values():
            its.update(master=self.address(new), epoch=its.get("epoch", 0) + 1)
            its["replicas"] = its["replicas"] - {self.address(new)} | {self.address(old)}

    def look(self) -> World:
        for name, its in self.watched.items():
            if self.learn_again.get(name):
                self.learn_again[name] -= 1
                continue
            its["known"] |= {f"10.0.0.{other[-1]}:{PORT}" for other in self.watched if other != name}
            its["replicas"] |= {
                self.address(other)
                for other, role in self.roles.items()
                if role and f"{role[0]}:{role[1]}" == its["master"]
            }
        return World(
            {node.name: self.server(node) for node in self.nodes}, {n.name: self.sentinel(n) for n in self.nodes}
        )

    def server(self, node) -> Server:
        if node.name in self.silent:
            return Server(node.name, node.address, error=f"{node.name} doesn't answer.")
        to = self.roles[node.name]
        role = UNASSIGNED if to == NOBODY else REPLICA if to else MASTER
        return Server(
            node.name,
            node.address,
            role=role,
            master=f"{to[0]}:{to[1]}" if role == REPLICA else "",
            link_up=role == REPLICA,
            keys=self.keys.get(node.name, 0),
            version="8.0.2",
        )

    def sentinel(self, node) -> Sentinel:
        address = f"{node.host}:{PORT}"
        if node.name in self.silent:
            return Sentinel(node.name, address, error=f"the sentinel of {node.name} doesn't answer.")
        its = self.watched.get(node.name)
        if not its:
            return Sentinel(node.name, address)
        options = {
            key: value for key, value in its.items() if key not in ("known", "replicas", "auth-user", "auth-pass")
        }
        return Sentinel(
            node.name,
            address,
            master=its["master"],
            epoch=its.get("epoch", 0),
            flags=frozenset({"master"}),
            quorum=int(its["quorum"]),
            options={"down-after-milliseconds": "30000", **options},
            sentinels=tuple(Other(one) for one in sorted(its["known"])),
            replicas=tuple(Other(one) for one in sorted(its["replicas"] - {its["master"]})),
        )


def goal(**more) -> Goal:
    return Goal("redis", PORT, options=OPTIONS, sentinel_user="sentinel", **more)


def drive(simulation: Simulation, nodes=THREE, wanted: Goal | None = None, commands: int = 1000) -> int:
    """Do what it says until it is done, or killed after so many commands; returns how many were left."""
    for _round in range(60):
        step = next_step(nodes, simulation.look(), wanted or goal())
        if step.kind == "done":
            return commands
        if step.kind == "hand_over":
            simulation.fail_over(step.why, next(node.name for node in nodes if simulation.roles[node.name]))
            continue
        for action in step.actions:
            if not commands:
                return 0
            simulation.run(action)
            commands -= 1
    raise AssertionError(step)


def formed(nodes=THREE, simulation: Simulation | None = None) -> Simulation:
    simulation = simulation or Simulation(nodes)
    drive(simulation, nodes)
    return simulation


def test_what_a_server_says():
    one = server(NODES[1], REPLICA_INFO)
    assert (one.role, one.master, one.link_up, one.offset, one.keys) == (REPLICA, "10.0.0.1:6379", True, 90, 3)
    assert server(NODES[1], "role:master\nmaster_repl_offset:7\n").role == MASTER
    assert server(NODES[1], "role:slave\nmaster_host:127.0.0.1\nmaster_port:1\n").role == UNASSIGNED


def test_what_a_sentinel_says_in_either_protocol():
    flat = [
        "name",
        "redis",
        "ip",
        "10.0.0.1",
        "port",
        "6379",
        "flags",
        "master,s_down",
        "quorum",
        "2",
        "config-epoch",
        "3",
    ]
    as_map = dict(zip(flat[::2], flat[1::2], strict=True))
    one = sentinel("redis-2", "10.0.0.2:26379", flat, [["ip", "10.0.0.3", "port", "26379", "flags", "sentinel"]])
    assert one == sentinel(
        "redis-2", "10.0.0.2:26379", as_map, [{"ip": "10.0.0.3", "port": "26379", "flags": "sentinel"}]
    )
    assert (one.master, one.epoch, one.quorum) == ("10.0.0.1:6379", 3, 2)
    assert not sentinel("redis-2", "10.0.0.2:26379", None).master


def test_a_server_without_a_role_is_told_by_its_file():
    assert not has_role("port 0\nreplicaof 127.0.0.1 1\n")
    assert has_role("port 0\nreplicaof 10.0.0.1 6379\n")
    assert has_role("port 0\n")


@pytest.mark.parametrize("killed_after", range(20))
def test_forms_one_master_wherever_it_is_killed(killed_after):
    simulation = Simulation()
    drive(simulation, commands=killed_after)
    drive(simulation)
    assert [name for name, role in simulation.roles.items() if role is None] == ["redis-1"]
    assert all(its["auth-pass"] == "secret" for its in simulation.watched.values())
    assert {its["quorum"] for its in simulation.watched.values()} == {"2"}
    before = len(simulation.commands)
    drive(simulation)
    assert len(simulation.commands) == before
    result = assess(THREE, PORT, "redis", simulation.look(), 30)
    assert result["healthy"], result["problems"]
    assert result["layout"] == {"redis-1": {"slots": "", "replicas": ["redis-2", "redis-3"]}}


def test_a_failover_is_never_undone():
    simulation = formed()
    simulation.silent.add("redis-1")
    simulation.fail_over("redis-1", "redis-2")
    commands = len(simulation.commands)
    drive(simulation)
    simulation.silent.clear()
    # It comes back as what it was: that is the sentinels' to mend.
    step = next_step(THREE, simulation.look(), goal())
    assert step.kind == "wait"
    assert "redis-1 still is a master" in step.why
    simulation.roles["redis-1"] = ("10.0.0.2", 6379)
    drive(simulation)
    assert len(simulation.commands) == commands
    assert elected(simulation.look()) == "10.0.0.2:6379"


def test_nobody_is_chosen_while_one_is_silent():
    simulation = Simulation()
    simulation.silent.add("redis-3")
    step = next_step(THREE, simulation.look(), goal())
    assert step.kind == "blocked"
    assert "redis-3 doesn't answer" in step.why


@pytest.mark.parametrize(
    ("roles", "keys", "words"),
    [
        ({"redis-1": None, "redis-2": None}, {}, ("redis-1 and redis-2 are masters", "Nothing was changed")),
        ({"redis-2": ("10.9.9.9", 6379)}, {}, ("redis-2 is a replica of 10.9.9.9:6379", "only copy")),
        ({}, {"redis-3": 5}, ("redis-3 has 5 keys", "never overwritten")),
    ],
    ids=["two masters", "a lost replica", "keys without a role"],
)
def test_refuses_to_guess(roles, keys, words):
    simulation = Simulation()
    simulation.roles.update(roles)
    simulation.keys.update(keys)
    with pytest.raises(Refusal) as refusal:
        next_step(THREE, simulation.look(), goal())
    assert all(word in str(refusal.value) for word in words)


def test_refuses_the_master_of_others():
    simulation = formed()
    for its in simulation.watched.values():
        its["master"] = "10.9.9.9:6379"
    with pytest.raises(Refusal, match="not one of the nodes given"):
        next_step(THREE, simulation.look(), goal())


def test_hosts_join():
    simulation = formed(THREE, Simulation(NODES))
    drive(simulation, NODES)
    assert set(simulation.watched) == {node.name for node in NODES}
    assert {its["quorum"] for its in simulation.watched.values()} == {str(majority(5))}
    assert [name for name, role in simulation.roles.items() if role is None] == ["redis-1"]


@pytest.mark.parametrize("killed_after", range(0, 30, 3))
def test_hosts_leave_the_master_among_them(killed_after):
    simulation = formed(NODES)
    stay, leaving = NODES[1:4], (NODES[0], NODES[4])
    wanted = goal(leaving=leaving)
    assert next_step(stay, simulation.look(), dataclasses.replace(wanted, remove=False)).kind == "done"
    drive(simulation, stay, wanted, commands=killed_after)
    drive(simulation, stay, wanted)
    assert still_members(stay, simulation.look(), wanted) == []
    assert simulation.roles["redis-1"] == simulation.roles["redis-5"] == NOBODY
    assert set(simulation.watched) == {node.name for node in stay}
    assert simulation.shut == {"redis-1", "redis-5"}
    assert {its["quorum"] for its in simulation.watched.values()} == {"2"}
    result = assess(stay, PORT, "redis", simulation.look(), 30)
    assert result["healthy"], result["problems"]


def test_a_sentinel_that_has_the_old_password_is_made_to_connect_anew():
    world = formed().look()
    others = (Other("10.0.0.1:26379"), Other("10.0.0.3:26379", frozenset({"sentinel", "s_down"})))
    step = next_step(THREE, change(world, "redis-2", sentinel_is={"sentinels": others}), goal())
    assert step.kind == "wait"
    assert [(action.node, action.command) for action in step.actions] == [
        (sentinel_of("redis-3"), ("CLIENT", "KILL", "USER", "default"))
    ]
    step = next_step(THREE, change(world, "redis-2", sentinel_is={"flags": frozenset({"master", "s_down"})}), goal())
    assert step.actions[0].node == "redis-1"
    # Who doesn't answer is down.
    dead = change(world, "redis-2", sentinel_is={"sentinels": others})
    dead = change(dead, "redis-3", {"error": "gone"}, {"error": "gone"})
    assert next_step(THREE, dead, goal()).kind == "done"


def test_one_sentinel_forgets_at_a_time():
    simulation = formed(NODES)
    wanted = goal(leaving=tuple(NODES[3:]))
    reset = []
    for _round in range(60):
        step = next_step(THREE, simulation.look(), wanted)
        if step.kind == "done":
            break
        for action in step.actions:
            if action.command[1] == "RESET":
                assert all(count == 0 for count in simulation.learn_again.values())
                reset.append(action.node)
            simulation.run(action)
    assert reset == [sentinel_of(node.name) for node in THREE]


def test_a_dead_host_is_forgotten():
    simulation = formed(NODES)
    simulation.silent |= {"redis-4", "redis-5"}
    for name in ("redis-4", "redis-5"):
        simulation.roles[name] = ("10.9.9.9", 1)
        del simulation.watched[name]
    wanted = goal(leaving=tuple(NODES[3:]))
    assert still_members(THREE, simulation.look(), wanted) == ["redis-4", "redis-5"]
    drive(simulation, THREE, wanted)
    assert still_members(THREE, simulation.look(), wanted) == []


def test_refuses_to_leave_too_few_or_beside_a_silent_one():
    simulation = formed(NODES)
    with pytest.raises(Refusal, match="at least 3"):
        next_step(NODES[:2], simulation.look(), goal(leaving=tuple(NODES[2:])))
    simulation.silent.add("redis-2")
    with pytest.raises(Refusal, match="redis-2 doesn't answer"):
        next_step(THREE, simulation.look(), goal(leaving=tuple(NODES[3:])))


def change(world: World, name: str, server_of: dict | None = None, sentinel_is: dict | None = None) -> World:
    return World(
        {**world.servers, name: dataclasses.replace(world.servers[name], **(server_of or {}))},
        {**world.sentinels, name: dataclasses.replace(world.sentinels[name], **(sentinel_is or {}))},
    )


@pytest.mark.parametrize(
    ("server_of", "sentinel_is", "problem"),
    [
        ({"error": "redis-2 is away."}, {}, "redis-2 is away."),
        ({"role": MASTER, "master": ""}, {}, "redis-2 is a master and not the one that the sentinels name (redis-1)."),
        ({"role": UNASSIGNED, "master": ""}, {}, "redis-2 has no role yet"),
        ({"link_up": False}, {}, "redis-2 has no replication link to its master redis-1."),
        ({"master": "10.0.0.3:6379"}, {}, "redis-2 replicates from redis-3, which isn't the master."),
        ({"last_io_seconds": 31}, {}, "heard nothing of its master for 31 s"),
        ({"persistence": ("its last snapshot failed",)}, {}, "redis-2: its last snapshot failed."),
        ({}, {"error": "its sentinel is away."}, "its sentinel is away."),
        ({}, {"master": ""}, "The sentinel of redis-2 watches no master."),
        ({}, {"flags": frozenset({"master", "failover_in_progress"})}, "in the middle of a failover"),
        ({}, {"flags": frozenset({"master", "s_down"})}, "redis-1 is counted as failed by sentinels."),
        ({}, {"quorum": 3}, "has the quorum 3 instead of 2."),
        ({}, {"sentinels": (Other("10.0.0.1:26379"),)}, "doesn't know the sentinels 10.0.0.3:26379."),
        (
            {},
            {"sentinels": tuple(Other(f"10.0.0.{n}:26379") for n in (1, 3, 9))},
            "remembers the sentinel 10.0.0.9:26379, which isn't in the inventory.",
        ),
        (
            {},
            {"replicas": tuple(Other(f"10.0.0.{n}:6379") for n in (2, 3, 9))},
            "remembers the replica 10.0.0.9:6379, which isn't in the inventory.",
        ),
        ({}, {"replicas": (Other("10.0.0.2:6379"),)}, "doesn't know the replicas 10.0.0.3:6379."),
    ],
)
def test_what_is_wrong_is_said(server_of, sentinel_is, problem):
    result = assess(THREE, PORT, "redis", change(formed().look(), "redis-2", server_of, sentinel_is), 30)
    assert not result["healthy"]
    assert any(problem in one for one in result["problems"]), result["problems"]


def test_a_handover_is_over_when_everybody_knows():
    simulation = formed()
    names = [node.name for node in THREE]
    assert handed_over(simulation.look(), names, "redis-1", "redis-2") == "redis-2 is still a replica."
    simulation.roles["redis-2"] = None
    assert "redis-1 isn't a replica of redis-2" in handed_over(simulation.look(), names, "redis-1", "redis-2")
    simulation.roles["redis-1"] = ("10.0.0.2", 6379)
    assert "redis-3 isn't in sync" in handed_over(simulation.look(), names, "redis-1", "redis-2")
    simulation.roles["redis-3"] = ("10.0.0.2", 6379)
    assert "Not all sentinels" in handed_over(simulation.look(), names, "redis-1", "redis-2")
    simulation.fail_over("redis-1", "redis-2")
    assert handed_over(simulation.look(), names, "redis-1", "redis-2") == ""
