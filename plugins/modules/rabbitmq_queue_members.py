#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Give RabbitMQ's quorum queues their members on the right nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_queue_members
short_description: Give RabbitMQ's quorum queues their members on the right nodes
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - A quorum queue keeps the members that it was declared with. One that was declared while a node was down, or before a node joined, has
    none there ever after. This module adds members until each queue has as many as wanted, and takes them away from nodes that leave.
  - A node with less than half of its share of the members, such as one that has just joined, is given its share from the others.
  - A member is added, and has caught up, before another one is removed. What can't be done without losing a message or a majority is
    refused before anything is changed. A run that was interrupted is finished by the next.
  - Whenever something was changed, leaders are spread over the nodes again.
  - Runs on one of the nodes, for all; it changes members by C(rabbitmq-queues), which every version has.
options:
  url: {required: true}
  username: {required: true}
  password: {required: true}
  nodes:
    description: The names of all nodes that stay, such as C(rabbit@rabbitmq-1).
    type: list
    elements: str
    required: true
  leaving_nodes:
    description: The names of nodes that are to hold nothing any more, running or not.
    type: list
    elements: str
    default: []
  group_size:
    description: How many members each quorum queue is to have. One that has more keeps them, except on nodes that leave.
    type: int
    default: 3
  accept_loss:
    description: Whether nodes may leave although classic queues and streams are on them alone, which are then lost.
    type: bool
    default: false
  catch_up_timeout_seconds:
    description: How long a new member of one queue may take to catch up with the others, in seconds.
    type: int
    default: 300
extends_documentation_fragment: [sutazai.platform.rabbitmq]
attributes:
  check_mode: {support: full, description: Says what would be done. What is refused fails there too.}
  diff_mode: {support: full, description: Lists the steps.}
"""

EXAMPLES = r"""
- name: Let every queue have three members
  sutazai.platform.rabbitmq_queue_members:
    url: https://10.0.0.21:15671
    username: admin
    password: "{{ rabbitmq_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
    nodes: [rabbit@rabbitmq-1, rabbit@rabbitmq-2, rabbit@rabbitmq-3]
  run_once: true

- name: Take everything away from two nodes
  sutazai.platform.rabbitmq_queue_members:
    url: https://10.0.0.21:15671
    username: admin
    password: "{{ rabbitmq_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
    nodes: [rabbit@rabbitmq-1, rabbit@rabbitmq-2, rabbit@rabbitmq-3]
    leaving_nodes: [rabbit@rabbitmq-4, rabbit@rabbitmq-5]
  run_once: true
"""

RETURN = r"""
changes:
  description: The steps that were taken, one sentence each.
  returned: always
  type: list
  elements: str
refused:
  description: Why nothing was done, one sentence each.
  returned: always
  type: list
  elements: str
nodes_running:
  description: The nodes that run.
  returned: when the API could be read
  type: list
  elements: str
"""

import itertools
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import rabbitmq_members as model
from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import (
    CONNECTION_ARGUMENTS,
    QUEUES,
    Api,
    ApiRefused,
    ApiUnreachable,
    CommandFailed,
    CommandLine,
)


class Members:
    """The members of queues, changed on the command line."""

    def __init__(self, module: AnsibleModule) -> None:
        self.cli = CommandLine(module, tool="rabbitmq-queues")
        self.timeout = module.params["catch_up_timeout_seconds"]
        self.done: list[str] = []

    def status(self, vhost: str, queue: str) -> list[dict[str, Any]]:
        return self.cli.read("quorum_status", "--vhost", vhost, queue)

    def change(self, vhost: str, queue: str, steps: list[model.Step]) -> None:
        """The steps of one queue. Before a member goes, those that came have caught up."""
        added: list[str] = []
        for step in steps:
            if step.action == model.REMOVE and added:
                self.wait_for(vhost, queue, added)
                added = []
            self.cli.run(step.action, "--vhost", vhost, queue, step.node, timeout=self.timeout)
            self.done.append(step.says())
            if step.action == model.ADD:
                added.append(step.node)
        if added:
            self.wait_for(vhost, queue, added)

    def wait_for(self, vhost: str, queue: str, nodes: list[str]) -> None:
        deadline = time.monotonic() + self.timeout
        status = self.status(vhost, queue)
        goal = model.committed(status)
        while late := model.behind(status, nodes, goal):
            if time.monotonic() >= deadline:
                raise CommandFailed(
                    f"the new member of {vhost}:{queue} on {', '.join(late)} hasn't caught up within {self.timeout} s. It goes on doing so; "
                    "run again later, or give it more time (catch_up_timeout_seconds)"
                )
            time.sleep(1)
            status = self.status(vhost, queue)


def read(api: Api, leaving: list[str]) -> list[dict[str, Any]]:
    """All queues. Where a classic queue is and has its mirrors, only the statistics tell; a quorum queue's members they tell too late."""
    queues = api.get(QUEUES)
    if not leaving:
        return queues
    return [queue for queue in queues if queue.get("type") == "quorum"] + [
        queue for queue in api.get("/api/queues") if queue.get("type") != "quorum"
    ]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "url": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "nodes": {"type": "list", "elements": "str", "required": True},
            "leaving_nodes": {"type": "list", "elements": "str", "default": []},
            "group_size": {"type": "int", "default": 3},
            "accept_loss": {"type": "bool", "default": False},
            "catch_up_timeout_seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    api = Api.of_module(wanted)
    members = Members(module)
    result: dict[str, Any] = {"changes": members.done, "refused": []}
    try:
        known = {node["name"]: bool(node.get("running")) for node in api.get("/api/nodes")}
        result["nodes_running"] = sorted(node for node, running in known.items() if running)
        # A node that has left already needs nothing, and is in nobody's way.
        leaving = [node for node in wanted["leaving_nodes"] if node in known]
        plan = model.plan(
            read(api, leaving),
            wanted["nodes"],
            result["nodes_running"],
            leaving,
            wanted["group_size"],
            wanted["accept_loss"],
        )
        if plan.refused:
            result["refused"] = plan.refused
            module.fail_json(msg="\n".join(plan.refused), **result)
        if not module.check_mode:
            for (vhost, queue), steps in itertools.groupby(plan.steps, key=lambda step: (step.vhost, step.queue)):
                members.change(vhost, queue, list(steps))
            if plan.steps:
                api.request("POST", "/api/rebalance/queues")
    except (ApiRefused, ApiUnreachable, CommandFailed) as error:
        module.fail_json(msg=str(error), changed=bool(members.done), **result)
    result.update(changed=bool(plan.steps), changes=[step.says() for step in plan.steps])
    if module._diff and plan.steps:
        result["diff"] = {"prepared": "".join(f"* {step.says()}\n" for step in plan.steps)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
