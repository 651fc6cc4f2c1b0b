#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Give the nodes of a Docker Swarm their roles, availability and labels."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_nodes
short_description: Give a Swarm's nodes their roles, availability and labels
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Runs on one manager, for all nodes. A node that isn't a member yet is left out.
  - Labels that don't begin with O(label_prefix) are somebody else's and stay. With it, a label that isn't wanted any more goes.
extends_documentation_fragment: [sutazai.platform.swarm]
options:
  nodes:
    description: The nodes.
    type: list
    elements: dict
    required: true
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
      availability:
        description: Whether it is given tasks. V(drain) also takes those away that it has.
        type: str
        choices: [active, pause, drain]
        default: active
      labels:
        description: Its labels, by which services choose nodes.
        type: dict
        default: {}
  label_prefix:
    description: What the labels managed here begin with.
    type: str
    default: sutazai.
  settle_seconds:
    description: How long to wait until nodes that are drained have nothing left to do, and what they ran runs elsewhere. Not at all with V(0).
    type: int
    default: 0
attributes:
  check_mode: {support: full, description: Says what would be done.}
"""

EXAMPLES = r"""
- name: Give the nodes their roles and labels
  sutazai.platform.swarm_nodes:
    nodes:
      - {hostname: swarm-1, address: 10.0.0.61, role: manager, availability: drain}
      - {hostname: agent-1, address: 10.0.0.71, role: worker, labels: {sutazai.agents: "true"}}
  run_once: true
"""

RETURN = r"""
updates:
  description: What was changed, or would be, a line per node.
  returned: always
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_state as model
from ansible_collections.sutazai.platform.plugins.module_utils.docker_engine import (
    CONNECTION_ARGUMENTS,
    Engine,
    EngineRefused,
    EngineUnreachable,
)
from ansible_collections.sutazai.platform.plugins.module_utils.swarm_drain import NotSettled, running_on, settle


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "nodes": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "hostname": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                    "role": {"type": "str", "choices": ["manager", "worker"], "required": True},
                    "availability": {"type": "str", "choices": ["active", "pause", "drain"], "default": "active"},
                    "labels": {"type": "dict", "default": {}},
                },
            },
            "label_prefix": {"type": "str", "default": "sutazai."},
            "settle_seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    engine = Engine(module.params["socket"])
    wanted = [
        model.Wanted(**{**node, "labels": {key: str(value) for key, value in node["labels"].items()}})
        for node in module.params["nodes"]
    ]
    result: dict[str, Any] = {"changed": False, "updates": []}
    try:
        nodes = [model.node_of(answer) for answer in engine.get("/nodes")]
        drained = model.drained(nodes, wanted) if module.params["settle_seconds"] and not module.check_mode else []
        watched = running_on(engine, drained)
        for update in model.plan_updates(nodes, wanted, module.params["label_prefix"]):
            result["changed"] = True
            result["updates"].append(update.why)
            if not module.check_mode:
                # The engine refuses a version that somebody else has replaced meanwhile: nothing is overwritten unseen.
                version = update.node.version
                engine.request("POST", f"/nodes/{update.node.id}/update?version={version}", update.spec)
        if drained:
            settle(engine, drained, watched, module.params["settle_seconds"])
    except (EngineRefused, EngineUnreachable, NotSettled) as failure:
        module.fail_json(msg=str(failure), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
