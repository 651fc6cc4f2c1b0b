#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Import a backup of definitions into a RabbitMQ cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_definitions
short_description: Import a backup of definitions into a RabbitMQ cluster
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Compares a file of definitions, as C(rabbitmqctl export_definitions) writes it, with what the cluster has, and imports it when something
    is missing. What exists besides is left alone; RabbitMQ merges.
  - Users, permissions, policies and parameters that exist and differ would be overwritten, which is refused unless O(replace_data=true).
    Queues, exchanges and bindings that exist are never touched by an import, and messages are in no definition.
options:
  path:
    description: The file, on this host, readable for the user C(rabbitmq).
    type: path
    required: true
  replace_data:
    description: Whether what differs is overwritten.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: "Compares, and refuses what would be refused."}
  diff_mode: {support: full, description: Names what would be added and overwritten.}
notes:
  - Runs C(rabbitmqctl) on this host, which has to be one of the cluster's nodes.
seealso:
  - module: sutazai.platform.backup_files_info
"""

EXAMPLES = r"""
- name: Bring the definitions back
  sutazai.platform.rabbitmq_definitions:
    path: /var/backups/rabbitmq/rabbitmq-20261124T220000Z.json
"""

RETURN = r"""
added:
  description: What was missing.
  returned: always
  type: list
  elements: str
overwritten:
  description: What existed and differed, of what an import overwrites.
  returned: always
  type: list
  elements: str
conflicting:
  description: Queues, exchanges and bindings that exist with other properties, and stay as they are.
  returned: always
  type: list
  elements: str
others:
  description: What exists and isn't in the backup; it stays.
  returned: always
  type: list
  elements: str
messages:
  description: How many messages the queues hold.
  returned: always
  type: int
"""

import json
import os
import pwd
import shutil
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import rabbitmq_definitions as model
from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import CommandFailed, CommandLine

TIMEOUT_SECONDS = 300
IMPORT_SECONDS = 120


def read(module: AnsibleModule, path: str) -> dict:
    try:
        with open(path, encoding="utf-8") as handle:
            definitions = json.load(handle)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{path} has no definitions that can be imported: {error}")
    if not isinstance(definitions, dict) or not definitions.get("users") or not definitions.get("vhosts"):
        module.fail_json(
            msg=f"{path} has no users or no virtual hosts: no backup of a whole cluster. Choose another one."
        )
    return definitions


def live(module: AnsibleModule, tool: CommandLine) -> dict:
    # rabbitmqctl becomes the user rabbitmq, which has to write there. It holds hashes of passwords.
    directory = tempfile.mkdtemp(prefix="rabbitmq-definitions-")
    try:
        if os.geteuid() == 0:
            os.chown(directory, pwd.getpwnam("rabbitmq").pw_uid, -1)
        path = os.path.join(directory, "now.json")
        tool.run("export_definitions", path, timeout=TIMEOUT_SECONDS)
        return read(module, path)
    finally:
        shutil.rmtree(directory)


def messages(tool: CommandLine, vhosts: list[str]) -> int:
    rows = [row for vhost in vhosts for row in tool.read("list_queues", "--vhost", vhost, "messages")]
    return sum(int(row.get("messages") or 0) for row in rows)


def wait_for(module: AnsibleModule, tool: CommandLine, wanted: dict) -> list[str]:
    """What isn't there or differs after all that time. rabbitmqctl calls the import asynchronous."""
    deadline = time.monotonic() + IMPORT_SECONDS
    while True:
        compared = model.compare(live(module, tool), wanted)
        left = compared["added"] + compared["overwritten"]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(1)


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "replace_data": {"type": "bool", "default": False}},
        supports_check_mode=True,
    )
    wanted, tool = read(module, module.params["path"]), CommandLine(module)
    try:
        now = live(module, tool)
        compared = model.compare(now, wanted)
        result = {
            "changed": bool(compared["added"] or compared["overwritten"]),
            "messages": messages(tool, [vhost["name"] for vhost in now["vhosts"]]),
            **compared,
        }
        why = model.refusal(compared, len(now.get("queues") or []), result["messages"])
        if why and not module.params["replace_data"]:
            module.fail_json(msg=why, **{**result, "changed": False})
        if result["changed"] and not module.check_mode:
            tool.run("import_definitions", module.params["path"], timeout=TIMEOUT_SECONDS)
            left = wait_for(module, tool, wanted)
            if left:
                module.fail_json(
                    msg=f"After the import these are still missing or differ: {model.some(left)}.", **result
                )
    except CommandFailed as error:
        module.fail_json(msg=str(error))
    if module._diff and result["changed"]:
        lines = [f"+ {name}" for name in compared["added"]] + [f"~ {name}" for name in compared["overwritten"]]
        result["diff"] = {"prepared": "\n".join(lines) + "\n"}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
