"""A host's earlier data and its resolver."""

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.consul_host import (
    host_problems,
    keyring_state,
    local_resolv_conf,
    nameservers,
    upstream_conf,
)

UPSTREAM = "/etc/sutazai/resolv.upstream.conf"
DOCKER = "nameserver 127.0.0.11\noptions ndots:0\n"


@pytest.mark.parametrize(
    ("keyring", "state"),
    [
        (None, "absent"),
        ('["key"]', "matches"),
        ('["new", "key"]', "secondary"),
        ('["other"]', "differs"),
        ("", "differs"),
        ('{"key": 1}', "differs"),
    ],
)
def test_the_keyring_says_whose_data_it_is(keyring, state):
    assert keyring_state(keyring, "key") == state


def test_only_foreign_data_is_refused():
    assert (
        host_problems("matches", True, "/d")
        == host_problems("secondary", True, "/d")
        == host_problems("absent", False, "/d")
        == []
    )
    assert "belongs to another Consul cluster" in host_problems("differs", True, "/d")[0]
    assert "without gossip encryption" in host_problems("absent", True, "/d")[0]


def test_name_servers_are_those_that_are_not_the_host_itself():
    text = "# nameserver 9.9.9.9\nnameserver 127.0.0.1\nnameserver 10.0.0.1\nnameserver 10.0.0.1\nnameserver ::1\nnameserver fd00::1\nnameserver\n"
    assert nameservers(text) == ["10.0.0.1", "fd00::1"]
    assert nameservers(DOCKER) == ["127.0.0.11"]


def test_the_resolver_keeps_its_search_list_and_options():
    text = local_resolv_conf("search a.example b.example\nnameserver 10.0.0.1\noptions ndots:0\n", UPSTREAM)
    assert nameservers(text) == []
    assert text.splitlines()[2:] == ["nameserver 127.0.0.1", "search a.example b.example", "options ndots:0"]


def test_writing_the_resolver_twice_changes_nothing():
    once = local_resolv_conf(DOCKER, UPSTREAM)
    assert local_resolv_conf(once, UPSTREAM) == once


def test_the_upstream_servers_survive_being_read_again():
    assert nameservers(upstream_conf(["10.0.0.1", "10.0.0.2"])) == ["10.0.0.1", "10.0.0.2"]
