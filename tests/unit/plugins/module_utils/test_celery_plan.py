from __future__ import annotations

import contextlib
import copy
import pathlib

import pytest
import yaml
from ansible_collections.sutazai.platform.plugins.module_utils import celery_plan
from hypothesis import given, settings
from hypothesis import strategies as st

ROLES = pathlib.Path(__file__).resolve().parents[4] / "roles"
DEFAULTS = yaml.safe_load((ROLES / "celery/defaults/main.yml").read_text(encoding="utf-8"))
TOPOLOGY = yaml.safe_load((ROLES / "rabbitmq/defaults/main.yml").read_text(encoding="utf-8"))["rabbitmq_topology"]
KEYS = ("queues", "routes", "pools", "partitions", "partition_pattern", "partition_priority", "partition_copies")


def sound(**changes):
    wanted = {key: copy.deepcopy(DEFAULTS[f"celery_{key}"]) for key in KEYS}
    return {**wanted, "members": ["a", "b", "c"], **changes}


def said(**changes) -> str:
    with pytest.raises(celery_plan.CannotPlan) as problem:
        celery_plan.plan(sound(**changes), "a")
    return str(problem.value)


def pools(**changes):
    """The defaults, with other values for some pools by name."""
    known = sound()["pools"]
    return [
        {**pool, **changes.get(pool["name"], {})}
        for pool in known
        if changes.get(pool["name"]) is not None or pool["name"] not in changes
    ]


def test_the_defaults_are_what_the_broker_declares():
    assert celery_plan.examine(sound()) == []
    assert celery_plan.undeclared(sound(), TOPOLOGY) == []


def test_each_host_has_every_pool_and_its_share_of_the_partitions():
    workers = {host: celery_plan.plan(sound(), host) for host in "abc"}
    for host in "abc":
        names = [worker.name for worker in workers[host]]
        assert [name for name in names if not name.startswith("partition-")] == [
            "inference",
            "health",
            "processing",
            "training",
        ]
        assert 6 <= len([name for name in names if name.startswith("partition-")]) <= 7
    first = workers["a"][0]
    assert (first.queues, first.concurrency, first.cpu_weight) == (("inference",), 2, 800)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"routes": {"ai.*": "inferense"}}, "routed to the queue inferense, which isn't declared"),
        ({"routes": {}}, "No task has a route"),
        ({"queues": []}, "No queue is declared"),
        ({"queues": [{"name": "a b", "routing_key": "x", "priority": 1}]}, "no usable name"),
        (
            {"queues": sound()["queues"] + [{"name": "health", "routing_key": "x", "priority": 8}]},
            "health is declared twice",
        ),
        (
            {"queues": [{**queue, "priority": 11} for queue in sound()["queues"]]},
            "priority of the queue inference is 11, out of range",
        ),
        ({"queues": [{**queue, "priority": -1} for queue in sound()["queues"]]}, "is -1, out of range"),
        ({"partition_priority": 12}, "is 12, out of range"),
        ({"partitions": -1}, "celery_partitions is -1"),
        ({"partition_pattern": "ai.tasks"}, "all partitions would have one name"),
        ({"partition_copies": 0}, "celery_partition_copies is 0"),
        (
            {"pools": pools(inference={"queues": ["inference", "bulk"]})},
            "works on the queue bulk, which isn't declared",
        ),
        ({"pools": pools(health={"queues": ["health", "training"]})}, "has queues of the priorities 3, 8"),
        (
            {"pools": pools(health={"queues": ["health", "training"]})},
            "The queue training is in the pools health and training",
        ),
        ({"pools": pools(training=None)}, "No pool works on the queue training"),
        ({"pools": pools(partition=None)}, "No pool works on the 10 partitions"),
        ({"pools": pools(partition={"concurrency": 2})}, "has 2 processes for each partition"),
        ({"pools": pools(inference={"concurrency": 0})}, "concurrency of the pool inference is 0"),
        ({"pools": pools(inference={"queues": []})}, "has no queues, or both"),
        ({"pools": pools(inference={"name": "In ference"})}, "no usable name"),
        ({"pools": pools(inference={"name": "partition-3"})}, "a worker's name that is taken"),
        ({"pools": pools(inference={"memory": 1})}, "has memory, which is unknown"),
        ({"pools": pools(inference={"cpu_weight": 0})}, "cpu_weight of the pool inference is 0"),
        (
            {"pools": pools(inference={"memory_max_bytes": 2_000_000, "memory_per_child_bytes": 1_000_000})},
            "may use 2000000 bytes, but its 2 processes",
        ),
        ({"members": ["b"]}, "a is none of the workers' hosts"),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    assert message in said(**changes)


def test_everything_is_said_at_once_and_partitions_once():
    text = said(routes={"x": "none"}, partition_priority=99)
    assert text.count("out of range") == 1 and "isn't declared" in text


def test_what_the_broker_does_not_declare():
    found = celery_plan.undeclared(
        sound(partitions=12, queues=[{"name": "bulk", "routing_key": "b"}, {"name": "health", "routing_key": "b"}]),
        TOPOLOGY,
    )
    texts = [str(finding) for finding in found]
    assert len(texts) == 3
    assert "The queue bulk isn't declared by rabbitmq_topology" in texts[0]
    assert "No binding of the queue health has the routing key b" in texts[1]
    assert "ai.tasks.10, ai.tasks.11" in texts[2]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(0, 40), st.integers(1, 4))
def test_each_partition_has_its_copies_on_different_hosts(count, partitions, copies):
    members = [f"h{number}" for number in range(count)]
    wanted = sound(members=members, partitions=partitions, partition_copies=copies)
    if not partitions:
        wanted["pools"] = pools(partition=None)
    shares = {host: [w for w in celery_plan.plan(wanted, host) if w.name.startswith("partition-")] for host in members}
    for number in range(partitions):
        holding = [host for host in members if any(w.name == f"partition-{number}" for w in shares[host])]
        assert len(holding) == min(copies, count)
    if shares and partitions:
        sizes = [len(share) for share in shares.values()]
        assert max(sizes) - min(sizes) <= min(copies, count)
    for host in members:
        names = [worker.name for worker in celery_plan.plan(wanted, host)]
        assert len(names) == len(set(names))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(sorted(celery_plan.POOL_KEYS | {"priority"})), inner, max_size=4)
    ),
    max_leaves=8,
)


def test_a_number_of_partitions_without_end_is_refused_at_once():
    wanted = sound(partitions=10**15)
    assert celery_plan.partition_names(wanted) == []
    assert "celery_partitions is 1000000000000000." in str(celery_plan.examine(wanted)[0])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*KEYS, "members"]), anything, max_size=4))
def test_no_input_makes_it_fail_otherwise(changes):
    with contextlib.suppress(celery_plan.CannotPlan):
        celery_plan.plan(sound(**changes), "a")
    celery_plan.undeclared(sound(**changes), TOPOLOGY)
