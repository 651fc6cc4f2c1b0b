#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Let a replica take over from a master that is about to stop, by the sentinels."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_sentinel_failover
short_description: Make a Redis server a replica, without losing a write
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - If the server is the master, a sentinel lets a replica take over (C(SENTINEL FAILOVER)). Writes are held from before the replica gets the
    last of them until it is master, and clients of the old master are disconnected, so that they look for the new one.
  - Done only when the new master says that it is, the old one and all other replicas are in sync with it, and all sentinels name it. The reply of
    C(SENTINEL FAILOVER) proves nothing.
  - A server that is a replica already is left alone.
options:
  node:
    description: Name of the host whose server has to be a replica.
    type: str
    required: true
  timeout_seconds:
    description: How long all of it may take, in seconds.
    type: int
    default: 60
extends_documentation_fragment: [sutazai.platform.redis, sutazai.platform.redis.removed, sutazai.platform.redis_sentinel]
attributes:
  check_mode: {support: full, description: Says whether there would be a handover. Who takes over is the sentinels' to say.}
  diff_mode: {support: none, description: RV(promoted) says it.}
"""

EXAMPLES = r"""
- name: Hand over to a replica
  sutazai.platform.redis_sentinel_failover:
    nodes: "{{ __redis_nodes }}"
    node: "{{ inventory_hostname }}"
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
"""

RETURN = r"""
promoted:
  description: Name of the host whose server took over; empty when O(node) was a replica already, and in check mode.
  returned: always
  type: str
seconds:
  description: How long it took until all agreed.
  returned: always
  type: float
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import redis_nodes, redis_sentinels
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_state import MASTER


def main() -> None:
    module = AnsibleModule(
        argument_spec=redis_sentinels.argument_spec(
            node={"type": "str", "required": True},
            timeout_seconds={"type": "int", "default": 60},
        ),
        supports_check_mode=True,
    )
    if redis_nodes.redis is None:
        module.fail_json(msg=redis_nodes.missing_library(), exception=redis_nodes.REDIS_IMPORT_ERROR)
    connections = redis_sentinels.Connections(module.params)
    name = module.params["node"]
    if name not in connections.servers:
        module.fail_json(msg=f"node {name} is not one of nodes: {', '.join(connections.servers)}.")
    result = {"changed": False, "promoted": "", "seconds": 0.0}
    began = time.monotonic()
    server = connections.look().servers[name]
    if server.error:
        module.fail_json(msg=f"It can't be said whether {name} is the master: {server.error}", **result)
    if server.role != MASTER:
        module.exit_json(**result)
    if module.check_mode:
        module.exit_json(**{**result, "changed": True})
    try:
        result["promoted"] = connections.hand_over(
            name, module.params["timeout_seconds"], lambda: result.update(changed=True)
        )
    except (redis_sentinels.HandoverFailed, redis_nodes.NodeError) as error:
        module.fail_json(msg=str(error), **result)
    result["seconds"] = round(time.monotonic() - began, 1)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
