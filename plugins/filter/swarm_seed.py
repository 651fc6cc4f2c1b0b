"""Which manager the other hosts of a Docker Swarm join."""

from __future__ import annotations

DOCUMENTATION = r"""
name: swarm_seed
short_description: Which manager the other hosts of a Docker Swarm join
version_added: "0.1.0"
description:
  - Chooses among the results of M(sutazai.platform.swarm_info) on all managers. A Swarm that is there is kept; fails when there are two, when it
    is locked, and when none serves although hosts are members of one.
options:
  _input:
    description: The results of a loop over the managers' names, also those of hosts that didn't answer.
    type: list
    elements: dict
    required: true
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Choose
  ansible.builtin.debug:
    msg: "{{ __swarm_found.results | sutazai.platform.swarm_seed }}"
"""

RETURN = r"""
_value:
  description: The host, and whether a new Swarm is made there (new).
  type: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.sutazai.platform.plugins.module_utils.swarm_state import CannotForm, Local, choose_seed


def swarm_seed(results):
    found = {
        result["item"]: Local(**{**result["local"], "managers": tuple(result["local"]["managers"])})
        if "local" in result
        else None
        for result in results
    }
    try:
        host, new = choose_seed(found, list(found))
    except CannotForm as problem:
        raise AnsibleFilterError(str(problem)) from problem
    return {"host": host, "new": new}


class FilterModule:
    def filters(self):
        return {"swarm_seed": swarm_seed}
