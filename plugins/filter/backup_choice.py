"""Which of many backups is restored."""

from __future__ import annotations

DOCUMENTATION = r"""
name: backup_choice
short_description: Which of many hosts' backups is restored
version_added: "0.1.0"
description:
  - The newest of the backups, as M(sutazai.platform.backup_files_info) returns them, or the newest of those that are wanted. Fails with
    a list of what there is when none fits.
positional: wanted
options:
  _input:
    description: The backups.
    type: list
    elements: dict
    required: true
  wanted:
    description: A host, C(host/file name), a file name, or a time (the newest until then). By default all fit.
    type: str
    default: ""
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Choose
  ansible.builtin.set_fact:
    __chosen: "{{ backups | sutazai.platform.backup_choice('consul-2') }}"
"""

RETURN = r"""
_value:
  description: The backup.
  type: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.sutazai.platform.plugins.module_utils.backup_files import Problem, choose


def backup_choice(backups, wanted=""):
    try:
        return choose(backups, wanted)
    except Problem as problem:
        raise AnsibleFilterError(str(problem)) from problem


class FilterModule:
    def filters(self):
        return {"backup_choice": backup_choice}
