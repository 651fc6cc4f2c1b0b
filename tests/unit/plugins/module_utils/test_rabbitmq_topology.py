"""Exchanges, queues and bindings: what is declared, what differs, and what is requested."""

from __future__ import annotations

import copy
import pathlib
import re

import pytest
import yaml
from ansible_collections.sutazai.platform.plugins.module_utils import rabbitmq_topology as model
from ansible_collections.sutazai.platform.plugins.module_utils.drift import differences

ROLE = pathlib.Path(__file__).parents[4] / "roles/rabbitmq"
OLD, NOW, NEXT = (3, 10, 8), (4, 0, 5), (4, 3, 0)
IGNORE = ["^celery", "pidbox"]


def exchange(name, **more):
    return {"name": name, "vhost": "/", "type": "topic", "arguments": None, "state": "present", **more}


def binding(**more):
    return {"exchange": "tasks", "routing_key": "", "arguments": None, **more}


def queue(name, **more):
    return {
        "name": name,
        "vhost": "/",
        "type": None,
        "priority": None,
        "single_active_consumer": False,
        "arguments": None,
        "bindings": [binding(routing_key=f"ai.{name}")],
        "state": "present",
        **more,
    }


def partitioned(**more):
    return {
        "name": "ai.tasks",
        "vhost": "/",
        "partitions": 10,
        "partition_by": "agent_id",
        "routing_key_pattern": None,
        "exchange": "tasks",
        **more,
    }


def wanted(**more):
    return {
        "exchanges": [exchange("tasks")],
        "queues": [queue("inference", priority=10), queue("training", priority=3)],
        "partitions": [],
        "dead_letters": "dead-letters",
        "vhosts": ["/"],
        "delivery_limit": 20,
        "mirrored": False,
        "group_size": 3,
        **more,
    }


def nothing():
    return {"exchanges": [], "queues": [], "bindings": [], "policies": []}


def applied(live, changes):
    """The live state after the requests: what RabbitMQ would answer."""
    live = copy.deepcopy(live)
    for change in changes:
        kind, vhost, *names = [part.replace("%2F", "/") for part in change.path.removeprefix("/api/").split("/")]
        if change.method == "DELETE":
            continue
        if kind == "bindings":
            _, source, _, destination = names
            live["bindings"].append(
                {
                    "vhost": vhost,
                    "source": source,
                    "destination": destination,
                    "destination_type": "queue",
                    "properties_key": change.body["routing_key"] or "~",
                    **change.body,
                }
            )
        elif kind == "policies":
            live["policies"].append({"vhost": vhost, "name": names[0], **change.body})
        else:
            body = dict(change.body)
            if kind == "queues":
                body["type"] = body["arguments"]["x-queue-type"]
            live[kind].append({"vhost": vhost, "name": names[0], **body})
    return live


def planned(live, version=NOW, **more):
    return model.plan(live, model.declared(wanted(**more), version), IGNORE)


def built(version=NOW, **more):
    return applied(nothing(), planned(nothing(), version, **more).changes)


def find(items, name):
    return next(item for item in items if item["name"] == name)


def test_everything_is_made_in_an_order_that_works():
    says = [change.says for change in planned(nothing()).changes]
    assert says == [
        "make the topic exchange tasks of /",
        "make the fanout exchange dead-letters of /",
        "make the quorum queue inference of /",
        "make the quorum queue training of /",
        "make the quorum queue dead-letters of /",
        "bind tasks to inference with the routing key ai.inference in /",
        "bind tasks to training with the routing key ai.training in /",
        "bind dead-letters to dead-letters with the routing key empty in /",
        "make the policy sutazai-quorum-queues of /",
        "make the policy sutazai-dead-letters of /",
    ]


@pytest.mark.parametrize("version", [OLD, NOW, NEXT])
def test_the_second_run_changes_nothing(version):
    more = {"partitions": [partitioned()]}
    found = planned(built(version, **more), version, **more)
    assert (found.changes, found.conflicts, found.undeclared) == ([], [], [])


def test_partitions_are_bound_once_each_in_the_order_of_their_numbers():
    changes = planned(nothing(), queues=[], partitions=[partitioned(exchange=None)]).changes
    bound = [change for change in changes if "/e/ai.tasks/" in change.path]
    assert [change.path.rsplit("/", 1)[-1] for change in bound] == [f"ai.tasks.{number}" for number in range(10)]
    assert {change.body["routing_key"] for change in bound} == {"1"}
    made = next(change for change in changes if change.path == "/api/exchanges/%2F/ai.tasks")
    assert made.body["type"] == "x-consistent-hash"
    assert made.body["arguments"] == {"hash-header": "agent_id"}
    queues = [change.body["arguments"] for change in changes if "/queues/%2F/ai.tasks." in change.path]
    assert queues == [{"x-queue-type": "quorum", "x-single-active-consumer": True}] * 10


def test_partitions_have_the_names_that_they_are_given():
    entry = partitioned(routing_key_pattern="tasks/{partition}/of-ten", partitions=2)
    assert model.partition_names(entry) == ["tasks/0/of-ten", "tasks/1/of-ten"]
    with pytest.raises(model.CannotDeclare, match="lacks {partition}"):
        model.partition_names(partitioned(routing_key_pattern="tasks"))


def test_bindings_of_a_hash_exchange_do_not_change_while_messages_wait():
    live = built(partitions=[partitioned()])
    assert planned(live, partitions=[partitioned(partitions=12)]).conflicts == []
    find(live["queues"], "ai.tasks.3")["messages"] = 5
    (conflict,) = planned(live, partitions=[partitioned(partitions=12)]).conflicts
    assert "messages still wait in ai.tasks.3" in conflict


def test_an_interrupted_first_run_is_finished():
    first = planned(nothing(), partitions=[partitioned()])
    live = applied(nothing(), first.changes[:20])
    rest = planned(live, partitions=[partitioned()])
    assert rest.conflicts == []
    assert [change.says for change in rest.changes] == [change.says for change in first.changes[20:]]


@pytest.mark.parametrize("key", ["2", "1"])
def test_a_strange_binding_of_a_hash_exchange_is_a_conflict(key):
    live = built(partitions=[partitioned()])
    destination = "ai.tasks.3" if key == "2" else "inference"
    live["bindings"].append(
        {
            "vhost": "/",
            "source": "ai.tasks",
            "destination": destination,
            "destination_type": "queue",
            "routing_key": key,
            "arguments": {},
            "properties_key": key,
        }
    )
    (conflict,) = planned(live, partitions=[partitioned()]).conflicts
    assert f"aren't declared: {destination} (weight {key})" in conflict


def test_fewer_partitions_are_not_taken_silently():
    (conflict,) = planned(built(partitions=[partitioned()]), partitions=[partitioned(partitions=8)]).conflicts
    assert "aren't declared: ai.tasks.8 (weight 1), ai.tasks.9 (weight 1)" in conflict


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "classic"}, "its type is classic instead of quorum"),
        ({"arguments": {"x-max-length": 5}}, "x-max-length is 5 instead of not set"),
        (
            {"arguments": {"x-queue-type": "quorum", "x-single-active-consumer": True}},
            "x-single-active-consumer is True",
        ),
        ({"durable": False}, "it is transient"),
        ({"auto_delete": True}, "it is auto-delete"),
    ],
)
def test_a_queue_that_exists_otherwise_is_a_conflict_with_a_way_out(change, said):
    live = built()
    find(live["queues"], "inference").update(change, messages=3)
    found = planned(live)
    (conflict,) = found.conflicts
    assert said in conflict
    assert "it holds 3 messages" in conflict
    assert "state: absent" in conflict


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "direct"}, "its type is direct instead of topic"),
        ({"arguments": {"alternate-exchange": "x"}}, "alternate-exchange is x instead of not set"),
        ({"internal": True}, "it is internal"),
    ],
)
def test_an_exchange_that_exists_otherwise_is_a_conflict_with_a_way_out(change, said):
    live = built()
    find(live["exchanges"], "tasks").update(change)
    (conflict,) = planned(live).conflicts
    assert said in conflict
    assert "declare the old one with state: absent" in conflict


def test_a_queue_whose_type_is_said_by_its_arguments_alone_is_known():
    live = built()
    find(live["queues"], "inference").pop("type")
    assert planned(live).conflicts == []


def pattern_of(version, name="sutazai-quorum-queues", **more):
    return re.compile(find(model.declared(wanted(**more), version).policies, name)["pattern"])


@pytest.mark.parametrize("version", [OLD, NOW])
def test_every_queue_has_a_dead_letter_exchange_except_the_one_for_dead_letters(version):
    policies = model.declared(wanted(), version).policies
    definition = find(policies, "sutazai-quorum-queues")["definition"]
    assert definition == {"delivery-limit": 20, "dead-letter-exchange": "dead-letters"}
    pattern = pattern_of(version)
    assert pattern.search("inference")
    assert not pattern.search("dead-letters")
    assert "dead-letter-exchange" not in find(policies, "sutazai-dead-letters")["definition"]


def test_old_versions_cannot_tell_types_apart_so_queues_are_named():
    assert not pattern_of(OLD).search("celeryev.1234")
    assert pattern_of(NOW).search("made-by-an-application")
    assert {policy["apply_to"] for policy in model.declared(wanted(), OLD).policies} == {"queues"}
    assert {policy["apply_to"] for policy in model.declared(wanted(), NOW).policies} == {"quorum_queues"}


def test_policies_that_people_make_come_before():
    assert all(policy["priority"] < 0 for policy in model.declared(wanted(), NOW).policies)


def test_a_policy_that_takes_the_dead_letter_exchange_away_is_a_conflict():
    live = built()
    live["policies"].append(
        {
            "vhost": "/",
            "name": "mine",
            "definition": {"max-length": 5},
            "pattern": "^inf",
            "apply-to": "all",
            "priority": 0,
        }
    )
    find(live["queues"], "inference")["policy"] = "mine"
    (conflict,) = planned(live).conflicts
    assert conflict.startswith("the policy mine of / applies to inference instead")
    live["policies"][-1]["definition"]["dead-letter-exchange"] = "other"
    assert planned(live).conflicts == []


def test_without_dead_letters_there_are_none():
    topology = model.declared(wanted(dead_letters=""), NOW)
    assert [name for _, name in topology.queues] == ["inference", "training"]
    (policy,) = topology.policies
    assert policy["definition"] == {"delivery-limit": 20}


def test_each_virtual_host_has_its_own_dead_letters():
    topology = model.declared(wanted(vhosts=["/", "other"]), NOW)
    assert ("other", "dead-letters") in topology.queues
    assert {policy["vhost"] for policy in topology.policies} == {"/", "other"}


def test_mirrored_queues_are_classic_queues_with_a_policy():
    topology = model.declared(wanted(mirrored=True, partitions=[partitioned(partitions=2)]), OLD)
    assert {queue.type for queue in topology.queues.values()} == {"classic"}
    policy = find(topology.policies, "sutazai-classic-queues")
    assert policy["definition"] == {
        "dead-letter-exchange": "dead-letters",
        "ha-mode": "exactly",
        "ha-params": 3,
        "ha-sync-mode": "automatic",
    }
    pattern = re.compile(policy["pattern"])
    assert pattern.search("ai.tasks.1")
    assert not pattern.search("ai-tasks-1")
    assert find(topology.policies, "sutazai-dead-letters")["definition"]["ha-mode"] == "exactly"
    assert topology.queues["/", "training"].arguments == {"x-max-priority": 10}


def test_mirrored_queues_are_refused_where_there_are_none():
    with pytest.raises(model.CannotDeclare, match=r"RabbitMQ 4.0.5 doesn't have.*quorum queues have their copies"):
        model.declared(wanted(mirrored=True), NOW)


@pytest.mark.parametrize(
    ("version", "kind", "levels", "publish_with"),
    [
        (OLD, None, 1, None),
        (NOW, None, 2, 10),
        (NEXT, None, 32, 10),
        (OLD, "classic", 11, 10),
        (NOW, "stream", 1, None),
    ],
)
def test_priorities_are_what_the_version_has(version, kind, levels, publish_with):
    topology = model.declared(wanted(queues=[queue("inference", priority=10, type=kind)]), version)
    said = model.message_priority(topology.queues["/", "inference"], version)
    assert said == {"priority": 10, "levels": levels, "publish_with": publish_with}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"queues": [queue("a"), queue("a")]}, "the queue a of / is declared twice"),
        ({"exchanges": [exchange("tasks"), exchange("tasks")]}, "the exchange tasks of / is declared twice"),
        ({"exchanges": []}, "the queue inference of / is bound to tasks, which isn't declared"),
        ({"queues": [queue("a"), queue("a", state="absent")]}, "//a is declared both present and absent"),
        ({"partitions": [partitioned(name="tasks")]}, "the exchange tasks of / is declared twice"),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(more, said):
    with pytest.raises(model.CannotDeclare) as refused:
        model.declared(wanted(**more), NOW)
    assert said in str(refused.value)


def test_what_is_not_declared_is_said_and_left_alone():
    live = built(queues=[queue("inference"), queue("old")])
    live["queues"] += [
        {"vhost": "/", "name": "celery_delayed_3", "durable": True, "type": "quorum"},
        {"vhost": "/", "name": "mine", "durable": True, "exclusive": True, "type": "classic"},
    ]
    live["exchanges"] += [
        {"vhost": "/", "name": name, "type": "direct", "durable": True} for name in ("", "amq.direct")
    ]
    live["bindings"].append({**live["bindings"][0], "routing_key": "other"})
    found = planned(live, queues=[queue("inference")])
    assert found.changes == []
    assert found.undeclared == [
        "the quorum queue old of /, which holds 0 messages",
        "a binding of /: tasks to inference by 'other'",
    ]


def test_what_is_empty_and_unused_is_removed_when_told():
    live = built(queues=[queue("inference"), queue("old")])
    found = planned(live, queues=[queue("inference"), queue("old", state="absent")])
    assert [change.says for change in found.changes] == ["unbind old from tasks in /", "remove the queue old of /"]
    assert found.undeclared == []


@pytest.mark.parametrize("use", [{"messages": 1}, {"consumers": 1}])
def test_a_queue_that_is_used_is_not_removed(use):
    live = built(queues=[queue("inference"), queue("old")])
    find(live["queues"], "old").update(use)
    found = planned(live, queues=[queue("inference"), queue("old", state="absent")])
    assert "is declared absent, but has" in found.conflicts[0]
    assert found.changes == []


def test_an_exchange_is_removed_when_nothing_is_bound_to_it():
    live = built(queues=[queue("old")])
    gone = exchange("tasks", state="absent")
    assert "still leads to old" in planned(live, exchanges=[gone], queues=[]).conflicts[0]
    found = planned(live, exchanges=[gone], queues=[queue("old", state="absent", bindings=[])])
    assert [change.says for change in found.changes] == [
        "unbind old from tasks in /",
        "remove the queue old of /",
        "remove the exchange tasks of /",
    ]


@pytest.mark.parametrize("more", [{}, {"routing_key_pattern": "t-{partition}", "exchange": None}])
def test_an_export_declares_what_is_there(more):
    entry = partitioned(**more)
    live = built(queues=[queue("inference", single_active_consumer=True)], partitions=[entry])
    exported = model.exported(live, "dead-letters", IGNORE)
    assert exported["partitions"] == [
        {key: value for key, value in entry.items() if value is not None and key != "vhost"}
    ]
    again = {
        "exchanges": [exchange(**each) for each in exported["exchanges"]],
        "queues": [
            queue(**{**each, "bindings": [binding(**one) for one in each["bindings"]]}) for each in exported["queues"]
        ],
        "partitions": [
            {**partitioned(routing_key_pattern=None, exchange=None), **each} for each in exported["partitions"]
        ],
    }
    found = planned(live, **again)
    assert (found.changes, found.conflicts, found.undeclared) == ([], [], [])


def test_an_export_has_a_hash_exchange_of_another_shape_as_it_is():
    live = built(partitions=[partitioned(partitions=3)])
    live["bindings"] = [each for each in live["bindings"] if each["destination"] != "ai.tasks.1"]
    exported = model.exported(live, "dead-letters", IGNORE)
    assert exported["partitions"] == []
    assert "ai.tasks" in [each["name"] for each in exported["exchanges"]]
    assert "ai.tasks.2" in [each["name"] for each in exported["queues"]]


@pytest.mark.parametrize("version", [OLD, NOW])
def test_what_the_role_declares_has_no_drift_when_it_is_there(version):
    intended = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))["rabbitmq_topology"]
    options = {
        "exchanges": [exchange(**each) for each in intended["exchanges"]],
        "queues": [
            queue(**{**each, "bindings": [binding(**one) for one in each["bindings"]]}) for each in intended["queues"]
        ],
        "partitions": [partitioned(**each) for each in intended["partitions"]],
    }
    live = built(version, **options)
    assert len(live["queues"]) == 15
    exported = model.exported(live, "dead-letters", IGNORE)
    assert differences({"rabbitmq_topology": intended}, {"rabbitmq_topology": exported}) == []
    live["queues"] = [each for each in live["queues"] if each["name"] != "health"]
    live["bindings"] = [each for each in live["bindings"] if each["destination"] != "training"]
    exported = model.exported(live, "dead-letters", IGNORE)
    found = differences({"rabbitmq_topology": intended}, {"rabbitmq_topology": exported})
    assert [(row["variable"], row["kind"]) for row in found] == [
        ("rabbitmq_topology.queues[health]", "missing"),
        ("rabbitmq_topology.queues[training].bindings", "different"),
    ]


def test_the_role_knows_the_policies_that_are_made_here():
    known = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))["__rabbitmq_own_policies"]
    assert tuple(known) == model.POLICIES
