"""A playbook as it is, over roles that only note what they were asked for: who is touched, and in what order."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.integration.modules import ROOT, run_ansible

# What the test says is on the host; an upgrade that was noted is seen afterwards, as on a real one.
UPGRADE_INFO = """
import json, os
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"role": {}, "host": {}, "component": {}}, supports_check_mode=True)
role, host = module.params["role"], module.params["host"]
with open(os.environ["STATE"]) as file:
    state = {**{"from": "1.0-1", "to": "1.0-1", "active": True, "restart_due": False}, **json.load(file).get(f"{role} {host}", {})}
with open(os.environ["LOG"]) as file:
    if f"{role} {host}" in file.read().splitlines():
        state.update({"from": state["to"], "active": True, "restart_due": False})
changes = [{"name": role, "from": state["from"], "to": state["to"]}] if state["from"] != state["to"] else []
module.exit_json(
    changed=False, component=module.params["component"], unit=role, active=state["active"], installed=state["from"],
    running=state["from"], wanted=state["to"], changes=changes, also=[], removed=state.get("removed", []), held=[],
    targets=[f"{role}={state['to']}"] if changes and role != "consul" else [], restart_due=state["restart_due"],
    upgrade_due=bool(changes), due=bool(changes) or state["restart_due"] or not state["active"],
)
"""
PACKAGE_UPGRADE = """
import os
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"name": {"type": "list"}, "state": {}}, supports_check_mode=True)
with open(os.environ["LOG"], "a") as file:
    file.write(f"download {module.params['name'][0]}\\n")
if "unavailable" in module.params["name"][0]:
    module.fail_json(msg="it can't be had")
module.exit_json(changed=True)
"""


class Platform:
    """The collection with the real playbooks and with roles that write into a log.

    Modules that stand in for real ones find the log in LOG, and what the test says about the hosts in STATE.
    """

    def __init__(
        self,
        directory: Path,
        playbook: str,
        groups: Mapping[str, Sequence[str]],
        modules: Mapping[str, str],
        parts: Sequence[str] = (),
        **variables: object,
    ) -> None:
        self.directory, self.log, self.state = directory, directory / "log", directory / "state.json"
        self.collection = directory / "ansible_collections" / "sutazai" / "platform"
        for part in ("playbooks", *parts):
            shutil.copytree(ROOT / part, self.collection / part, ignore=shutil.ignore_patterns("__pycache__"))
        self.playbook = self.collection / "playbooks" / f"{playbook}.yml"
        for name, text in modules.items():
            self.write(f"plugins/modules/{name}.py", text)
        given = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "ansible_become": False,
            **variables,
        }
        hosts = {group: {"hosts": dict.fromkeys(names)} for group, names in groups.items()}
        (directory / "hosts.yml").write_text(
            yaml.safe_dump({"all": {"children": hosts, "vars": given}}, sort_keys=False)
        )

    def write(self, name: str, content: object) -> None:
        """A file of the collection."""
        path = self.collection / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))

    def note(self, line: str) -> dict:
        return {"name": "Note it", "ansible.builtin.shell": f"echo '{line}' >> {self.log}"}

    def verify(self, health: Mapping[str, object]) -> list[dict]:
        """Healthy, except on the host that the test names; what a role registers when it is asked."""
        return [
            {
                "name": "Refuse an unhealthy cluster",
                "ansible.builtin.assert": {"that": "inventory_hostname != unhealthy | default('')"},
            },
            {"name": "Keep it", "ansible.builtin.set_fact": {"__asked": True, **health}},
        ]

    def run(self, state: object = None, *options: str, **variables: object) -> subprocess.CompletedProcess:
        self.log.write_text("")
        self.state.write_text(json.dumps(state or {}))
        return run_ansible(
            "ansible-playbook",
            f"--inventory={self.directory / 'hosts.yml'}",
            f"--extra-vars={json.dumps(variables)}",
            *options,
            str(self.playbook),
            ANSIBLE_COLLECTIONS_PATH=str(self.directory),
            ANSIBLE_GATHERING="explicit",
            ANSIBLE_CALLBACKS_ENABLED="ansible.builtin.default",
            STATE=str(self.state),
            LOG=str(self.log),
        )

    def noted(self) -> list[str]:
        return self.log.read_text().splitlines()


def rolling_upgrade(
    directory: Path,
    groups: Mapping[str, Sequence[str]],
    health: Mapping[str, Mapping[str, object]],
    components: Mapping[str, str],
    noted_as: Mapping[str, str] | None = None,
) -> Platform:
    """playbooks/rolling_upgrade.yml, over roles that are asked for their health (what verify registers), then for what is due, then upgraded.

    A role that isn't among the components is one by itself.
    """
    made = Platform(
        directory,
        "rolling_upgrade",
        groups,
        {"upgrade_info": UPGRADE_INFO, "package_upgrade": PACKAGE_UPGRADE},
        parts=("plugins/filter", "plugins/module_utils"),
    )
    for role, said in health.items():
        look = {"role": role, "host": "{{ inventory_hostname }}", "component": components.get(role, role)}
        tasks = {
            "verify": made.verify(said),
            "upgrade_plan": [
                {"name": "Look", "sutazai.platform.upgrade_info": look, "register": f"__{role}_upgrade"},
            ],
            "upgrade": [
                {"name": "Fail", "ansible.builtin.fail": {}, "when": "inventory_hostname in lost | default([])"},
                made.note(f"{(noted_as or {}).get(role, role)} {{{{ inventory_hostname }}}}"),
            ],
        }
        for name, content in tasks.items():
            made.write(f"roles/{role}/tasks/{name}.yml", content)
    return made
