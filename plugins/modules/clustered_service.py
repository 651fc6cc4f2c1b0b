#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Run a systemd unit of a clustered daemon without ever restarting it behind the cluster's back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: clustered_service
short_description: Run a clustered daemon and say whether it runs with what is on disk
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Enables and starts a systemd unit, and compares the start of its main process with the files it was started from.
  - A daemon of a cluster may not be restarted by whichever task touched its configuration. A handler that is told to do it later is
    forgotten when the run is killed. This module keeps no such memory. What is newer than the running process is stale,
    however many runs ago it was written.
  - A stale O(restart_paths) is only reported (RV(restart_needed)), unless O(on_stale=restart). A stale O(reload_paths) is reloaded at once.
options:
  name:
    description: The unit, with or without C(.service).
    type: str
    required: true
  enabled:
    description: Whether the unit starts at boot.
    type: bool
    default: true
  state:
    description:
      - V(started) starts a unit that isn't active, V(stopped) stops one that is.
      - V(restarted) always restarts; it belongs into a role's C(restart.yml), behind its health gate.
    type: str
    choices: [started, stopped, restarted]
    default: started
  restart_paths:
    description:
      - Files and directories whose content the process only reads when it starts.
      - Of a symbolic link the younger of link and target counts; of a directory also the files in it. What is missing doesn't count.
    type: list
    elements: path
    default: []
  reload_paths:
    description: Files and directories that the process reads again on C(systemctl reload).
    type: list
    elements: path
    default: []
  on_stale:
    description: Whether a stale O(restart_paths) is reported, or the unit restarted at once (for daemons that are no cluster's members).
    type: str
    choices: [report, restart]
    default: report
attributes:
  check_mode: {support: full, description: Says what would be done.}
  diff_mode: {support: none, description: A unit has no content to compare.}
"""

EXAMPLES = r"""
- name: Run Redis
  sutazai.platform.clustered_service:
    name: redis-server
    restart_paths: [/etc/redis/redis.conf]
  register: __redis_service

- name: Put hosts with stale daemons into a group for the serial play
  ansible.builtin.group_by:
    key: "redis_restart_{{ __redis_service.restart_needed | ternary('needed', 'not_needed') }}"
"""

RETURN = r"""
installed:
  description: Whether systemd knows the unit. In check mode on a fresh host it may not.
  returned: always
  type: bool
started:
  description: Whether this task started the unit.
  returned: always
  type: bool
reloaded:
  description: Whether this task reloaded the unit.
  returned: always
  type: bool
restarted:
  description: Whether this task restarted the unit.
  returned: always
  type: bool
restart_needed:
  description: Whether the running process is older than one of O(restart_paths).
  returned: always
  type: bool
stale_paths:
  description: The paths that are newer than the running process, or than its last reload.
  returned: always
  type: list
  elements: str
start_time:
  description: When the main process started, in seconds since the epoch; 0 when it doesn't run.
  returned: always
  type: float
"""

import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.freshness import newer_than, start_time

STAMP_DIRECTORY = "/run/sutazai/reloaded"
PROPERTIES = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "NeedDaemonReload",
    "Triggers",
    "ExecMainStartTimestampMonotonic",
)


class Unit:
    """One systemd unit, asked and told through systemctl."""

    def __init__(self, module: AnsibleModule, name: str) -> None:
        self.module = module
        self.name = name if "." in name else f"{name}.service"

    def systemctl(self, verb: str, *arguments: str) -> str:
        rc, out, err = self.module.run_command(["systemctl", verb, *arguments])
        if rc != 0:
            self.module.fail_json(
                msg=f"systemctl {verb} {self.name} failed: {err.strip() or out.strip()}{self.last_log_lines()}"
            )
        return out

    def last_log_lines(self) -> str:
        out = self.module.run_command(
            ["journalctl", "--unit", self.name, "--lines", "8", "--no-pager", "--output", "cat"]
        )[1]
        return f"\nIts last log lines:\n{out.strip()}" if out.strip() else ""

    def show(self, name: str = "") -> dict[str, str]:
        out = self.systemctl("show", name or self.name, f"--property={','.join(PROPERTIES)}")
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def outdated(self, shown: dict[str, str]) -> bool:
        """Whether systemd has an older version of the unit's file, or (of a timer) of what it starts."""
        units = [shown, *(self.show(name) for name in shown.get("Triggers", "").split())]
        return any(unit.get("NeedDaemonReload") == "yes" for unit in units)

    @property
    def stamp(self) -> str:
        return os.path.join(STAMP_DIRECTORY, self.name)

    def last_reload(self) -> float:
        return os.stat(self.stamp).st_mtime if os.path.exists(self.stamp) else 0.0

    def mark_reloaded(self, when: float) -> None:
        os.makedirs(STAMP_DIRECTORY, mode=0o755, exist_ok=True)
        with open(self.stamp, "w", encoding="utf-8"):
            pass
        os.utime(self.stamp, (when, when))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "enabled": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["started", "stopped", "restarted"], "default": "started"},
            "restart_paths": {"type": "list", "elements": "path", "default": []},
            "reload_paths": {"type": "list", "elements": "path", "default": []},
            "on_stale": {"type": "str", "choices": ["report", "restart"], "default": "report"},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    unit = Unit(module, wanted["name"])
    shown = unit.show()
    result = {
        "changed": False,
        "installed": shown.get("LoadState") == "loaded",
        "started": False,
        "reloaded": False,
        "restarted": False,
        "restart_needed": False,
        "stale_paths": [],
        "start_time": 0.0,
    }
    if not result["installed"]:
        if module.check_mode:
            starts = wanted["state"] != "stopped"
            module.exit_json(**{**result, "changed": starts, "started": starts})
        if wanted["state"] == "stopped":
            module.exit_json(**result)
        module.fail_json(
            msg=f"systemd knows no unit {unit.name} ({shown.get('LoadState')}): is its package installed?", **result
        )

    act = not module.check_mode
    if act and unit.outdated(shown):
        unit.systemctl("daemon-reload")
    # "static" and "generated" units are started by others and can't be enabled.
    if (
        shown.get("UnitFileState") in ("enabled", "disabled")
        and (shown["UnitFileState"] == "enabled") != wanted["enabled"]
    ):
        result["changed"] = True
        if act:
            unit.systemctl("enable" if wanted["enabled"] else "disable", unit.name)

    active = shown["ActiveState"] in ("active", "reloading")
    if wanted["state"] == "stopped":
        if active or shown["ActiveState"] == "activating":
            result["changed"] = True
            if act:
                unit.systemctl("stop", unit.name)
        module.exit_json(**result)

    running_since = start_time(shown)
    stale_for_restart = newer_than(wanted["restart_paths"], running_since) if active else []
    if active and (wanted["state"] == "restarted" or (stale_for_restart and wanted["on_stale"] == "restart")):
        result.update(changed=True, restarted=True)
        if act:
            unit.systemctl("restart", unit.name)
    elif not active:
        result.update(changed=True, started=True)
        if act:
            if shown["ActiveState"] == "failed":
                unit.systemctl("reset-failed", unit.name)
            unit.systemctl("start", unit.name)
    else:
        stale_for_reload = newer_than(wanted["reload_paths"], max(running_since, unit.last_reload()))
        result.update(restart_needed=bool(stale_for_restart), stale_paths=stale_for_restart + stale_for_reload)
        if stale_for_reload:
            result.update(changed=True, reloaded=True)
            if act:
                # The stamp says when the reload began: what is written while it runs is stale again.
                began = time.time()
                unit.systemctl("reload", unit.name)
                unit.mark_reloaded(began)
    if act and result["changed"]:
        shown = unit.show()
        if shown["ActiveState"] not in ("active", "reloading"):
            module.fail_json(
                msg=f"{unit.name} is {shown['ActiveState']} right after its start.{unit.last_log_lines()}", **result
            )
    result["start_time"] = start_time(shown)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
