"""Who may leave a Swarm, in which order, and when their work is done elsewhere."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_removal as removal
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plugins.module_utils.test_swarm_state import node


def managers(count, dead=()):
    return [
        node(
            f"m-{n}",
            f"10.0.0.{n}",
            leader=n == 1,
            state="down" if n in dead else "ready",
            reachability="unreachable" if n in dead else "reachable",
        )
        for n in range(1, count + 1)
    ]


def worker(number, **values):
    return node(f"w-{number}", f"10.0.1.{number}", role="worker", reachability="", **values)


def host(found):
    return {"hostname": found.hostname, "address": found.address}


def refused(nodes, *leaving):
    found = removal.leaving_nodes(nodes, [host(each) for each in leaving])
    return " ".join(removal.removal_problems(nodes, found))


def test_the_dead_leave_first_and_the_leader_last():
    nodes = [*managers(3, dead=(3,)), worker(1), worker(2, state="down")]
    names = [found.hostname for found in removal.leaving_nodes(nodes, [host(each) for each in nodes])]
    assert names == ["m-3", "w-2", "m-2", "w-1", "m-1"]


def test_a_hosts_former_nodes_leave_with_it():
    former = worker(1, id="former", state="down")
    assert removal.leaving_nodes([worker(1), former, worker(2)], [host(worker(1))]) == [former, worker(1)]


def test_workers_may_leave_whatever_the_managers_are():
    assert refused([*managers(3, dead=(2, 3)), worker(1), worker(2)], worker(1)) == ""


def test_one_of_two_workers_of_a_drained_swarm_may_leave_but_not_both():
    drained = [node(f"m-{n}", f"10.0.0.{n}", availability="drain") for n in (1, 2, 3)]
    nodes = [*drained, worker(1), worker(2)]
    assert refused(nodes, worker(1)) == ""
    assert "no node that runs containers would be left" in refused(nodes, worker(1), worker(2))


@pytest.mark.parametrize(
    ("count", "dead", "leaving", "said"),
    [
        (5, (), (4, 5), ""),
        (3, (), (3,), ""),
        (3, (3,), (3,), ""),
        (3, (3,), (2,), "without m-2 only 1 of 3 managers would be left, and 2 are needed"),
        (3, (), (2, 3), "without m-3 only 1 of 2 managers would be left"),
        (5, (4, 5), (4, 5), ""),
        (5, (4, 5), (3,), "without m-3 only 2 of 5 managers would be left"),
        (3, (2, 3), (2, 3), "without m-2 only 1 of 3 managers"),
        (1, (), (1,), "no manager would be left"),
        (3, (), (1, 2, 3), "no manager would be left"),
    ],
)
def test_managers_leave_only_while_the_others_are_a_majority(count, dead, leaving, said):
    nodes = [*managers(count, dead), worker(1)]
    answer = refused(nodes, *[nodes[number - 1] for number in leaving])
    assert said in answer
    assert bool(said) == bool(answer)


@given(count=st.sampled_from([1, 3, 5, 7]), dead=st.sets(st.integers(1, 7)), leaving=st.sets(st.integers(1, 7)))
def test_what_is_allowed_leaves_a_majority_at_every_step(count, dead, leaving):
    nodes = [*managers(count, dead), worker(1)]
    found = removal.leaving_nodes(nodes, [host(each) for each in managers(count) if int(each.hostname[2:]) in leaving])
    if removal.removal_problems(nodes, found):
        return
    present = [each for each in nodes if each.role == "manager"]
    for gone in found:
        before = len(present)
        present = [each for each in present if each.id != gone.id]
        assert sum(each.reachability == "reachable" for each in present) > before // 2


def task(node_id, state, service="s"):
    return {"NodeID": node_id, "ServiceID": service, "Status": {"State": state}}


def service(running, desired, name="agent", service_id="s"):
    status = {"RunningTasks": running, "DesiredTasks": desired}
    return {"ID": service_id, "Spec": {"Name": name}, "ServiceStatus": status}


def test_only_what_is_unfinished_there_is_waited_for():
    tasks = [task("id-w-1", "running"), task("id-w-1", "failed", "ended"), task("id-w-2", "running", "elsewhere")]
    assert removal.services_on([worker(1)], tasks) == {"s"}


@pytest.mark.parametrize(
    ("tasks", "services", "said"),
    [
        ([task("id-w-1", "shutdown"), task("id-w-2", "running")], [service(1, 1)], []),
        ([task("id-w-1", "running")], [service(1, 1)], ["agent still runs on w-1"]),
        ([task("id-w-1", "shutdown")], [service(0, 1)], ["agent has 0 of 1 replicas on the nodes that stay"]),
        ([], [service(0, 1, "other", "o"), service(1, 1)], []),  # broken before, and none of ours
    ],
)
def test_a_node_is_done_when_its_services_are_whole_elsewhere(tasks, services, said):
    assert removal.unsettled([worker(1)], tasks, services, {"s"}) == said


def test_what_a_dead_node_runs_is_not_asked():
    dead = worker(1, state="down")
    assert removal.unsettled([dead], [task("id-w-1", "running")], [service(1, 1)], {"s"}) == []
    assert removal.unsettled([dead], [task("id-w-1", "running")], [service(0, 1)], {"s"}) != []
