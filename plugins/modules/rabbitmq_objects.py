#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Make a RabbitMQ cluster's virtual hosts, users, permissions and policies what they should be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_objects
short_description: Make a RabbitMQ cluster's virtual hosts, users, permissions and policies
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Reads everything through the management API, compares, and requests only what differs. What isn't mentioned is left alone,
    except a user's permissions, which are exactly those that are given.
  - A changed password is noticed, because it is compared with the stored hash. Passwords are sent as salted hashes.
  - No secret is in an argument of a command, and none in RabbitMQ's configuration.
options:
  url:
    required: true
  username:
    required: true
  password:
    required: true
  bootstrap:
    description:
      - Whether to make the administrator, or set its password anew, when the API refuses the credentials. Done by C(rabbitmqctl) on
        this host, from a file with a salted hash, so this works once on a new cluster and again whenever the password is rotated.
      - Also sets the default queue type of a virtual host that exists already on RabbitMQ 3.10, whose API can't.
    type: bool
    default: false
  default_queue_type:
    description: Type of the queues that are declared without one, in virtual hosts that don't say otherwise.
    type: str
    choices: [quorum, classic, stream]
    default: quorum
  vhosts:
    description: Virtual hosts.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The virtual host., type: str, required: true}
      default_queue_type: {description: "Overrides O(default_queue_type).", type: str, choices: [quorum, classic, stream]}
      state: {description: V(absent) removes it with everything in it., type: str, choices: [present, absent], default: present}
  users:
    description: Users.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The user., type: str, required: true}
      password: {description: "Its password; required unless O(users[].state=absent).", type: str}
      tags: {description: Its tags., type: list, elements: str, default: []}
      permissions:
        description: Its permissions, one entry for each virtual host; it has none elsewhere.
        type: list
        elements: dict
        default: []
        suboptions:
          vhost: {description: The virtual host., type: str, required: true}
          configure: {description: Names that it may declare and delete; a regular expression., type: str, default: ".*"}
          write: {description: Names that it may publish to; a regular expression., type: str, default: ".*"}
          read: {description: Names that it may consume from; a regular expression., type: str, default: ".*"}
      state: {description: Whether the user exists., type: str, choices: [present, absent], default: present}
  absent_users:
    description: Users that are removed.
    type: list
    elements: str
    default: []
  policies:
    description: Policies.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: The policy., type: str, required: true}
      vhost: {description: Its virtual host., type: str, default: /}
      pattern: {description: Names that it applies to; a regular expression., type: str, default: ".*"}
      apply_to:
        description: What it applies to.
        type: str
        choices: [all, queues, classic_queues, quorum_queues, streams, exchanges]
        default: all
      priority: {description: The highest of all that match applies., type: int, default: 0}
      definition: {description: "What it sets; required unless O(policies[].state=absent).", type: dict}
      state: {description: Whether the policy exists., type: str, choices: [present, absent], default: present}
extends_documentation_fragment: [sutazai.platform.rabbitmq]
attributes:
  check_mode: {support: full, description: Says what would be changed.}
  diff_mode: {support: full, description: Shows the objects before and after. Passwords and hashes aren't shown.}
"""

EXAMPLES = r"""
- name: Make the application's virtual host and user
  sutazai.platform.rabbitmq_objects:
    url: https://10.0.0.21:15671
    username: admin
    password: "{{ rabbitmq_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
    vhosts:
      - name: agents
    users:
      - name: application
        password: "{{ rabbitmq_application_password }}"
        permissions: [{vhost: agents}]
    policies:
      - name: dead-letter
        vhost: agents
        apply_to: queues
        definition: {dead-letter-exchange: dead-letters}
  run_once: true
"""

RETURN = r"""
changes:
  description: What was changed, one sentence each.
  returned: always
  type: list
  elements: str
objects:
  description: The objects as they were found (in check mode) or are now, shaped like this module's options; without passwords.
  returned: when the API could be read
  type: dict
"""

import json
import os
import pwd
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import rabbitmq_objects as model
from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import (
    CONNECTION_ARGUMENTS,
    Api,
    ApiRefused,
    ApiUnreachable,
    CommandFailed,
    CommandLine,
)

QUEUE_TYPES = ["quorum", "classic", "stream"]
STATE = {"type": "str", "choices": ["present", "absent"], "default": "present"}
PERMISSION = {"type": "str", "default": ".*"}
ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    "url": {"type": "str", "required": True},
    "username": {"type": "str", "required": True},
    "password": {"type": "str", "required": True, "no_log": True},
    "bootstrap": {"type": "bool", "default": False},
    "default_queue_type": {"type": "str", "choices": QUEUE_TYPES, "default": "quorum"},
    "vhosts": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "default_queue_type": {"type": "str", "choices": QUEUE_TYPES},
            "state": STATE,
        },
    },
    "users": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "password": {"type": "str", "no_log": True},
            "tags": {"type": "list", "elements": "str", "default": []},
            "permissions": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "vhost": {"type": "str", "required": True},
                    "configure": PERMISSION,
                    "write": PERMISSION,
                    "read": PERMISSION,
                },
            },
            "state": STATE,
        },
        "required_if": [("state", "present", ["password"])],
    },
    "absent_users": {"type": "list", "elements": "str", "default": []},
    "policies": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "vhost": {"type": "str", "default": "/"},
            "pattern": {"type": "str", "default": ".*"},
            "apply_to": {
                "type": "str",
                "choices": ["all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges"],
                "default": "all",
            },
            "priority": {"type": "int", "default": 0},
            "definition": {"type": "dict"},
            "state": STATE,
        },
        "required_if": [("state", "present", ["definition"])],
    },
}


def read(api: Api) -> dict[str, list[dict[str, Any]]]:
    return {kind: api.get(f"/api/{kind}") for kind in ("vhosts", "users", "permissions", "policies")}


def bootstrap(module: AnsibleModule) -> str:
    """Make the administrator, or set its password, on the command line of a node.

    By a file of definitions that holds a salted hash: what is an argument, every user of the host can read, and
    on recent Erlang rabbitmqctl never gets to see its standard input.
    """
    name, password = module.params["username"], module.params["password"]
    if not module.check_mode:
        definitions = {"users": [model.user_definition(name, password, ["administrator"])]}
        # Not in Ansible's own directory: rabbitmqctl becomes the user rabbitmq, which must get to the file. Its mode is 0600.
        with tempfile.NamedTemporaryFile("w", prefix="rabbitmq-administrator-", suffix=".json") as handle:
            json.dump(definitions, handle)
            handle.flush()
            os.fchown(handle.fileno(), pwd.getpwnam("rabbitmq").pw_uid, -1)
            CommandLine(module).run("import_definitions", handle.name)
    return f"make the administrator {name} or set its password"


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    wanted = module.params
    api = Api.of_module(wanted)
    changes: list[str] = []
    try:
        if not api.is_administrator():
            if not wanted["bootstrap"]:
                module.fail_json(
                    msg=f"{wanted['url']} refuses {wanted['username']}: no such administrator, or another password"
                )
            changes.append(bootstrap(module))
            if module.check_mode:
                # Without its credentials nothing can be compared.
                module.exit_json(changed=True, changes=[*changes, "make what is missing"])
            if not api.is_administrator():
                module.fail_json(
                    msg=f"{wanted['url']} refuses {wanted['username']} even after its password was set", changes=changes
                )
        live = read(api)
        planned = model.plan(live, wanted)
        if not module.check_mode:
            for change in planned:
                api.request(change.method, change.path, change.body)
        after = read(api) if planned and not module.check_mode else live
        if planned and not module.check_mode and wanted["bootstrap"]:
            stuck = model.stuck_queue_types(after["vhosts"], wanted["vhosts"], wanted["default_queue_type"])
            for vhost, queue_type in stuck.items():
                CommandLine(module).run("eval", model.set_queue_type_expression(vhost, queue_type))
            after = read(api) if stuck else after
    except (ApiRefused, ApiUnreachable, CommandFailed) as error:
        module.fail_json(msg=str(error), changes=changes)
    changes += [change.says for change in planned]
    result: dict[str, Any] = {"changed": bool(changes), "changes": changes, "objects": model.exported(after)}
    if module._diff and changes:
        result["diff"] = {"prepared": "".join(f"* {change}\n" for change in changes)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
