"""swarm_remove, and what drains and leaves, against an engine that answers as a manager does."""

from __future__ import annotations

import pytest

from tests.integration.modules import run_module
from tests.integration.swarm_engine import Swarm, serving


def leaving(swarm, *names):
    return [{"hostname": name, "address": swarm.nodes[name]["Status"]["Addr"]} for name in names]


@pytest.fixture
def remove(tmp_path):
    def call(swarm, stage, *names, hosts=None, check=False, **options):
        with serving(swarm, tmp_path / "docker.sock") as socket:
            arguments = {"socket": socket, "leaving": hosts or leaving(swarm, *names), "stage": stage, **options}
            return run_module("swarm_remove", arguments, check)

    return call


def test_a_worker_leaves_after_its_tasks_run_elsewhere(remove):
    swarm = Swarm(3, 2)
    swarm.run("w-2", "agent")
    hosts = leaving(swarm, "w-2")
    done = remove(swarm, "emptied", "w-2")
    assert done["changed"], done
    assert done["did"] == ["w-2: drained"]
    assert swarm.nodes["w-2"]["Spec"] == {"Role": "worker", "Availability": "drain", "Labels": {"of": "somebody"}}
    assert not remove(swarm, "emptied", "w-2")["changed"]
    swarm.nodes["w-2"]["Status"]["State"] = "down"
    assert remove(swarm, "removed", "w-2")["did"] == ["w-2: removed"]
    assert "w-2" not in swarm.nodes
    again = remove(swarm, "removed", hosts=hosts)
    assert not again["changed"]


def test_managers_are_demoted_one_at_a_time_and_the_leader_last(remove):
    swarm = Swarm(5, 1)
    done = remove(swarm, "emptied", "m-1", "m-5")
    assert done["did"] == ["m-5: drained", "m-1: drained", "m-5: manager becomes worker", "m-1: manager becomes worker"]
    assert [name for name, node in swarm.nodes.items() if "ManagerStatus" in node] == ["m-2", "m-3", "m-4"]


def test_below_a_majority_nothing_is_changed(remove):
    swarm = Swarm(3, 1)
    swarm.nodes["m-2"]["ManagerStatus"]["Reachability"] = "unreachable"
    done = remove(swarm, "emptied", "m-3", "w-1")
    assert done["failed"]
    assert "Nothing was changed: without m-3 only 1 of 3 managers would be left" in done["msg"]
    assert swarm.requests == []


def test_a_check_only_says(remove):
    swarm = Swarm(3, 1)
    done = remove(swarm, "emptied", "m-3", check=True)
    assert done["did"] == ["m-3: drained", "m-3: manager becomes worker"]
    assert swarm.requests == []


def test_what_finds_no_place_keeps_its_host_from_leaving(remove):
    swarm = Swarm(3, 2, moves=False)
    swarm.run("w-1", "agent")
    done = remove(swarm, "emptied", "w-1", settle_seconds=2)
    assert done["failed"]
    assert "service-agent has 0 of 1 replicas on the nodes that stay" in done["msg"]


def test_a_dead_manager_is_forgotten_unasked(remove):
    swarm = Swarm(3, 1)
    swarm.nodes["m-3"]["ManagerStatus"]["Reachability"] = "unreachable"
    swarm.nodes["m-3"]["Status"]["State"] = "down"
    assert remove(swarm, "emptied", "m-3")["did"] == ["m-3: drained", "m-3: manager becomes worker"]
    assert remove(swarm, "removed", "m-3")["did"] == ["m-3: removed"]


def test_a_node_that_is_up_is_not_removed(remove):
    swarm = Swarm(3, 1)
    done = remove(swarm, "removed", "w-1", wait_seconds=1)
    assert done["failed"]
    assert "w-1 is up still" in done["msg"]
    assert "w-1" in swarm.nodes
    assert "is a manager still" in remove(swarm, "removed", "m-3")["msg"]


def test_a_host_leaves_when_it_has_learnt_that_it_is_no_manager(tmp_path):
    swarm = Swarm(3, 1)
    swarm.control_answers = [True, True, False]
    with serving(swarm, tmp_path / "docker.sock") as socket:
        done = run_module("swarm_member", {"socket": socket, "state": "absent"})
        assert done["did"] == "left", done
        assert swarm.requests == ["POST swarm/leave"]
        swarm.control_answers = [True]
        done = run_module("swarm_member", {"socket": socket, "state": "absent", "timeout_seconds": 1})
        assert "manager still" in done["msg"]
        assert swarm.requests == ["POST swarm/leave"]


def test_draining_for_a_restart_waits_too(tmp_path):
    swarm = Swarm(3, 1, moves=False)
    swarm.run("w-1", "agent")
    node = {**leaving(swarm, "w-1")[0], "role": "worker", "availability": "drain"}
    with serving(swarm, tmp_path / "docker.sock") as socket:
        done = run_module("swarm_nodes", {"socket": socket, "nodes": [node], "settle_seconds": 1})
        assert "service-agent has 0 of 1 replicas" in done["msg"]
        assert run_module("swarm_nodes", {"socket": socket, "nodes": [{**node, "availability": "active"}]})["changed"]
    assert swarm.nodes["w-1"]["Spec"]["Availability"] == "active"
