#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Make Consul forget who led a Patroni cluster that is stopped."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_forget
short_description: Make Consul forget who led a Patroni cluster that is stopped
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Removes what Patroni keeps in Consul about a cluster, except its settings (C(config)), so that the next member that starts founds the
    cluster anew from the data it has.
  - Refuses as long as somebody holds the leader's lock, since then a Patroni runs. A lock whose holder has died is waited for.
options:
  scope:
    description: The cluster's name in Consul.
    type: str
    required: true
  url:
    description: Address of the Consul agent.
    type: str
    default: http://127.0.0.1:8500
  configuration_file:
    description: Patroni's configuration, from which its Consul token is read.
    type: path
    default: /etc/patroni/config.yml
  wait_seconds:
    description: How long to wait until the leader's lock has expired.
    type: int
    default: 90
attributes:
  check_mode: {support: full, description: Says whether there is something to forget.}
  diff_mode: {support: none, description: RV(removed) names what goes.}
"""

EXAMPLES = r"""
- name: Forget the cluster
  sutazai.platform.patroni_forget:
    scope: postgresql
"""

RETURN = r"""
removed:
  description: The keys that were removed.
  returned: success
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import host, patroni_host
from ansible_collections.sutazai.platform.plugins.module_utils.consul_api import ConsulApi, Unreachable


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "scope": {"type": "str", "required": True},
            "url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "configuration_file": {"type": "path", "default": "/etc/patroni/config.yml"},
            "wait_seconds": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    prefix = f"service/{wanted['scope']}/"
    token = patroni_host.consul_token(host.text(wanted["configuration_file"]))
    consul = ConsulApi({"url": wanted["url"], "token": token})

    def tell(method: str, path: str):
        answer = consul.request(method, path)
        if not answer.ok and answer.status != 404:
            module.fail_json(msg=f"Consul refuses {method} {path}: {answer.status} {answer.text}")
        return answer

    try:
        deadline = time.monotonic() + wanted["wait_seconds"]
        # In check mode nothing was stopped before this.
        while not module.check_mode and (lock := tell("GET", f"/v1/kv/{prefix}leader")).ok:
            if not lock.data[0].get("Session"):
                break  # nobody's any more
            if time.monotonic() >= deadline:
                module.fail_json(
                    msg=f"Somebody holds the leader's lock of {wanted['scope']} in Consul: a Patroni still runs, perhaps on a host that "
                    "isn't in the inventory any more. Nothing was removed. `consul kv get service/"
                    f"{wanted['scope']}/leader` names it; stop it there."
                )
            time.sleep(2)
        listing = tell("GET", f"/v1/kv/{prefix}?keys")
        keys = patroni_host.forgotten(listing.data if listing.ok else [], prefix)
        for key in [] if module.check_mode else keys:
            tell("DELETE", f"/v1/kv/{key}")
    except Unreachable as reason:
        module.fail_json(msg=f"{reason}. Patroni's cluster can't be founded anew without Consul.")
    module.exit_json(changed=bool(keys), removed=keys)


if __name__ == "__main__":
    main()
