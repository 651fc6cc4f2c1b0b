"""The lab's hosts, read from the same inventory file that Ansible reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lab.errors import LabError

DEFAULT_MEMORY_MB = 2048
RESERVED_INDEXES = {0: "the network itself", 1: "the machine", 2: "the mirror"}


@dataclass(frozen=True)
class Host:
    name: str
    index: int
    groups: tuple[str, ...] = field(default=())
    release: str = ""  # empty: the lab's default
    memory_mb: int = DEFAULT_MEMORY_MB  # what it may use, not what is set aside for it


def load(*paths: Path) -> list[Host]:
    """The hosts of all these files, as Ansible sees them with one --inventory for each."""
    for path in paths:
        if not path.is_file():
            raise LabError(
                f"The inventory {path} isn't there.", "LAB_MORE_HOSTS names a file, from the checkout's root."
            )
    return parse(
        *(yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths), source=" or ".join(map(str, paths))
    )


def parse(*inventories: Mapping[str, Any], source: str = "the inventory") -> list[Host]:
    """Every host below `all` with its address index and the groups it is in (parents included)."""
    variables: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[str]] = {}

    def walk(name: str, group: Mapping[str, Any] | None, above: tuple[str, ...]) -> None:
        group = group or {}
        path = above if name == "all" else (*above, name)
        for host, host_vars in (group.get("hosts") or {}).items():
            variables.setdefault(host, {}).update(host_vars or {})
            known = groups.setdefault(host, [])
            known.extend(group_name for group_name in path if group_name not in known)
        for child, content in (group.get("children") or {}).items():
            walk(child, content, path)

    for inventory in inventories:
        for top, content in inventory.items():
            walk(top, content, ())

    hosts = []
    taken: dict[int, str] = {}
    for name, host_vars in variables.items():
        index = host_vars.get("lab_address_index")
        if not isinstance(index, int):
            raise LabError(f"Host {name} has no lab_address_index in {source}.", "Give it a free number from 3 to 254.")
        if index in RESERVED_INDEXES or not 0 < index < 255:
            why = RESERVED_INDEXES.get(index, "outside 3..254")
            raise LabError(f"Host {name} has lab_address_index {index} ({why}) in {source}.", "Use 3 to 254.")
        if index in taken:
            raise LabError(
                f"Hosts {taken[index]} and {name} have the same lab_address_index {index} in {source}.",
                "Give one of them a free number.",
            )
        taken[index] = name
        memory = host_vars.get("lab_memory_mb", DEFAULT_MEMORY_MB)
        if not isinstance(memory, int) or memory < 256:
            raise LabError(f"Host {name} has lab_memory_mb {memory!r} in {source}.", "Use a number from 256.")
        hosts.append(Host(name, index, tuple(groups[name]), str(host_vars.get("lab_release", "")), memory))
    if not hosts:
        raise LabError(f"There are no hosts in {source}.", "Add some below a group, with lab_address_index.")
    return hosts


def select(hosts: list[Host], wanted: Iterable[str]) -> list[Host]:
    """The hosts named, or those in the groups named; all when nothing is named."""
    names = list(wanted)
    if not names:
        return hosts
    known = {host.name for host in hosts} | {group for host in hosts for group in host.groups}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise LabError(
            f"HOSTS names what the inventory doesn't have: {', '.join(unknown)}.",
            f"Use hosts or groups of it: {', '.join(sorted(known))}.",
        )
    return [host for host in hosts if host.name in names or set(host.groups) & set(names)]
