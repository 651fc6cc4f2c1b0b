"""Differences between intended and live variables."""

from __future__ import annotations

DOCUMENTATION = r"""
name: drift_differences
short_description: Differences between what the inventory says and what is live
version_added: "0.1.0"
description:
  - Compares role variables with those that the role's C(export) read back. Order doesn't matter; lists of named things are
    compared by name; secrets are left out. Only variables that the export has are compared.
positional: live
options:
  _input:
    description: The variables as the inventory and the role's defaults give them.
    type: dict
    required: true
  live:
    description: The variables as the export gives them.
    type: dict
    required: true
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Compare
  ansible.builtin.debug:
    msg: "{{ {'redis_maxmemory_percent': 60} | sutazai.platform.drift_differences(redis_export) }}"
"""

RETURN = r"""
_value:
  description: Mappings with C(variable), C(kind) (missing, extra, different), C(intended), C(live).
  type: list
  elements: dict
"""

from ansible_collections.sutazai.platform.plugins.module_utils.drift import differences


class FilterModule:
    def filters(self):
        return {"drift_differences": differences}
