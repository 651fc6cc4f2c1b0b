#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Replace a daemon's Debian packages while it is stopped."""

from __future__ import annotations

DOCUMENTATION = r"""
module: package_upgrade
short_description: Replace the packages of a daemon while it is stopped
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Downloads first. Only when everything is on the host is the unit stopped; then the packages are replaced. Starting it again is the
    caller's business, behind its own gate.
  - Packages can't start, stop or restart the unit meanwhile (C(/usr/sbin/policy-rc.d)). What says so is without effect as soon as this
    module has ended, also when it was killed.
  - Takes the versions that are named, removes nothing, keeps configuration files as they are on the host.
  - What a killed dpkg left half done is finished first.
options:
  name:
    description: Packages, each as C(name=version).
    type: list
    elements: str
    required: true
  state:
    description: V(downloaded) only has the packages on the host; V(installed) stops O(unit) and installs them.
    type: str
    choices: [downloaded, installed]
    default: installed
  unit:
    description: The unit that is stopped. Not needed for O(state=downloaded).
    type: str
  hold_units:
    description: More units that the packages may not touch; shell patterns such as C(postgresql@*).
    type: list
    elements: str
    default: []
  policy_file:
    description: The program that Debian's packages ask whether they may start or stop a unit.
    type: path
    default: /usr/sbin/policy-rc.d
  lock_timeout_seconds:
    description: How long another package manager on the host may hold its lock, in seconds.
    type: int
    default: 300
attributes:
  check_mode: {support: full, description: Says whether something would be downloaded or installed.}
  diff_mode: {support: full, description: Shows the versions.}
seealso:
  - module: sutazai.platform.upgrade_info
"""

EXAMPLES = r"""
- name: Replace the packages while Redis is stopped
  sutazai.platform.package_upgrade:
    name: [redis-server=5:7.0.15-1~deb12u10, redis-tools=5:7.0.15-1~deb12u10]
    unit: redis-server
"""

RETURN = r"""
downloaded:
  description: Addresses that were downloaded now.
  returned: always
  type: list
  elements: str
stopped:
  description: Whether the unit was stopped.
  returned: always
  type: bool
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import apt_upgrade, dpkg, dpkg_work


class Apt:
    """apt-get with what all its calls have in common."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.name = module.params["name"]

    def install(self, *options: str) -> tuple[int, str, str]:
        command = ["apt-get", "--yes", "--quiet", "--no-install-recommends", "--no-remove", "--allow-downgrades"]
        command += ["-o", f"DPkg::Lock::Timeout={self.module.params['lock_timeout_seconds']}"]
        command += [f"-oDPkg::Options::={option}" for option in dpkg_work.KEEP_CONFIGURATION]
        # needrestart only says what is out of date: the caller restarts.
        environment = {**dpkg_work.ENVIRONMENT, "NEEDRESTART_SUSPEND": "1"}
        return self.module.run_command([*command, *options, "install", *self.name], environ_update=environment)

    def missing(self) -> list[str]:
        """What isn't on the host yet."""
        rc, out, err = self.install("--print-uris")
        if rc != 0:
            self.module.fail_json(msg=f"apt can't install {', '.join(self.name)}: {(err or out).strip()[-800:]}")
        return apt_upgrade.remote(out)

    def download(self) -> list[str]:
        missing = self.missing()
        if missing and not self.module.check_mode:
            rc, out, err = self.install("--download-only")
            left = self.missing() if rc == 0 else missing
            if left:
                self.module.fail_json(
                    msg=f"{', '.join(left)} can't be had, and nothing was stopped or replaced: {(err or out).strip()[-800:]} "
                    "Can this host reach apt's sources (platform_package_proxy, platform_artifact_bundle)?"
                )
        return missing


class Policy:
    """While it is entered, packages don't touch the units."""

    def __init__(self, module: AnsibleModule, units: list[str]) -> None:
        self.module = module
        self.units = units
        self.path = module.params["policy_file"]
        self.ours = False

    def __enter__(self) -> Policy:
        if self.module.check_mode:
            return self
        existing = self.read()
        if existing and apt_upgrade.MARK not in existing:
            unit = self.units[0]
            rc = self.module.run_command([self.path, unit, "restart"])[0]
            if rc != 101:
                self.module.fail_json(
                    msg=f"{self.path} on this host is somebody else's and lets packages restart {unit} (it answers {rc}). "
                    f"Let it exit 101 for {unit}, or take it away. Nothing was stopped or replaced."
                )
            return self
        with open("/proc/self/stat", encoding="utf-8") as file:
            started = file.read().rpartition(")")[2].split()[19]
        script = apt_upgrade.policy_script(self.units, os.getpid(), started)
        partial = f"{self.path}.sutazai"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o755), "w", encoding="utf-8") as file:
            file.write(script)
        os.replace(partial, self.path)
        self.ours = True
        return self

    def __exit__(self, *_unused: object) -> None:
        if self.ours and os.path.exists(self.path):
            os.unlink(self.path)

    def read(self) -> str:
        if not os.path.exists(self.path):
            return ""
        with open(self.path, encoding="utf-8", errors="replace") as file:
            return file.read() or "empty"


def stop(module: AnsibleModule, unit: str) -> bool:
    if module.run_command(["systemctl", "is-active", "--quiet", unit])[0] != 0:
        return False
    rc, out, err = module.run_command(["systemctl", "stop", unit])
    if rc != 0:
        module.fail_json(msg=f"{unit} can't be stopped, and its packages were not replaced: {(err or out).strip()}")
    return True


def replace(module: AnsibleModule, apt: Apt, result: dict) -> None:
    unit = module.params["unit"]
    with Policy(module, [unit, *module.params["hold_units"]]):
        result["stopped"] = stop(module, unit)
        rc, out, err = apt.install()
        if rc == 0:
            return
    # What apt refused before it began is as it was: better the old version than none.
    untouched = dpkg.missing(module.params["name"], dpkg_work.status()) == module.params["name"]
    back = result["stopped"] and untouched and module.run_command(["systemctl", "start", unit])[0] == 0
    module.fail_json(
        msg=f"apt couldn't install {', '.join(module.params['name'])}: {(err or out).strip()[-800:]} "
        + (
            f"{unit} runs again as it was."
            if back
            else f"{unit} doesn't run on this host now; repair that and run again."
        ),
        **{**result, "changed": not back},
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["downloaded", "installed"], "default": "installed"},
            "unit": {"type": "str"},
            "hold_units": {"type": "list", "elements": "str", "default": []},
            "policy_file": {"type": "path", "default": "/usr/sbin/policy-rc.d"},
            "lock_timeout_seconds": {"type": "int", "default": 300},
        },
        required_if=[("state", "installed", ["unit"])],
        supports_check_mode=True,
    )
    dpkg_work.require_debian(module)
    before = dpkg_work.status()
    wanted = dpkg.missing(module.params["name"], before)
    result = {"changed": False, "downloaded": [], "stopped": False}
    if not wanted:
        module.exit_json(**result)
    apt = Apt(module)
    installs = module.params["state"] == "installed"
    if installs:
        with Policy(module, [module.params["unit"], *module.params["hold_units"]]):
            result["changed"] = dpkg_work.finish_interrupted_work(module, module.params["lock_timeout_seconds"])
    result["downloaded"] = apt.download()
    result["changed"] = bool(result["changed"] or result["downloaded"] or installs)
    if installs and not module.check_mode:
        replace(module, apt, result)
    known = dpkg.states(before)
    names = [dpkg.split(package)[0] for package in wanted]
    if installs:
        result["diff"] = {
            "before": "".join(f"{name} {known.get(name, ('', ''))[1]}\n" for name in names),
            "after": "".join(f"{package.replace('=', ' ', 1)}\n" for package in wanted),
        }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
