"""Tells what a host is and holds, before anything is changed on it."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: preflight_host
short_description: Tell what a host is and holds, before anything is changed on it
version_added: "0.1.0"
description:
  - Reads distribution, memory, disk, listening ports, installed versions and what the data directories of clustered daemons remember.
  - Changes nothing and judges nothing. C(playbooks/preflight.yml) compares it with the inventory.
  - Its action part, which runs on the controller, also bounds how far the host's clock is off.
author: SutazAI platform team (@sutazai)
attributes:
  check_mode: {support: full, description: Reads only.}
  diff_mode: {support: none, description: Changes nothing.}
options:
  ports:
    description: Ports of interest.
    type: list
    elements: int
    default: []
  disk_path:
    description: Where the free disk space is measured.
    type: path
    default: /var/lib
  virtual_address:
    description: Address that moves between hosts. Who has it is asked of the network, if this host doesn't hold it.
    type: str
  certificates:
    description: Certificates that were given, by the variable that names them, each with C(certificate) and C(key). One that isn't there is left out.
    type: dict
    default: {}
  consul:
    description: Paths of Consul (C(data), C(configuration), C(binary)). Without them Consul isn't looked at.
    type: dict
  rabbitmq:
    description: Paths of RabbitMQ (C(home)).
    type: dict
  redis:
    description: Paths of Redis (C(data)).
    type: dict
  postgresql:
    description: Paths of PostgreSQL and Patroni (C(data), C(configuration)).
    type: dict
"""

EXAMPLES = r"""
- name: Look at the host
  sutazai.platform.preflight_host:
    ports: [6379, 16379]
    redis: {data: /var/lib/redis}
"""

RETURN = r"""
state:
  description: What was found.
  returned: always
  type: dict
  contains:
    release: {description: Distribution and release., type: dict}
    memory_mb: {description: "Memory that the host may use; of a container, its limit.", type: int}
    disk_free_mb: {description: Free disk space., type: int}
    listeners: {description: "Ports of interest that something listens on, and the command.", type: dict}
    packages: {description: Versions of installed packages., type: dict}
    virtual_address: {description: "The hardware address that answers for it (C(answers), empty if none does), and the host's own (C(own)).", type: dict}
    certificates: {description: "What is wrong with certificates, by the variable.", type: dict}
    consul: {description: "Version, datacenter and members that Consul's data remembers.", type: dict}
    rabbitmq: {description: Erlang nodes that have data here and whom they know., type: dict}
    redis: {description: Cluster nodes that are known here., type: dict}
    postgresql: {description: Database clusters and Patroni's scope., type: dict}
clock:
  description: By how many seconds the host's clock is ahead of the controller's, at least and at most.
  returned: when the action part could measure it
  type: dict
  contains:
    low: {description: At least., type: float}
    high: {description: At most., type: float}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.preflight import host_state


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "default": []},
            "disk_path": {"type": "path", "default": "/var/lib"},
            "virtual_address": {"type": "str"},
            "certificates": {"type": "dict", "default": {}},
            "consul": {"type": "dict"},
            "rabbitmq": {"type": "dict"},
            "redis": {"type": "dict"},
            "postgresql": {"type": "dict"},
        },
        supports_check_mode=True,
    )
    state = {
        "release": host_state.release(),
        "memory_mb": host_state.memory_mb(),
        "disk_free_mb": host_state.disk_free_mb(module.params["disk_path"]),
        "listeners": host_state.listeners(module.params["ports"]),
        "packages": host_state.packages(),
    }
    found = {variable: host_state.certificate(**pair) for variable, pair in module.params["certificates"].items()}
    state["certificates"] = {variable: wrong for variable, wrong in found.items() if wrong}
    if module.params["virtual_address"]:
        state["virtual_address"] = host_state.virtual_address(module.params["virtual_address"])
    for part in ("consul", "rabbitmq", "redis", "postgresql"):
        if module.params[part]:
            state[part] = getattr(host_state, part)(**module.params[part])
    module.exit_json(changed=False, state=state)


if __name__ == "__main__":
    main()
