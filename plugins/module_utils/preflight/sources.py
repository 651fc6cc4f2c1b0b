"""Reads inventory files as they are written, because Ansible merges hosts of the same name and keeps the last address."""

from __future__ import annotations

import os
import re
import shlex

from .model import Entry

try:
    import yaml

    LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
except ImportError:  # only the controller reads inventories, and it has PyYAML
    yaml = None
    LOADER = None

IGNORED = re.compile(
    r"(^\.|~$|\.(orig|bak|cfg|retry|pyc|pyo|md|txt|j2|key|pem|crt)$|^(group_vars|host_vars|__pycache__)$|^vars_plugins$)"
)


def inventory_files(sources: list[str]) -> list[str]:
    """Files of the sources that an inventory plugin reads (not group_vars, not scripts)."""
    files: list[str] = []
    for source in sources:
        if "," in source or not os.path.exists(source):
            continue
        if os.path.isdir(source):
            names = [name for name in sorted(os.listdir(source)) if not IGNORED.search(name)]
            files += inventory_files([os.path.join(source, name) for name in names])
        elif not os.access(source, os.X_OK) or source.endswith((".yml", ".yaml", ".ini", ".json")):
            files.append(source)
    return files


def read(files: list[str], shown: dict[str, str] | None = None) -> tuple[list[Entry], list[Entry]]:
    """Hosts and groups of all files, in order, with file and line. Best effort: what can't be read is left to Ansible."""
    hosts: list[Entry] = []
    groups: list[Entry] = []
    for file in files:
        name = (shown or {}).get(file, file)
        try:
            with open(file, encoding="utf-8") as handle:
                text = handle.read()
        except (OSError, UnicodeDecodeError):
            continue
        if file.endswith((".yml", ".yaml", ".json")):
            read_yaml(text, name, hosts, groups)
        else:
            read_ini(text, name, hosts, groups)
    return hosts, groups


def read_yaml(text: str, file: str, hosts: list[Entry], groups: list[Entry]) -> None:
    try:
        root = yaml.compose(text, Loader=LOADER)
    except yaml.YAMLError:
        return
    if not isinstance(root, yaml.MappingNode) or any(key.value == "plugin" for key, _value in root.value):
        return
    for key, node in root.value:
        _walk_group(key, node, file, hosts, groups)


def _pairs(node) -> list:
    return node.value if isinstance(node, yaml.MappingNode) else []


def _walk_group(key, node, file: str, hosts: list[Entry], groups: list[Entry]) -> None:
    groups.append(Entry(key.value, file, key.start_mark.line + 1))
    for part, content in _pairs(node):
        if part.value == "hosts":
            for name, variables in _pairs(content):
                scalars = {k.value: v.value for k, v in _pairs(variables) if isinstance(v, yaml.ScalarNode)}
                hosts.append(Entry(name.value, file, name.start_mark.line + 1, key.value, scalars))
        elif part.value == "children":
            for name, child in _pairs(content):
                _walk_group(name, child, file, hosts, groups)


def read_ini(text: str, file: str, hosts: list[Entry], groups: list[Entry]) -> None:
    group, kind = "ungrouped", "hosts"
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        section = re.match(r"^\[([^:\]\s]+)(?::(\w+))?\]", line)
        if section:
            group, kind = section.group(1), section.group(2) or "hosts"
            if kind != "vars":
                groups.append(Entry(group, file, number))
        elif kind == "children":
            groups.append(Entry(line.split()[0], file, number))
        elif kind == "hosts":
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue
            hosts.append(
                Entry(words[0], file, number, group, dict(word.split("=", 1) for word in words[1:] if "=" in word))
            )
