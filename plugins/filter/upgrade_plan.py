"""What a rolling upgrade would do, why it may not, and what it did."""

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_plan
short_description: Judge what a rolling upgrade would do
version_added: "0.1.0"
description:
  - Takes what M(sutazai.platform.upgrade_info) found on every host, and answers with what would be done and what forbids it.
positional: after
options:
  _input:
    description: Host to the list of what was found there.
    type: dict
    required: true
  after:
    description: The same after the upgrade; then RV(_value.done) and RV(_value.left) are told, too.
    type: dict
    default: {}
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Refuse what can't be
  ansible.builtin.assert:
    that: (plans | sutazai.platform.upgrade_plan).problems == ""
"""

RETURN = r"""
_value:
  description: C(problems), one message, empty when nothing forbids it; C(lines), what would be done; C(done) and C(left), what was done or wasn't.
  type: dict
"""

from ansible_collections.sutazai.platform.plugins.module_utils import upgrade_plan as lib


def upgrade_plan(before, after=None):
    return {"problems": lib.problems(before), "lines": lib.lines(before), **lib.outcome(before, after or {})}


class FilterModule:
    def filters(self):
        return {"upgrade_plan": upgrade_plan}
