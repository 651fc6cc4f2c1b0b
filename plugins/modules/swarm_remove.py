#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Take hosts out of a Docker Swarm."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_remove
short_description: Take hosts out of a Docker Swarm
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Runs on a manager that stays, in two steps. Between them the hosts themselves leave (M(sutazai.platform.swarm_member) with C(state=absent)),
    as far as they are still there.
  - Refuses, before anything is changed, what would leave the Swarm without a majority of its managers, without a manager, or without a node
    that runs containers.
  - Hosts that are down for good are taken out the same way. Repeating a step is harmless.
extends_documentation_fragment: [sutazai.platform.swarm]
options:
  leaving:
    description: The hosts that leave.
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
  stage:
    description:
      - V(emptied) drains the nodes, waits until what ran there runs elsewhere, and makes managers workers, one at a time and the leader last.
      - V(removed) waits until each node is down and removes it.
    type: str
    choices: [emptied, removed]
    required: true
  settle_seconds:
    description: How long to wait until what ran on drained nodes runs elsewhere.
    type: int
    default: 300
  wait_seconds:
    description: How long to wait until a manager has become a worker, and until a node that has left is down.
    type: int
    default: 60
attributes:
  check_mode: {support: full, description: Says what would be done.}
"""

EXAMPLES = r"""
- name: Take tasks and the manager's role from the hosts that leave
  sutazai.platform.swarm_remove:
    leaving: [{hostname: agent-4, address: 10.0.0.74}]
    stage: emptied

- name: Forget them
  sutazai.platform.swarm_remove:
    leaving: [{hostname: agent-4, address: 10.0.0.74}]
    stage: removed
"""

RETURN = r"""
did:
  description: What was done, or would be, a line per step.
  returned: always
  type: list
  elements: str
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_removal as removal
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_state as model
from ansible_collections.sutazai.platform.plugins.module_utils.docker_engine import (
    CONNECTION_ARGUMENTS,
    Engine,
    EngineRefused,
    EngineUnreachable,
)
from ansible_collections.sutazai.platform.plugins.module_utils.swarm_drain import NotSettled, running_on, settle


class CannotLeave(Exception):
    """A node isn't as it has to be for the next step, and didn't become so in time."""


class Removal:
    """The steps, each noted in `did`; with `act` false they are only noted."""

    def __init__(self, engine: Engine, act: bool, wait_seconds: int) -> None:
        self.engine, self.act, self.wait_seconds = engine, act, wait_seconds
        self.did: list[str] = []

    def note(self, line: str) -> bool:
        self.did.append(line)
        return self.act

    def node(self, node_id: str) -> model.Node:
        return model.node_of(self.engine.get(f"/nodes/{node_id}"))

    def update(self, node: model.Node, **changes: str) -> None:
        """With the version that was read just now: the engine refuses one that somebody else has replaced meanwhile."""
        now = self.node(node.id)
        spec = {"Role": now.role, "Availability": now.availability, "Labels": now.labels, **changes}
        self.engine.request("POST", f"/nodes/{now.id}/update?version={now.version}", spec)

    def empty(self, leaving: list[model.Node], settle_seconds: int) -> None:
        busy = [node for node in leaving if node.availability != "drain"]
        watched = running_on(self.engine, leaving)
        for node in busy:
            if self.note(f"{node.hostname}: drained"):
                self.update(node, Availability="drain")
        if self.act and leaving:
            settle(self.engine, leaving, watched, settle_seconds)
        for node in leaving:
            if node.role == "manager" and self.note(f"{node.hostname}: manager becomes worker"):
                self.update(node, Role="worker")
                self.wait(node, lambda now: now.role == "worker" and not now.reachability, "still counts as a manager")

    def forget(self, leaving: list[model.Node]) -> None:
        for node in leaving:
            if node.role == "manager":
                raise CannotLeave(f"{node.hostname} is a manager still: the step `emptied` comes first")
            if self.note(f"{node.hostname}: removed"):
                self.wait(
                    node,
                    lambda now: now.state == "down",
                    "is up still; have it leave (`docker swarm leave` there), or stop docker.service if it can't be reached",
                )
                self.engine.request("DELETE", f"/nodes/{node.id}")

    def wait(self, node: model.Node, ready: Any, otherwise: str) -> None:
        deadline = time.monotonic() + self.wait_seconds
        while not ready(self.node(node.id)):
            if time.monotonic() >= deadline:
                raise CannotLeave(f"after {self.wait_seconds} s {node.hostname} {otherwise}")
            time.sleep(0.5)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "leaving": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "hostname": {"type": "str", "required": True},
                    "address": {"type": "str", "required": True},
                },
            },
            "stage": {"type": "str", "choices": ["emptied", "removed"], "required": True},
            "settle_seconds": {"type": "int", "default": 300},
            "wait_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    steps = Removal(Engine(wanted["socket"]), not module.check_mode, wanted["wait_seconds"])
    try:
        nodes = [model.node_of(answer) for answer in steps.engine.get("/nodes")]
        leaving = removal.leaving_nodes(nodes, wanted["leaving"])
        if wanted["stage"] == "emptied":
            if problems := removal.removal_problems(nodes, leaving):
                module.fail_json(msg="Nothing was changed: " + "; ".join(problems), changed=False, did=[])
            steps.empty(leaving, wanted["settle_seconds"])
        else:
            steps.forget(leaving)
    except (EngineRefused, EngineUnreachable, NotSettled, CannotLeave) as failure:
        module.fail_json(msg=str(failure), changed=bool(steps.did) and steps.act, did=steps.did)
    module.exit_json(changed=bool(steps.did), did=steps.did)


if __name__ == "__main__":
    main()
