"""The Celery workers of one host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: celery_plan
short_description: The Celery workers of one host
version_added: "0.1.0"
author: SutazAI platform team (@sutazai)
description:
  - Which workers run on a host, from the pools of the role C(celery). Fails with everything that is wrong with queues, priorities, routes and
    pools.
positional: host
options:
  _input:
    description: The settings queues, routes, pools, partitions, partition_pattern, partition_priority, partition_copies and members.
    type: dict
    required: true
  host:
    description: The host.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show this host's workers
  ansible.builtin.debug:
    msg: "{{ settings | sutazai.platform.celery_plan(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: Name, queues, concurrency and limits of each worker.
  type: list
  elements: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.sutazai.platform.plugins.module_utils.celery_plan import CannotPlan, as_mappings, plan


def celery_plan(settings, host):
    try:
        return as_mappings(plan(settings, str(host)))
    except CannotPlan as problem:
        raise AnsibleFilterError(str(problem)) from problem


class FilterModule:
    def filters(self):
        return {"celery_plan": celery_plan}
