#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Let a replica take over from a master that is about to stop."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_failover
short_description: Make a node of a Redis Cluster a replica, without losing a write
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - If the node is a master, its replica that is most in sync takes over by C(CLUSTER FAILOVER), for which master and replica stop writes for a moment.
  - Done only when the replica says that it is master, the node says that it is a replica and is in sync with it, and all nodes see that. The
    reply of C(CLUSTER FAILOVER) proves nothing.
  - A node that is a replica already is left alone.
  - Waits until no slot is half moved from or to the node, and refuses if that doesn't end. The replica that takes over wouldn't know of it
    (Redis up to 7.2 keeps these marks on the master alone), and clients would miss the keys that have gone already.
options:
  node:
    description: Name of the node that has to be a replica.
    type: str
    required: true
  max_lag_bytes:
    description: How far behind a replica may be to be chosen, in bytes. What is left is transferred while writes wait.
    type: int
    default: 1048576
  timeout_seconds:
    description: How long all of it may take, in seconds.
    type: int
    default: 60
extends_documentation_fragment: [sutazai.platform.redis]
attributes:
  check_mode: {support: full, description: Says which replica would take over.}
  diff_mode: {support: none, description: RV(promoted) says it.}
"""

EXAMPLES = r"""
- name: Hand the slots to a replica
  sutazai.platform.redis_cluster_failover:
    nodes: "{{ __redis_nodes }}"
    node: "{{ inventory_hostname }}"
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
"""

RETURN = r"""
promoted:
  description: Name of the replica that took over; empty when the node was a replica already.
  returned: always
  type: str
seconds:
  description: How long it took until all agreed.
  returned: always
  type: float
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import redis_nodes
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import (
    Observation,
    disagreeing,
    replica_to_promote,
)

POLL_SECONDS = 0.3
# A manual failover gives up after 5 s; only then is it asked for again.
REPEAT_SECONDS = 6.0


def handed_over(seen: dict[str, Observation], name: str, promoted: str) -> str:
    """Why the handover isn't complete yet; "" when it is."""
    old, new = seen[name], seen[promoted]
    for one in (old, new):
        if one.error:
            return one.error
    if new.me.is_replica:
        return f"{promoted} is still a replica."
    if not old.me.is_replica or old.me.master_id != new.id:
        return f"{name} isn't a replica of {promoted} yet."
    if not old.link_up:
        return f"{name} isn't in sync with {promoted} yet."
    odd = disagreeing([one for one in seen.values() if not one.error])
    return f"{', '.join(odd)} doesn't know of it yet." if odd else ""


def half_moved(seen: dict[str, Observation], name: str) -> str:
    """Which slots are on their way from or to a node, as a reason not to replace it now; "" if none are."""
    one = seen[name]
    marks = [*one.me.moving, *(text for other in seen.values() for text in other.me.moving if text.endswith(one.id))]
    slots = sorted({int(text.split("-", 1)[0]) for text in marks})
    if not slots:
        return ""
    return (
        f"{len(slots)} slot(s) half moved from or to it (the first is {slots[0]}). A replica that takes over doesn't know that, and clients "
        "would miss the keys that have gone. Let the playbook that moves them end, or repeat it (scale.yml); then try again."
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec=redis_nodes.argument_spec(
            node={"type": "str", "required": True},
            max_lag_bytes={"type": "int", "default": 1048576},
            timeout_seconds={"type": "int", "default": 60},
        ),
        supports_check_mode=True,
    )
    if redis_nodes.redis is None:
        module.fail_json(msg=redis_nodes.missing_library(), exception=redis_nodes.REDIS_IMPORT_ERROR)
    connections = redis_nodes.Connections(module.params)
    name = module.params["node"]
    if name not in connections.by_name:
        module.fail_json(msg=f"node {name} is not one of nodes: {', '.join(connections.by_name)}.")
    began = time.monotonic()
    result = {"changed": False, "promoted": "", "seconds": 0.0}
    asked = -REPEAT_SECONDS
    seen = connections.observe()
    if seen[name].error:
        module.fail_json(msg=f"It can't be said whether {name} is a master: {seen[name].error}", **result)
    if seen[name].me.is_replica or not seen[name].me.slots:
        module.exit_json(**result)
    try:
        while True:
            why = handed_over(seen, name, result["promoted"]) if result["promoted"] else ""
            if result["promoted"] and not why:
                break
            now = time.monotonic()
            if now - began > module.params["timeout_seconds"]:
                module.fail_json(msg=f"{name} is not replaced as a master after {now - began:.0f} s: {why}", **result)
            if now - asked >= REPEAT_SECONDS and not seen[name].error and not seen[name].me.is_replica:
                replica, reasons = replica_to_promote(seen, name, module.params["max_lag_bytes"])
                why = half_moved(seen, name)
                if not why and not replica:
                    why = f"no replica can take over. {' '.join(reasons) or 'It has none.'}"
                if not why:
                    result.update(changed=True, promoted=replica)
                    if module.check_mode:
                        break
                    connections.call(replica, "CLUSTER", "FAILOVER")
                    asked = now
                elif now - began > module.params["timeout_seconds"] / 2:
                    module.fail_json(msg=f"{name} stays master: {why}", **result)
            time.sleep(POLL_SECONDS)
            seen = connections.observe()
    except redis_nodes.NodeError as error:
        module.fail_json(msg=str(error), **result)
    result["seconds"] = round(time.monotonic() - began, 1)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
