"""How the platform is, from what its hosts say."""

from __future__ import annotations

DOCUMENTATION = r"""
name: status_report
short_description: How the platform is, from what its hosts say
version_added: "0.1.0"
description:
  - One row for each component that the inventory has hosts of. Of clusters one host that answers speaks for all; of load balancers, gateways,
    workers and autoscalers every host is asked, and every one that doesn't answer is a problem.
positional: groups
options:
  _input:
    description: By host, C(said) (by component, with C(refusal), C(info) or C(leader), and C(detail)), and C(backups) (by component).
    type: dict
    required: true
  groups:
    description: The inventory's groups, those of the hosts that answer (C(status_up_<group>)) among them.
    type: dict
    required: true
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Report
  ansible.builtin.debug:
    msg: "{{ heard | sutazai.platform.status_report(groups) }}"
"""

RETURN = r"""
_value:
  description: By component C(hosts), C(up), C(healthy), C(leaders), C(problems), C(versions), C(details) and C(backup_age_seconds).
  type: dict
"""

from ansible_collections.sutazai.platform.plugins.module_utils.status_report import report


class FilterModule:
    def filters(self):
        return {"status_report": report}
