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
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.redis_memory import memory_bytes
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import parse_nodes

DATA = ("dump.rdb", "appendonly.aof", "appendonlydir")


def read(path: str) -> str | None:
    """A file's text, None when there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None


def main() -> None:
    module = AnsibleModule(
        argument_spec={"data_directory": {"type": "path", "required": True}}, supports_check_mode=True
    )
    directory = module.params["data_directory"]
    topology = read(os.path.join(directory, "nodes.conf"))
    module.exit_json(
        changed=False,
        memory_bytes=memory_bytes(read),
        data_files=[os.path.join(directory, name) for name in DATA if os.path.exists(os.path.join(directory, name))],
        cluster_node=topology is not None,
        cluster_member=len(parse_nodes(topology or "")) > 1,
    )


if __name__ == "__main__":
    main()
