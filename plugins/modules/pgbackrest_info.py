#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ask pgBackRest which backups there are and whether they are sound."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_info
short_description: Ask pgBackRest which backups there are and whether they are sound
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Reads C(pgbackrest info) on a host that has pgBackRest's configuration, a member of the database cluster or the repository host.
  - A repository that doesn't answer and a stanza that doesn't exist are problems in the result, not a failure of the module.
options:
  stanza:
    description: The stanza.
    type: str
    required: true
  user:
    description: System user that pgBackRest runs as.
    type: str
    default: postgres
  max_age_hours:
    description: A newest backup older than this is a problem; 0 for any age.
    type: float
    default: 0
  check:
    description:
      - Whether to run C(pgbackrest check) too. It lets the leader begin a new segment of the log and waits until that has come to the
        repository; no data is changed. Not in check mode.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: Only reads.}
  diff_mode: {support: none, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Ask for the backups
  sutazai.platform.pgbackrest_info:
    stanza: postgresql
    max_age_hours: 36
    check: true
  register: backups
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
installed:
  description: Whether pgBackRest is there.
  returned: always
  type: bool
answers:
  description: Whether the repository could be read.
  returned: always
  type: bool
stanza_exists:
  description: Whether the repository knows the stanza.
  returned: always
  type: bool
backup_running:
  description: Whether a backup is being taken from this host.
  returned: always
  type: bool
backups:
  description: The backups, oldest first.
  returned: always
  type: list
  elements: dict
  contains:
    label: {description: Its name., type: str}
    type: {description: "full, diff or incr.", type: str}
    start: {description: "When it began, in seconds since the epoch.", type: int}
    stop: {description: "When it was complete. It can be restored to any moment from then on.", type: int}
    database_bytes: {description: Size of the database., type: int}
    repository_bytes: {description: What it takes in the repository., type: int}
    damaged: {description: Whether checksums in it are wrong., type: bool}
archive_first:
  description: First segment of the log in the archive.
  returned: always
  type: str
archive_last:
  description: Last segment of the log in the archive.
  returned: always
  type: str
system_identifier:
  description: The database cluster whose backups these are.
  returned: always
  type: str
error:
  description: Why the repository can't be read.
  returned: always
  type: str
message:
  description: What pgBackRest says of the stanza.
  returned: always
  type: str
"""

import json
import shutil
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import pgbackrest


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "user": {"type": "str", "default": "postgres"},
            "max_age_hours": {"type": "float", "default": 0},
            "check": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    stanza, user = module.params["stanza"], module.params["user"]
    result = {"installed": shutil.which("pgbackrest") is not None, "answers": False}

    def ask(*arguments: str) -> tuple[int, str, str]:
        return module.run_command(["runuser", f"--user={user}", "--", "pgbackrest", f"--stanza={stanza}", *arguments])

    def leave(problems: list[str], listing: list[dict]) -> None:
        module.exit_json(
            changed=False, healthy=not problems, problems=problems, **result, **pgbackrest.describe(listing, stanza)
        )

    if not result["installed"]:
        leave(["pgBackRest isn't installed here. playbooks/database.yml installs it."], [])
    code, output, error = ask("--output=json", "--log-level-console=off", "--log-level-stderr=error", "info")
    try:
        listing = json.loads(output) if code == 0 else []
    except ValueError:
        code, error, listing = 1, f"not JSON: {output[:200]}", []
    if code:
        leave([f"The repository can't be read: {(error or output).strip()}"], [])
    found = pgbackrest.describe(listing, stanza)
    if found["error"]:
        leave([f"The repository can't be read: {found['error']}"], listing)
    result["answers"] = True
    problems = pgbackrest.problems(found, stanza, time.time(), module.params["max_age_hours"])
    if module.params["check"] and found["stanza_exists"] and not module.check_mode:
        code, output, error = ask("--log-level-console=error", "--log-level-stderr=off", "check")
        if code:
            problems.append(f"The archive doesn't work (`pgbackrest check`): {(output + error).strip()}")
    leave(problems, listing)


if __name__ == "__main__":
    main()
