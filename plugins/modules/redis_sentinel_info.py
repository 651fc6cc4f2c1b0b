#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ask every Redis server and every sentinel of one master how it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_sentinel_info
short_description: Say whether a Redis master, its replicas and its sentinels are healthy
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Asks every server and every sentinel, compares what they say, and returns it with the problems as sentences. Changes nothing.
  - Who doesn't answer is a problem in the result, not a failure of the module.
options:
  max_silence_seconds:
    description: For how long a replica may have heard nothing of its master, in seconds. Masters ping every 10 seconds.
    type: int
    default: 30
  wait_seconds:
    description: How long to ask again while there are problems, in seconds. 0 asks once.
    type: int
    default: 0
  config:
    description: Settings (as C(CONFIG GET) knows them) to return of each server.
    type: list
    elements: str
    default: []
extends_documentation_fragment: [sutazai.platform.redis, sutazai.platform.redis.removed, sutazai.platform.redis_sentinel]
attributes:
  check_mode: {support: full, description: Changes nothing anyway.}
  diff_mode: {support: none, description: Changes nothing.}
seealso:
  - module: sutazai.platform.redis_sentinel
"""

EXAMPLES = r"""
- name: Ask servers and sentinels
  sutazai.platform.redis_sentinel_info:
    nodes: "{{ __redis_nodes }}"
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
  run_once: true
  register: __redis_health

- name: Refuse what is unhealthy
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
mode:
  description: V(sentinel).
  returned: always
  type: str
master:
  description: Name of the master that the sentinels name, or its address if it isn't in the inventory; empty when they name none.
  returned: always
  type: str
master_name:
  description: What sentinels and clients call it.
  returned: always
  type: str
masters:
  description: Names of the servers that say that they are master. More than one is a problem.
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
    Of each host its address, failure_domain, reachable, role, sentinel_reachable, sentinel_master and, if the server answers, version,
    keys, master, link_up, lag_bytes, config, users.
  returned: always
  type: dict
layout:
  description: Of each master its replicas.
  returned: always
  type: dict
leaving_members:
  description: Those of O(removed_nodes) that still take part, or are still known.
  returned: always
  type: list
  elements: str
failed_members:
  description: Hosts whose server a sentinel counts as failed.
  returned: always
  type: list
  elements: str
unreachable_members:
  description: Hosts whose server doesn't answer this module.
  returned: always
  type: list
  elements: str
unreachable_sentinels:
  description: Hosts whose sentinel doesn't answer this module.
  returned: always
  type: list
  elements: str
options:
  description: What the sentinels have set for the master, by the first that answers, without secrets.
  returned: always
  type: dict
versions:
  description: Versions of Redis that run.
  returned: always
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import redis_nodes, redis_sentinels
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_state import assess
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_steps import Goal, still_members

POLL_SECONDS = 1.0


def main() -> None:
    module = AnsibleModule(
        argument_spec=redis_sentinels.argument_spec(
            max_silence_seconds={"type": "int", "default": 30},
            wait_seconds={"type": "int", "default": 0},
            config={"type": "list", "elements": "str", "default": []},
        ),
        supports_check_mode=True,
    )
    if redis_nodes.redis is None:
        module.fail_json(msg=redis_nodes.missing_library(), exception=redis_nodes.REDIS_IMPORT_ERROR)
    wanted = module.params
    connections = redis_sentinels.Connections(wanted)
    goal = Goal(wanted["master_name"], wanted["sentinel_port"], leaving=tuple(connections.leaving))
    began = time.monotonic()
    while True:
        world = connections.look()
        leaving = tuple(still_members(connections.nodes, world, goal))
        result = assess(
            connections.nodes,
            wanted["sentinel_port"],
            wanted["master_name"],
            world,
            wanted["max_silence_seconds"],
            leaving,
        )
        if result["healthy"] or time.monotonic() - began >= wanted["wait_seconds"]:
            break
        time.sleep(POLL_SECONDS)
    result["master_name"] = wanted["master_name"]
    result["leaving_members"] = list(leaving)
    result["options"] = next((one.options for one in world.sentinels.values() if one.options), {})
    if wanted["config"]:
        for name, member in result["members"].items():
            if member["reachable"]:
                member.update(redis_nodes.settings(connections, name, wanted["config"]))
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
