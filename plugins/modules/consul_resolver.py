#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Make a host ask the forwarder on its loopback address, and keep the servers that it asked before."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_resolver
short_description: Make a host ask the DNS forwarder on its loopback address
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Moves the name servers of C(/etc/resolv.conf) into a file of their own, then names 127.0.0.1 as the only one.
  - The file is written in place, because in a container it is a mount and can't be replaced. The servers are saved first, so a
    run that is killed in between loses nothing. When something else (DHCP) puts other servers there, the next run moves those.
options:
  upstream_file:
    description: Where the servers are kept.
    type: path
    default: /etc/sutazai/resolv.upstream.conf
  upstream_servers:
    description: Servers to use instead of those that the host has.
    type: list
    elements: str
    default: []
  path:
    description: The resolver's configuration.
    type: path
    default: /etc/resolv.conf
attributes:
  check_mode: {support: full, description: Says whether something would change.}
  diff_mode: {support: full, description: Shows the file before and after.}
"""

EXAMPLES = r"""
- name: Ask the forwarder
  sutazai.platform.consul_resolver:
"""

RETURN = r"""
upstream_servers:
  description: The servers that the forwarder asks.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.consul_host import (
    local_resolv_conf,
    nameservers,
    upstream_conf,
)


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "upstream_file": {"type": "path", "default": "/etc/sutazai/resolv.upstream.conf"},
            "upstream_servers": {"type": "list", "elements": "str", "default": []},
            "path": {"type": "path", "default": "/etc/resolv.conf"},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    before, kept = read(wanted["path"]), read(wanted["upstream_file"])
    servers = wanted["upstream_servers"] or nameservers(before) or nameservers(kept)
    files = [(wanted["upstream_file"], kept, upstream_conf(servers))]
    files.append((wanted["path"], before, local_resolv_conf(before, wanted["upstream_file"])))
    changed = [(path, old, new) for path, old, new in files if old != new]
    if not module.check_mode:
        os.makedirs(os.path.dirname(wanted["upstream_file"]), mode=0o755, exist_ok=True)
        for path, _old, new in changed:
            with open(path, "w", encoding="utf-8") as file:
                file.write(new)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(path, 0o644)
    module.exit_json(
        changed=bool(changed),
        upstream_servers=servers,
        diff=[{"before_header": path, "after_header": path, "before": old, "after": new} for path, old, new in changed],
    )


if __name__ == "__main__":
    main()
