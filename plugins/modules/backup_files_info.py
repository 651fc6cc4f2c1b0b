#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Say which backups of a component a directory holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_files_info
short_description: Say which backups of a component a directory holds
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Reads the backups that the timers of the roles consul, rabbitmq and redis have made, and how old the newest is. Changes nothing.
options:
  component:
    description: Whose backups.
    type: str
    required: true
    choices: [consul, rabbitmq, redis]
  directory:
    description: Where they are.
    type: path
    required: true
  by_host:
    description: Whether they are in subdirectories named by hosts, as C(backup_fetch_directory) has them. Otherwise V(host) is theirs.
    type: bool
    default: false
  host:
    description: Name of the host that the directory is on, returned with each backup.
    type: str
    default: ""
  max_age_seconds:
    description: Age from which the newest backup is a problem. 0 doesn't look.
    type: int
    default: 0
  since:
    description: A file whose age counts as long as there is no backup, such as the timer's unit.
    type: path
attributes:
  check_mode: {support: full, description: Changes nothing anyway.}
  diff_mode: {support: none, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Look at this host's backups
  sutazai.platform.backup_files_info:
    component: redis
    directory: /var/backups/redis
    host: "{{ inventory_hostname }}"
  register: __redis_backups
"""

RETURN = r"""
backups:
  description: Of each backup its host, name, path, time (C(20261124T220000Z)), size_bytes and about (what it holds), newest first.
  returned: always
  type: list
  elements: dict
age_seconds:
  description: Age of the newest, or of O(since) when there is none; -1 when that isn't there either.
  returned: always
  type: int
problems:
  description: What is wrong with the backups' age, in sentences.
  returned: always
  type: list
  elements: str
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import backup_files


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "component": {"type": "str", "required": True, "choices": sorted(backup_files.SUFFIXES)},
            "directory": {"type": "path", "required": True},
            "by_host": {"type": "bool", "default": False},
            "host": {"type": "str", "default": ""},
            "max_age_seconds": {"type": "int", "default": 0},
            "since": {"type": "path"},
        },
        supports_check_mode=True,
    )
    directory, component = module.params["directory"], module.params["component"]
    directories = {module.params["host"]: directory}
    if module.params["by_host"]:
        if not os.path.isdir(directory):
            module.fail_json(
                msg=f"{directory} is no directory. It should hold one for each host, with its backups of {component}."
            )
        directories = {name: os.path.join(directory, name) for name in sorted(os.listdir(directory))}
    backups = [
        {"host": host, **backup} for host, path in directories.items() for backup in backup_files.found(path, component)
    ]
    backups.sort(key=lambda backup: backup["time"], reverse=True)
    since = module.params["since"]
    begun = os.stat(since).st_mtime if since and os.path.exists(since) else 0.0
    if backups:
        begun = backup_files.seconds_of(backups[0]["time"])
    age = int(time.time() - begun) if begun else -1
    problem = backup_files.age_problem(component, bool(backups), age, module.params["max_age_seconds"])
    module.exit_json(changed=False, backups=backups, age_seconds=age, problems=[problem] if problem else [])


if __name__ == "__main__":
    main()
