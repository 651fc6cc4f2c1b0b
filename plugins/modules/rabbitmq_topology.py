#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Declare a RabbitMQ cluster's exchanges, queues and bindings."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_topology
short_description: Declare a RabbitMQ cluster's exchanges, queues and bindings
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Reads what is there through the management API, and declares what is missing. Everything is durable.
  - What exists with another type or other arguments is never accepted silently, and never changed, since RabbitMQ can't. The module
    fails before it has changed anything, with every such difference in its message and the way to migrate.
  - Every queue gets a dead-letter exchange and, if it is a quorum queue, a delivery limit. Both come from policies that are made here,
    so they can be changed later, and clients that declare the queues themselves only have to say C(x-queue-type) (for a partition
    also C(x-single-active-consumer)).
  - What is there without being declared is listed and left alone. V(absent) removes, but only what is empty and unused.
options:
  url: {required: true}
  username: {required: true}
  password: {required: true}
  nodes:
    description:
      - The names of all nodes. Nothing is declared while one of them doesn't run, since a queue's members would be on the others for good.
      - Empty means that it isn't looked at.
    type: list
    elements: str
    default: []
  exchanges:
    description: Exchanges.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The exchange., type: str, required: true}
      vhost: {description: Its virtual host., type: str, default: /}
      type:
        description: >-
          Its type. C(topic) is what Celery needs, whose delayed tasks a direct exchange would keep in the worker.
        type: str
        default: topic
      arguments: {description: Its arguments., type: dict}
      state: {description: V(absent) removes it when nothing is bound to it., type: str, choices: [present, absent], default: present}
  queues:
    description: Queues.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The queue., type: str, required: true}
      vhost: {description: Its virtual host., type: str, default: /}
      type:
        description: Its type. V(quorum) where not given; V(classic) if O(mirrored).
        type: str
        choices: [quorum, classic, stream]
      priority:
        description:
          - How important its messages are. RabbitMQ has no priorities between queues; RV(priorities) says what it comes to.
          - Classic queues get C(x-max-priority), the highest priority of all.
        type: int
      single_active_consumer:
        description: Whether one consumer at a time gets its messages, in their order.
        type: bool
        default: false
      arguments: {description: Further arguments., type: dict}
      bindings:
        description: What leads to it.
        type: list
        elements: dict
        default: []
        suboptions:
          exchange: {description: The exchange., type: str, required: true}
          routing_key: {description: The routing key., type: str, default: ""}
          arguments: {description: Arguments of the binding., type: dict}
      state:
        description: V(absent) removes it with its bindings, when it has neither messages nor consumers.
        type: str
        choices: [present, absent]
        default: present
  partitions:
    description:
      - Exchanges that choose one of several queues by a hash. Each queue is bound once, with weight 1, in the order of its number; a single
        consumer at a time gets its messages. So messages with the same O(partitions[].partition_by) keep their order.
      - The number can be changed only while the queues are empty.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The exchange., type: str, required: true}
      vhost: {description: Its virtual host., type: str, default: /}
      partitions: {description: How many queues., type: int, required: true}
      partition_by: {description: The header whose value is hashed., type: str, required: true}
      routing_key_pattern:
        description: Names of the queues, with C({partition}) for the number. The exchange's name, a dot and the number where not given.
        type: str
      exchange:
        description: An exchange through which each queue is reached by its name as well, as Celery's workers need it.
        type: str
  dead_letters:
    description: Name of the exchange, and of the queue, in each virtual host that takes what could not be delivered. Empty means none.
    type: str
    default: dead-letters
  vhosts:
    description: Virtual hosts that get O(dead_letters), beside those of the declared queues.
    type: list
    elements: str
    default: []
  delivery_limit:
    description: A message of a quorum queue that comes back more often than this is dead-lettered.
    type: int
    default: 20
  mirrored:
    description: Whether queues without a type are mirrored classic queues. For RabbitMQ before 4.0 only.
    type: bool
    default: false
  group_size:
    description: How many copies mirrored queues have.
    type: int
    default: 3
  ignore:
    description: Regular expressions; exchanges and queues whose name one of them is found in are other people's.
    type: list
    elements: str
    default: ["^celery", "pidbox", "^federation"]
extends_documentation_fragment: [sutazai.platform.rabbitmq]
attributes:
  check_mode: {support: full, description: Says what would be declared.}
  diff_mode: {support: full, description: Lists what is declared and removed.}
"""

EXAMPLES = r"""
- name: Declare the queues of the agents' tasks
  sutazai.platform.rabbitmq_topology:
    url: https://10.0.0.21:15671
    username: admin
    password: "{{ rabbitmq_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
    nodes: [rabbit@rabbitmq-1, rabbit@rabbitmq-2, rabbit@rabbitmq-3]
    exchanges:
      - {name: tasks, type: topic}
    queues:
      - name: inference
        priority: 10
        bindings: [{exchange: tasks, routing_key: ai.inference}]
    partitions:
      - {name: ai.tasks, partitions: 10, partition_by: agent_id, exchange: tasks}
  run_once: true
"""

RETURN = r"""
changes:
  description: What was declared or removed, one sentence each.
  returned: always
  type: list
  elements: str
conflicts:
  description: What exists otherwise than it is declared, one sentence each, with the way to migrate.
  returned: when the API could be read
  type: list
  elements: str
undeclared:
  description: Durable exchanges, queues and bindings that are there without being declared, one sentence each.
  returned: when the API could be read
  type: list
  elements: str
priorities:
  description:
    - By queue, its C(priority), how many C(levels) of priority this version has within such a queue, and the priority that its messages
      are to be published with (C(publish_with); null where that has no effect).
    - Quorum queues have none before 4.0, two from 4.0 (up to 4, and above) and 32 from 4.3 on.
  returned: when the API could be read
  type: dict
topology:
  description: What is there, shaped like O(exchanges), O(queues) and O(partitions). Priorities of quorum queues can't be read.
  returned: when the API could be read
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import rabbitmq_topology as model
from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import (
    CONNECTION_ARGUMENTS,
    QUEUES,
    Api,
    ApiRefused,
    ApiUnreachable,
)

STATE = {"type": "str", "choices": ["present", "absent"], "default": "present"}
VHOST = {"type": "str", "default": "/"}
NAME = {"type": "str", "required": True}
ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    "url": {"type": "str", "required": True},
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "exchanges": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": NAME,
            "vhost": VHOST,
            "type": {"type": "str", "default": "topic"},
            "arguments": {"type": "dict"},
            "state": STATE,
        },
    },
    "queues": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": NAME,
            "vhost": VHOST,
            "type": {"type": "str", "choices": ["quorum", "classic", "stream"]},
            "priority": {"type": "int"},
            "single_active_consumer": {"type": "bool", "default": False},
            "arguments": {"type": "dict"},
            "bindings": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "exchange": {"type": "str", "required": True},
                    "routing_key": {"type": "str", "default": "", "no_log": False},
                    "arguments": {"type": "dict"},
                },
            },
            "state": STATE,
        },
    },
    "partitions": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": NAME,
            "vhost": VHOST,
            "partitions": {"type": "int", "required": True},
            "partition_by": {"type": "str", "required": True},
            "routing_key_pattern": {"type": "str", "no_log": False},
            "exchange": {"type": "str"},
        },
    },
    "dead_letters": {"type": "str", "default": "dead-letters"},
    "vhosts": {"type": "list", "elements": "str", "default": []},
    "delivery_limit": {"type": "int", "default": 20},
    "mirrored": {"type": "bool", "default": False},
    "group_size": {"type": "int", "default": 3},
    "ignore": {"type": "list", "elements": "str", "default": ["^celery", "pidbox", "^federation"]},
}


def read(api: Api, with_consumers: bool = False) -> dict[str, list[dict[str, Any]]]:
    queues = api.get(QUEUES)
    if with_consumers:
        # Statistics would tell them too, but some seconds late.
        of = [consumer["queue"] for consumer in api.get("/api/consumers")]
        for queue in queues:
            queue["consumers"] = of.count({"name": queue["name"], "vhost": queue["vhost"]})
    return {
        "exchanges": api.get("/api/exchanges?disable_stats=true"),
        "queues": queues,
        "bindings": api.get("/api/bindings"),
        "policies": api.get("/api/policies"),
    }


def missing_nodes(api: Api, nodes: list[str]) -> list[str]:
    if not nodes:
        return []
    return sorted(set(nodes) - {node["name"] for node in api.get("/api/nodes") if node.get("running")})


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    wanted = module.params
    api = Api.of_module(wanted)
    changes: list[str] = []
    try:
        version = model.version_of(api.get("/api/overview?disable_stats=true").get("rabbitmq_version", ""))
        topology = model.declared(wanted, version)
        live = read(api, with_consumers=bool(topology.absent_queues))
        plan = model.plan(live, topology, wanted["ignore"])
        result: dict[str, Any] = {
            "conflicts": plan.conflicts,
            "undeclared": plan.undeclared,
            "priorities": {
                name: model.message_priority(queue, version)
                for (_vhost, name), queue in topology.queues.items()
                if queue.priority is not None
            },
            "topology": model.exported(live, wanted["dead_letters"], wanted["ignore"]),
        }
        if plan.conflicts and not module.check_mode:
            module.fail_json(msg="\n".join(plan.conflicts), changes=[], **result)
        if plan.changes and not module.check_mode:
            missing = missing_nodes(api, wanted["nodes"])
            if missing:
                module.fail_json(
                    msg=f"{', '.join(missing)} of the cluster's nodes don't run, and queues that are declared now would have no member there. "
                    f"Start them and run again; to do: {'; '.join(change.says for change in plan.changes)}",
                    changes=[],
                    **result,
                )
            for change in plan.changes:
                api.request(change.method, change.path, change.body)
                changes.append(change.says)
            result["topology"] = model.exported(read(api), wanted["dead_letters"], wanted["ignore"])
    except (ApiRefused, ApiUnreachable, model.CannotDeclare) as error:
        module.fail_json(msg=str(error), changes=changes, changed=bool(changes))
    changes = [change.says for change in plan.changes]
    result.update(changed=bool(changes), changes=changes)
    if module._diff and changes:
        result["diff"] = {"prepared": "".join(f"* {change}\n" for change in changes)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
