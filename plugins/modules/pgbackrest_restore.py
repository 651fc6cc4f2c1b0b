#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Bring a database's files back from a pgBackRest backup."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_restore
short_description: Bring a database's files back from a pgBackRest backup
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Chooses the newest backup that was complete at the moment wanted, and copies it into the data directory. Files that are there are
    compared and only what differs is copied, so that a restore that was interrupted is completed by doing it again.
  - The files are not a usable database yet; M(sutazai.platform.postgresql_recovery) makes it one. Nothing about recovery is written into
    the configuration, where it would be found again by a later one.
  - Refuses while PostgreSQL runs on the data directory.
options:
  stanza:
    description: The stanza.
    type: str
    required: true
  data_directory:
    description: Where the database is to be.
    type: path
    required: true
  target_time:
    description: The moment wanted, as ISO 8601 with a time zone. Empty for the latest.
    type: str
    default: ""
  set:
    description: Label of the backup to begin with. Empty for the newest that was complete at O(target_time).
    type: str
    default: ""
  user:
    description: System user that owns the database.
    type: str
    default: postgres
  plan_only:
    description: Whether to only choose, or refuse.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: "Chooses, and copies nothing."}
  diff_mode: {support: none, description: There is too much to compare.}
"""

EXAMPLES = r"""
- name: Bring back the files
  sutazai.platform.pgbackrest_restore:
    stanza: postgresql
    data_directory: /var/lib/postgresql/17/postgresql
    target_time: 2026-11-24 14:30:00+00:00
  register: restored
"""

RETURN = r"""
backup:
  description: The backup that was chosen, as in M(sutazai.platform.pgbackrest_info).
  returned: success
  type: dict
target:
  description: The moment wanted, as PostgreSQL reads it; empty for the latest.
  returned: success
  type: str
"""

import json
import os
import pwd
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import host, pgbackrest


def make_directory(path: str, user: str) -> None:
    """The data directory, and what is missing above it, owned as PostgreSQL wants it."""
    owner = pwd.getpwnam(user)
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        os.mkdir(directory, 0o700)
        os.chown(directory, owner.pw_uid, owner.pw_gid)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "data_directory": {"type": "path", "required": True},
            "target_time": {"type": "str", "default": ""},
            "set": {"type": "str", "default": ""},
            "user": {"type": "str", "default": "postgres"},
            "plan_only": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    base = ["runuser", f"--user={wanted['user']}", "--", "pgbackrest", f"--stanza={wanted['stanza']}"]

    def run(*arguments: str) -> str:
        code, output, error = module.run_command([*base, *arguments])
        if code:
            module.fail_json(msg=f"pgbackrest {arguments[-1]} failed: {(output + error).strip()}")
        return output

    listing = json.loads(run("--output=json", "--log-level-console=off", "--log-level-stderr=error", "info"))
    try:
        target = pgbackrest.moment(wanted["target_time"], time.time()) if wanted["target_time"] else None
        found = pgbackrest.describe(listing, wanted["stanza"])
        if found["error"]:
            raise pgbackrest.Refused(f"The repository can't be read: {found['error']}")
        backup = pgbackrest.choose(found["backups"], target, wanted["set"])
    except pgbackrest.Refused as reason:
        module.fail_json(msg=f"Nothing was restored. {reason}")
    result = {"backup": backup, "target": "" if target is None else pgbackrest.for_postgresql(target)}
    directory = wanted["data_directory"]
    if wanted["plan_only"]:
        module.exit_json(changed=False, **result)
    lock = os.path.join(directory, "postmaster.pid")
    process = host.text(lock).split("\n")[0].strip()
    running = process and host.text(f"/proc/{process}/comm").strip() == "postgres"
    if running and not module.check_mode:
        module.fail_json(
            msg=f"Nothing was restored: PostgreSQL runs on {directory} (process {process}). Stop it first; that is "
            "`systemctl stop patroni` where Patroni runs it."
        )
    if not module.check_mode:
        make_directory(directory, wanted["user"])
        if process:  # of a server that was killed
            os.unlink(lock)
        # What pgBackRest doesn't know for a database, or what is left of one, it refuses to overwrite.
        delta = ["--delta"] if os.listdir(directory) else []
        run(
            *[*delta, f"--pg1-path={directory}", f"--set={backup['label']}", "--type=none"],
            *["--log-level-console=warn", "restore"],
        )
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
