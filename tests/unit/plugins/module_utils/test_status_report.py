"""The rows of the status report: who speaks for a component, and what makes it unhealthy."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.status_report import report

WELL = {"refusal": ""}


def groups(up, **members):
    """The inventory's groups, and those of the hosts that answer."""
    answering = {f"status_up_{name}": [host for host in hosts if host in up] for name, hosts in members.items()}
    return {"all": [host for hosts in members.values() for host in hosts], **members, **answering}


def heard(said, backups=None):
    hosts = {host for answers in said.values() for host in answers} | set(backups or {})
    return {
        host: {
            "said": {name: answers[host] for name, answers in said.items() if host in answers},
            "backups": (backups or {}).get(host, {}),
        }
        for host in hosts
    }


def test_only_what_the_inventory_has():
    assert report({}, groups({}, clients=["client-1"])) == {}


def test_one_host_speaks_for_its_cluster():
    info = {"healthy": True, "leader": "consul-2", "problems": [], "versions": {"consul-1": "1.22", "consul-2": "1.22"}}
    rows = report(
        heard({"consul": {"consul-2": {"refusal": "", "info": info}}}),
        groups({"consul-2"}, consul_servers=["consul-1", "consul-2"]),
    )
    assert rows == {
        "consul": {
            "hosts": ["consul-1", "consul-2"],
            "up": ["consul-2"],
            "healthy": True,
            "leaders": ["consul-2"],
            "problems": [],
            "versions": ["1.22"],
            "details": {},
            "backup_age_seconds": {},
        }
    }


def test_all_masters_lead():
    info = {"healthy": True, "masters": ["redis-1", "redis-2"], "leader": "redis-1", "versions": ["8.0", "8.0"]}
    row = report(heard({"redis": {"redis-1": {"info": info}}}), groups({"redis-1"}, redis=["redis-1"]))["redis"]
    assert (row["leaders"], row["versions"]) == (["redis-1", "redis-2"], ["8.0"])


@pytest.mark.parametrize(
    ("up", "answer", "problems"),
    [
        (
            {"mq-1"},
            {"refusal": "a node is down", "info": {"healthy": False, "problems": ["mq-2 is down"]}},
            ["mq-2 is down"],
        ),
        ({"mq-1"}, {"refusal": "a node is down", "info": {}}, ["a node is down"]),
        ({"mq-1"}, {"refusal": "verify failed", "info": {"healthy": True}}, ["verify failed"]),
        ({"mq-1"}, None, ["it gave no answer"]),
        (set(), None, ["no host answers"]),
    ],
)
def test_a_cluster_that_refuses_or_is_silent_is_not_healthy(up, answer, problems):
    said = heard({"rabbitmq": {"mq-1": answer} if answer else {}})
    row = report({"mq-1": {"said": {}, "backups": {}}, **said}, groups(up, rabbitmq=["mq-1", "mq-2"]))["rabbitmq"]
    assert not row["healthy"]
    assert row["problems"] == problems


def test_an_old_backup_is_a_problem_of_a_healthy_cluster():
    backup = {"age_seconds": 90000, "problems": ["the newest backup is 25 h old"]}
    row = report(
        heard({"consul": {"c-1": {"info": {"healthy": True}}}}, {"c-1": {"consul": backup}}),
        groups({"c-1"}, consul_servers=["c-1"]),
    )["consul"]
    assert row["healthy"]
    assert row["problems"] == ["c-1: the newest backup is 25 h old"]
    assert row["backup_age_seconds"] == {"c-1": 90000}


def test_every_gateway_counts():
    said = {
        "gateways": {
            "gw-1": {**WELL, "detail": {"ready": True, "routes": 3}},
            "gw-2": {"refusal": "is not ready", "detail": {"ready": False, "routes": 0}},
        }
    }
    members = {"gateways": ["gw-1", "gw-2", "gw-3", "gw-4"]}
    silent = {"gw-4": {"said": {}, "backups": {}}}
    row = report({**heard(said), **silent}, groups({"gw-1", "gw-2", "gw-4"}, **members))["gateways"]
    assert not row["healthy"]
    assert row["up"] == ["gw-1", "gw-2", "gw-4"]
    assert row["problems"] == ["gw-2: is not ready", "gw-3 can't be reached", "gw-4 gave no answer"]
    assert row["details"] == {"gw-1": {"ready": True, "routes": 3}, "gw-2": {"ready": False, "routes": 0}}


def test_all_well_is_healthy():
    said = {"gateways": {"gw-1": WELL, "gw-2": WELL}}
    assert report(heard(said), groups({"gw-1", "gw-2"}, gateways=["gw-1", "gw-2"]))["gateways"]["healthy"]


def test_the_autoscaler_is_on_all_nodes_and_its_lock_on_one():
    said = {"autoscaler": {"m-1": {**WELL, "leader": False}, "m-2": {**WELL, "leader": True}, "a-1": WELL}}
    rows = report(heard(said), groups({"m-1", "m-2", "a-1"}, swarm_managers=["m-1", "m-2"], agents=["m-2", "a-1"]))
    assert rows["autoscaler"]["hosts"] == ["m-1", "m-2", "a-1"]
    assert rows["autoscaler"]["leaders"] == ["m-2"]
    assert rows["autoscaler"]["healthy"]


def test_without_managers_agents_have_workers_only():
    assert set(report(heard({"workers": {"a-1": WELL}}), groups({"a-1"}, agents=["a-1"]))) == {"workers"}
