# Apache License 2.0 (see LICENSE)
"""What a rolling upgrade would do on all hosts, and why it may not. Pure, on the controller: what upgrade_info found in, answers out."""

from __future__ import annotations

from typing import Any

from .preflight.model import Problem, merged, message
from .upgrade_paths import step, version_tuple

BACK = "Nothing is taken back by a rolling upgrade: see «apt-cache policy» there, a preference above 1000 asks for it."
Found = dict[str, Any]
Plans = dict[str, list[Found]]


def entries(plans: Plans) -> list[tuple[str, Found]]:
    return [(host, found) for host, of_host in plans.items() for found in of_host]


def steps(plans: Plans) -> list[Problem]:
    """Steps that aren't allowed."""
    problems = []
    for host, found in entries(plans):
        for change in found["changes"]:
            remedy = step(change["name"], change["from"], change["to"])
            if not remedy and change.get("older"):
                remedy = BACK
            if remedy:
                problems.append(
                    Problem(
                        f"{change['name']} {change['from']} can't be upgraded to {change['to']}.",
                        where(found),
                        remedy,
                        (host,),
                    )
                )
    return problems


def where(found: Found) -> str:
    if found["component"] == "consul":
        return "variable consul_version"
    return "what apt would install (apt's sources and preferences)"


def removals(plans: Plans) -> list[Problem]:
    return [
        Problem(
            f"The upgrade of {', '.join(change['name'] for change in found['changes'])} would remove "
            f"{', '.join(found['removed'])}.",
            where(found),
            "Packages are only replaced here: see what «apt-get --simulate install» says there, and settle it by hand.",
            (host,),
        )
        for host, found in entries(plans)
        if found["removed"]
    ]


def differences(plans: Plans) -> list[Problem]:
    """The same package would become different versions, because hosts see different mirrors."""
    targets: dict[tuple[str, str], dict[str, list[str]]] = {}
    for host, found in entries(plans):
        for change in found["changes"]:
            targets.setdefault((change["name"], change["from"]), {}).setdefault(change["to"], []).append(host)
    return [
        Problem(
            f"{name} {before} would become {' and '.join(to + ' on ' + ', '.join(on) for to, on in found.items())}.",
            "apt's sources on these hosts",
            "Let all of them use the same mirror (platform_package_proxy), and run again when it has settled.",
        )
        for (name, before), found in targets.items()
        if len(found) > 1
    ]


def feature_flags(plans: Plans) -> list[Problem]:
    """RabbitMQ's next series doesn't start where a flag of this one is disabled."""
    problems = []
    for host, found in entries(plans):
        disabled = found.get("disabled_feature_flags") or []
        if disabled and version_tuple(found["wanted"])[:2] != version_tuple(found["installed"])[:2]:
            problems.append(
                Problem(
                    f"RabbitMQ {found['wanted']} needs feature flags that are disabled: {', '.join(disabled)}.",
                    "the running cluster",
                    "Run «rabbitmqctl enable_feature_flag all» on one of its nodes, then run again.",
                    (host,),
                )
            )
    return problems


RULES = (steps, removals, differences, feature_flags)


def problems(plans: Plans) -> str:
    """All that forbids the upgrade, in one message; empty when nothing does."""
    found = merged([problem for rule in RULES for problem in rule(plans)])
    return message(found, "The upgrade was refused", len(plans)) if found else ""


def lines(plans: Plans) -> list[str]:
    """What would be done, a line per host and daemon that something is due on."""
    return [f"{host}: {sentence(found)}" for host, found in entries(plans) if found["due"]] or ["Nothing is due."]


def sentence(found: Found) -> str:
    parts = [f"{change['name']} {change['from']} -> {change['to']}" for change in found["changes"]]
    parts += [f"with {change['name']} {change['from'] or '(new)'} -> {change['to']}" for change in found["also"]]
    if found["restart_due"] and not found["changes"]:
        before = found["running"] or "what was there before"
        parts.append(f"{found['unit']} runs {before}, {found['installed']} is installed: only restarted")
    if not found["active"]:
        parts.append(f"{found['unit']} doesn't run and is started first")
    if found["held"]:
        parts.append(f"on hold, stays: {', '.join(found['held'])}")
    return ", ".join(parts)


def outcome(before: Plans, after: Plans) -> dict[str, list[str]]:
    """What was done, a line each, and what is still due."""
    due = {(host, found["component"], found["unit"]) for host, found in entries(after) if found["due"]}
    done, left = [], []
    for host, found in entries(before):
        if found["due"]:
            still = (host, found["component"], found["unit"]) in due
            (left if still else done).append(f"{host}: {sentence(found)}")
    return {"done": done, "left": left}
