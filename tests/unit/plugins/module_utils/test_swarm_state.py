"""Which Swarm stays, who joins, what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_state as model
from hypothesis import given
from hypothesis import strategies as st

HOSTS = ["swarm-1", "swarm-2", "swarm-3"]
ADDRESSES = ["10.0.0.61", "10.0.0.62", "10.0.0.63"]


def local(state="inactive", cluster="", control=False, managers=()):
    return model.Local(state, "n" if state == "active" else "", "", control, cluster, tuple(managers), "")


def node(name, address, **values):
    defaults = {
        "id": f"id-{name}",
        "hostname": name,
        "address": address,
        "role": "manager",
        "availability": "active",
        "state": "ready",
        "leader": False,
        "reachability": "reachable",
        "version": 7,
    }
    return model.Node(**{**defaults, **values})


def three():
    return [node(name, address, leader=name == "swarm-2") for name, address in zip(HOSTS, ADDRESSES, strict=True)]


def wanted():
    return [model.Wanted(name, address, "manager") for name, address in zip(HOSTS, ADDRESSES, strict=True)]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("10.0.0.1:2377", "10.0.0.1"),
        ("[fd00::1]:2377", "fd00::1"),
        ("fd00::1", "fd00::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("", ""),
    ],
)
def test_an_address_loses_its_port(address, host):
    assert model.without_port(address) == host


def test_an_engine_without_swarm_is_inactive():
    assert model.local_of({}).state == "inactive"


def test_a_managers_own_membership_is_read():
    info = {
        "Swarm": {
            "NodeID": "abc",
            "NodeAddr": "10.0.0.61",
            "LocalNodeState": "active",
            "ControlAvailable": True,
            "RemoteManagers": [{"NodeID": "abc", "Addr": "10.0.0.61:2377"}],
            "Cluster": {"ID": "c1"},
        }
    }
    assert model.local_of(info) == model.Local("active", "abc", "10.0.0.61", True, "c1", ("10.0.0.61",), "")


def test_a_swarm_is_made_on_the_first_host_when_there_is_none():
    assert model.choose_seed({name: local() for name in HOSTS}, HOSTS) == ("swarm-1", True)


def test_a_swarm_that_is_there_is_kept_wherever_it_is():
    found = {"swarm-1": local(), "swarm-2": local(), "swarm-3": local("active", "c1", True)}
    assert model.choose_seed(found, HOSTS) == ("swarm-3", False)


def test_a_silent_manager_is_no_hindrance_when_another_serves():
    found = {"swarm-1": None, "swarm-2": local("active", "c1", True), "swarm-3": local()}
    assert model.choose_seed(found, HOSTS) == ("swarm-2", False)


def test_no_swarm_is_made_while_a_host_cant_be_asked():
    with pytest.raises(model.CannotForm, match=r"swarm-3 can't be asked"):
        model.choose_seed({"swarm-1": local(), "swarm-2": local(), "swarm-3": None}, HOSTS)


def test_no_swarm_is_made_beside_one_that_has_lost_its_majority():
    with pytest.raises(model.CannotForm, match="force-new-cluster"):
        model.choose_seed({"swarm-1": local(), "swarm-2": local("active"), "swarm-3": local()}, HOSTS)


def test_two_swarms_are_refused_with_their_hosts():
    found = {"swarm-1": local("active", "c1", True), "swarm-2": local("active", "c2", True), "swarm-3": local()}
    with pytest.raises(model.CannotForm, match=r"swarm-1 is in c1; swarm-2 is in c2"):
        model.choose_seed(found, HOSTS)


def test_a_locked_swarm_is_refused():
    with pytest.raises(model.CannotForm, match="swarm-2 is locked"):
        model.choose_seed({"swarm-1": local(), "swarm-2": local("locked"), "swarm-3": local()}, HOSTS)


STATES = st.sampled_from(["inactive", "pending", "active", "error", "locked"])


@given(st.lists(st.one_of(st.none(), st.tuples(STATES, st.booleans())), min_size=1, max_size=5))
def test_a_swarm_is_only_made_where_no_host_can_have_one(hosts):
    names = [f"swarm-{number}" for number in range(len(hosts))]
    found = {
        name: None if host is None else local(host[0], "c1", host[0] == "active" and host[1])
        for name, host in zip(names, hosts, strict=True)
    }
    try:
        _, new = model.choose_seed(found, names)
    except model.CannotForm:
        return
    assert not new or all(one is not None and one.state in ("inactive", "pending") for one in found.values())


@pytest.mark.parametrize(
    ("state", "answer"),
    [("inactive", (True, False)), ("pending", (True, True)), ("error", (True, True)), ("active", (False, False))],
)
def test_what_an_interrupted_join_has_left_is_cleared(state, answer):
    assert model.must_join(local(state, managers=["10.0.0.61"]), ADDRESSES) == answer


def test_a_member_of_another_swarm_is_refused():
    with pytest.raises(model.CannotForm, match=r"managers are 10\.9\.9\.9"):
        model.must_join(local("active", managers=["10.9.9.9"]), ADDRESSES)


def test_a_healthy_swarm_has_no_problems():
    assert model.problems(three(), wanted()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"state": "down"}, "swarm-1 is down"),
        ({"reachability": "unreachable"}, "swarm-1 is unreachable"),
        ({"role": "worker"}, "swarm-1 is a worker, not a manager"),
        ({"leader": True}, "the Swarm has 2 leaders"),
        ({"hostname": "other", "address": "10.9.9.9"}, r"swarm-1 \(10\.0\.0\.61\) is no node"),
    ],
)
def test_what_is_wrong_is_said(change, problem):
    nodes = [replace(three()[0], **change), *three()[1:]]
    found = model.problems(nodes, wanted())
    assert len(found) == 1
    assert re.search(problem, found[0])


def test_of_two_nodes_of_a_host_the_one_that_is_up_counts():
    nodes = [*three(), node("swarm-1", ADDRESSES[0], id="aaa", state="down", reachability="unreachable")]
    assert model.problems(nodes, wanted()) == []


def test_nothing_is_updated_when_nothing_differs():
    assert model.plan_updates(three(), wanted(), "sutazai.") == []


def test_labels_of_others_stay_and_own_ones_that_arent_wanted_go():
    nodes = [node("swarm-1", ADDRESSES[0], labels={"rack": "a", "sutazai.old": "1"})]
    members = [model.Wanted("swarm-1", ADDRESSES[0], "manager", labels={"sutazai.agents": "true"})]
    (update,) = model.plan_updates(nodes, members, "sutazai.")
    assert update.spec["Labels"] == {"rack": "a", "sutazai.agents": "true"}


def test_promotions_come_before_demotions():
    nodes = [node("a", "10.0.0.1"), node("b", "10.0.0.2", role="worker")]
    members = [model.Wanted("a", "10.0.0.1", "worker"), model.Wanted("b", "10.0.0.2", "manager")]
    assert [update.node.hostname for update in model.plan_updates(nodes, members, "sutazai.")] == ["b", "a"]


def test_a_manager_may_go_while_the_others_are_a_majority():
    assert model.quorum_problems(three(), "swarm-1") == []


def test_a_manager_may_not_go_when_the_majority_goes_with_it():
    nodes = [*three()[:2], node("swarm-3", ADDRESSES[2], reachability="unreachable")]
    assert "only 1 of 3 managers" in model.quorum_problems(nodes, "swarm-1")[0]


@given(st.lists(st.booleans(), min_size=2, max_size=9), st.integers(0, 8))
def test_who_may_go_leaves_a_majority(reachable, leaving):
    nodes = [
        node(f"m{number}", f"10.0.0.{number}", reachability="reachable" if up else "unreachable")
        for number, up in enumerate(reachable)
    ]
    name = f"m{leaving % len(nodes)}"
    staying = sum(up for number, up in enumerate(reachable) if f"m{number}" != name)
    assert (model.quorum_problems(nodes, name) == []) == (staying * 2 > len(nodes))


def test_pools_that_overlap_the_hosts_network_are_refused():
    assert "overlaps 10.0.0.0/24" in model.pool_problems(["10.0.0.0/8"], 24, "10.0.0.0/24")[0]
    assert model.pool_problems(["172.24.0.0/14"], 24, "10.0.0.0/24") == []
