"""What the checks look at: files in git or about to be, roles, tasks."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
ROLES = CHECKOUT / "roles"


class Loader(yaml.SafeLoader):
    """Knows Ansible's own tags."""


Loader.add_constructor("!vault", lambda loader, node: loader.construct_scalar(node))
Loader.add_constructor("!unsafe", lambda loader, node: loader.construct_scalar(node))


@functools.cache
def load_yaml(path: Path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 a safe loader with two more tags


@functools.cache
def roles() -> tuple[str, ...]:
    return tuple(sorted(path.parent.parent.name for path in ROLES.glob("*/meta/argument_specs.yml")))


@functools.cache
def tracked() -> tuple[str, ...]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.splitlines()
    return tuple(name for name in names if (CHECKOUT / name).is_file())


def text_of(name: str) -> str:
    try:
        return (CHECKOUT / name).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def ansible_files() -> tuple[str, ...]:
    """Tasks, playbooks and handlers."""
    return tuple(
        name
        for name in tracked()
        if name.endswith(".yml")
        and (name == "site.yml" or name.startswith("playbooks/") or (name.startswith("roles/") and "/tasks/" in name))
    )
