# Apache License 2.0 (see LICENSE)
"""The rows of playbooks/status.yml from what hosts say of themselves. Pure.

Of a cluster one host that answers speaks for all. Where hosts know nothing of each other, each is asked, and each counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Groups = Mapping[str, Sequence[str]]
Heard = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Component:
    name: str
    groups: tuple[str, ...]  # the component is there where the first of them is
    everyone: bool = False


COMPONENTS = (
    Component("consul", ("consul_servers",)),
    Component("rabbitmq", ("rabbitmq",)),
    Component("redis", ("redis",)),
    Component("postgresql", ("postgresql",)),
    Component("load_balancers", ("load_balancers",), everyone=True),
    Component("virtual_address", ("load_balancers",)),
    Component("gateways", ("gateways",), everyone=True),
    Component("swarm", ("swarm_managers", "agents")),
    Component("workers", ("agents",), everyone=True),
    Component("autoscaler", ("swarm_managers", "agents"), everyone=True),
)


def members(component: Component, groups: Groups, prefix: str = "") -> list[str]:
    return list(dict.fromkeys(host for group in component.groups for host in groups.get(prefix + group, [])))


def versions(info: Mapping[str, Any]) -> list[str]:
    found = info.get("versions", [])
    return sorted(set(found.values() if isinstance(found, Mapping) else found))


def backups(component: Component, up: Sequence[str], heard: Heard) -> tuple[dict[str, int], list[str]]:
    """How old each host's backup is. An old one is a problem, but the cluster serves: it doesn't make it unhealthy."""
    ages, problems = {}, []
    for host in up:
        found = heard.get(host, {}).get("backups", {}).get(component.name)
        if found:
            ages[host] = found["age_seconds"]
            problems += [f"{host}: {problem}" for problem in found["problems"]]
    return ages, problems


def cluster(up: Sequence[str], said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One host that answers has been asked; its refusal is the answer."""
    speaker = next((host for host in up if host in said), "")
    answer = said.get(speaker, {})
    info = answer.get("info", {})
    refusal = answer.get("refusal") or ("" if speaker else "it gave no answer" if up else "no host answers")
    return {
        "healthy": bool(info.get("healthy")) and not refusal,
        "leaders": list(info.get("masters") or [leader for leader in [info.get("leader")] if leader]),
        "problems": list(info.get("problems") or []) or [refusal][: bool(refusal)],
        "versions": versions(info),
        "details": {speaker: answer["detail"]} if answer.get("detail") else {},
    }


def each(hosts: Sequence[str], up: Sequence[str], said: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Every host has been asked. One that doesn't answer is missing, also if the others do all the work meanwhile."""
    problems = []
    for host in hosts:
        if host not in up:
            problems.append(f"{host} can't be reached")
        elif host not in said:
            problems.append(f"{host} gave no answer")
        elif said[host].get("refusal"):
            problems.append(f"{host}: {said[host]['refusal']}")
    return {
        "healthy": not problems,
        "leaders": [host for host in hosts if said.get(host, {}).get("leader")],
        "problems": problems,
        "versions": [],
        "details": {host: said[host]["detail"] for host in hosts if said.get(host, {}).get("detail")},
    }


def report(heard: Heard, groups: Groups) -> dict[str, dict[str, Any]]:
    """A row for each component that the inventory has: `heard` is what each host said, by component, and its backups' age."""
    rows = {}
    for component in COMPONENTS:
        hosts = members(component, groups)
        if not groups.get(component.groups[0]):
            continue
        answering = set(members(component, groups, "status_up_"))
        up = [host for host in hosts if host in answering]
        said = {host: heard[host]["said"][component.name] for host in up if component.name in heard[host]["said"]}
        ages, old = backups(component, up, heard)
        row = each(hosts, up, said) if component.everyone else cluster(up, said)
        rows[component.name] = {"hosts": hosts, "up": up, **row, "backup_age_seconds": ages}
        rows[component.name]["problems"] += old
    return rows
