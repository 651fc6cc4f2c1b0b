#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""What Redis will find on this host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_host_info
short_description: Say what Redis finds on this host, memory and data
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Reads how much memory there is for processes of this host, cgroup limits included, and what is in the data directory. Changes nothing.
options:
  data_directory:
    description: Redis' working directory.
    type: path
    required: true
  sentinel_directory:
    description: The sentinel's working directory, where its running configuration is.
    type: path
    default: /var/lib/redis-sentinel
attributes:
  check_mode: {support: full, description: Changes nothing anyway.}
  diff_mode: {support: none, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Look at the host
  sutazai.platform.redis_host_info:
    data_directory: /var/lib/redis
  register: __redis_host
"""

RETURN = r"""
memory_bytes:
  description: Memory for processes of this host, rounded down to 64 MiB.
  returned: always
  type: int
data_files:
  description: Snapshots and append-only files in the data directory.
  returned: always
  type: list
  elements: str
cluster_node:
  description: Whether the data directory is that of a node in cluster mode.
  returned: always
  type: bool
cluster_member:
  description: Whether that node knows other members.
  returned: always
  type: bool
replication_node:
  description: Whether the data directory is that of a server in sentinel mode.
  returned: always
  type: bool
replication_member:
  description: Whether that server is a master or a replica. Without a role it replicates from C(127.0.0.1) port 1.
  returned: always
  type: bool
sentinel_installed:
  description: Whether a sentinel has run here.
  returned: always
  type: bool
sentinel_member:
  description: Whether that sentinel watches a master.
  returned: always
  type: bool
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import host
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_state import has_role
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import parse_nodes

DATA = ("dump.rdb", "appendonly.aof", "appendonlydir")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "data_directory": {"type": "path", "required": True},
            "sentinel_directory": {"type": "path", "default": "/var/lib/redis-sentinel"},
        },
        supports_check_mode=True,
    )
    directory = module.params["data_directory"]
    running = os.path.join(directory, "running.conf")
    sentinel = os.path.join(module.params["sentinel_directory"], "sentinel.conf")
    topology = os.path.join(directory, "nodes.conf")
    module.exit_json(
        changed=False,
        memory_bytes=host.in_grains(host.memory_bytes()),
        data_files=[os.path.join(directory, name) for name in DATA if os.path.exists(os.path.join(directory, name))],
        cluster_node=os.path.isfile(topology),
        cluster_member=len(parse_nodes(host.text(topology))) > 1,
        replication_node=os.path.isfile(running),
        replication_member=os.path.isfile(running) and has_role(host.text(running)),
        sentinel_installed=os.path.isfile(sentinel),
        sentinel_member="\nsentinel monitor " in host.text(sentinel),
    )


if __name__ == "__main__":
    main()
