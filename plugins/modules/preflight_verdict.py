"""Documentation of the action plugin of the same name; there is nothing to run on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: preflight_verdict
short_description: Refuse hosts that can't carry what the inventory wants
version_added: "0.1.0"
description:
  - Holds what M(sutazai.platform.preflight_host) found on all hosts of the play against what their roles need, and reports all
    problems in one message, hosts that could not be reached or examined among them.
  - Runs on the controller alone. Run it once.
author: SutazAI platform team (@sutazai)
attributes:
  check_mode: {support: full, description: Reads only.}
  diff_mode: {support: none, description: Changes nothing.}
options:
  inventory:
    description: Result of M(sutazai.platform.preflight_inventory).
    type: dict
    required: true
  results:
    description: Name of the variable that the hosts' results were registered in.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Judge all hosts at once
  sutazai.platform.preflight_verdict:
    inventory: "{{ preflight }}"
    results: found
  run_once: true
"""

RETURN = r"""
msg:
  description: All problems as one text, or that there are none.
  returned: always
  type: str
problem_count:
  description: How many problems there are.
  returned: always
  type: int
warning_count:
  description: How many warnings there are.
  returned: always
  type: int
"""
