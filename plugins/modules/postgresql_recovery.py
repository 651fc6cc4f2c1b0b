#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Make restored files a database again: recover from the archived log up to a moment, and stop."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_recovery
short_description: Make restored files a database again
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Starts PostgreSQL on restored files as a unit of systemd of its own, which nobody can connect to but this module. It recovers from the
    archive up to the moment wanted, begins a new timeline, and is stopped cleanly.
  - What a recovery needs is given when it is started, never written into the configuration. A target that is found there later would end
    the recovery of a replica far from where it should.
  - Where there is nothing to recover (no C(backup_label), no C(recovery.signal)) nothing is done, so it can be repeated.
options:
  data_directory:
    description: The restored files.
    type: path
    required: true
  bin_directory:
    description: Where C(postgres) and C(pg_controldata) are.
    type: path
    required: true
  restore_command:
    description: PostgreSQL's C(restore_command). It should end with a code above 125 when the archive can't be read, as PostgreSQL takes any
      other for the archive's end.
    type: str
    required: true
  target_time:
    description: The moment, as PostgreSQL reads it. Empty for all that the archive has.
    type: str
    default: ""
  target_timeline:
    description: The timeline to follow, V(latest), V(current) (the backup's) or a number.
    type: str
    default: latest
  wait_seconds:
    description: How long the recovery may take.
    type: int
    default: 86400
  user:
    description: System user that owns the database.
    type: str
    default: postgres
attributes:
  check_mode: {support: full, description: Says whether there is something to recover.}
  diff_mode: {support: none, description: There is too much to compare.}
"""

EXAMPLES = r"""
- name: Recover to the moment before the mistake
  sutazai.platform.postgresql_recovery:
    data_directory: /var/lib/postgresql/17/postgresql
    bin_directory: /usr/lib/postgresql/17/bin
    restore_command: pgbackrest --stanza=postgresql archive-get %f "%p"
    target_time: 2026-11-24 14:30:00.000000+00
"""

RETURN = r"""
timeline:
  description: The timeline that the database is on now.
  returned: success
  type: int
system_identifier:
  description: Its identifier.
  returned: success
  type: str
last_transaction:
  description: When the last transaction that was recovered was committed, as PostgreSQL logged it; empty when there was none.
  returned: success
  type: str
target_reached:
  description: Whether there was something at or after O(target_time). If not, all that the archive has was recovered, which is less than
    there was at the moment if the end of the log was lost.
  returned: success
  type: bool
"""

import os
import re
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import pgbackrest

UNIT = "sutazai-postgresql-recovery.service"
CONFIGURATION = "/run/sutazai-postgresql-recovery.conf"
RUNTIME = "sutazai-postgresql-recovery"  # below /run; the socket is there, where no client looks for it


class Recovery:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.wanted = module.params
        self.directory = self.wanted["data_directory"]

    def program(self, name: str) -> str:
        return os.path.join(self.wanted["bin_directory"], name)

    def control(self) -> dict[str, str]:
        _code, output, _error = self.module.run_command(
            [self.program("pg_controldata"), self.directory], environ_update={"LC_ALL": "C"}
        )
        return pgbackrest.controldata(output)

    def needed(self) -> bool:
        """PostgreSQL takes the first away when it has begun, the second when it is done."""
        return any(os.path.exists(os.path.join(self.directory, name)) for name in ("backup_label", "recovery.signal"))

    def configuration(self) -> str:
        settings = {
            **pgbackrest.inherited(self.control()),
            "restore_command": self.wanted["restore_command"],
            "recovery_target_timeline": self.wanted["target_timeline"],
            # Nobody reads while it recovers: settings too small for a reading replica would make it wait for ever.
            "hot_standby": "off",
            "listen_addresses": "",
            "unix_socket_directories": f"/run/{RUNTIME}",
            "logging_collector": "off",
            "log_destination": "stderr",
        }
        if self.wanted["target_time"]:
            settings |= {"recovery_target_time": self.wanted["target_time"], "recovery_target_action": "promote"}
        return pgbackrest.configuration(os.path.join(self.directory, "postgresql.conf"), settings)

    def start(self) -> None:
        signal = os.path.join(self.directory, "recovery.signal")
        status = os.stat(self.directory)
        with open(signal, "w", encoding="utf-8"):
            os.chown(signal, status.st_uid, status.st_gid)
        with open(CONFIGURATION, "w", encoding="utf-8") as file:
            file.write(self.configuration())
        os.chmod(CONFIGURATION, 0o644)
        properties = {
            "User": self.wanted["user"],
            "RuntimeDirectory": RUNTIME,
            "KillMode": "mixed",
            "KillSignal": "SIGINT",  # PostgreSQL's fast shutdown
            "TimeoutStopSec": "3600",
        }
        self.require(
            *["systemd-run", f"--unit={UNIT}", "--description=Recovers a restored database"],
            *[f"--property={name}={value}" for name, value in properties.items()],
            *["--", self.program("postgres"), "-D", self.directory, f"--config_file={CONFIGURATION}"],
        )

    def require(self, *command: str) -> str:
        code, output, error = self.module.run_command(list(command))
        if code:
            self.module.fail_json(msg=f"{' '.join(command[:2])} failed: {(error or output).strip()}")
        return output

    def show(self, name: str) -> str:
        return self.require("systemctl", "show", "--value", f"--property={name}", UNIT).strip()

    def log(self, invocation: str) -> str:
        match = f"_SYSTEMD_INVOCATION_ID={invocation}"
        return self.module.run_command(["journalctl", "--no-pager", "--output=cat", "--lines=2000", match])[1]

    def stop_leftover(self) -> None:
        """One that an interrupted run has left would hold the data directory."""
        if self.show("ActiveState") in ("active", "activating", "deactivating"):
            self.require("systemctl", "stop", UNIT)
        self.module.run_command(["systemctl", "reset-failed", UNIT])  # one that isn't known has nothing to forget

    def wait(self, invocation: str) -> bool:
        """Whether the target was reached; the log may end before it."""
        deadline = time.monotonic() + self.wanted["wait_seconds"]
        # The backup's own pg_control says "in production", too.
        while self.needed() or self.control().get("Database cluster state") != "in production":
            if self.show("ActiveState") != "active":
                log = self.log(invocation)
                self.stop_leftover()
                if self.wanted["target_time"] and pgbackrest.ended_before_target(log):
                    return False
                self.module.fail_json(
                    msg=f"The recovery failed. {pgbackrest.recovery_failure(log)}", log=log.splitlines()[-40:]
                )
            if time.monotonic() >= deadline:
                self.module.fail_json(
                    msg=f"The recovery isn't done after {self.wanted['wait_seconds']} s. It goes on in the unit {UNIT}; look at "
                    f"`journalctl -u {UNIT}`, and repeat this with more time if it gets on."
                )
            time.sleep(1)
        return True

    def run(self) -> dict:
        self.stop_leftover()
        self.start()
        invocation = self.show("InvocationID")
        reached = self.wait(invocation)
        if not reached:
            # Nothing was committed between the log's end and the target, as where an earlier restore to the same moment has begun a
            # timeline: what there is at its end is what there was then.
            self.wanted["target_time"] = ""
            self.start()
            invocation = self.show("InvocationID")
            self.wait(invocation)
        log = self.log(invocation)
        self.require("systemctl", "stop", UNIT)
        if self.control().get("Database cluster state") != "shut down":
            self.module.fail_json(
                msg=f"PostgreSQL recovered but didn't stop cleanly; look at `journalctl -u {UNIT}` and repeat the restore."
            )
        last = re.findall(r"last completed transaction was at log time (.+)", log)
        return {"last_transaction": last[-1].strip() if last else "", "target_reached": reached}

    def result(self) -> dict:
        found = self.control()
        return {
            "timeline": int(found.get("Latest checkpoint's TimeLineID") or 0),
            "system_identifier": found.get("Database system identifier") or "",
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "restore_command": {"type": "str", "required": True},
            "target_time": {"type": "str", "default": ""},
            "target_timeline": {"type": "str", "default": "latest"},
            "wait_seconds": {"type": "int", "default": 86400},
            "user": {"type": "str", "default": "postgres"},
        },
        supports_check_mode=True,
    )
    recovery = Recovery(module)
    done = {"last_transaction": "", "target_reached": True}
    needed = recovery.needed()
    if needed and not module.check_mode:
        done = recovery.run()
    module.exit_json(changed=needed, **done, **recovery.result())


if __name__ == "__main__":
    main()
