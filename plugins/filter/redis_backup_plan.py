"""Which backups together restore a Redis Cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
name: redis_backup_plan
short_description: Which backups together restore a Redis Cluster
version_added: "0.1.0"
description:
  - Chooses among the backups of all members, as M(sutazai.platform.backup_files_info) returns them, so that each slot is taken from the
    newest backup that has it. Fails when a slot is in none, and when none holds a key.
positional: wanted, members, staging
options:
  _input:
    description: The backups.
    type: list
    elements: dict
    required: true
  wanted:
    description: A time such as C(20261124T220000Z); newer backups are left out. Empty for the newest.
    type: str
    required: true
  members:
    description: The cluster's members, which load the backups.
    type: list
    elements: str
    required: true
  staging:
    description: Directory of the members that backups on the controller are brought to. Empty when they are on the members.
    type: str
    default: ""
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Choose
  ansible.builtin.set_fact:
    __plan: "{{ backups | sutazai.platform.redis_backup_plan('', groups['redis']) }}"
"""

RETURN = r"""
_value:
  description: Of each backup its host, name, time, size_bytes and key_count, the slots that it is used for, on which member (on), from where (path; source).
  type: list
  elements: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.sutazai.platform.plugins.module_utils.backup_files import Problem
from ansible_collections.sutazai.platform.plugins.module_utils.redis_backup import plan


def redis_backup_plan(backups, wanted, members, staging=""):
    try:
        return plan(backups, wanted, members, staging)
    except Problem as problem:
        raise AnsibleFilterError(str(problem)) from problem


class FilterModule:
    def filters(self):
        return {"redis_backup_plan": redis_backup_plan}
