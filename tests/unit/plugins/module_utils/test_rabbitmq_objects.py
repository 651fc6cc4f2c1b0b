"""Virtual hosts, users, permissions and policies: what differs, and what is requested."""

from __future__ import annotations

import json

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import rabbitmq_objects as model
from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import path

SECRET = "correct horse battery staple"


@pytest.fixture
def live():
    return {
        "vhosts": [{"name": "/", "default_queue_type": "quorum"}],
        "users": [
            {"name": "guest", "password_hash": model.hash_password("guest"), "tags": ["administrator"]},
            {"name": "app", "password_hash": model.hash_password(SECRET), "tags": []},
        ],
        "permissions": [{"user": "app", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
        "policies": [],
    }


def wanted(**more):
    return {"vhosts": [], "users": [], "absent_users": [], "policies": [], "default_queue_type": "quorum", **more}


def user(**more):
    permission = {"vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
    return {"name": "app", "password": SECRET, "tags": [], "permissions": [permission], "state": "present", **more}


def policy(**more):
    base = {
        "name": "p",
        "vhost": "/",
        "pattern": ".*",
        "apply_to": "queues",
        "priority": 0,
        "definition": {"max-length": 5},
    }
    return {**base, "state": "present", **more}


def says(live, **more):
    return [change.says for change in model.plan(live, wanted(**more))]


def test_what_is_right_is_left_alone(live):
    assert says(live, vhosts=[{"name": "/", "state": "present"}], users=[user()]) == []


def test_hashes_are_those_of_rabbitmq():
    # The example of RabbitMQ's documentation on computing password hashes.
    assert (
        model.hash_password("test12", bytes.fromhex("908DC60A")) == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    )


def test_a_changed_password_is_noticed_and_sent_as_hash(live):
    (change,) = model.plan(live, wanted(users=[user(password="another one")]))
    assert change.says == "change the password of app"
    assert "another one" not in json.dumps(change.body)
    assert model.password_matches("another one", change.body["password_hash"])


@pytest.mark.parametrize("stored", ["", "AAAA", "not base64!"])
def test_an_unusable_hash_never_matches(stored):
    assert not model.password_matches("", stored)


def test_an_unknown_algorithm_never_matches():
    assert not model.password_matches(SECRET, model.hash_password(SECRET), "rabbit_password_hashing_md5")


def test_changed_tags_keep_the_password(live):
    (change,) = model.plan(live, wanted(users=[user(tags=["monitoring"])]))
    assert change.body["tags"] == "monitoring"
    assert change.body["password_hash"] == live["users"][1]["password_hash"]


def test_tags_of_old_versions_are_text(live):
    live["users"][1]["tags"] = "monitoring, policymaker"
    assert says(live, users=[user(tags=["policymaker", "monitoring"])]) == []


def test_permissions_are_exactly_those_given(live):
    live["permissions"].append({"user": "app", "vhost": "old", "configure": "", "write": "", "read": ""})
    narrow = [{"vhost": "/", "configure": "^app", "write": ".*", "read": ".*"}]
    assert says(live, users=[user(permissions=narrow)]) == [
        "grant app its permissions in /",
        "take from app its permissions in old",
    ]


def test_a_virtual_host_comes_before_the_permissions_in_it_and_goes_last(live):
    live["vhosts"].append({"name": "gone"})
    vhosts = [{"name": "gone", "state": "absent"}, {"name": "new", "state": "present"}]
    fresh = user(name="fresh", permissions=[{"vhost": "new", "configure": "", "write": "", "read": ".*"}])
    assert says(live, vhosts=vhosts, users=[fresh], absent_users=["guest"]) == [
        "make the virtual host new (quorum queues)",
        "make the user fresh",
        "grant fresh its permissions in new",
        "remove the user guest",
        "remove the virtual host gone and everything in it",
    ]


def test_the_default_queue_type_of_a_virtual_host_is_set(live):
    live["vhosts"][0]["default_queue_type"] = "undefined"
    assert says(live, vhosts=[{"name": "/", "state": "present"}]) == ["make quorum the default queue type of /"]


def test_a_queue_type_that_the_api_did_not_set_is_found(live):
    vhosts = [{"name": "/", "state": "present"}, {"name": "other", "state": "absent"}]
    assert model.stuck_queue_types(live["vhosts"], vhosts, "quorum") == {}
    live["vhosts"][0]["default_queue_type"] = "undefined"
    assert model.stuck_queue_types(live["vhosts"], vhosts, "quorum") == {"/": "quorum"}


def test_a_virtual_hosts_name_is_never_code():
    assert (
        '">>'
        not in model.set_queue_type_expression('a">>, halt(), <<"', "quorum").split("update_metadata(")[1].split(",")[0]
    )
    assert "update_metadata(<<47>>, fun(M)" in model.set_queue_type_expression("/", "quorum")


def test_policies_are_made_changed_and_removed(live):
    assert says(live, policies=[policy()]) == ["make the policy p of /"]
    known = {
        "vhost": "/",
        "name": "p",
        "pattern": ".*",
        "apply-to": "queues",
        "priority": 0,
        "definition": {"max-length": 5},
    }
    live["policies"] = [known]
    assert says(live, policies=[policy()]) == []
    assert says(live, policies=[policy(priority=3)]) == ["change the policy p of /"]
    assert says(live, policies=[policy(state="absent")]) == ["remove the policy p of /"]


def test_names_cannot_leave_their_place_in_the_path():
    assert path("permissions", "/", "a/../b?c") == "/api/permissions/%2F/a%2F..%2Fb%3Fc"


def test_an_export_has_no_hash_and_changes_nothing_when_it_is_applied(live):
    exported = model.exported(live)
    assert "hash" not in json.dumps(exported)
    passwords = {"guest": "guest", "app": SECRET}
    users = [{**each, "password": passwords[each["name"]], "state": "present"} for each in exported["users"]]
    vhosts = [{**each, "state": "present"} for each in exported["vhosts"]]
    assert says(live, users=users, vhosts=vhosts) == []
