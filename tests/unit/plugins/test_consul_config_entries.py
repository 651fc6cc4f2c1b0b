import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.consul_config_entries import (
    canonical,
    differs,
    nanoseconds,
    ordered,
    problems,
)
from hypothesis import given
from hypothesis import strategies as st

WEB = {"Kind": "service-defaults", "Name": "web", "Protocol": "http"}


@pytest.mark.parametrize(
    ("wanted", "answered"),
    [
        (
            {"UpstreamConfig": {"Defaults": {"PassiveHealthCheck": {"Interval": "60s", "MaxFailures": 3}}}},
            {
                "UpstreamConfig": {
                    "Defaults": {
                        "Peer": "",
                        "PassiveHealthCheck": {"Interval": 60_000_000_000, "MaxFailures": 3},
                        "MeshGateway": {},
                    }
                },
                "TransparentProxy": {},
                "Expose": {},
                "Hash": 3462488509680017691,
                "CreateIndex": 18,
                "ModifyIndex": 18,
            },
        ),
        ({"ConnectTimeout": "90s"}, {"ConnectTimeout": "1m30s"}),
        ({"LocalRequestTimeoutMs": 0}, {}),
        (
            {"Sources": [{"Name": "b", "Action": "allow"}, {"Name": "*", "Action": "deny"}]},
            {
                "Sources": [
                    {"Name": "*", "Action": "deny", "Precedence": 8, "Type": "consul"},
                    {"Name": "b", "Action": "allow", "Precedence": 9, "Type": "consul"},
                ]
            },
        ),
    ],
)
def test_what_consul_answers_isn_t_a_difference(wanted, answered):
    assert not differs({**WEB, **answered}, {**WEB, **wanted})


@pytest.mark.parametrize(
    ("current", "wanted"),
    [
        ({"Protocol": "tcp"}, {"Protocol": "http"}),
        ({"LocalRequestTimeoutMs": 5000}, {}),  # what is no longer asked for goes
        ({"ConnectTimeout": "1m30s"}, {"ConnectTimeout": "91s"}),
        ({"Sources": [{"Name": "a", "Action": "allow"}]}, {"Sources": [{"Name": "a", "Action": "deny"}]}),
        ({"Sources": [{"Name": "a", "Action": "allow"}]}, {"Sources": [{"Name": "b", "Action": "allow"}]}),
    ],
)
def test_a_difference_is_seen(current, wanted):
    assert differs({**WEB, **current}, {**WEB, **wanted})


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ({"Name": "web"}, "without Kind"),
        ({"Kind": "service-default", "Name": "web"}, "isn't one of the kinds"),
        ({"Kind": "service-defaults"}, "no Name"),
        ({"Kind": "proxy-defaults", "Name": "all"}, "global"),
        ({"Kind": "service-defaults", "Name": "web", "protocol": "http"}, "keys protocol"),
        ({"Kind": "service-resolver", "Name": "web", "LoadBalancer": {"policy": "random"}}, "keys policy"),
        ({"Kind": "service-intentions", "Name": "web"}, "no Sources"),
    ],
)
def test_a_wrong_entry_is_named(entry, part):
    found = problems([entry], [])
    assert len(found) == 1
    assert part in found[0]


def test_keys_of_an_operator_s_own_are_left_alone():
    assert not problems([{**WEB, "Meta": {"team": "ai"}}], [])
    assert not problems([{"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}], [])


def test_an_entry_is_wanted_once():
    assert problems([WEB, WEB], []) == ["service-defaults web is there twice"]
    assert problems([WEB], [{"Kind": "service-defaults", "Name": "web"}]) == ["service-defaults web is there twice"]


def test_only_kind_and_name_say_what_goes():
    assert problems([], [WEB])
    assert not problems([], [{"Kind": "service-defaults", "Name": "web"}])


def test_services_speak_a_protocol_before_they_are_routed():
    router, intentions = {"Kind": "service-router", "Name": "a"}, {"Kind": "service-intentions", "Name": "a"}
    assert ordered([intentions, router, WEB]) == [WEB, router, intentions]


@given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 999))
def test_durations_are_read_as_go_writes_them(hours, seconds, milliseconds):
    assert (
        nanoseconds(f"{hours}h{seconds}s{milliseconds}ms") == ((hours * 3600 + seconds) * 1000 + milliseconds) * 10**6
    )


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@given(values)
def test_the_canonical_form_is_one(value):
    once = canonical(value)
    assert canonical(once) == once
