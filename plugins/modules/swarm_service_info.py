#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ask a Docker Swarm how a service is, and whether it has room for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_service_info
short_description: Ask a Docker Swarm how a service is, and whether it has room for it
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Runs on one manager and changes nothing.
  - With O(demand), says why the service couldn't be as described. The scheduler itself would only let its tasks wait.
options:
  socket:
    description: The engine's socket.
    type: path
    default: /run/docker.sock
  name:
    description: The service.
    type: str
    required: true
  demand:
    description: What the service is to be.
    type: dict
    suboptions:
      replicas:
        description: How many tasks. V(-1) is as many as the service has, O(demand.initial_replicas) if there is none.
        type: int
        required: true
      initial_replicas:
        description: With O(demand.replicas=-1), how many tasks a new service has.
        type: int
        default: 1
      maximum_replicas:
        description: The most that there may ever be; 0 is no maximum.
        type: int
        default: 0
      constraints:
        description: Which nodes it may be on.
        type: list
        elements: str
        default: []
      max_replicas_per_node:
        description: How many tasks a node may have; 0 is any number.
        type: int
        default: 0
      reservation_cpus:
        description: Processors that a node must have free for a task.
        type: float
        default: 0
      reservation_memory_bytes:
        description: Memory that a node must have free for a task.
        type: int
        default: 0
      limit_cpus:
        description: Processors that a task may use; 0 is any number.
        type: float
        default: 0
      limit_memory_bytes:
        description: Memory that a task may use; 0 is any.
        type: int
        default: 0
      update_parallelism:
        description: How many tasks an update starts before it stops others; 0 if it stops them first.
        type: int
        default: 0
  variable_prefix:
    description: What the demand's values are called in the inventory begins with this, for messages.
    type: str
    default: ""
  wait_seconds:
    description: How long to wait until all tasks run. Not with O(demand).
    type: int
    default: 0
attributes:
  check_mode: {support: full, description: It only asks. A host that has no engine or Swarm yet has no service and no problem.}
"""

EXAMPLES = r"""
- name: Ask whether the Swarm has room for the agents
  sutazai.platform.swarm_service_info:
    name: ai-agent
    demand: {replicas: 10, constraints: [node.role == worker], reservation_cpus: 1, reservation_memory_bytes: 2147483648}
    variable_prefix: agent_
"""

RETURN = r"""
exists:
  description: Whether there is such a service.
  returned: always
  type: bool
image:
  description: Its image.
  returned: when it exists
  type: str
replicas:
  description: How many tasks it is to have.
  returned: when it exists
  type: int
running:
  description: How many of its tasks run as specified.
  returned: when it exists
  type: int
settings:
  description: >-
    What it runs with, by the names and in the units of M(sutazai.platform.swarm_service) - C(replicas), C(constraints), C(max_replicas_per_node),
    C(limits), C(reservations), C(stop_grace_seconds), C(restart_policy), C(update), C(rollback).
  returned: when it exists
  type: dict
update_state:
  description: What the engine says of its last update; empty if there was none.
  returned: when it exists
  type: str
problems:
  description: What isn't as it should be. With O(demand), why it couldn't be; otherwise why not all of its tasks run.
  returned: always
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_plan as plan
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_service as model
from ansible_collections.sutazai.platform.plugins.module_utils.docker_engine import (
    CONNECTION_ARGUMENTS,
    Engine,
    EngineRefused,
    EngineUnreachable,
    find_service,
    no_swarm_yet,
    tasks_of,
)

DEMAND = {
    "replicas": {"type": "int", "required": True},
    "initial_replicas": {"type": "int", "default": 1},
    "maximum_replicas": {"type": "int", "default": 0},
    "constraints": {"type": "list", "elements": "str", "default": []},
    "max_replicas_per_node": {"type": "int", "default": 0},
    "reservation_cpus": {"type": "float", "default": 0},
    "reservation_memory_bytes": {"type": "int", "default": 0},
    "limit_cpus": {"type": "float", "default": 0},
    "limit_memory_bytes": {"type": "int", "default": 0},
    "update_parallelism": {"type": "int", "default": 0},
}


def demand_of(given: dict[str, Any], present: dict[str, Any] | None) -> plan.Demand:
    return plan.Demand(
        replicas=model.wanted_replicas(given["replicas"], given["initial_replicas"], present and present["Spec"]),
        reservation=plan.Resources(model.nano_cpus(given["reservation_cpus"]), given["reservation_memory_bytes"]),
        limit=plan.Resources(model.nano_cpus(given["limit_cpus"]), given["limit_memory_bytes"]),
        constraints=tuple(given["constraints"]),
        max_per_node=given["max_replicas_per_node"],
        maximum=given["maximum_replicas"],
        extra=given["update_parallelism"],
    )


def state_of(engine: Engine, present: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    tasks = tasks_of(engine, present["ID"])
    now = model.progress(present, tasks, updated=False)
    found = {
        "image": present["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"],
        "replicas": now.wanted,
        "running": now.running,
        "settings": model.settings(present["Spec"]),
        "update_state": (present.get("UpdateStatus") or {}).get("State") or "",
    }
    if now.state == "done":
        return found, []
    hostnames = {node["ID"]: node["Description"]["Hostname"] for node in engine.get("/nodes")}
    name = present["Spec"]["Name"]
    what = f"{now.running} of {now.wanted} tasks of {name} run as specified" + (
        f" ({now.message})" if now.message else ""
    )
    return found, [what, *model.complaints(tasks, hostnames)]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "name": {"type": "str", "required": True},
            "demand": {"type": "dict", "options": DEMAND},
            "variable_prefix": {"type": "str", "default": ""},
            "wait_seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    given, engine = module.params, Engine(module.params["socket"])
    deadline = time.monotonic() + given["wait_seconds"]
    result: dict[str, Any] = {"changed": False, "problems": [], "exists": False}
    if module.check_mode and no_swarm_yet(engine):
        module.exit_json(**result)
    try:
        while True:
            present = find_service(engine, given["name"])
            result["exists"] = present is not None
            state, problems = state_of(engine, present) if present else ({}, [f"there is no service {given['name']}"])
            result.update(state)
            if given["demand"] or not problems or time.monotonic() >= deadline:
                break
            time.sleep(1)
        if given["demand"]:
            demand = demand_of(given["demand"], present)
            names = plan.Settings(*(f"{given['variable_prefix']}{name}" for name in plan.NAMES))
            nodes = plan.nodes_of(engine.get("/nodes"), engine.get("/tasks"), present["ID"] if present else "")
            problems = plan.problems(demand, nodes, names)
    except (EngineRefused, EngineUnreachable) as failure:
        module.fail_json(msg=str(failure), **result)
    module.exit_json(**{**result, "problems": problems})


if __name__ == "__main__":
    main()
