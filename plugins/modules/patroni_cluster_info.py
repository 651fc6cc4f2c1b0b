#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ask all members of a Patroni cluster how it is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_cluster_info
short_description: Ask all members of a Patroni cluster how it is
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Asks the REST API of every member, compares their answers, and says who leads, who follows how far behind, and what is wrong.
  - A member that doesn't answer is a problem in the result, not a failure of the module. Nothing is changed and no credentials are needed.
options:
  wait_for:
    description: What to wait for at most O(wait_seconds), a leader or a healthy cluster.
    type: str
    choices: [leader, healthy]
    default: healthy
  wait_seconds:
    description: How long to wait. 0 asks once.
    type: int
    default: 0
  settle_seconds:
    description: How long to wait before asking, so that settings just changed have reached every member.
    type: int
    default: 0
  synchronous:
    description: Whether a cluster without a synchronous replica counts as unhealthy.
    type: bool
    default: true
  max_lag_bytes:
    description: A replica further behind than this counts as unhealthy.
    type: int
    default: 16777216
  allow_paused:
    description: Whether a cluster in maintenance mode may count as healthy.
    type: bool
    default: false
  leaving:
    description: Those of O(members) that are to leave. They may lead; how they are is no problem, nor whether they are there.
    type: list
    elements: str
    default: []
  left:
    description: Those of O(members) that have left. It is a problem as long as the cluster still knows one.
    type: list
    elements: str
    default: []
  synchronous_among_staying:
    description: Whether it is a problem that no replica is synchronous besides those of O(leaving).
    type: bool
    default: false
  synchronous_nodes:
    description: How many synchronous replicas have to be possible when O(leaving) have left; RV(refused) says when not.
    type: int
    default: 1
extends_documentation_fragment: [sutazai.platform.patroni]
attributes:
  check_mode: {support: full, description: Only reads. Doesn't wait in check mode.}
  diff_mode: {support: none, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Ask the database cluster how it is
  sutazai.platform.patroni_cluster_info:
    members: {postgresql-1: 10.0.0.41, postgresql-2: 10.0.0.42, postgresql-3: 10.0.0.43}
    ca_file: /etc/sutazai/pki/ca.crt
  register: database

- name: Refuse a sick one
  ansible.builtin.assert:
    that: database.healthy
    fail_msg: "{{ database.problems | join('\n') }}"
"""

RETURN = r"""
healthy:
  description: Whether RV(problems) is empty.
  returned: always
  type: bool
problems:
  description: What is wrong, as sentences for a person.
  returned: always
  type: list
  elements: str
leader:
  description: Name of the leader; empty when there is none, or more than one.
  returned: always
  type: str
leader_address:
  description: Its address.
  returned: always
  type: str
replicas:
  description: Names of the other members that answer.
  returned: always
  type: list
  elements: str
sync_standbys:
  description: Names of the synchronous replicas.
  returned: always
  type: list
  elements: str
paused:
  description: Whether the cluster is in maintenance mode.
  returned: always
  type: bool
timeline:
  description: The leader's timeline.
  returned: always
  type: int
system_identifier:
  description: The database cluster's identifier; empty when the members don't agree.
  returned: always
  type: str
pending_restart:
  description: Names of members whose PostgreSQL needs a restart to take over a setting.
  returned: always
  type: list
  elements: str
listed:
  description: Names of the members that the cluster knows.
  returned: always
  type: list
  elements: str
slots:
  description: The replication slot of each of O(members), as Patroni names it.
  returned: always
  type: dict
refused:
  description: Why O(leaving) may not leave, in sentences.
  returned: always
  type: list
  elements: str
unknown_members:
  description: Members that the cluster knows and O(members) doesn't name.
  returned: always
  type: list
  elements: str
members:
  description: Each member.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str}
    address: {description: Its address., type: str}
    reachable: {description: Whether it answered., type: bool}
    error: {description: Why it did not., type: str}
    role: {description: "One of leader, standby_leader, sync_standby, quorum_standby, replica.", type: str}
    state: {description: PostgreSQL's state., type: str}
    replication_state: {description: State of its replication; empty for the leader., type: str}
    timeline: {description: Its timeline., type: int}
    lag_bytes: {description: How far it is behind the leader., type: int}
    pending_restart: {description: Whether PostgreSQL needs a restart., type: bool}
    pending_restart_reasons: {description: Settings that need it., type: list, elements: str}
    system_identifier: {description: Identifier of its data., type: str}
    postgresql_version: {description: PostgreSQL's version., type: str}
    postgresql_start_time: {description: "When PostgreSQL started, in seconds since the epoch; 0 when it doesn't run.", type: float}
    patroni_version: {description: Patroni's version., type: str}
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.patroni import removal_refusals, slot_name
from ansible_collections.sutazai.platform.plugins.module_utils.patroni_rest import REST_OPTIONS, Rest


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **REST_OPTIONS,
            "wait_for": {"type": "str", "choices": ["leader", "healthy"], "default": "healthy"},
            "wait_seconds": {"type": "int", "default": 0},
            "settle_seconds": {"type": "int", "default": 0},
            "synchronous": {"type": "bool", "default": True},
            "max_lag_bytes": {"type": "int", "default": 16777216},
            "allow_paused": {"type": "bool", "default": False},
            "leaving": {"type": "list", "elements": "str", "default": []},
            "left": {"type": "list", "elements": "str", "default": []},
            "synchronous_among_staying": {"type": "bool", "default": False},
            "synchronous_nodes": {"type": "int", "default": 1},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    if wanted["settle_seconds"] and not module.check_mode:
        time.sleep(wanted["settle_seconds"])
    result = Rest(wanted).wait(
        0 if module.check_mode else wanted["wait_seconds"],
        lambda found: found["healthy"] or (wanted["wait_for"] == "leader" and found["leader"]),
        synchronous=wanted["synchronous"],
        max_lag_bytes=wanted["max_lag_bytes"],
        allow_paused=wanted["allow_paused"],
        leaving=wanted["leaving"],
        left=wanted["left"],
        synchronous_among_staying=wanted["synchronous_among_staying"],
    )
    module.exit_json(
        changed=False,
        refused=removal_refusals(result, wanted["leaving"], wanted["synchronous_nodes"]),
        slots={name: slot_name(name) for name in wanted["members"]},
        **result,
    )


if __name__ == "__main__":
    main()
