"""A role's variables and templates, rendered as Ansible does it from the defaults and an inventory's variables."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = pathlib.Path(__file__).resolve().parents[3] / "roles"


class Role:
    def __init__(self, name: str, inventory: dict[str, Any], **variables: object) -> None:
        self.directory, self.loader = ROLES / name, DataLoader()
        self.loader.set_basedir(str(self.directory))  # where lookups find the role's templates and files by name
        read = {}
        for part in ("defaults", "vars"):
            read |= self.loader.load_from_file(str(self.directory / part / "main.yml"), trusted_as_template=True)
        self.variables = {**read, "ansible_managed": "Ansible managed", **inventory, **variables}
        self.variables["ansible_search_path"] = [str(self.directory)]
        self.templar = Templar(self.loader, self.variables)

    def value(self, name: str) -> Any:
        return self.templar.template(self.variables[name])

    def expression(self, text: str) -> Any:
        return self.templar.template(trust_as_template(text))

    def checks(self) -> list:
        """What tasks/preflight.yml asserts."""
        tasks = self.loader.load_from_file(str(self.directory / "tasks/preflight.yml"), trusted_as_template=True)
        return [check for task in tasks for check in task["ansible.builtin.assert"]["that"]]

    def passes(self) -> bool:
        return all(self.templar.evaluate_conditional(check) for check in self.checks())


def by_path(files: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {entry["path"]: entry for entry in files}


def complaints(directory: pathlib.Path, units: dict[str, str], verified: list[str]) -> str:
    """What systemd says about units. Programs that aren't on this machine are replaced by one that is."""
    for name, text in units.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("/opt/sutazai-runtime/current/bin/", "/usr/bin/env "))
    command = [
        str(shutil.which("systemd-analyze")),
        "verify",
        "--man=no",
        *(str(directory / name) for name in verified),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory)
    return done.stdout + done.stderr
