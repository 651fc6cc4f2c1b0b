#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Look at what a host already holds before Consul is set up on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_host_info
short_description: Look at what a host already holds before Consul is set up on it
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Says whether the host's Consul data belongs to the cluster with this gossip key, and how the host resolves names.
  - An agent that finds a keyring in its data directory ignores the key in its configuration, so a wrong one is found here or never.
options:
  gossip_key:
    description: The cluster's gossip key.
    type: str
    required: true
  data_directory:
    description: Consul's data directory.
    type: path
    default: /var/lib/consul
attributes:
  check_mode: {support: full, description: Reads only.}
  diff_mode: {support: none, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Look at the host
  sutazai.platform.consul_host_info:
    gossip_key: "{{ consul_gossip_key }}"
  register: __consul_host
"""

RETURN = r"""
keyring:
  description: V(absent), V(matches), V(secondary) (the key is known, another one is in use) or V(differs).
  returned: always
  type: str
resolver:
  description: V(resolved) where systemd-resolved runs, V(file) where C(/etc/resolv.conf) is read directly.
  returned: always
  type: str
forwarder_installed:
  description: Whether dnsmasq is installed.
  returned: always
  type: bool
package_lists:
  description: Whether the host knows any Debian packages yet. A new host may not, and then check mode can't judge packages.
  returned: always
  type: bool
healthy:
  description: Whether there are no problems.
  returned: always
  type: bool
problems:
  description: What speaks against setting up Consul here, in sentences.
  returned: always
  type: list
  elements: str
"""

import glob
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.consul_host import host_problems, keyring_state


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "gossip_key": {"type": "str", "required": True, "no_log": True},
            "data_directory": {"type": "path", "default": "/var/lib/consul"},
        },
        supports_check_mode=True,
    )
    serf = os.path.join(module.params["data_directory"], "serf")
    keyring = None
    if os.path.exists(os.path.join(serf, "local.keyring")):
        with open(os.path.join(serf, "local.keyring"), encoding="utf-8") as file:
            keyring = file.read()
    state = keyring_state(keyring, module.params["gossip_key"])
    problems = host_problems(
        state, os.path.exists(os.path.join(serf, "local.snapshot")), module.params["data_directory"]
    )
    module.exit_json(
        changed=False,
        keyring=state,
        resolver="resolved" if os.path.exists("/run/systemd/resolve/stub-resolv.conf") else "file",
        forwarder_installed=os.path.exists("/usr/sbin/dnsmasq"),
        package_lists=bool(glob.glob("/var/lib/apt/lists/*_Packages*")),
        healthy=not problems,
        problems=problems,
    )


if __name__ == "__main__":
    main()
