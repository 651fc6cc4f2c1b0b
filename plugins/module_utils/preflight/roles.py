"""Reads what the roles in the checkout say about themselves."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from .model import RoleSpec


def read_roles(directory: str, load: Callable[[str], Any]) -> tuple[dict[str, RoleSpec], frozenset[str]]:
    """Specs of all roles, and every `platform_*` name that they mention. `load` reads a YAML file so that its values can be templated."""
    roles: dict[str, RoleSpec] = {}
    names: set[str] = set()
    for role in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        path = os.path.join(directory, role)
        spec_file = os.path.join(path, "meta", "argument_specs.yml")
        if not os.path.isdir(os.path.join(path, "tasks")):
            continue
        defaults = _mapping(load, os.path.join(path, "defaults", "main.yml"))
        spec = RoleSpec(role, defaults=defaults, variables=_mapping(load, os.path.join(path, "vars", "main.yml")))
        if os.path.exists(spec_file):
            points = (_mapping(load, spec_file).get("argument_specs") or {}).values()
            spec.options = {
                str(k): v
                for k, v in (
                    (_mapping(load, spec_file)["argument_specs"].get("main") or {}).get("options") or {}
                ).items()
            }
            spec.names = frozenset(
                {str(name) for point in points for name in (point or {}).get("options") or {}}
                | {str(name) for name in defaults}
            )
            if not any((point or {}).get("options") for point in points):
                spec.names = frozenset()  # a spec without options says nothing about its variables
        roles[role] = spec
        for part in ("defaults", "meta", "vars", "tasks", "templates"):
            for root, _folders, files in os.walk(os.path.join(path, part)):
                for file in files:
                    names |= _platform_names(os.path.join(root, file))
    return roles, frozenset(names)


def _mapping(load: Callable[[str], Any], path: str) -> dict:
    if not os.path.exists(path):
        return {}
    content = load(path)
    return content if isinstance(content, dict) else {}


def _platform_names(path: str) -> set[str]:
    try:
        with open(path, encoding="utf-8") as handle:
            return set(re.findall(r"\bplatform_[a-z0-9_]+\b", handle.read()))
    except (OSError, UnicodeDecodeError):
        return set()
