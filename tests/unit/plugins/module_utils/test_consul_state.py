"""What differs between the wanted and the live ACL and autopilot objects."""

import pytest
from ansible.plugins.filter.core import to_uuid
from ansible_collections.sutazai.platform.plugins.module_utils.consul_state import (
    accessor_of,
    accessors_of,
    autopilot_changes,
    created,
    in_force,
    is_management,
    other_token_message,
    place_for_another,
    policy_differs,
    reset_index,
    token_differs,
    wanted_token,
)

ASKED = {
    "name": "agent/client-1",
    "node_identities": [{"name": "client-1", "datacenter": "lab"}],
    "policies": ["b", "a"],
    "service_identities": ["web"],
    "templated_policies": ["builtin/dns"],
}


def test_an_accessor_is_what_ansibles_filter_computes():
    assert accessor_of("agent/client-1") == str(to_uuid("agent/client-1"))


def test_a_token_that_was_read_back_does_not_differ():
    live = {
        **wanted_token(ASKED),
        "SecretID": "secret",
        "Policies": [{"ID": "2", "Name": "a"}, {"ID": "1", "Name": "b"}],
        "CreateIndex": 7,
    }
    assert not token_differs(live, wanted_token(ASKED))


@pytest.mark.parametrize(
    "change",
    [
        {"policies": ["a"]},
        {"node_identities": [{"name": "client-1", "datacenter": "other"}]},
        {"service_identities": []},
        {"templated_policies": []},
        {"description": "another"},
    ],
)
def test_a_token_with_another_meaning_differs(change):
    assert token_differs(wanted_token(ASKED), wanted_token({**ASKED, **change}))


def test_the_description_is_the_name_when_none_is_given():
    assert wanted_token({"name": "dns"})["Description"] == "dns"


def test_nulls_of_the_api_are_empty_lists():
    assert not token_differs({"Description": "dns", "Policies": None}, wanted_token({"name": "dns"}))


def test_policies_are_compared_without_outer_white_space():
    wanted = {"name": "snapshot", "description": "x", "rules": 'acl = "write"\n'}
    assert not policy_differs({"Rules": 'acl = "write"', "Description": "x"}, wanted)
    assert policy_differs({"Rules": 'acl = "read"', "Description": "x"}, wanted)
    assert policy_differs({"Rules": 'acl = "write"', "Description": "y"}, wanted)


def test_only_the_global_management_policy_makes_a_management_token():
    assert is_management({"Policies": [{"ID": "00000000-0000-0000-0000-000000000001"}]})
    assert not is_management({"Policies": [{"ID": "1"}]})
    assert not is_management({"Policies": None})


def test_autopilot_only_gets_what_differs_and_was_asked_for():
    current = {"MinQuorum": 0, "CleanupDeadServers": True, "LastContactThreshold": "200ms"}
    wanted = {"min_quorum": 3, "cleanup_dead_servers": True, "last_contact_threshold": None}
    assert autopilot_changes(current, wanted) == {"MinQuorum": 3}


def test_the_message_about_another_token_says_how_to_go_on():
    refusal = "Permission denied: ACL bootstrap no longer allowed (reset index: 12)"
    assert reset_index(refusal) == "12"
    assert reset_index("anything else") == "<the reset index>"
    message = other_token_message("http://127.0.0.1:8500", refusal)
    assert "platform_consul_management_token" in message
    assert "write 12 into /var/lib/consul/acl-bootstrap-reset" in message


FIRST, SECOND = accessors_of("dns")
MADE = {"AccessorID": FIRST, "CreateIndex": 7, "CreateTime": "2026-11-24T21:00:00.123456789Z"}
FOLLOWER = {"AccessorID": SECOND, "CreateIndex": 90, "CreateTime": "2026-11-24T23:30:00.5+01:00"}


def test_the_time_of_a_token_is_read_in_any_zone():
    assert created(MADE) == pytest.approx(1795554000.123456)
    assert created(FOLLOWER) - created(MADE) == pytest.approx(5400.4, abs=0.1)
    assert created({}) == created({"CreateTime": "soon"}) == 0


def test_a_token_gets_a_follower_in_the_other_place():
    moment = created(MADE) + 1
    assert place_for_another([MADE], "dns", moment) == SECOND
    assert place_for_another([FOLLOWER], "dns", created(FOLLOWER) + 1) == FIRST
    assert place_for_another([MADE], "dns", created(MADE) - 1) == ""
    assert place_for_another([], "dns", moment) == ""


def test_a_token_whose_follower_is_there_already_gets_no_other():
    assert place_for_another([MADE, FOLLOWER], "dns", created(FOLLOWER) + 1) == ""


def test_the_one_made_last_is_in_force():
    assert in_force([FOLLOWER, MADE]) == in_force([MADE, FOLLOWER]) == FOLLOWER
    assert in_force([]) is None
