"""Documentation of the action plugin of the same name; there is nothing to run on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: preflight_inventory
short_description: Refuse an inventory that can't work, without contacting a host
version_added: "0.1.0"
description:
  - Looks at the variables of all hosts of the inventory, as the roles will see them, and at the inventory's files. All problems are
    reported in one message, each with what is wrong, where it is set and what would be right.
  - Runs on the controller alone, in check mode as well, and looks at the whole inventory whatever C(--limit) says. Run it once.
  - C(docs/preflight.md) lists the rules and the variables that adjust them.
author: SutazAI platform team (@sutazai)
attributes:
  check_mode: {support: full, description: Reads only.}
  diff_mode: {support: none, description: Changes nothing.}
options:
  roles_directory:
    description: Where the roles are whose argument specs the variables are held against. The collection's own by default.
    type: path
  details:
    description: Return every problem and warning as data, too.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Check the whole inventory
  sutazai.platform.preflight_inventory:
  run_once: true
  register: preflight
"""

RETURN = r"""
msg:
  description: All problems as one text, or that there are none.
  returned: always
  type: str
hosts:
  description: How many hosts were looked at.
  returned: always
  type: int
problem_count:
  description: How many problems there are.
  returned: always
  type: int
warning_count:
  description: How many warnings there are.
  returned: always
  type: int
problems:
  description: The problems as data.
  returned: with O(details)
  type: list
  elements: dict
cautions:
  description: The warnings as data.
  returned: with O(details)
  type: list
  elements: dict
plan:
  description: What each host's roles need of it, for M(sutazai.platform.preflight_host) and M(sutazai.platform.preflight_verdict).
  returned: when there are no problems
  type: dict
members:
  description: Address of each host.
  returned: when there are no problems
  type: dict
clock_skew_limit_seconds:
  description: Allowed difference between clocks.
  returned: when there are no problems
  type: float
"""
