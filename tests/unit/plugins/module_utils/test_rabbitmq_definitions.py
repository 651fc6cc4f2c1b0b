"""What importing definitions would do."""

from __future__ import annotations

from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_definitions import compare, refusal

LIVE = {
    "users": [{"name": "admin", "password_hash": "a"}, {"name": "new", "password_hash": "n"}],
    "vhosts": [{"name": "/"}],
    "queues": [{"vhost": "/", "name": "q", "durable": True}],
    "global_parameters": [{"name": "internal_cluster_id", "value": "1"}],
}


def test_the_same_is_no_change():
    assert compare(LIVE, LIVE) == {"added": [], "overwritten": [], "conflicting": [], "others": []}
    assert refusal(compare(LIVE, LIVE), 1, 0) == ""


def test_what_is_missing_is_added_without_asking():
    wanted = {**LIVE, "queues": [*LIVE["queues"], {"vhost": "/", "name": "lost", "durable": True}]}
    compared = compare(LIVE, wanted)
    assert compared["added"] == ["queue / lost"]
    assert refusal(compared, 1, 5) == ""


def test_what_differs_is_overwritten_only_when_told():
    compared = compare(LIVE, {**LIVE, "users": [{"name": "admin", "password_hash": "older"}]})
    assert compared["overwritten"] == ["user admin"]
    assert compared["others"] == ["user new"]
    why = refusal(compared, 3, 5)
    assert "3 queues with 5 messages" in why
    assert "user admin" in why
    assert "restore_replace_data=true" in why


def test_a_queue_that_is_there_stays_as_it_is():
    compared = compare(LIVE, {**LIVE, "queues": [{"vhost": "/", "name": "q", "durable": False}]})
    assert compared["conflicting"] == ["queue / q"]
    assert refusal(compared, 1, 0) == ""


def test_a_new_clusters_own_identity_is_no_difference():
    wanted = {**LIVE, "global_parameters": [{"name": "internal_cluster_id", "value": "2"}]}
    assert compare(LIVE, wanted)["overwritten"] == []


def test_bindings_are_told_apart_by_their_arguments():
    binding = {
        "vhost": "/",
        "source": "x",
        "destination_type": "queue",
        "destination": "q",
        "routing_key": "1",
        "arguments": {},
    }
    compared = compare({"bindings": [binding]}, {"bindings": [binding, {**binding, "arguments": {"h": 1}}]})
    assert compared["added"] == ["binding / x queue q 1 {'h': 1}"]
