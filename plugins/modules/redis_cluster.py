#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Form a Redis Cluster out of running nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster
short_description: Form a Redis Cluster, or go on forming it
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Makes one cluster of Redis nodes that run in cluster mode. Runs on one host and talks to every node.
  - Places masters so that the loss of one failure domain leaves a majority of them, and no replica in its master's failure domain.
  - Observes, does the next step, observes again. A cluster that is whole is left alone, also when failovers have moved its
    masters. One whose making was interrupted is completed. An empty node at the address of a lost member takes its place.
  - Data is never overwritten. A node that holds keys outside of the cluster, or knows members that aren't in O(nodes), is refused.
options:
  state:
    description: V(present) is the cluster of all O(nodes).
    type: str
    choices: [present]
    default: present
  replicas_per_master:
    description: How many replicas each master gets. The number of masters follows from the number of O(nodes); what is left over are more replicas.
    type: int
    default: 1
  timeout_seconds:
    description: How long the nodes may take to agree that the cluster is whole, in seconds.
    type: int
    default: 90
  unreachable_timeout_seconds:
    description: How long to wait for nodes that don't answer, in seconds.
    type: int
    default: 15
extends_documentation_fragment: [sutazai.platform.redis]
attributes:
  check_mode: {support: full, description: Says which commands would come next.}
  diff_mode: {support: full, description: "Shows masters, slots and replicas before and after."}
seealso:
  - module: sutazai.platform.redis_cluster_info
  - module: sutazai.platform.redis_cluster_failover
"""

EXAMPLES = r"""
- name: Form the cluster
  sutazai.platform.redis_cluster:
    nodes:
      - {name: redis-1, host: 10.0.0.31}
      - {name: redis-2, host: 10.0.0.32}
      - {name: redis-3, host: 10.0.0.33}
      - {name: redis-4, host: 10.0.0.34}
      - {name: redis-5, host: 10.0.0.35}
      - {name: redis-6, host: 10.0.0.36}
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
  run_once: true
  register: __redis_cluster
"""

RETURN = r"""
actions:
  description: What was done, in order; in check mode what would be done next.
  returned: always
  type: list
  elements: str
layout:
  description: Of each master its slots and replicas.
  returned: always
  type: dict
  sample: {redis-1: {slots: 0-5460, replicas: [redis-5]}}
roles:
  description: Of each node that answers whether it is V(master) or V(replica).
  returned: always
  type: dict
  sample: {redis-1: master, redis-5: replica}
layout_problems:
  description: What failovers have made of the layout, as sentences.
  returned: always
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import redis_nodes
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Layout, LayoutError, plan, violations
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import (
    Action,
    Observation,
    Refusal,
    next_step,
    roles,
    running_layout,
)

POLL_SECONDS = 0.3
REPEAT_SECONDS = 5.0


class Former:
    """Takes the steps that redis_state.next_step asks for."""

    def __init__(self, module: AnsibleModule, connections: redis_nodes.Connections, planned: Layout) -> None:
        self.module = module
        self.connections = connections
        self.planned = planned
        self.result = {"changed": False, "actions": [], "layout": {}, "roles": {}, "layout_problems": []}
        self.before: dict = {}
        self.taken: dict[Action, float] = {}

    def run(self) -> None:
        began = time.monotonic()
        seen = self.connections.observe()
        self.before = running_layout(seen)
        while True:
            step = next_step(self.connections.nodes, self.planned, seen)
            if step.kind == "done":
                for warning in step.warnings:
                    self.module.warn(warning)
                return self.finish(seen)
            if step.kind == "act":
                if self.module.check_mode:
                    self.result.update(changed=True, actions=[action.text for action in step.actions])
                    return self.finish(seen)
                self.take(step.actions)
            elif self.module.check_mode:
                if step.kind == "wait":
                    self.module.warn(step.why)
                    return self.finish(seen)
                if all(one.error for one in seen.values()):
                    return self.nothing_runs()
                self.fail(step.why)
            waited = time.monotonic() - began
            if step.kind == "blocked" and waited > self.module.params["unreachable_timeout_seconds"]:
                self.fail(step.why)
            if waited > self.module.params["timeout_seconds"]:
                self.fail(
                    f"The cluster isn't whole after {waited:.0f} s: {step.why or step.actions[0].text} Are the ports "
                    f"{self.connections.nodes[0].port} and {self.connections.nodes[0].port + 10000} open between all members? "
                    "A repeated run goes on from here."
                )
            time.sleep(POLL_SECONDS)
            seen = self.connections.observe()

    def take(self, actions: tuple[Action, ...]) -> None:
        """Each action once; again only if nothing came of it for a while."""
        for action in actions:
            if time.monotonic() - self.taken.get(action, -REPEAT_SECONDS) < REPEAT_SECONDS:
                continue
            self.connections.call(action.node, *action.command)
            self.result["changed"] = True
            if action not in self.taken:
                self.result["actions"].append(action.text)
            self.taken[action] = time.monotonic()

    def nothing_runs(self) -> None:
        """Check mode on hosts where Redis isn't there yet."""
        self.result.update(
            changed=True,
            actions=["form the cluster"],
            layout=self.planned.as_dict(),
            diff={"before": {}, "after": self.planned.as_dict()},
        )
        self.module.exit_json(**self.result)

    def finish(self, seen: dict[str, Observation]) -> None:
        layout = running_layout(seen)
        after = self.planned.as_dict() if self.module.check_mode and self.result["changed"] else layout
        master_of = {replica: master for master, entry in layout.items() for replica in entry["replicas"]}
        silent = any(one.error for one in seen.values())
        self.result.update(
            layout=after,
            roles=roles(seen),
            layout_problems=[]
            if silent or self.result["changed"]
            else violations(list(layout), master_of, self.connections.nodes, self.module.params["replicas_per_master"]),
            diff={"before": self.before, "after": after},
        )
        self.module.exit_json(**self.result)

    def fail(self, why: str) -> None:
        self.module.fail_json(msg=why, **self.result)


def main() -> None:
    module = AnsibleModule(
        argument_spec=redis_nodes.argument_spec(
            state={"type": "str", "choices": ["present"], "default": "present"},
            replicas_per_master={"type": "int", "default": 1},
            timeout_seconds={"type": "int", "default": 90},
            unreachable_timeout_seconds={"type": "int", "default": 15},
        ),
        supports_check_mode=True,
    )
    connections = redis_nodes.Connections(module.params)
    try:
        planned = plan(connections.nodes, module.params["replicas_per_master"])
    except LayoutError as error:
        module.fail_json(msg=str(error))
    former = Former(module, connections, planned)
    if redis_nodes.redis is None:
        if module.check_mode:
            former.nothing_runs()
        module.fail_json(msg=redis_nodes.missing_library(), exception=redis_nodes.REDIS_IMPORT_ERROR)
    try:
        former.run()
    except (Refusal, redis_nodes.NodeError) as error:
        former.fail(str(error))


if __name__ == "__main__":
    main()
