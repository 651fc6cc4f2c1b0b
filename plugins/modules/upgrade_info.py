#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""What version of a component runs, is installed, and could be installed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_info
short_description: See which version of a daemon runs, is installed, and is to be installed
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - For a daemon from Debian packages the version to be installed is apt's candidate; for one from an artifact
    (M(sutazai.platform.artifact)) it is O(artifact.version).
  - Nothing is remembered from run to run. A process is older than what is installed when its program is another version's (artifacts), or
    when dpkg unpacked one of its packages after it was started.
  - Changes nothing but apt's index, which is read anew, in check mode too.
options:
  component:
    description: What it is called in messages and by C(rolling_upgrade_component).
    type: str
    required: true
  unit:
    description: The systemd unit that runs it.
    type: str
    required: true
  packages:
    description: Names of its packages, the most important first. Shell patterns such as C(erlang-*) stand for those that are installed.
    type: list
    elements: str
    default: []
  artifact:
    description: Instead of packages, the artifact it is run from.
    type: dict
    suboptions:
      name:
        description: Name of the artifact.
        type: str
        required: true
      version:
        description: Version that is wanted.
        type: str
        required: true
      destination:
        description: The link to its program.
        type: path
        required: true
      root:
        description: Directory that holds all artifacts.
        type: path
        default: /opt/sutazai
  update_index:
    description: Whether apt's index is read anew first.
    type: bool
    default: true
  lock_timeout_seconds:
    description: How long another package manager on the host may hold its lock, in seconds.
    type: int
    default: 300
attributes:
  check_mode: {support: full, description: Only reads; apt's index is read anew nevertheless.}
  diff_mode: {support: none, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: See what would be upgraded
  sutazai.platform.upgrade_info:
    component: redis
    unit: redis-server
    packages: [redis-server, redis-tools]
  register: __redis_upgrade
"""

RETURN = r"""
component:
  description: As O(component).
  returned: always
  type: str
unit:
  description: As O(unit).
  returned: always
  type: str
active:
  description: Whether the unit runs.
  returned: always
  type: bool
enabled:
  description: Whether it starts at boot.
  returned: always
  type: bool
changes:
  description: What would get another version, each with C(name), C(from), C(to); of packages also whether that is C(older).
  returned: always
  type: list
  elements: dict
also:
  description: What apt would install besides, alike; C(from) is empty for what is new.
  returned: always
  type: list
  elements: dict
removed:
  description: What apt would remove for it.
  returned: always
  type: list
  elements: str
held:
  description: Packages of the component that are on hold and stay as they are.
  returned: always
  type: list
  elements: str
targets:
  description: RV(changes) in apt's words, C(name=version).
  returned: always
  type: list
  elements: str
installed:
  description: Version of the artifact, or of the most important package; empty when it isn't installed.
  returned: always
  type: str
running:
  description: Version of the running process; empty when it doesn't run, or is of an older one that dpkg no longer knows.
  returned: always
  type: str
wanted:
  description: The version that is to run.
  returned: always
  type: str
upgrade_due:
  description: Whether something else is to be installed.
  returned: always
  type: bool
restart_due:
  description: Whether the process is older than what is installed.
  returned: always
  type: bool
due:
  description: Whether either holds, or the unit is enabled and doesn't run.
  returned: always
  type: bool
"""

import glob
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import apt_upgrade, dpkg_work
from ansible_collections.sutazai.platform.plugins.module_utils.freshness import newer_than, start_time

PROPERTIES = ("ActiveState", "UnitFileState", "MainPID", "ExecMainStartTimestampMonotonic")


def run(module: AnsibleModule, command: list[str], purpose: str) -> str:
    rc, out, err = module.run_command(command, environ_update=dpkg_work.ENVIRONMENT)
    if rc != 0:
        module.fail_json(msg=f"{purpose}: «{' '.join(command)}» says {(err or out).strip()[-800:]}")
    return out


def update_index(module: AnsibleModule) -> None:
    deadline = time.monotonic() + module.params["lock_timeout_seconds"]
    while True:
        rc, out, err = module.run_command(["apt-get", "update", "-q"], environ_update=dpkg_work.ENVIRONMENT)
        if rc == 0 and "W: Failed to fetch" not in err:
            return
        if "lock" not in err or time.monotonic() > deadline:
            module.fail_json(
                msg="apt's index can't be read anew, so nobody knows what could be installed: "
                f"{(err or out).strip()[-800:]} Its sources are in /etc/apt, a proxy is platform_package_proxy."
            )
        time.sleep(dpkg_work.POLL_SECONDS)


def show(module: AnsibleModule, unit: str) -> dict[str, str]:
    out = run(module, ["systemctl", "show", unit, f"--property={','.join(PROPERTIES)}"], f"{unit} can't be asked for")
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def version_of(path: str, base: str) -> str:
    """The version's directory that a program is in."""
    relative = os.path.relpath(os.path.realpath(path), base)
    return "" if relative.startswith("..") else relative.split(os.sep)[0]


def of_artifact(module: AnsibleModule, shown: dict[str, str]) -> dict:
    wanted = module.params["artifact"]
    base = os.path.join(wanted["root"], wanted["name"])
    installed = version_of(wanted["destination"], base) if os.path.exists(wanted["destination"]) else ""
    running = ""
    if int(shown.get("MainPID") or 0):
        program = os.readlink(f"/proc/{shown['MainPID']}/exe").removesuffix(" (deleted)")
        running = version_of(program, base)
    changes = [{"name": wanted["name"], "from": installed, "to": wanted["version"]}]
    return {
        "installed": installed,
        "running": running,
        "wanted": wanted["version"],
        "changes": changes if installed and installed != wanted["version"] else [],
        # An agent that was started from elsewhere says nothing of its version, and is restarted into the one that is installed.
        "restart_due": bool(shown["ActiveState"] == "active" and running != installed),
    }


def of_packages(module: AnsibleModule, shown: dict[str, str]) -> dict:
    dpkg_work.require_debian(module)
    status = dpkg_work.status()
    installed = apt_upgrade.matching(module.params["packages"], status)
    names = list(installed)
    if not names:
        return {"installed": "", "running": "", "wanted": "", "changes": [], "restart_due": False}
    if module.params["update_index"]:
        update_index(module)
    policy = run(module, ["apt-cache", "policy", *names], "apt doesn't say what it would install")
    wanted = apt_upgrade.candidates(policy)
    held = [name for name in apt_upgrade.held(status) if name in installed]
    changes = apt_upgrade.changes(installed, wanted, held, apt_upgrade.unfinished(installed, status))
    for change in changes:
        compare = ["dpkg", "--compare-versions", change["to"], "lt", change["from"]]
        change["older"] = module.run_command(compare)[0] == 0
    targets = [f"{change['name']}={change['to']}" for change in changes]
    result = {"changes": changes, "held": held, "targets": targets}
    if targets:
        command = ["apt-get", "--simulate", "--no-install-recommends", "--allow-downgrades", "install", *targets]
        out = run(module, command, f"apt can't install {', '.join(targets)}")
        result.update(apt_upgrade.simulated(out, [change["name"] for change in changes]))
    since = start_time(shown)
    # dpkg writes a package's list of files when it unpacks it.
    lists = [path for name in names for path in glob.glob(f"/var/lib/dpkg/info/{name}*.list") if owner(path) == name]
    stale = bool(since and newer_than(lists, since))
    after = {change["name"]: change["to"] for change in changes}
    return {
        **result,
        "installed": installed[names[0]],
        "running": installed[names[0]] if since and not stale else "",
        "wanted": after.get(names[0], installed[names[0]]),
        "restart_due": stale,
    }


def owner(path: str) -> str:
    """/var/lib/dpkg/info/libpq5:amd64.list -> libpq5"""
    return os.path.basename(path).removesuffix(".list").partition(":")[0]


def main() -> None:
    artifact = {
        "name": {"type": "str", "required": True},
        "version": {"type": "str", "required": True},
        "destination": {"type": "path", "required": True},
        "root": {"type": "path", "default": "/opt/sutazai"},
    }
    module = AnsibleModule(
        argument_spec={
            "component": {"type": "str", "required": True},
            "unit": {"type": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "default": []},
            "artifact": {"type": "dict", "options": artifact},
            "update_index": {"type": "bool", "default": True},
            "lock_timeout_seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    shown = show(module, module.params["unit"])
    result = {
        "component": module.params["component"],
        "unit": module.params["unit"],
        "active": shown["ActiveState"] in ("active", "reloading"),
        "enabled": shown.get("UnitFileState") == "enabled",
        "also": [],
        "removed": [],
        "held": [],
        "targets": [],
        **(of_artifact if module.params["artifact"] else of_packages)(module, shown),
    }
    result["upgrade_due"] = bool(result["changes"])
    down = bool(result["enabled"] and not result["active"] and result["installed"])
    result["due"] = result["upgrade_due"] or result["restart_due"] or down
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
