#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ask every node of a Redis Cluster how the cluster is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_info
short_description: Say whether a Redis Cluster is healthy, and how it looks to each member
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Asks every node, compares what they say, and returns it with the problems as sentences. Changes nothing.
  - A node that doesn't answer is a problem in the result, not a failure of the module.
options:
  replicas_per_master:
    description: How many replicas each master should have.
    type: int
    default: 1
  check_layout:
    description: Whether a layout that doesn't survive the loss of a failure domain is a problem. RV(layout_problems) is returned either way.
    type: bool
    default: true
  max_silence_seconds:
    description: For how long a replica may have heard nothing of its master, in seconds. Masters ping every 10 seconds.
    type: int
    default: 30
  wait_seconds:
    description: How long to ask again while there are problems, in seconds. 0 asks once.
    type: int
    default: 0
  config:
    description: Settings (as C(CONFIG GET) knows them) to return of each node.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [sutazai.platform.redis, sutazai.platform.redis.removed]
attributes:
  check_mode: {support: full, description: Changes nothing anyway.}
  diff_mode: {support: none, description: Changes nothing.}
seealso:
  - module: sutazai.platform.redis_cluster
"""

EXAMPLES = r"""
- name: Ask the cluster
  sutazai.platform.redis_cluster_info:
    nodes: "{{ __redis_nodes }}"
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
  run_once: true
  register: __redis_health

- name: Refuse an unhealthy one
  ansible.builtin.assert:
    that: __redis_health.healthy
    fail_msg: "{{ __redis_health.problems | join(' ') }}"
"""

RETURN = r"""
healthy:
  description: Whether there are no problems.
  returned: always
  type: bool
problems:
  description: What is wrong, as sentences.
  returned: always
  type: list
  elements: str
state:
  description: V(ok) when every node that answers says so.
  returned: always
  type: str
masters:
  description: Names of the nodes that have slots.
  returned: always
  type: list
  elements: str
replicas:
  description: Names of the replicas.
  returned: always
  type: list
  elements: str
members:
  description: >-
    Of each node its address, failure_domain, reachable, role and, if it answers, id, state, version, keys, slots, slot_count,
    moving_slots, master, link_up, lag_bytes, config, users.
  returned: always
  type: dict
layout:
  description: Of each master its slots and replicas.
  returned: always
  type: dict
layout_problems:
  description: What wouldn't survive the loss of a failure domain, as sentences.
  returned: always
  type: list
  elements: str
leaving_members:
  description: Those of O(removed_nodes) that are still members.
  returned: always
  type: list
  elements: str
slots_covered:
  description: How many of the 16384 slots are served by a node that answers.
  returned: always
  type: int
views_agree:
  description: Whether all nodes that answer see the same roles and slots.
  returned: always
  type: bool
failed_members:
  description: Nodes that others count as failed.
  returned: always
  type: list
  elements: str
unreachable_members:
  description: Nodes that don't answer this module.
  returned: always
  type: list
  elements: str
versions:
  description: Versions of Redis that run.
  returned: always
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import redis_nodes
from ansible_collections.sutazai.platform.plugins.module_utils.redis_resize import still_members
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import assess

POLL_SECONDS = 1.0


def main() -> None:
    module = AnsibleModule(
        argument_spec=redis_nodes.argument_spec(
            removed_nodes={"type": "list", "elements": "dict", "default": [], "options": redis_nodes.NODE_OPTIONS},
            replicas_per_master={"type": "int", "default": 1},
            check_layout={"type": "bool", "default": True},
            max_silence_seconds={"type": "int", "default": 30},
            wait_seconds={"type": "int", "default": 0},
            config={"type": "list", "elements": "str", "default": []},
        ),
        supports_check_mode=True,
    )
    if redis_nodes.redis is None:
        module.fail_json(msg=redis_nodes.missing_library(), exception=redis_nodes.REDIS_IMPORT_ERROR)
    connections = redis_nodes.Connections(module.params)
    wanted = module.params
    began = time.monotonic()
    while True:
        seen = connections.observe()
        leaving = still_members(connections.nodes, connections.leaving, seen)
        members = [*connections.nodes, *leaving]
        result = assess(
            members,
            {node.name: seen[node.name] for node in members},
            wanted["replicas_per_master"],
            wanted["check_layout"],
            wanted["max_silence_seconds"],
        )
        if result["healthy"] or time.monotonic() - began >= wanted["wait_seconds"]:
            break
        time.sleep(POLL_SECONDS)
    result["leaving_members"] = [node.name for node in leaving]
    if wanted["config"]:
        for name, member in result["members"].items():
            if member["reachable"]:
                member.update(redis_nodes.settings(connections, name, wanted["config"]))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
