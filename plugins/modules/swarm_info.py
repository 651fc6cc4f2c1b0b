#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Say what this host's engine knows of its Docker Swarm, and whether the Swarm is healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_info
short_description: Say how a Docker Swarm is
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Asks the engine of this host through its socket. Nothing is installed on the host for it, and no command is run.
  - With O(members) it is the one definition of a healthy Swarm, which only a manager can answer.
extends_documentation_fragment: [sutazai.platform.swarm]
options:
  members:
    description: The hosts that make up the Swarm. Empty asks only for this host's own membership.
    type: list
    elements: dict
    default: []
    suboptions:
      hostname:
        description: The host's own name.
        type: str
        required: true
      address:
        description: The address that it advertises.
        type: str
        required: true
      role:
        description: What it is in the Swarm.
        type: str
        choices: [manager, worker]
        required: true
  join_tokens:
    description: Whether to return the secrets that hosts join with. Use C(no_log=true) then.
    type: bool
    default: false
  wait_seconds:
    description: How long to wait for the Swarm to become healthy.
    type: int
    default: 0
attributes:
  check_mode: {support: full, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Ask the Swarm how it is
  sutazai.platform.swarm_info:
    members:
      - {hostname: swarm-1, address: 10.0.0.61, role: manager}
      - {hostname: agent-1, address: 10.0.0.71, role: worker}
    wait_seconds: 60
  register: __swarm_health
"""

RETURN = r"""
running:
  description: Whether an engine answers at the socket. On a fresh host, in check mode, none does.
  returned: always
  type: bool
local:
  description: This host's own membership, with state, node_id, address, control, cluster_id, managers and error.
  returned: always
  type: dict
ipvs:
  description:
    - Whether this host's kernel has IPVS or a module for it. Without, neither virtual addresses of services nor ports of the mode C(ingress) work,
      and M(sutazai.platform.swarm_service) refuses them.
  returned: always
  type: bool
nodes:
  description: The Swarm's nodes as the managers see them.
  returned: when O(members) is given
  type: list
  elements: dict
problems:
  description: What isn't as it should be; empty when the Swarm is healthy.
  returned: when O(members) is given
  type: list
  elements: str
healthy:
  description: Whether there is no problem.
  returned: when O(members) is given
  type: bool
tokens:
  description: The secrets that hosts join with, by role.
  returned: with O(join_tokens)
  type: dict
"""

import time
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_state as model
from ansible_collections.sutazai.platform.plugins.module_utils.docker_engine import (
    CONNECTION_ARGUMENTS,
    Engine,
    EngineRefused,
    EngineUnreachable,
    has_ipvs,
)


def health(engine: Engine, members: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    wanted = [model.Wanted(member["hostname"], member["address"], member["role"]) for member in members]
    try:
        nodes = [model.node_of(answer) for answer in engine.get("/nodes")]
    except (EngineRefused, EngineUnreachable) as failure:
        return [], [str(failure)]
    return [asdict(node) for node in nodes], model.problems(nodes, wanted)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "members": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "hostname": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "role": {"type": "str", "choices": ["manager", "worker"], "required": True},
                },
            },
            "join_tokens": {"type": "bool", "default": False, "no_log": False},
            "wait_seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    engine = Engine(wanted["socket"])
    result: dict[str, Any] = {"changed": False, "ipvs": has_ipvs()}
    try:
        local = model.local_of(engine.get("/info") if engine.there() else {})
        result.update(running=engine.there(), local=asdict(local))
        if wanted["join_tokens"]:
            tokens = engine.get("/swarm")["JoinTokens"]
            result["tokens"] = {"manager": tokens["Manager"], "worker": tokens["Worker"]}
    except (EngineRefused, EngineUnreachable) as failure:
        module.fail_json(msg=str(failure), **result)
    if wanted["members"]:
        deadline = time.monotonic() + wanted["wait_seconds"]
        while True:
            nodes, problems = health(engine, wanted["members"])
            if not problems or time.monotonic() >= deadline:
                break
            time.sleep(1)
        result.update(nodes=nodes, problems=problems, healthy=not problems)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
