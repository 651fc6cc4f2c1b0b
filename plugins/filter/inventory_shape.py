"""Exported variables as an inventory has them."""

from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_shape
short_description: Exported variables of a group as an inventory has them
version_added: "0.1.0"
description:
  - Splits the hosts' exported variables into those that all share, for C(group_vars), and each host's own, for C(host_vars).
    Secrets are replaced by a mark.
options:
  _input:
    description: "C({host: {variable: value}})."
    type: dict
    required: true
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Show what the hosts share
  ansible.builtin.debug:
    msg: "{{ {'redis-1': {'redis_port': 6379}} | sutazai.platform.inventory_shape }}"
"""

RETURN = r"""
_value:
  description: C(group) with the shared variables and C(hosts) with those of each host.
  type: dict
"""

from ansible_collections.sutazai.platform.plugins.module_utils.drift import inventory_shape


def shape(exports):
    common, own = inventory_shape(exports)
    return {"group": common, "hosts": own}


class FilterModule:
    def filters(self):
        return {"inventory_shape": shape}
