"""Which nodes hold a copy of which quorum queue, and the steps towards it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import rabbitmq_members as model

A, B, C, D, E = (f"rabbit@{letter}" for letter in "abcde")
THREE, FIVE = [A, B, C], [A, B, C, D, E]


def quorum(name, members, online=None, leader=None, **more):
    online = members if online is None else online
    return {
        "vhost": "/",
        "name": name,
        "type": "quorum",
        "members": members,
        "online": online,
        "leader": leader or members[0],
        **more,
    }


def says(queues, nodes, running=None, leaving=(), size=3, **more):
    found = model.plan(queues, nodes, [*nodes, *leaving] if running is None else running, list(leaving), size, **more)
    assert not (found.steps and found.refused)
    return [f"{'+' if step.action == model.ADD else '-'}{step.node[-1]}" for step in found.steps], found.refused


def test_a_whole_queue_is_left_alone():
    assert says([quorum("q", THREE)], THREE) == ([], [])


def test_a_queue_that_was_declared_too_early_grows():
    assert says([quorum("q", [B])], THREE) == (["+a", "+c"], [])


def test_a_queue_never_grows_beyond_the_nodes():
    assert says([quorum("q", [A])], [A], size=3) == ([], [])


def test_a_queue_with_more_members_than_wanted_keeps_them():
    assert says([quorum("q", FIVE)], FIVE) == ([], [])


def test_nothing_is_added_on_a_node_that_does_not_run():
    assert says([quorum("q", [A, B])], THREE, running=[A, B]) == ([], [])


def test_a_member_that_is_down_for_a_while_counts():
    assert says([quorum("q", THREE, online=[A, B])], FIVE, running=[A, B, D, E]) == ([], [])


def test_members_are_added_before_others_go_and_the_leader_goes_last():
    queue = quorum("q", [C, D, E], leader=D)
    assert says([queue], THREE, leaving=[D, E]) == (["+a", "+b", "-e", "-d"], [])


def test_the_member_of_a_dead_node_goes_first():
    queue = quorum("q", [A, B, D], online=[A, B])
    assert says([queue], THREE, running=THREE, leaving=[D]) == (["-d", "+c"], [])


def test_a_queue_without_majority_is_not_touched():
    queue = quorum("q", [A, D, E], online=[A])
    steps, (refused,) = says([queue], THREE, running=THREE, leaving=[D, E])
    assert steps == []
    assert refused.startswith(
        "the quorum queue /:q has lost its majority: of its members on rabbit@a, rabbit@d, rabbit@e only rabbit@a"
    )


def test_one_queue_that_is_refused_keeps_all_as_they_are():
    queues = [quorum("fine", [A, B, D], online=[A, B]), quorum("lost", [A, D, E], online=[A])]
    assert says(queues, THREE, running=THREE, leaving=[D, E])[0] == []


@pytest.mark.parametrize(
    ("nodes", "running", "leaving", "said"),
    [
        ([A, B], THREE, [C], "rabbit@c can't leave: 2 nodes would stay"),
        (THREE, [A, B, D], [D], "rabbit@d can't leave while rabbit@c, which is to stay, doesn't run"),
        ([A, B, C, D], [A, B, C, D], [D], "rabbit@d can't both stay and leave"),
    ],
)
def test_a_node_does_not_leave_a_cluster_that_needs_it(nodes, running, leaving, said):
    steps, (refused,) = says([quorum("q", [A, B, leaving[0]])], nodes, running=running, leaving=leaving)
    assert steps == []
    assert refused.startswith(said)


def classic(name="q", **more):
    return {"vhost": "/", "name": name, "type": "classic", "durable": True, "node": D, **more}


def test_a_classic_queue_that_would_be_gone_is_refused_and_given_up_when_told():
    (refused,) = says([classic(messages=7)], THREE, leaving=[D])[1]
    assert refused.startswith("the classic queue /:q (7 messages) is on rabbit@d alone")
    assert says([classic(messages=7)], THREE, leaving=[D], accept_loss=True) == ([], [])


@pytest.mark.parametrize(
    "more",
    [
        {"node": A},
        {"exclusive": True},
        {"durable": False},
        {"auto_delete": True},
        {"synchronised_slave_nodes": [A]},
    ],
)
def test_a_classic_queue_that_loses_nothing_is_in_nobodys_way(more):
    assert says([classic(**more)], THREE, leaving=[D]) == ([], [])


def test_a_mirror_that_leaves_too_saves_nothing():
    queue = classic(synchronised_slave_nodes=[E])
    assert len(says([queue], THREE, leaving=[D, E])[1]) == 1


def test_a_stream_is_not_moved_here():
    stream = {"vhost": "/", "name": "s", "type": "stream", "members": [A, B, D], "node": A}
    (refused,) = says([stream], THREE, leaving=[D])[1]
    assert "rabbitmq-streams add_replica" in refused


def loads(queues, steps):
    members = {queue["name"]: set(queue["members"]) for queue in queues}
    for step in steps:
        (members[step.queue].add if step.action == model.ADD else members[step.queue].remove)(step.node)
    return members, Counter(node for nodes in members.values() for node in nodes)


def test_new_nodes_get_their_share():
    queues = [quorum(f"q{number}", THREE, leader=THREE[number % 3]) for number in range(15)]
    steps = model.plan(queues, FIVE, FIVE, [], 3).steps
    members, load = loads(queues, steps)
    assert set(load.values()) == {9}
    assert all(len(nodes) == 3 for nodes in members.values())
    # No more queues than need be have two members on the new nodes: 18 moves, 15 queues.
    assert sum({D, E} <= nodes for nodes in members.values()) == 3
    again = [
        {**queue, "members": sorted(members[queue["name"]]), "online": sorted(members[queue["name"]])}
        for queue in queues
    ]
    assert model.plan(again, FIVE, FIVE, [], 3).steps == []


def test_a_follower_moves_rather_than_a_leader():
    queues = [quorum(f"q{number}", THREE, leader=THREE[number % 3]) for number in range(9)]
    steps = model.plan(queues, [*THREE, D, E], FIVE, [], 3).steps
    first = {step.queue: step.node for step in reversed(steps) if step.action == model.REMOVE}
    leaders = {queue["name"]: queue["leader"] for queue in queues}
    # Of the last queues that are left to move, one may have its leader on the fullest node.
    assert len([queue for queue, node in first.items() if leaders[queue] == node]) <= 1


def test_a_small_difference_is_left_alone():
    queues = [quorum("q1", THREE), quorum("q2", [A, B, D]), quorum("q3", [A, C, E])]
    assert says(queues, FIVE) == ([], [])


def test_nothing_moves_while_a_node_is_down():
    queues = [quorum(f"q{number}", THREE) for number in range(15)]
    assert says(queues, FIVE, running=[A, B, C, D]) == ([], [])


@pytest.mark.parametrize("seed", range(200))
def test_no_step_loses_a_majority_or_more_copies_than_it_may(seed):
    dice = random.Random(seed)
    everyone = [f"rabbit@{number}" for number in range(dice.choice([3, 5, 7]))]
    leaving = dice.sample(everyone, dice.randint(0, max(0, len(everyone) - 3)))
    nodes = [node for node in everyone if node not in leaving]
    dead = [node for node in leaving if dice.random() < 0.4]
    running = [node for node in everyone if node not in dead]
    size = dice.choice([3, 3, 5])
    queues = []
    for number in range(dice.randint(1, 12)):
        members = dice.sample(everyone, dice.randint(1, len(everyone)))
        queues.append(quorum(f"q{number:02}", members, online=[node for node in members if node in running]))
    found = model.plan(queues, nodes, running, leaving, size)
    lost = [queue for queue in queues if len(queue["online"]) * 2 <= len(queue["members"])]
    touched = [
        queue for queue in lost if set(queue["members"]) & set(leaving) or len(queue["members"]) < min(size, len(nodes))
    ]
    assert bool(found.refused) == bool(touched)
    if found.refused:
        assert found.steps == []
        return
    wanted = min(size, len(nodes))
    for queue in queues:
        members, online = set(queue["members"]), set(queue["online"])
        fewest = min(len(online), wanted)
        for step in (step for step in found.steps if step.queue == queue["name"]):
            if step.action == model.ADD:
                assert step.node in running
                assert step.node not in members
                members.add(step.node)
                online.add(step.node)
            else:
                members.remove(step.node)
                online.discard(step.node)
            assert len(online) * 2 > len(members)
            assert len(online) >= fewest
        assert not members & set(leaving)
        assert len(members) >= wanted


STATUS = [
    {"Node Name": A, "Raft State": "leader", "Log Index": 20, "Commit Index": 20},
    {"Node Name": B, "Raft State": "follower", "Log Index": 20, "Commit Index": 19},
    {"Node Name": D, "Raft State": "follower", "Log Index": 12, "Commit Index": 12},
]


def test_a_new_member_has_caught_up_when_it_has_what_was_agreed_on():
    assert model.committed(STATUS) == 20
    assert model.behind(STATUS, [D], 20) == [D]
    assert model.behind(STATUS, [B], 20) == []
    assert model.behind(STATUS, [E], 20) == [E]


def test_a_new_member_without_a_vote_has_not_caught_up():
    row = {"Node Name": D, "Last Log Index": 20, "Membership": "promotable"}
    assert model.behind([row], [D], 20) == [D]
    assert model.behind([{**row, "Membership": "voter"}], [D], 20) == []


def test_a_member_that_does_not_answer_has_not_caught_up():
    row = {"Node Name": D, "Raft State": "noproc", "Last Log Index": "", "Membership": ""}
    assert model.behind([row], [D], 20) == [D]
