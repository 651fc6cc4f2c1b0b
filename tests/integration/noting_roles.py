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
