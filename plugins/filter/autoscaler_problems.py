"""What is wrong with the autoscaler's rules."""

from __future__ import annotations

DOCUMENTATION = r"""
name: autoscaler_problems
short_description: What is wrong with the autoscaler's rules
version_added: "0.1.0"
author: SutazAI platform team (@sutazai)
description:
  - Says the same as C(sutazai-autoscaler check) does on a host.
options:
  _input:
    description: The rules, as in C(autoscaler_rules).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse wrong rules
  ansible.builtin.assert:
    that: autoscaler_rules | sutazai.platform.autoscaler_problems | length == 0
"""

RETURN = r"""
_value:
  description: A sentence for each problem.
  type: list
  elements: str
"""

from ansible_collections.sutazai.platform.plugins.module_utils.autoscaler_rules import WrongRules, parse_rules


def autoscaler_problems(rules):
    try:
        parse_rules(rules, "autoscaler_rules")
    except WrongRules as wrong:
        return list(wrong.problems)
    return []


class FilterModule:
    def filters(self):
        return {"autoscaler_problems": autoscaler_problems}
