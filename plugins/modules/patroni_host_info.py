#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Read what a host holds before Patroni is set up on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_host_info
short_description: Read what a host holds before Patroni is set up on it
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Reads the data directory, the clusters of Debian's own tools, and the memory that may be used.
  - When there is data, compares its system identifier with the cluster's in Consul and with those that running members report,
    so that another cluster's data is never taken for ours.
options:
  data_directory:
    description: Where the database cluster is to be.
    type: path
    required: true
  postgresql_version:
    description: The major version that is to run.
    type: str
    required: true
  configuration_file:
    description: Patroni's configuration, from which an existing Consul token is read (to ask for the initialize key).
    type: path
    default: /etc/patroni/config.yml
  scope:
    description: The cluster's name in Consul.
    type: str
    required: true
  consul_url:
    description: Address of the local Consul agent.
    type: str
    default: http://127.0.0.1:8500
  members:
    description: The other members, name to address.
    required: false
    default: {}
  timeout_seconds:
    default: 3
extends_documentation_fragment: [sutazai.platform.patroni]
attributes:
  check_mode: {support: full, description: Only reads.}
  diff_mode: {support: none, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Read what this host already holds
  sutazai.platform.patroni_host_info:
    data_directory: /var/lib/postgresql/17/postgresql
    postgresql_version: "17"
    scope: postgresql
  register: host
"""

RETURN = r"""
healthy:
  description: Whether nothing speaks against setting up Patroni here.
  returned: always
  type: bool
problems:
  description: What does, as sentences for a person.
  returned: always
  type: list
  elements: str
data_present:
  description: Whether the data directory holds a database cluster.
  returned: always
  type: bool
system_identifier:
  description: Its system identifier.
  returned: always
  type: str
memory_bytes:
  description: Memory that may be used, the machine's or that of the control group.
  returned: always
  type: int
watchdog:
  description: Whether there is a watchdog device.
  returned: always
  type: bool
user_present:
  description: Whether PostgreSQL's system user exists.
  returned: always
  type: bool
"""

import os
import pwd

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.urls import open_url
from ansible_collections.sutazai.platform.plugins.module_utils import host, patroni_host
from ansible_collections.sutazai.platform.plugins.module_utils.patroni_rest import REST_OPTIONS, Rest


def initialize_key(url: str, scope: str, configuration: str, timeout: int) -> str:
    """The cluster's identifier as Consul knows it; empty when there is none or nobody tells."""
    token = patroni_host.consul_token(host.text(configuration))
    headers = {"X-Consul-Token": token} if token else {}
    try:
        return to_text(
            open_url(
                f"{url}/v1/kv/service/{scope}/initialize?raw", headers=headers, timeout=timeout, use_proxy=False
            ).read()
        ).strip()
    except Exception:  # pylint: disable=broad-except
        return ""  # no agent, no key or no right to read it: then the running members are asked alone


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **REST_OPTIONS,
            "data_directory": {"type": "path", "required": True},
            "postgresql_version": {"type": "str", "required": True},
            "configuration_file": {"type": "path", "default": "/etc/patroni/config.yml"},
            "scope": {"type": "str", "required": True},
            "consul_url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "members": {"type": "dict", "default": {}},
            "timeout_seconds": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    path = wanted["data_directory"]
    data = patroni_host.data_directory(path)
    initialize, peers = "", {}
    if data["present"]:
        initialize = initialize_key(
            wanted["consul_url"], wanted["scope"], wanted["configuration_file"], wanted["timeout_seconds"]
        )
        for member in Rest(wanted).look()["members"]:
            peers[member["name"]] = member["system_identifier"]
    others = patroni_host.debian_clusters("/etc/postgresql", path)
    restoring = os.path.exists(patroni_host.RESTORING)
    problems = patroni_host.problems(path, data, wanted["postgresql_version"], others, initialize, peers, restoring)
    module.exit_json(
        changed=False,
        healthy=not problems,
        problems=problems,
        data_present=data["present"],
        system_identifier=data["system_identifier"],
        memory_bytes=host.memory_bytes(),
        watchdog=os.path.exists("/dev/watchdog"),
        user_present="postgres" in {entry.pw_name for entry in pwd.getpwall()},
    )


if __name__ == "__main__":
    main()
