"""Differences as a table."""

from __future__ import annotations

DOCUMENTATION = r"""
name: drift_table
short_description: Differences as a table for a person
version_added: "0.1.0"
description:
  - Lines of a table of what P(sutazai.platform.drift_differences#filter) found, each with C(component) and C(host) added.
    The same difference on several hosts is one line. No lines when nothing differs.
positional: width
options:
  _input:
    description: The differences.
    type: list
    elements: dict
    required: true
  width:
    description: Width in characters to which values are cut.
    type: int
    default: 36
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Show the drift
  ansible.builtin.debug:
    msg: "{{ rows | sutazai.platform.drift_table }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from ansible_collections.sutazai.platform.plugins.module_utils.drift import table


class FilterModule:
    def filters(self):
        return {"drift_table": table}
