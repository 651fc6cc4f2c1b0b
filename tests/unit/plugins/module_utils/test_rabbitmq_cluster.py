"""What a RabbitMQ cluster's answers mean, and which nodes are to join which."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import rabbitmq_cluster as model

A, B, C = "rabbit@a", "rabbit@b", "rabbit@c"
ALL = [A, B, C]


def api_node(name, **more):
    return {
        "name": name,
        "running": True,
        "mem_alarm": False,
        "disk_free_alarm": False,
        "partitions": [],
        "being_drained": False,
        "applications": [{"name": "rabbit", "version": "4.0.5"}, {"name": "ra", "version": "2"}],
        **more,
    }


def snapshot(*nodes, flags=()):
    return model.snapshot_of_api({"cluster_name": "test"}, list(nodes), list(flags))


def test_a_complete_cluster_has_no_problems():
    seen = snapshot(*map(api_node, ALL))
    assert model.cluster_problems(seen, ALL) == []
    assert model.cluster_warnings(seen) == []
    assert seen.versions == dict.fromkeys(ALL, "4.0.5")


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([api_node(A), api_node(B)], "rabbit@c is not in the cluster of rabbit@a, rabbit@b"),
        ([api_node(A), api_node(B), {"name": C, "running": False}], "rabbit@c is in the cluster but not running"),
        ([*map(api_node, ALL), api_node("rabbit@d")], "rabbit@d is in the cluster but not in nodes"),
        ([api_node(A, partitions=[C]), api_node(B), api_node(C)], "rabbit@a is partitioned from rabbit@c"),
        ([api_node(A, mem_alarm=True), api_node(B), api_node(C)], "rabbit@a has a mem alarm"),
        ([api_node(A), api_node(B), api_node(C, disk_free_alarm=True)], "rabbit@c has a disk_free alarm"),
        ([api_node(A), api_node(B, being_drained=True), api_node(C)], "rabbit@b is in maintenance mode"),
    ],
)
def test_each_problem_is_a_sentence(nodes, said):
    problems = model.cluster_problems(snapshot(*nodes), ALL)
    assert len(problems) == 1
    assert problems[0].startswith(said)


def test_a_stopped_nodes_stale_alarm_does_not_count():
    seen = snapshot(api_node(A), api_node(B), api_node(C, running=False, mem_alarm=True))
    assert seen.alarms == []


def test_the_command_line_says_the_same_as_the_api():
    status = {
        "cluster_name": "test",
        "disk_nodes": ALL,
        "ram_nodes": [],
        "running_nodes": [A, B],
        "partitions": {A: [C]},
        "alarms": [{"node": B, "resource": "disk"}],
        "maintenance_status": {A: "not under maintenance", B: "drained"},
        "versions": {A: {"rabbitmq_version": "4.0.5", "erlang_version": "27"}},
        "feature_flags": [{"name": "x", "state": "disabled", "stability": "stable"}],
    }
    seen = model.snapshot_of_cli(status)
    assert (seen.source, seen.members, seen.nodes_running) == ("cli", ALL, [A, B])
    assert (seen.partitions, seen.maintenance, seen.versions) == ({A: [C]}, [B], {A: "4.0.5"})
    assert seen.alarms == ["rabbit@b has a disk alarm"]
    assert seen.feature_flags_disabled == ["x"]


def test_only_stable_flags_are_to_be_enabled():
    flags = [
        {"name": "khepri_db", "state": "disabled", "stability": "experimental"},
        {"name": "quorum", "state": "enabled", "stability": "required"},
        {"name": "new", "state": "disabled", "stability": "stable"},
    ]
    assert model.feature_flags_to_enable(flags) == ["new"]


def test_mixed_versions_are_a_warning():
    seen = snapshot(api_node(A), api_node(B, applications=[{"name": "rabbit", "version": "4.1.0"}]))
    assert "different versions: rabbit@a 4.0.5, rabbit@b 4.1.0" in model.cluster_warnings(seen)[0]


def quorum_queue(name, members, online=None, leader=A):
    online = members if online is None else online
    return {"vhost": "/", "name": name, "type": "quorum", "members": members, "online": online, "leader": leader}


def test_queues_are_summed_up():
    queues = [
        quorum_queue("full", ALL),
        quorum_queue("short", [A], leader=B),
        quorum_queue("offline", ALL, online=[A, B]),
        {"vhost": "/", "name": "old", "type": "classic", "node": C},
    ]
    summary = model.queue_summary(queues, 3)
    assert summary["queues_by_type"] == {"classic": 1, "quorum": 3}
    assert summary["leaders"] == {A: 2, B: 1, C: 1}
    assert model.queue_problems(summary) == [
        "1 quorum queue with too few members: /:short has 1 of 3; playbooks/messaging.yml adds them",
        "1 quorum queue with a member that isn't online: /:offline on rabbit@c",
    ]


def test_many_short_queues_are_counted_not_listed():
    summary = model.queue_summary([quorum_queue(f"q{number}", [A]) for number in range(50)], 3)
    (problem,) = model.queue_problems(summary)
    assert problem.startswith("50 quorum queues")
    assert problem.count("has 1 of 3") == 3


def test_a_node_that_is_to_leave_may_be_there_or_not():
    seen = snapshot(*map(api_node, ALL), {"name": "rabbit@d", "running": False})
    assert model.cluster_problems(seen, ALL, leaving=["rabbit@d", "rabbit@e"]) == []
    assert model.cluster_warnings(seen, ["rabbit@d", "rabbit@e"]) == [
        "rabbit@d is to leave the cluster and still there; run playbooks/scale.yml"
    ]
    summary = model.queue_summary([quorum_queue("q", [A, B, "rabbit@d"], online=[A, B])], 3, ["rabbit@d"])
    assert model.queue_problems(summary) == []


def test_a_node_is_taken_out_when_it_holds_nothing():
    seen = snapshot(*map(api_node, ALL), api_node("rabbit@d"))
    assert model.removal_problems(seen, ALL, ["rabbit@d"], [quorum_queue("q", ALL)]) == []


@pytest.mark.parametrize(
    ("nodes", "staying", "leaving", "said"),
    [
        ([api_node(A), api_node(B)], ALL, ["rabbit@d"], "rabbit@c, which is to stay, doesn't run"),
        ([*map(api_node, ALL)], ALL, [C], "rabbit@c is to stay and to leave"),
        ([*map(api_node, ALL)], [A, B], [C], "1 quorum queue still has a member there (/:q)"),
    ],
)
def test_a_node_that_is_needed_is_not_taken_out(nodes, staying, leaving, said):
    queues = [quorum_queue("q", [A, B, C])] if C not in staying else []
    (problem,) = model.removal_problems(snapshot(*nodes), staying, leaving, queues)
    assert problem.startswith(said)


def view(node, members, blank=True):
    return model.NodeView(node=node, members=members, running=members, blank=blank)


def test_blank_nodes_apart_join_the_first():
    assert model.plan_joins([view(A, [A]), view(B, [B]), view(C, [C])], ALL) == (A, [B, C])


def test_blank_nodes_join_the_larger_cluster():
    assert model.plan_joins([view(A, [A]), view(B, [B, C]), view(C, [B, C])], ALL) == (B, [A])


def test_blank_nodes_join_the_one_that_holds_something():
    views = [view(A, [A, B]), view(B, [A, B]), view(C, [C], blank=False)]
    assert model.plan_joins(views, ALL) == (C, [A, B])


def test_two_clusters_that_hold_something_are_never_merged():
    views = [view(A, [A], blank=False), view(B, [B, C], blank=False), view(C, [B, C], blank=False)]
    with pytest.raises(model.CannotForm, match=r"2 clusters that hold .*: rabbit@a and rabbit@b, rabbit@c"):
        model.plan_joins(views, ALL)


def test_one_cluster_has_nobody_to_join():
    assert model.plan_joins([view(node, ALL) for node in ALL], ALL) == (A, [])
