"""What counts as a difference between inventory and live system."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.drift import (
    differences,
    inventory_shape,
    merged,
    same,
    table,
)
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text("abc", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("xyz", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


def kinds(intended, live):
    return [(row["variable"], row["kind"]) for row in differences(intended, live)]


@given(st.dictionaries(st.text("xyz", min_size=1, max_size=3), VALUES))
def test_nothing_differs_from_itself(variables):
    assert differences(variables, variables) == []


@given(st.lists(VALUES, max_size=6), st.randoms())
def test_order_does_not_matter(items, random):
    shuffled = list(items)
    random.shuffle(shuffled)
    assert differences({"x": items}, {"x": shuffled}) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("1", 1), ("yes", True), ("off", False), (1.0, 1), ("0.5", 0.5), (None, ""), ([], None), ({"a": "1"}, {"a": 1})],
)
def test_the_same_in_other_words(one, other):
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"), [(1, 2), (True, 1), (False, 0), (False, None), ("a", "b"), ([1], [1, 1]), ({}, {"a": 1})]
)
def test_not_the_same(one, other):
    assert not same(one, other)


def test_members():
    assert kinds({"consul_servers": ["c1", "c2", "c3"]}, {"consul_servers": ["c3", "c2", "old"]}) == [
        ("consul_servers", "missing"),
        ("consul_servers", "extra"),
    ]


def test_named_objects():
    intended = {
        "users": [
            {"name": "app", "password": "hunter2", "tags": ["management"]},
            {"name": "gone", "tags": []},
        ]
    }
    live = {"users": [{"name": "app", "tags": ["administrator"], "limits": {}}, {"name": "unknown"}]}
    assert kinds(intended, live) == [
        ("users[app].tags", "missing"),
        ("users[app].tags", "extra"),
        ("users[gone]", "missing"),
        ("users[unknown]", "extra"),
    ]


def test_permissions_are_named_by_their_vhost():
    intended = {"users": [{"name": "u", "permissions": [{"vhost": "/"}]}]}
    live = {"users": [{"name": "u", "permissions": [{"vhost": "/", "configure": ".*", "read": ".*", "write": ".*"}]}]}
    assert differences(intended, live) == []
    live["users"][0]["permissions"].append({"vhost": "other", "read": ".*"})
    assert [row["kind"] for row in differences(intended, live)] == ["extra"]


def test_names_are_per_vhost():
    intended = {"p": [{"vhost": "a", "name": "x", "priority": 1}, {"vhost": "b", "name": "x", "priority": 1}]}
    live = {"p": [{"vhost": "b", "name": "x", "priority": 2}, {"vhost": "a", "name": "x", "priority": 1}]}
    assert kinds(intended, live) == [("p[b/x].priority", "different")]


def test_mappings():
    intended = {"parameters": {"max_connections": 100, "wal_level": "logical", "same": "on"}}
    live = {"parameters": {"max_connections": "200", "jit": "off", "same": True}}
    assert kinds(intended, live) == [
        ("parameters.jit", "extra"),
        ("parameters.max_connections", "different"),
        ("parameters.wal_level", "missing"),
    ]


def test_secrets_are_left_out():
    assert (
        differences(
            {"a_password": "hunter2", "u": [{"name": "x", "password": "hunter2"}]},
            {"a_password": "two", "u": [{"name": "x"}]},
        )
        == []
    )
    rows = differences({"u": [{"name": "x", "password": "hunter2"}]}, {"u": []})
    assert "hunter2" not in repr(rows)
    assert "hunter2" not in "\n".join(table([{**row, "component": "c", "host": "h"} for row in rows]))


def test_only_what_the_export_reads_is_compared():
    assert differences({"a": 1, "b": 2}, {"b": 2}) == []
    assert differences({"b": 2}, {"b": 2, "c": 3}) == []


def test_the_same_difference_on_several_hosts_is_one_line():
    rows = [{"component": "redis", "host": f"r{n}", **row} for n in range(5) for row in differences({"m": 1}, {"m": 2})]
    (row,) = merged(rows)
    assert row["hosts"] == ["r0", "r1", "r2", "r3", "r4"]
    lines = table(rows)
    assert len(lines) == 3
    assert lines[2].split() == ["redis", "m", "different", "1", "2", "r0,", "r1,", "r2", "+2"]
    assert table([]) == []


def test_inventory_shape():
    common, own = inventory_shape(
        {
            "r1": {"m": ["a", "b"], "port": 1, "u": [{"name": "x", "password": "p"}], "a_token": "t"},
            "r2": {"m": ["b", "a"], "port": 2, "u": [{"name": "x", "password": "p"}], "a_token": "t"},
        }
    )
    assert common == {"m": ["a", "b"], "u": [{"name": "x", "password": "[redacted]"}], "a_token": "[redacted]"}
    assert own == {"r1": {"port": 1}, "r2": {"port": 2}}
