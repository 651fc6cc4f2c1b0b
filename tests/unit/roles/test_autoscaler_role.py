"""What the role autoscaler writes, and that the collection judges rules as the runtime package does."""

from __future__ import annotations

import json
import pathlib

import pytest
from ansible_collections.sutazai.platform.plugins.filter.autoscaler_problems import autoscaler_problems
from ansible_collections.sutazai.platform.plugins.module_utils import autoscaler_rules

from tests.unit.roles.rendering import Role, by_path, complaints

ROOT = pathlib.Path(__file__).resolve().parents[3]
INVENTORY = {
    "inventory_hostname": "swarm-1",
    "inventory_hostname_short": "swarm-1",
    "ansible_facts": {"hostname": "swarm-1"},
    "groups": {
        "all": ["swarm-1", "agent-1"],
        "swarm_managers": ["swarm-1"],
        "consul_servers": ["consul-1"],
        "rabbitmq": ["mq-1", "mq-2"],
    },
    "hostvars": {"mq-1": {"platform_address": "10.20.0.21"}, "mq-2": {"platform_address": "10.20.0.22"}},
    "platform_consul_management_token": "the-management-token",
    "autoscaler_rabbitmq_password": "of-rabbitmq",
    "__autoscaler_token": {
        "tokens": {f"autoscaler/{name}": {"secret_id": "of-consul"} for name in ("swarm-1", "agent-1")}
    },
}
AGENT = {"inventory_hostname": "agent-1", "ansible_facts": {"hostname": "agent-1"}}
SETTINGS = "/etc/sutazai/autoscaler/settings.yml"


def role(**variables) -> Role:
    return Role("autoscaler", {**INVENTORY, **variables})


def rules(**changes):
    return {"ai-agent": {**role().value("autoscaler_rules")["ai-agent"], **changes}}


def metric(**changes):
    return rules(
        metrics=[{"type": "cpu", "target": 70, "scale_up_threshold": 80, "scale_down_threshold": 30, **changes}]
    )


def test_the_rules_are_judged_by_the_runtime_packages_own_code():
    """The collection can't import it: its controller doesn't have it."""
    copied = pathlib.Path(autoscaler_rules.__file__).read_text(encoding="utf-8")
    source = (ROOT / "runtime/src/sutazai_runtime/autoscaler/rules.py").read_text(encoding="utf-8")
    assert copied.split("\n", 2)[2] == source, "copy rules.py anew, below the two lines of comment"


def test_the_defaults_are_the_seeds_and_pass():
    read = autoscaler_rules.parse_rules(role().value("autoscaler_rules"))["ai-agent"]
    assert (read.minimum, read.maximum, read.cooldown_up, read.cooldown_down) == (3, 50, 60, 300)
    assert [(m.kind, m.target, m.up, m.down) for m in read.metrics] == [
        ("cpu", 70, 80, 30),
        ("queue_length", 100, 200, 50),
    ]
    assert role().passes()
    assert role(**AGENT, autoscaler_rabbitmq_password="").passes()  # a node that only reports asks no broker


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (rules(min_replicas=51), "autoscaler_rules.ai-agent.min_replicas is 51, more than max_replicas"),
        (metric(scale_down_threshold=80), "they overlap"),
        (metric(type="memory"), "known metrics are cpu, queue_length"),
        ({}, "must name at least one service"),
        ("none", "must name at least one service"),
    ],
)
def test_wrong_rules_are_refused_with_what_is_wrong(wrong, message):
    assert message in " ".join(autoscaler_problems(wrong))


@pytest.mark.parametrize("wrong", [{"autoscaler_rules": rules(min_replicas=51)}, {"autoscaler_rabbitmq_password": ""}])
def test_settings_that_cannot_work_are_refused(wrong):
    assert not role(**wrong).passes()


def test_a_manager_has_all_and_other_nodes_only_what_reporting_needs():
    manager, agent = by_path(role().value("__autoscaler_files")), by_path(role(**AGENT).value("__autoscaler_files"))
    only = {"/etc/systemd/system/sutazai-autoscaler.service", "/etc/sutazai/autoscaler/rabbitmq.password"}
    assert set(manager) - set(agent) == only
    assert not set(agent) - set(manager)
    for files in (manager, agent):
        holding = [
            entry
            for entry in files.values()
            if "of-" in entry.get("content", "").replace("of Swarm", "").replace("of what", "")
        ]
        assert {(entry["owner"], entry["mode"]) for entry in holding} == {("sutazai-autoscaler", "0600")}
        assert "the-management-token" not in str(files)
    assert '"autoscaler/usage/agent-1" { policy = "write" }' in role(**AGENT).value("__autoscaler_policy")["rules"]
    assert "key_prefix" not in role(**AGENT).value("__autoscaler_policy")["rules"]
    assert 'session "swarm-1" { policy = "write" }' in role().value("__autoscaler_policy")["rules"]


def test_the_settings_name_every_node_of_the_broker():
    written = json.loads(by_path(role().value("__autoscaler_files"))[SETTINGS]["content"])
    assert written["rabbitmq"]["urls"] == ["https://10.20.0.21:15671", "https://10.20.0.22:15671"]
    assert written["interval_seconds"] == 15 and written["dry_run"] is False


def test_systemd_takes_the_units(tmp_path):
    files = by_path(role().value("__autoscaler_files"))
    units = {path.rpartition("/")[2]: entry["content"] for path, entry in files.items() if path.endswith(".service")}
    assert len(units) == 2
    assert complaints(tmp_path, units, sorted(units)) == ""
    assert (
        "report --config /etc/sutazai/autoscaler/settings.yml --node swarm-1\n"
        in units["sutazai-autoscaler-report.service"]
    )
