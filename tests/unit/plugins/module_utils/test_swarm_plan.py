from dataclasses import replace
from itertools import product

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_plan as plan
from hypothesis import given
from hypothesis import strategies as st

GIB = 2**30
WORKER = plan.Node("w1", "agent-1", "worker", True, 4 * plan.NANO, 8 * GIB, {"sutazai.agents": "true"})
OTHER = replace(WORKER, id="w2", hostname="agent-2")
MANAGER = plan.Node("m1", "swarm-1", "manager", True, 4 * plan.NANO, 8 * GIB, {"sutazai.agents": "false"})
NODES = [MANAGER, WORKER, OTHER]
RESERVATION = plan.Resources(plan.NANO, 2 * GIB)
DEMAND = plan.Demand(8, RESERVATION, plan.Resources(2 * plan.NANO, 4 * GIB), ("node.role == worker",))


def only(demand, nodes=NODES):
    (problem,) = plan.problems(demand, nodes)
    return problem


def test_a_service_that_fits_has_no_problem():
    assert plan.problems(DEMAND, NODES) == []


def test_more_replicas_than_the_constraints_nodes_have_room_for():
    problem = only(replace(DEMAND, replicas=9))
    assert problem.startswith(
        "replicas is 9, but the Swarm has room for 8: agent-1 4 (free: 4 CPUs, 8192 MiB); agent-2 4"
    )
    assert "lower reservation_cpus or reservation_memory_bytes" in problem
    assert plan.problems(replace(DEMAND, replicas=9, constraints=()), NODES) == []


def test_room_in_sum_is_no_room_on_a_node():
    """Three GiB on each of two nodes are six, but hold only two tasks of two."""
    small = [replace(WORKER, memory_bytes=3 * GIB), replace(OTHER, memory_bytes=3 * GIB)]
    assert "room for 2:" in only(replace(DEMAND, replicas=3), small)


def test_an_update_that_starts_first_needs_room_too():
    problem = only(replace(DEMAND, extra=2))
    assert "an update starts 2 more before it stops any (update_parallelism)" in problem
    assert "has room for 8" in problem
    assert plan.problems(replace(DEMAND, replicas=6, extra=2), NODES) == []


def test_a_constraint_that_no_node_satisfies():
    problem = only(replace(DEMAND, constraints=("node.role == worker", "node.labels.gpu == true")))
    assert "none of the nodes that the other constraints leave satisfies `node.labels.gpu == true`" in problem
    assert "node.labels.gpu is not set" in problem
    assert "no node of the Swarm satisfies" in only(replace(DEMAND, constraints=("node.hostname == agent-9",)))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("node.role = worker", "write it as"),
        ("node.role", "write it as"),
        ("node.role ==", "write it as"),
        ("node.labels. == x", "which nodes don't have"),
        ("role == worker", "which nodes don't have"),
    ],
)
def test_a_constraint_that_can_not_be_read(text, complaint):
    assert complaint in only(replace(DEMAND, constraints=(text,)))


def test_nodes_that_take_no_tasks_have_no_room():
    assert "room for 4:" in only(DEMAND, [MANAGER, WORKER, replace(OTHER, accepts=False)])
    away = [MANAGER, *(replace(node, accepts=False) for node in (WORKER, OTHER))]
    assert "agent-1, agent-2: none of the nodes" in only(DEMAND, away)


def test_limits_below_reservations():
    limited = replace(DEMAND, limit=plan.Resources(plan.NANO // 2, GIB))
    assert [problem.split(" (")[0] for problem in plan.problems(limited, NODES)] == ["limit_cpus", "limit_memory_bytes"]
    assert plan.problems(replace(DEMAND, limit=plan.Resources()), NODES) == [], "no limit is no problem"


def test_more_replicas_than_are_allowed():
    assert "maximum_replicas allows 5" in only(replace(DEMAND, maximum=5))


def test_a_maximum_for_each_node_counts_without_reservations_too():
    spread = replace(DEMAND, reservation=plan.Resources(), max_per_node=2)
    assert "room for 4:" in only(spread)
    assert "raise max_replicas_per_node (2)" in only(spread)
    assert plan.problems(replace(spread, max_per_node=0, replicas=1000), NODES) == []


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("node.role != worker", ["swarm-1"]),
        ("node.labels.sutazai.agents==TRUE", ["agent-1", "agent-2"]),
        ("node.labels.gpu != true", ["swarm-1", "agent-1", "agent-2"]),
        ("node.platform.arch == x86_64", ["swarm-1", "agent-1", "agent-2"]),
        ("node.id == w2", ["agent-2"]),
        ("engine.labels.rack == a", []),
    ],
)
def test_constraints_are_read_as_the_scheduler_reads_them(text, hosts):
    constraint = plan.parse_constraint(text)
    assert [node.hostname for node in NODES if plan.satisfies(node, constraint)] == hosts


def answer(identity, memory, state="ready"):
    return {
        "ID": identity,
        "Spec": {"Role": "worker", "Availability": "active", "Labels": {"a": "b"}},
        "Description": {
            "Hostname": f"host-{identity}",
            "Platform": {"Architecture": "x86_64", "OS": "linux"},
            "Resources": {"NanoCPUs": 4 * plan.NANO, "MemoryBytes": memory},
        },
        "Status": {"State": state},
    }


def task(node, service, state="running", memory=GIB):
    reserved = {"Resources": {"Reservations": {"MemoryBytes": memory, "NanoCPUs": plan.NANO}}}
    return {"NodeID": node, "ServiceID": service, "Status": {"State": state}, "Spec": reserved}


def test_what_others_have_reserved_is_taken_off_and_what_is_its_own_is_not():
    tasks = [task("a", "other"), task("a", "own"), task("a", "other", "failed"), task("", "other", "pending")]
    tasks.append({"NodeID": "b", "ServiceID": "other", "Status": {"State": "running"}, "Spec": {}})
    first, second = plan.nodes_of([answer("a", 8 * GIB), answer("b", 8 * GIB, "down")], tasks, "own")
    assert (first.nano_cpus, first.memory_bytes, first.accepts) == (3 * plan.NANO, 7 * GIB, True)
    assert (second.memory_bytes, second.accepts) == (8 * GIB, False)
    assert first.labels == {"a": "b"}


SIZES = st.integers(0, 6)


@given(
    st.lists(st.tuples(SIZES, SIZES), min_size=1, max_size=3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 6)
)
def test_it_says_no_exactly_when_no_distribution_works(free, cpu, memory, replicas):
    """Against trying every distribution over the nodes."""
    nodes = [
        replace(WORKER, id=str(number), hostname=f"n{number}", nano_cpus=one, memory_bytes=other)
        for number, (one, other) in enumerate(free)
    ]
    demand = plan.Demand(replicas, plan.Resources(cpu, memory))
    possible = any(
        sum(counts) == replicas
        and all(count * cpu <= one and count * memory <= other for count, (one, other) in zip(counts, free))
        for counts in product(range(replicas + 1), repeat=len(free))
    )
    assert (plan.problems(demand, nodes) == []) == possible
