#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Have a unit take a backup now, and say what it has made."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_run
short_description: Have a unit take a backup now, and say what it has made
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Starts the unit that a timer starts otherwise, waits for its end, and returns the backup that is new. When the unit fails, the module
    fails with what the journal has about it.
options:
  unit:
    description: The unit, of type oneshot.
    type: str
    required: true
  component:
    description: Whose backups it makes.
    type: str
    required: true
    choices: [consul, rabbitmq, redis]
  directory:
    description: Where it makes them.
    type: path
    required: true
attributes:
  check_mode: {support: full, description: Says that a backup would be taken.}
  diff_mode: {support: none, description: A new file each time.}
"""

EXAMPLES = r"""
- name: Take a backup now
  sutazai.platform.backup_run:
    unit: redis-backup.service
    component: redis
    directory: /var/backups/redis
  register: __redis_backup
"""

RETURN = r"""
backup:
  description: The new backup's name, path, time, size_bytes and about (what it holds).
  returned: when it was taken
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import backup_files


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "component": {"type": "str", "required": True, "choices": sorted(backup_files.SUFFIXES)},
            "directory": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    unit, directory, component = (module.params[name] for name in ("unit", "directory", "component"))
    before = {backup["name"] for backup in backup_files.found(directory, component)}
    code, _out, error = module.run_command(["systemctl", "start", unit])
    if code != 0:
        journal = module.run_command(["journalctl", "--unit", unit, "--lines", "4", "--no-pager", "--output", "cat"])[1]
        module.fail_json(msg=f"{unit} took no backup: {journal.strip() or error.strip()}")
    made = [backup for backup in backup_files.found(directory, component) if backup["name"] not in before]
    if not made:
        module.fail_json(
            msg=f"{unit} ended well, but {directory} has no new backup of {component}. See `journalctl -u {unit}`."
        )
    module.exit_json(changed=True, backup=made[0])


if __name__ == "__main__":
    main()
