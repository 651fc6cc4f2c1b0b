"""Which Consul servers may leave, and in which order."""

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.consul_peers import (
    peer_of,
    plan,
    settled,
    successor,
)

FIVE = {f"consul-{number}": f"10.0.0.{10 + number}" for number in range(1, 6)}
THREE = list(FIVE)[:3]


def peers(leader="consul-1", without=(), nameless=()):
    return [
        {
            "ID": f"id-{name}",
            "Node": "(unknown)" if name in nameless else name,
            "Address": f"{address}:8300",
            "Leader": name == leader,
            "Voter": True,
        }
        for name, address in FIVE.items()
        if name not in without
    ]


def servers(dead=(), ill=(), young=(), without=(), ahead=""):
    return [
        {
            "name": name,
            "status": "failed" if name in dead else "alive",
            "healthy": name not in dead and name not in ill,
            "voter": name not in young,
            "last_index": 100 if name == ahead else 90,
        }
        for name in FIVE
        if name not in without
    ]


def members(dead=(), left=()):
    return {
        "alive": [name for name in FIVE if name not in dead and name not in left],
        "failed": [name for name in dead if name not in left],
        "left": list(left),
    }


def removing(*names, staying=None, leader="consul-1", dead=(), replacing=False, **state):
    return plan(
        peers(leader, state.get("without", ()), state.pop("nameless", ())),
        servers(dead, **state),
        members(dead, state.get("without", ())),
        [name for name in FIVE if name not in names] if staying is None else staying,
        {name: FIVE[name] for name in names},
        replacing,
    )


def names(found):
    return [one.name for one in found.leaving]


def test_two_of_five_may_leave():
    found = removing("consul-5", "consul-4")
    assert (names(found), found.refused) == (["consul-4", "consul-5"], [])


def test_the_leader_leaves_last_and_the_dead_first():
    found = removing("consul-4", "consul-5", leader="consul-4")
    assert names(found) == ["consul-5", "consul-4"]
    found = removing("consul-1", "consul-5", leader="consul-2", dead=["consul-5"])
    assert names(found) == ["consul-5", "consul-1"]


def test_a_dead_server_may_leave():
    found = removing("consul-4", "consul-5", dead=["consul-4", "consul-5"])
    assert found.refused == [] and not any(one.alive for one in found.leaving)


def test_who_has_left_needs_nothing():
    found = removing("consul-4", "consul-5", without=["consul-4", "consul-5"])
    assert (found.leaving, found.refused) == ([], [])


def test_nothing_is_refused_when_nobody_leaves_any_more():
    assert removing("consul-4", "consul-5", without=["consul-4", "consul-5"], ill=["consul-1"]).refused == []


def test_one_that_gossip_has_forgotten_is_found_by_its_address():
    found = plan(
        peers(nameless=["consul-5"]),
        servers(without=["consul-5"]),
        members(left=["consul-5"]),
        THREE,
        {"consul-5": FIVE["consul-5"]},
    )
    assert found.leaving[0].peer == "id-consul-5" and not found.leaving[0].member


def test_an_address_means_nothing_where_there_is_a_name():
    assert peer_of("consul-9", FIVE["consul-5"], peers()) == {}


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ({"staying": THREE[:2]}, "2 servers would stay"),
        ({"staying": THREE[:1]}, "1 server would stay"),
        ({"staying": [*THREE, "consul-4"]}, "an even number"),
        ({"staying": THREE, "dead": ["consul-3"]}, "consul-3, which is to stay, is failed"),
        ({"staying": THREE, "ill": ["consul-2"]}, "consul-2, which is to stay, isn't healthy"),
        ({"staying": THREE, "young": ["consul-2"]}, "consul-2, which is to stay, doesn't vote yet"),
        ({"staying": THREE, "without": ["consul-2"]}, "consul-2, which is to stay, isn't among the Raft peers"),
        ({"staying": [*THREE, "consul-4", "consul-5"]}, "consul-5 can't both stay and leave"),
    ],
)
def test_it_is_refused(case, says):
    found = removing("consul-5", **case)
    assert says in " ".join(found.refused + found.unready)


def test_what_time_may_cure_is_told_from_what_it_does_not():
    young = removing("consul-5", staying=THREE, young=["consul-2"])
    assert (young.refused, len(young.unready)) == ([], 1)
    few = removing("consul-5", staying=THREE[:2], young=["consul-2"])
    assert (len(few.refused), few.unready) == (1, [])


def test_a_dead_server_may_be_replaced_however_few_there_are():
    assert removing("consul-5", staying=THREE[:2], dead=["consul-5"], replacing=True).refused == []


def test_a_living_server_is_not_replaced():
    assert "the others hear of it" in removing("consul-5", staying=THREE[:2], replacing=True).refused[0]


def test_a_server_is_not_replaced_while_another_is_ill():
    case = {"staying": THREE[:2], "dead": ["consul-5"], "ill": ["consul-2"], "replacing": True}
    assert "consul-2, which is to stay, isn't healthy" in removing("consul-5", **case).unready[0]


def test_the_longest_log_takes_over():
    assert successor(servers(ahead="consul-3"), THREE) == "consul-3"
    assert successor(servers(ahead="consul-5"), THREE) == "consul-1"
    assert successor(servers(ill=THREE), THREE) == ""


def test_it_is_settled_when_neither_knows_it():
    assert settled("consul-5", "id-consul-5", peers(without=["consul-5"]), members(left=["consul-5"]))
    assert not settled("consul-5", "id-consul-5", peers(), members(left=["consul-5"]))
    assert not settled("consul-5", "id-consul-5", peers(without=["consul-5"]), members(dead=["consul-5"]))
