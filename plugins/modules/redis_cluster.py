#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Form a Redis Cluster out of running nodes, and let it grow and shrink."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster
short_description: Form a Redis Cluster, let it grow and shrink
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Makes one cluster of Redis nodes that run in cluster mode. Runs on one host and talks to every node.
  - Places masters so that the loss of one failure domain leaves a majority of them, and no replica in its master's failure domain.
  - Observes, does the next step, observes again. A cluster that is whole is left alone, also when failovers have moved its
    masters. One whose making was interrupted is completed. An empty node at the address of a lost member takes its place.
  - Data is never overwritten. A node that holds keys outside of the cluster, or knows members that aren't in O(nodes), is refused.
  - Nodes that are new in O(nodes) join the cluster. Where they make more masters, these get their replicas first and then an equal share of
    the slots. Members that are in O(removed_nodes) are emptied, or a replica takes over from them; then all others forget them, and they are
    reset, so that they know nobody. Refused if O(nodes) alone make no valid layout or can't hold the data. One that is dead and gone is
    forgotten when it has no slots any more.
  - Slots move with their keys while clients read and write; clients that know C(ASK) and C(MOVED) notice nothing. A run that is killed
    leaves no key in doubt, and the next one goes on from there, beginning with the slot that is half moved.
  - How far it is stands in the host's log, every few seconds (C(journalctl -t ansible-sutazai.platform.redis_cluster -f)).
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
  remove:
    description: >-
      Whether O(removed_nodes) are removed. If not, they may be members and the others keep their roles and slots; a warning says so.
    type: bool
    default: true
  rebalance:
    description: >-
      Whether to mend a layout that failovers have changed (by further failovers, and by giving replicas another master), and to share the
      slots evenly.
    type: bool
    default: false
  slot_tolerance_percent:
    description: >-
      By how much masters' slots may differ from an equal share before that is taken for a move to be finished, in percent.
      100 is never, as long as each master has some. O(rebalance) shares them exactly.
    type: int
    default: 1
  max_key_bytes:
    description: >-
      Size from which a key isn't moved, in bytes. A key moves in one piece, while its source and target stand still.
    type: int
    default: 67108864
  timeout_seconds:
    description: How long the nodes may take to agree that the cluster is whole, in seconds, counted from the last thing that was done.
    type: int
    default: 90
  unreachable_timeout_seconds:
    description: How long to wait for nodes that don't answer, in seconds.
    type: int
    default: 15
extends_documentation_fragment: [sutazai.platform.redis, sutazai.platform.redis.removed]
attributes:
  check_mode: {support: full, description: "Says which commands would come next, and of a resize all that comes to."}
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

- name: Let the cluster shrink
  sutazai.platform.redis_cluster:
    nodes: "{{ __redis_nodes }}"
    removed_nodes:
      - {name: redis-7, host: 10.0.0.37}
      - {name: redis-8, host: 10.0.0.38}
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
  run_once: true
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
slots_moved:
  description: How many slots went to another master.
  returned: always
  type: int
keys_moved:
  description: How many keys went with them.
  returned: always
  type: int
layout_problems:
  description: What failovers have made of the layout, as sentences.
  returned: always
  type: list
  elements: str
"""

import dataclasses
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import redis_nodes
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import (
    Layout,
    LayoutError,
    Move,
    check_nodes,
    plan,
    violations,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_moves import Limits, Mover
from ansible_collections.sutazai.platform.plugins.module_utils.redis_resize import Goal, preview
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import (
    Action,
    Observation,
    Refusal,
    Step,
    roles,
    running_layout,
)
from ansible_collections.sutazai.platform.plugins.module_utils.redis_steps import next_step

POLL_SECONDS = 0.3
# A command is repeated when nothing came of it. A manual failover gives up after 5 s.
REPEAT_SECONDS = 6.0
LOG_SECONDS = 5.0


class Former:
    """Takes the steps that redis_steps.next_step asks for."""

    def __init__(
        self, module: AnsibleModule, connections: redis_nodes.Connections, planned: Layout, goal: Goal
    ) -> None:
        self.module = module
        self.connections = connections
        self.planned = planned
        self.goal = goal
        self.result = {
            "changed": False,
            "actions": [],
            "layout": {},
            "roles": {},
            "layout_problems": [],
            "slots_moved": 0,
            "keys_moved": 0,
        }
        self.before: dict = {}
        self.taken: dict[Action, float] = {}
        self.moved: dict[tuple[str, str], int] = {}
        self.left = 0
        self.logged = 0.0
        self.trouble = ""

    def run(self) -> None:
        progress = blocked = time.monotonic()
        seen = self.connections.observe()
        self.before = running_layout(seen)
        while True:
            step = next_step(self.connections.nodes, self.planned, seen, self.goal)
            if self.module.check_mode:
                return self.foresee(step, seen)
            now = time.monotonic()
            blocked = blocked if step.kind == "blocked" else now
            if step.kind == "done":
                for warning in step.warnings:
                    self.module.warn(warning)
                return self.finish(seen)
            try:
                if (step.kind == "act" and self.take(step.actions)) or (step.kind == "move" and self.move(step, seen)):
                    progress = time.monotonic()
            except redis_nodes.NodeError as error:
                if not error.gone:
                    raise
                self.trouble = str(error)  # what that means, the next look says
            if step.kind == "blocked" and now - blocked > self.module.params["unreachable_timeout_seconds"]:
                self.fail(step.why)
            if now - progress > self.module.params["timeout_seconds"]:
                self.fail(
                    f"The cluster isn't as it should be after {now - progress:.0f} s: {self.why(step)} Are the ports "
                    f"{self.connections.nodes[0].port} and {self.connections.nodes[0].port + 10000} open between all members? "
                    "A repeated run goes on from here."
                )
            if step.kind != "move":
                time.sleep(POLL_SECONDS)
            seen = self.connections.observe()

    def why(self, step: Step) -> str:
        return step.why or self.trouble or (f"{step.actions[0].text}." if step.actions else "Slots don't move.")

    def take(self, actions: tuple[Action, ...]) -> bool:
        """Each action once; again only if nothing came of it for a while. Says whether one of them is new."""
        new = False
        for action in actions:
            if time.monotonic() - self.taken.get(action, -REPEAT_SECONDS) < REPEAT_SECONDS:
                continue
            try:
                self.connections.call(action.node, *action.command)
            except redis_nodes.NodeError as error:
                if not action.unless or action.unless not in str(error):
                    raise
            self.result["changed"] = True
            if action not in self.taken:
                self.result["actions"].append(action.text)
                new = True
            self.taken[action] = time.monotonic()
        return new

    def move(self, step: Step, seen: dict[str, Observation]) -> bool:
        """Move some slots. From now on shares have to be equal, so that the end is the same wherever an earlier run was killed."""
        self.goal = dataclasses.replace(self.goal, tolerance_percent=0)
        masters = [one.name for one in seen.values() if not one.error and not one.me.is_replica and one.others]
        self.left = step.left
        any_moved = False
        for move in step.moves:
            mover = self.mover(move, seen)
            try:
                for count in mover.move(move, masters):
                    any_moved = any_moved or count > 0
                    self.count(move, count)
            finally:
                self.result["keys_moved"] += mover.keys_moved
        return any_moved

    def mover(self, move: Move, seen: dict[str, Observation]) -> Mover:
        settings = self.connections.call(move.source, "CONFIG", "GET", "cluster-node-timeout")
        timeout = settings["cluster-node-timeout"] if isinstance(settings, dict) else settings[1]
        return Mover(
            self.connections.ask,
            self.connections.by_name,
            {one.name: one.id for one in seen.values() if not one.error},
            (self.module.params["username"], self.module.params["password"]),
            int(timeout),
            Limits(key_bytes=self.module.params["max_key_bytes"]),
        )

    def count(self, move: Move, slots: int) -> None:
        """Keep the result as it is, for a run that fails or is asked how far it is."""
        self.result["changed"] = True
        self.result["slots_moved"] += slots
        self.left -= slots
        self.moved[move.source, move.target] = self.moved.get((move.source, move.target), 0) + slots
        if time.monotonic() - self.logged > LOG_SECONDS:
            self.logged = time.monotonic()
            total = self.result["slots_moved"] + self.left
            self.module.log(f"{self.result['slots_moved']} of {total} slots moved, now {move.source} to {move.target}")

    def foresee(self, step: Step, seen: dict[str, Observation]) -> None:
        """Check mode: what would come next, and of a resize the whole."""
        silent = [
            one for one in seen.values() if one.error and one.name in {node.name for node in self.connections.nodes}
        ]
        answered = [one for one in seen.values() if not one.error]
        if step.kind == "done":
            for warning in step.warnings:
                self.module.warn(warning)
            return self.finish(seen)
        if not answered:
            return self.nothing_runs()
        known = {member.address for one in answered for member in one.members.values()}
        whole = any(one.state == "ok" for one in answered)
        if whole and all(one.address not in known for one in silent) and step.kind in ("act", "move", "blocked"):
            outlook = preview(self.connections.nodes, seen, self.goal)
            if outlook:
                self.result.update(changed=True, actions=outlook[0])
                return self.finish(seen, outlook[1])
        if step.kind == "blocked":
            self.fail(step.why)
        if step.kind == "wait":
            self.module.warn(step.why)
            return self.finish(seen)
        self.result.update(changed=True, actions=[action.text for action in step.actions])
        self.result["actions"] += [
            f"move {len(move.slots)} slots from {move.source} to {move.target}" for move in step.moves
        ]
        return self.finish(seen, self.planned.as_dict())

    def nothing_runs(self) -> None:
        """Check mode on hosts where Redis isn't there yet."""
        self.result.update(
            changed=True,
            actions=["form the cluster"],
            layout=self.planned.as_dict(),
            diff={"before": {}, "after": self.planned.as_dict()},
        )
        self.module.exit_json(**self.result)

    def summarize(self) -> None:
        self.result["actions"] += [
            f"{count} slots moved from {source} to {target}" for (source, target), count in self.moved.items()
        ]
        self.moved = {}

    def finish(self, seen: dict[str, Observation], after: dict | None = None) -> None:
        self.summarize()
        layout = running_layout(seen)
        after = layout if after is None else after
        master_of = {replica: master for master, entry in after.items() for replica in entry["replicas"]}
        names = {node.name for node in self.connections.nodes}
        silent = any(one.error for one in seen.values() if one.name in names)
        self.result.update(
            layout=after,
            roles={name: role for name, role in roles(seen).items() if name in names},
            layout_problems=[]
            if silent or (self.module.check_mode and self.result["changed"])
            else violations(list(after), master_of, self.connections.nodes, self.module.params["replicas_per_master"]),
            diff={"before": self.before, "after": after},
        )
        self.module.exit_json(**self.result)

    def fail(self, why: str) -> None:
        self.summarize()
        if self.result["slots_moved"]:
            why += f" {self.result['slots_moved']} slots were moved, {self.left} are left."
        self.module.fail_json(msg=why, **self.result)


def main() -> None:
    module = AnsibleModule(
        argument_spec=redis_nodes.argument_spec(
            state={"type": "str", "choices": ["present"], "default": "present"},
            replicas_per_master={"type": "int", "default": 1},
            removed_nodes={"type": "list", "elements": "dict", "default": [], "options": redis_nodes.NODE_OPTIONS},
            remove={"type": "bool", "default": True},
            rebalance={"type": "bool", "default": False},
            slot_tolerance_percent={"type": "int", "default": 1},
            max_key_bytes={"type": "int", "default": 67108864, "no_log": False},
            timeout_seconds={"type": "int", "default": 90},
            unreachable_timeout_seconds={"type": "int", "default": 15},
        ),
        supports_check_mode=True,
    )
    wanted = module.params
    connections = redis_nodes.Connections(wanted)
    goal = Goal(
        replicas_per_master=wanted["replicas_per_master"],
        rebalance=wanted["rebalance"],
        tolerance_percent=wanted["slot_tolerance_percent"],
        leaving=tuple(connections.leaving),
        remove=wanted["remove"],
    )
    try:
        check_nodes([*connections.nodes, *connections.leaving])
        planned = plan(connections.nodes, wanted["replicas_per_master"])
    except LayoutError as error:
        gone = ", ".join(node.name for node in connections.leaving)
        module.fail_json(msg=f"{f'Without {gone}: ' if gone else ''}{error}")
    former = Former(module, connections, planned, goal)
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
