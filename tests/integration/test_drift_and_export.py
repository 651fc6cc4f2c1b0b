"""playbooks/drift.yml and export.yml as they are, over roles whose live state is what the test says."""

from __future__ import annotations

import pytest
import yaml

from tests.integration.modules import ROOT
from tests.integration.noting_roles import Platform

GROUPS = {
    "consul_servers": ["consul-1"],
    "rabbitmq": ["rabbitmq-1"],
    "redis": ["redis-1"],
    "postgresql": ["pg-1"],
    "swarm_managers": ["manager-1", "manager-2"],
    "fabio": ["manager-1", "fabio-2"],
}
#: Each role has one setting, here as in the inventory; two roles have the same group.
ROLES = ("consul", "rabbitmq", "redis", "patroni", "swarm", "agent", "fabio")


def made(directory, playbook):
    platform = Platform(
        directory,
        playbook,
        GROUPS,
        {},
        parts=("plugins/filter", "plugins/module_utils"),
        platform_name="test",
        export_directory=str(directory / "written"),
    )
    for role in ROLES:
        live = f"{{{{ live['{role} ' ~ inventory_hostname] | default(live.{role}) | default('as wanted') }}}}"
        platform.write(f"roles/{role}/defaults/main.yml", {f"{role}_setting": "as wanted"})
        platform.write(
            f"roles/{role}/tasks/export.yml",
            [
                {
                    "name": "Fail",
                    "ansible.builtin.fail": {"msg": "silence"},
                    "when": f"unreadable | default('') == '{role}'",
                },
                {"name": "Say", "ansible.builtin.set_fact": {f"{role}_export": {f"{role}_setting": live}}},
            ],
        )
    return platform


@pytest.fixture
def drift(tmp_path):
    return made(tmp_path, "drift")


def test_nothing_differs(drift):
    done = drift.run(live={})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert "Nothing differs from the inventory." in done.stdout


@pytest.mark.parametrize("role", ROLES)
def test_what_one_role_finds_is_reported_and_fails_the_run(drift, role):
    done = drift.run(live={role: "changed by hand"})
    assert done.returncode != 0
    assert "changed by hand" in done.stdout and f"{role}_setting" in done.stdout


def test_what_cannot_be_read_is_a_finding_and_the_others_are_read(drift):
    done = drift.run(live={"fabio": "changed by hand"}, unreadable="agent")
    assert done.returncode != 0
    assert "silence" in done.stdout and "changed by hand" in done.stdout


def test_all_is_written_as_the_variables_of_an_inventory(tmp_path):
    export = made(tmp_path, "export")
    done = export.run(live={"swarm": "of the Swarm", "agent": "of agents", "fabio manager-1": "own"})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    written = {
        str(path.relative_to(tmp_path / "written")): yaml.safe_load(path.read_text())
        for path in (tmp_path / "written").rglob("*.yml")
    }
    assert written["group_vars/swarm_managers.yml"] == {"swarm_setting": "of the Swarm", "agent_setting": "of agents"}
    assert written["host_vars/manager-1.yml"] == {"fabio_setting": "own"}
    assert written["host_vars/fabio-2.yml"] == {"fabio_setting": "as wanted"}
    assert written["group_vars/redis.yml"] == {"redis_setting": "as wanted"}


# What the Swarm says of a service that runs as the role's defaults have it, but for what the test says.
SERVICE = """
import json, os
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"name": {}}, supports_check_mode=True)
policy = {"parallelism": 2, "delay_seconds": 10.0, "failure_action": "rollback", "monitor_seconds": 15.0, "order": "start-first"}
settings = {
    "replicas": 17, "constraints": ["node.labels.sutazai.agents == true", "node.role == worker"], "max_replicas_per_node": 0,
    "limits": {"cpus": 2.0, "memory_bytes": 4 << 30}, "reservations": {"cpus": 1.0, "memory_bytes": 2 << 30},
    "stop_grace_seconds": 75.0,
    "restart_policy": {"condition": "any", "delay_seconds": 5.0, "max_attempts": 3, "window_seconds": 120.0},
    "update": policy, "rollback": {**policy, "delay_seconds": 0.0},
}
with open(os.environ["STATE"]) as file:
    state = json.load(file)
if "missing" in state:
    module.exit_json(exists=False, problems=["there is no service ai-agent"])
module.exit_json(exists=True, problems=[], settings={**settings, **state})
"""


@pytest.fixture
def agents(tmp_path):
    """The role agent's own export and defaults, in the place of the one that only says something."""
    platform = made(tmp_path, "drift")
    for name in ("defaults/main.yml", "tasks/export.yml"):
        platform.write(f"roles/agent/{name}", (ROOT / "roles/agent" / name).read_text())
    platform.write("plugins/modules/swarm_service_info.py", SERVICE)
    return platform


def test_agents_that_run_as_the_inventory_says_differ_in_nothing_however_many_the_autoscaler_wants(agents):
    done = agents.run(live={})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


@pytest.mark.parametrize(
    ("changed", "variables", "said"),
    [
        ({"limits": {"cpus": 4.0, "memory_bytes": 4 << 30}}, {}, ["agent_limit_cpus", "4"]),
        ({"constraints": ["node.role == worker"]}, {}, ["agent_constraints", "sutazai.agents"]),
        ({}, {"agent_autoscaled": False}, ["agent_replicas", "17"]),
        ({"missing": True}, {}, ["there is no service ai-agent"]),
    ],
    ids=["limits", "constraints", "their number", "no service"],
)
def test_what_was_changed_at_the_agents_service_is_found(agents, changed, variables, said):
    done = agents.run(changed, live={}, **variables)
    assert done.returncode != 0
    assert all(word in done.stdout for word in said), done.stdout[-3000:]
