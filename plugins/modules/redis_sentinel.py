#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Form a Redis master with replicas and sentinels, let hosts join, take hosts out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_sentinel
short_description: One Redis master, its replicas, and sentinels that replace it
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Forms it from servers that have no role yet, lets new ones join, and takes out those of O(removed_nodes).
  - The first master is chosen once, from servers without data. Afterwards the sentinels decide who is master; this module never does. A run
    after a failover changes nothing.
  - A server without a role is one that replicates from C(127.0.0.1) port 1, where nobody answers. So a new host can't be taken for a master.
  - Looks, takes one step, looks again. It keeps no memory of its own, so a run that was killed is repeated.
options:
  options:
    description: What each sentinel is to have set for the master, as C(SENTINEL SET) takes it, such as C(down-after-milliseconds).
    type: dict
    default: {}
  sentinel_user:
    description: The user that sentinels sign in with at the servers. A server that leaves takes no more orders from it.
    type: str
    default: ""
  sentinel_password:
    description: Its password. No sentinel tells it, so it is set when one begins to watch the master or has other O(options), and never compared.
    type: str
    default: ""
  remove:
    description: Whether O(removed_nodes) are taken out. Otherwise they stay what they are.
    type: bool
    default: true
  timeout_seconds:
    description: How long it may take without any progress, in seconds.
    type: int
    default: 90
  unreachable_timeout_seconds:
    description: How long to wait for hosts that have to answer and don't, in seconds.
    type: int
    default: 15
extends_documentation_fragment: [sutazai.platform.redis, sutazai.platform.redis.removed, sutazai.platform.redis_sentinel]
attributes:
  check_mode: {support: full, description: Says what would come next.}
  diff_mode: {support: full, description: Shows the masters and their replicas before and after.}
seealso:
  - module: sutazai.platform.redis_sentinel_info
  - module: sutazai.platform.redis_sentinel_failover
"""

EXAMPLES = r"""
- name: Form it, or complete it
  sutazai.platform.redis_sentinel:
    nodes: "{{ __redis_nodes }}"
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
    options:
      down-after-milliseconds: 5000
    sentinel_user: sentinel
    sentinel_password: "{{ redis_sentinel_password }}"
  run_once: true
"""

RETURN = r"""
actions:
  description: What was done, or would be, as sentences.
  returned: always
  type: list
  elements: str
roles:
  description: master or replica, of each host that answers.
  returned: always
  type: dict
layout:
  description: Of each master its replicas.
  returned: always
  type: dict
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import redis_nodes, redis_sentinels
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import LayoutError, check_nodes
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_state import World, layout, roles
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_steps import (
    Goal,
    next_step,
    still_members,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import Action, Refusal, Step

POLL_SECONDS = 0.3
# A command is repeated when nothing came of it; sentinels see a new role only after up to 10 s.
REPEAT_SECONDS = 15.0
REMEDY_SECONDS = 8.0


class Former:
    """Takes the steps that redis_sentinel_steps.next_step asks for."""

    def __init__(self, module: AnsibleModule, connections: redis_sentinels.Connections, goal: Goal) -> None:
        self.module = module
        self.connections = connections
        self.goal = goal
        self.result = {"changed": False, "actions": [], "roles": {}, "layout": {}}
        self.before: dict = {}
        self.taken: dict[Action, float] = {}

    def run(self) -> None:
        progress = blocked = time.monotonic()
        world = self.connections.look()
        self.before = layout(world)
        trouble = ""
        while True:
            step = next_step(self.connections.nodes, world, self.goal)
            if self.module.check_mode:
                return self.foresee(step, world)
            now = time.monotonic()
            blocked = blocked if step.kind == "blocked" else now
            if step.kind == "done":
                for warning in step.warnings:
                    self.module.warn(warning)
                return self.finish(world)
            try:
                # What may be done while waiting is done when waiting doesn't help.
                if (step.kind != "wait" or now - progress > REMEDY_SECONDS) and self.take(step):
                    progress = time.monotonic()
            except redis_nodes.NodeError as error:
                if not error.gone:
                    raise
                trouble = str(error)  # what that means, the next look says
            if step.kind == "blocked" and now - blocked > self.module.params["unreachable_timeout_seconds"]:
                self.fail(step.why)
            if now - progress > self.module.params["timeout_seconds"]:
                why = step.why or trouble or (f"{step.actions[0].text}." if step.actions else "")
                self.fail(
                    f"It isn't as it should be after {now - progress:.0f} s: {why} Are the ports {self.connections.nodes[0].port} and "
                    f"{self.connections.port} open between all members? A repeated run goes on from here."
                )
            time.sleep(POLL_SECONDS)
            world = self.connections.look()

    def take(self, step: Step) -> bool:
        """Says whether something new was done. An order that nothing came of is given again after a while."""
        if step.kind == "hand_over":
            new = self.connections.hand_over(
                step.why, self.module.params["timeout_seconds"], lambda: self.result.update(changed=True)
            )
            self.result["actions"].append(f"{new} takes over from {step.why}")
            return True
        new = False
        for action in step.actions:
            if time.monotonic() - self.taken.get(action, -REPEAT_SECONDS) < REPEAT_SECONDS:
                continue
            self.connections.call(action.node, *action.command)
            self.result["changed"] = True
            if action not in self.taken:
                self.result["actions"].append(action.text)
                new = True
            self.taken[action] = time.monotonic()
        return new

    def foresee(self, step: Step, world: World) -> None:
        if step.kind in ("act", "hand_over"):
            leaving = still_members(self.connections.nodes, world, self.goal) if self.goal.remove else []
            texts = [action.text for action in step.actions] or [f"a replica takes over from {step.why}"]
            self.result.update(changed=True, actions=[f"take {name} out" for name in leaving] or texts)
        elif step.kind == "blocked":
            if all(one.error for one in world.servers.values()):
                return self.nothing_runs()
            self.fail(step.why)
        for warning in (*step.warnings, *([step.why] if step.kind == "wait" else [])):
            self.module.warn(warning)
        return self.finish(world)

    def nothing_runs(self) -> None:
        """Check mode on hosts where Redis isn't there yet."""
        first, *rest = [node.name for node in self.connections.nodes]
        after = {first: {"slots": "", "replicas": sorted(rest)}}
        self.result.update(changed=True, actions=[f"make {first} the first master"], layout=after)
        self.module.exit_json(**self.result, diff={"before": {}, "after": after})

    def finish(self, world: World) -> None:
        names = {node.name for node in self.connections.nodes}
        after = layout(world)
        self.result.update(
            roles={name: role for name, role in roles(world).items() if name in names},
            layout=after,
            diff={"before": self.before, "after": after},
        )
        self.module.exit_json(**self.result)

    def fail(self, why: str) -> None:
        self.module.fail_json(msg=why, **self.result)


def main() -> None:
    module = AnsibleModule(
        argument_spec=redis_sentinels.argument_spec(
            options={"type": "dict", "default": {}},
            sentinel_user={"type": "str", "default": ""},
            sentinel_password={"type": "str", "default": "", "no_log": True},
            remove={"type": "bool", "default": True},
            timeout_seconds={"type": "int", "default": 90},
            unreachable_timeout_seconds={"type": "int", "default": 15},
        ),
        supports_check_mode=True,
    )
    wanted = module.params
    connections = redis_sentinels.Connections(wanted)
    signing_in = {"auth-user": wanted["sentinel_user"], "auth-pass": wanted["sentinel_password"]}
    goal = Goal(
        master_name=wanted["master_name"],
        sentinel_port=wanted["sentinel_port"],
        options={**wanted["options"], **(signing_in if wanted["sentinel_user"] else {})},
        sentinel_user=wanted["sentinel_user"],
        leaving=tuple(connections.leaving),
        remove=wanted["remove"],
    )
    try:
        check_nodes([*connections.nodes, *connections.leaving])
    except LayoutError as error:
        module.fail_json(msg=str(error))
    former = Former(module, connections, goal)
    if redis_nodes.redis is None:
        if module.check_mode:
            former.nothing_runs()
        module.fail_json(msg=redis_nodes.missing_library(), exception=redis_nodes.REDIS_IMPORT_ERROR)
    try:
        former.run()
    except (Refusal, redis_sentinels.HandoverFailed, redis_nodes.NodeError) as error:
        former.fail(str(error))


if __name__ == "__main__":
    main()
