# Apache License 2.0 (see LICENSE)
"""A Swarm service: its specification, how it differs from what is there, and how far its update is. Pure.

What is compared is what is set here. The engine adds fields of its own to what it tells, newer engines other ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NANO = 1_000_000_000
SECOND = 1_000_000_000
#: Says whose a secret or config is: those that a service has no use for any more are removed.
OWNER = "sutazai.owner"
#: Says with which login nodes get a service's image.
LOGIN = "sutazai.registry-login"
KEEP = -1
#: Times and sizes that Swarm takes for "not set".
UNSET = (None, 0, "", False)

UPDATING = frozenset({"updating", "rollback_started"})
FAILED = frozenset({"paused", "rollback_paused", "rollback_completed"})
#: What is desired of a task that runs, or that will when its predecessor's restart delay is over.
COMING = frozenset({"running", "ready"})


def digest(content: bytes, name: str, salt: str = "") -> str:
    """Part of the names of secrets and configs, so that another content is another one, which services are updated to.

    Names are seen by everyone who may use the engine: with a salt, the content can't be looked up or guessed at speed.
    """
    if not salt:
        return hashlib.sha256(content).hexdigest()[:12]
    return hashlib.scrypt(content, salt=f"{salt}/{name}".encode(), n=2**14, r=8, p=1, dklen=6).hex()


def file_name(service: str, name: str, content: bytes, salt: str = "") -> str:
    return f"{service}-{name}-{digest(content, f'{service}-{name}', salt)}"


def policy(given: Mapping[str, Any]) -> dict[str, Any]:
    """How an update, or a rollback, goes."""
    return {
        "Parallelism": given["parallelism"],
        "Delay": int(given["delay_seconds"] * SECOND),
        "FailureAction": given["failure_action"],
        "Monitor": int(given["monitor_seconds"] * SECOND),
        "MaxFailureRatio": given["max_failure_ratio"],
        "Order": given["order"],
    }


def nano_cpus(number: float) -> int:
    return round(number * NANO)


def resources(given: Mapping[str, Any]) -> dict[str, int]:
    return {"NanoCPUs": nano_cpus(given["cpus"]), "MemoryBytes": given["memory_bytes"]}


def _reference(kind: str, each: Mapping[str, Any], names: Mapping[str, str], ids: Mapping[str, str]) -> dict[str, Any]:
    file = {"Name": each["target"], "UID": str(each["uid"]), "GID": str(each["gid"]), "Mode": int(each["mode"], 8)}
    name = names[each["name"]]
    return {"File": file, f"{kind}ID": ids.get(name, ""), f"{kind}Name": name}


def _healthcheck(given: Mapping[str, Any]) -> dict[str, Any] | None:
    if not given["test"]:
        return None
    return {
        "Test": list(given["test"]),
        "Interval": int(given["interval_seconds"] * SECOND),
        "Timeout": int(given["timeout_seconds"] * SECOND),
        "Retries": given["retries"],
        "StartPeriod": int(given["start_period_seconds"] * SECOND),
    }


def specification(
    given: Mapping[str, Any], replicas: int, names: Mapping[str, str], ids: Mapping[str, str]
) -> dict[str, Any]:
    """What the engine is told. `names` has the whole names of secrets and configs, `ids` the engine's for these."""
    restart = given["restart_policy"]
    container = {
        "Image": given["image"],
        "Labels": dict(given["container_labels"]),
        "Command": list(given["command"]),
        "Args": list(given["args"]),
        "Env": [f"{name}={value}" for name, value in sorted(given["environment"].items())],
        "User": given["user"],
        "ReadOnly": given["read_only"],
        "CapabilityDrop": list(given["drop_capabilities"]),
        "Init": given["init"],
        "Hosts": list(given["extra_hosts"]),
        "DNSConfig": {"Nameservers": list(given["dns_servers"])},
        "StopGracePeriod": int(given["stop_grace_seconds"] * SECOND),
        "Healthcheck": _healthcheck(given["healthcheck"]),
        "Mounts": [{"Type": "tmpfs", "Target": path} for path in given["tmpfs"]],
        "Secrets": [_reference("Secret", each, names, ids) for each in given["secrets"]],
        "Configs": [_reference("Config", each, names, ids) for each in given["configs"]],
    }
    return {
        "Name": given["name"],
        "Labels": dict(given["labels"]),
        "TaskTemplate": {
            "ContainerSpec": container,
            "Resources": {"Limits": resources(given["limits"]), "Reservations": resources(given["reservations"])},
            "RestartPolicy": {
                "Condition": restart["condition"],
                "Delay": int(restart["delay_seconds"] * SECOND),
                "MaxAttempts": restart["max_attempts"],
                "Window": int(restart["window_seconds"] * SECOND),
            },
            "Placement": {"Constraints": list(given["constraints"]), "MaxReplicas": given["max_replicas_per_node"]},
        },
        "Mode": {"Replicated": {"Replicas": replicas}},
        "UpdateConfig": policy(given["update"]),
        "RollbackConfig": policy(given["rollback"]),
        "EndpointSpec": {
            "Mode": given["endpoint_mode"],
            "Ports": [
                {
                    "Protocol": port["protocol"],
                    "TargetPort": port["target"],
                    "PublishedPort": port["published"],
                    "PublishMode": port["mode"],
                }
                for port in given["ports"]
            ],
        },
    }


def needing_ipvs(given: Mapping[str, Any]) -> list[str]:
    """What only the kernel's IPVS can do. The engine would take the service without a word, and nobody could reach it."""
    needing = ["endpoint_mode (vip)"] if given["endpoint_mode"] == "vip" else []
    return needing + [
        f"the mode of port {port['target']} (ingress)" for port in given["ports"] if port["mode"] == "ingress"
    ]


def replicas_of(spec: Mapping[str, Any]) -> int:
    return int(((spec.get("Mode") or {}).get("Replicated") or {}).get("Replicas") or 0)


def settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a service runs with, in the units and by the names that `specification` takes. The engine leaves out what is its own default."""
    template = spec.get("TaskTemplate") or {}
    container, placement = template.get("ContainerSpec") or {}, template.get("Placement") or {}
    restart = template.get("RestartPolicy") or {}

    def amounts(kind: str) -> dict[str, Any]:
        given = (template.get("Resources") or {}).get(kind) or {}
        return {"cpus": given.get("NanoCPUs", 0) / NANO, "memory_bytes": given.get("MemoryBytes", 0)}

    def rollout(kind: str) -> dict[str, Any]:
        given = spec.get(kind) or {}
        return {
            "parallelism": given.get("Parallelism", 0),
            "delay_seconds": given.get("Delay", 0) / SECOND,
            "failure_action": given.get("FailureAction", ""),
            "monitor_seconds": given.get("Monitor", 0) / SECOND,
            "order": given.get("Order", ""),
        }

    return {
        "replicas": replicas_of(spec),
        "constraints": list(placement.get("Constraints") or []),
        "max_replicas_per_node": placement.get("MaxReplicas", 0),
        "limits": amounts("Limits"),
        "reservations": amounts("Reservations"),
        "stop_grace_seconds": container.get("StopGracePeriod", 0) / SECOND,
        "restart_policy": {
            "condition": restart.get("Condition", ""),
            "delay_seconds": restart.get("Delay", 0) / SECOND,
            "max_attempts": restart.get("MaxAttempts", 0),
            "window_seconds": restart.get("Window", 0) / SECOND,
        },
        "update": rollout("UpdateConfig"),
        "rollback": rollout("RollbackConfig"),
    }


def wanted_replicas(replicas: int, initial: int, present: Mapping[str, Any] | None) -> int:
    """KEEP leaves the number of a service that is there to whoever sets it, the autoscaler."""
    if replicas != KEEP:
        return replicas
    return replicas_of(present) if present else initial


def differences(wanted: Any, present: Any, path: str = "") -> list[str]:
    """The paths of what isn't as wanted. What isn't named here is the engine's; an empty value is the same as none."""
    if isinstance(wanted, Mapping):
        there = present if isinstance(present, Mapping) else {}
        found = [
            line for key in wanted for line in differences(wanted[key], there.get(key), f"{path}.{key}".lstrip("."))
        ]
        # Labels and the like, where what is there too much counts.
        if path.endswith("Labels"):
            found += [f"{path}.{key}" for key in there if key not in wanted]
        return found
    if isinstance(wanted, list):
        there = present if isinstance(present, list) else []
        if len(wanted) != len(there):
            return [path]
        return [line for one, other in zip(wanted, there, strict=True) for line in differences(one, other, path)]
    if path.endswith(("SecretID", "ConfigID")):
        return []  # the name holds the content's hash; in check mode there is no id yet
    return [] if wanted == present or (wanted in UNSET and present in UNSET) else [path]


def sorted_lists(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Lists whose order means nothing, in one order: some engines tell them in another one than they were told."""

    def in_order(value: Any, key: str = "") -> Any:
        if isinstance(value, Mapping):
            return {name: in_order(each, name) for name, each in value.items()}
        if isinstance(value, list) and key in (
            "Env",
            "Secrets",
            "Configs",
            "Ports",
            "Mounts",
            "CapabilityDrop",
            "Constraints",
        ):
            return sorted((in_order(each) for each in value), key=_order)
        return value

    result: dict[str, Any] = in_order(spec)
    return result


def _order(value: Any) -> str:
    if not isinstance(value, Mapping):
        return str(value)
    return str(value.get("SecretName") or value.get("ConfigName") or value.get("TargetPort") or value.get("Target"))


def changes(wanted: Mapping[str, Any], present: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(differences(sorted_lists(wanted), sorted_lists(present))))


def excerpt(spec: Mapping[str, Any], paths: Iterable[str]) -> dict[str, Any]:
    """The values at some paths, for a diff."""
    found = {}
    for path in paths:
        value: Any = spec
        for part in path.split("."):
            if not isinstance(value, Mapping):
                break
            # A label's name has dots of its own.
            if part not in value and path.split(part, 1)[0].endswith("Labels."):
                value = value.get(path.split("Labels.", 1)[1])
                break
            value = value.get(part)
        found[path] = value
    return found


@dataclass(frozen=True)
class Progress:
    """How far a service is."""

    state: str  # waiting, done, failed, stuck
    running: int
    wanted: int
    message: str = ""


def progress(service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], updated: bool) -> Progress:
    """Done when as many tasks as wanted run as specified, and no update is under way any more.

    Stuck when there are fewer tasks that run or are about to than wanted: for a moment after a change, and for good once those that failed were
    started as often as the restart policy allows.

    That an update was rolled back once is only a failure for who made it; what is there then may be what is wanted now.
    """
    spec, status = service["Spec"], service.get("UpdateStatus") or {}
    wanted = replicas_of(spec)
    state = status.get("State") or ""
    template = _essential(spec["TaskTemplate"])
    running = sum(
        1
        for task in tasks
        if task.get("DesiredState") == "running"
        and (task.get("Status") or {}).get("State") == "running"
        and _essential(task.get("Spec") or {}) == template
    )
    if state in FAILED and (updated or state != "rollback_completed"):
        return Progress("failed", running, wanted, status.get("Message") or state)
    if state not in UPDATING and sum(1 for task in tasks if task.get("DesiredState") in COMING) < wanted:
        return Progress("stuck", running, wanted)
    if state in UPDATING or running != wanted:
        return Progress("waiting", running, wanted, status.get("Message") or "")
    return Progress("done", running, wanted)


def _essential(template: Mapping[str, Any]) -> dict[str, Any]:
    # Another placement leaves tasks alone that are still well placed; they keep what they were made from. And the engine tells what runs
    # them, containers, of services only.
    return {key: value for key, value in template.items() if key not in ("Placement", "ForceUpdate", "Runtime")}


def complaints(tasks: Iterable[Mapping[str, Any]], hostnames: Mapping[str, str], number: int = 5) -> list[str]:
    """What the latest tasks that didn't come to run say of it, each reason once."""
    found: dict[str, None] = {}
    for task in sorted(tasks, key=lambda task: (task.get("Status") or {}).get("Timestamp") or "", reverse=True):
        status = task.get("Status") or {}
        said = status.get("Err") or (status.get("Message") if status.get("State") == "pending" else "")
        if not said:
            continue
        where = hostnames.get(task.get("NodeID") or "", "no node")
        code = (status.get("ContainerStatus") or {}).get("ExitCode") or 0
        found[f"{where}: {said}" + (f" (exit code {code})" if code and str(code) not in said else "")] = None
    return list(found)[:number]


def unused(files: Iterable[Mapping[str, Any]], owner: str, specs: Iterable[Mapping[str, Any] | None]) -> list[str]:
    """Ids of the service's secrets (or configs) that neither it nor what it would be rolled back to needs."""
    needed = set()
    for spec in specs:
        container = ((spec or {}).get("TaskTemplate") or {}).get("ContainerSpec") or {}
        for kind in ("Secret", "Config"):
            needed |= {each[f"{kind}ID"] for each in container.get(f"{kind}s") or ()}
    return sorted(
        each["ID"]
        for each in files
        if (each["Spec"].get("Labels") or {}).get(OWNER) == owner and each["ID"] not in needed
    )


def same_template(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two tasks, or a task and a service, are made from the same."""
    return _essential(one) == _essential(other)


def outcome(service: Mapping[str, Any]) -> str:
    state = (service.get("UpdateStatus") or {}).get("State") or ""
    return {"paused": "paused it", "rollback_completed": "rolled it back", "rollback_paused": "couldn't roll it back"}[
        state
    ]
