#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Inject a fault for a while, and undo it whatever happens."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_fault
short_description: Inject a fault into a host for a while, and undo it whatever happens
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Injects the fault, holds it for O(hold_seconds), undoes it and says when which happened.
  - Before it injects anything it arms a guard that undoes the fault O(guard_seconds) after it should be over, also when this module, the
    connection or the controller is gone by then. On the host the guard is a systemd timer, C(sutazai-failover-undo.timer). For V(stop_host),
    which runs on the controller, it is a process of its own session.
  - Network faults are an nftables table of their own, C(inet sutazai_failover), that drops all traffic with O(peers) except SSH.
  - The caller has to have asked whether faults are allowed here at all.
options:
  fault:
    description:
      - V(kill_process) sends SIGKILL to every process of O(unit), and waits until systemd has started it again.
      - V(pause_process) sends SIGSTOP to every process of O(unit), and SIGCONT at the end.
      - V(isolate_host) cuts the host off from all O(peers).
      - V(cut_from_majority) cuts it off from so many of O(peers), all other members, that it and the rest have no majority.
      - V(stop_host) runs O(power_off) and, at the end, O(power_on). Run it on the controller.
    type: str
    required: true
    choices: [kill_process, pause_process, isolate_host, cut_from_majority, stop_host]
  unit:
    description: The systemd unit that is meant.
    type: str
    default: ""
  peers:
    description: Addresses of the others.
    type: list
    elements: str
    default: []
  power_off:
    description: Command, as a list of arguments, that switches the host off at once.
    type: list
    elements: str
    default: []
  power_on:
    description: Command that switches it on. It must succeed on a host that runs, too.
    type: list
    elements: str
    default: []
  hold_seconds:
    description: How long the fault lasts. V(kill_process) doesn't last.
    type: float
    default: 30
  guard_seconds:
    description: How long after that the guard undoes the fault, should nobody have done it.
    type: float
    default: 60
attributes:
  check_mode: {support: full, description: Says what would be done.}
  diff_mode: {support: none, description: Nothing stays changed.}
notes:
  - Needs systemd on the host and, for network faults, nftables.
seealso:
  - module: sutazai.platform.failover_check
"""

EXAMPLES = r"""
- name: Stop all processes of Redis for half a minute
  sutazai.platform.failover_fault:
    fault: pause_process
    unit: redis-server
    hold_seconds: 30

- name: Cut a host off from the others
  sutazai.platform.failover_fault:
    fault: isolate_host
    peers: [10.0.0.11, 10.0.0.12]
    hold_seconds: 30
"""

RETURN = r"""
what:
  description: What was done, for a person.
  returned: always
  type: str
injected_at:
  description: When, as seconds since 1970 by the clock of the host that ran the module.
  returned: when it was done
  type: float
undone_at:
  description: When it was undone. For V(kill_process), when systemd had the unit running again.
  returned: when it was done
  type: float
"""

import os
import shutil
import signal
import time
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.failover_faults import (
    FAULTS,
    GUARD_UNIT,
    NETWORK_FAULTS,
    PROCESS_FAULTS,
    Impossible,
    Plan,
    guard_on_host,
    plan,
    start_guard_here,
)

RESTART_SECONDS = 60


class Interrupted(Exception):
    """Somebody wants this module to end; the fault is undone first."""


def interrupted(number: int, _frame: Any) -> None:
    raise Interrupted(f"signal {number}")


class Host:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module

    def run(self, command: Any, stdin: str = "", failure: str = "") -> str:
        code, out, error = self.module.run_command(list(command), data=stdin or None)
        if code != 0 and failure:
            self.module.fail_json(msg=f"{failure}: {' '.join(command)} ended with {code}: {(error or out).strip()}")
        return out.strip() if code == 0 else ""

    def state_of(self, unit: str) -> str:
        return self.run(["systemctl", "show", "--property=ActiveState", "--value", unit])

    def check(self, fault: str, unit: str) -> None:
        if fault in PROCESS_FAULTS and self.state_of(unit) != "active":
            self.module.fail_json(
                msg=f"{unit} doesn't run on this host, so there is nothing to {fault.replace('_process', '')}."
            )
        if fault in NETWORK_FAULTS and not shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            self.module.fail_json(msg="There is no nft on this host: install the package nftables.")
        if fault != "stop_host" and self.state_of(f"{GUARD_UNIT}.timer") == "active":
            self.module.fail_json(
                msg=f"A fault is in progress on this host: {GUARD_UNIT}.timer is armed, see `systemctl list-timers {GUARD_UNIT}.timer`. "
                f"Wait until it has elapsed, or undo the fault at once with `systemctl start {GUARD_UNIT}.service`."
            )

    @contextmanager
    def guard(self, planned: Plan, seconds: float, here: bool) -> Any:
        if here:
            process = start_guard_here(planned.undo, seconds)
        else:
            self.run(
                guard_on_host(planned.undo, seconds),
                failure="The guard that undoes the fault can't be armed, so it wasn't injected",
            )
        yield
        # Only reached when the fault was undone: otherwise the guard stays.
        if here:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()
        else:
            self.run(["systemctl", "stop", f"{GUARD_UNIT}.timer"], failure="The guard can't be disarmed")

    def wait_for(self, unit: str) -> None:
        """Until systemd has started it again by itself; otherwise it is started."""
        deadline = time.monotonic() + RESTART_SECONDS
        while self.state_of(unit) != "active":
            if time.monotonic() > deadline:
                self.run(
                    ["systemctl", "start", unit],
                    failure=f"{unit} didn't come back within {RESTART_SECONDS} s and can't be started",
                )
                self.module.warn(
                    f"{unit} didn't come back by itself within {RESTART_SECONDS} s after it was killed; it was started."
                )
                return
            time.sleep(0.2)

    def inject(self, planned: Plan, unit: str, hold_seconds: float) -> tuple[float, float]:
        try:
            self.run(planned.inject, planned.stdin, failure="The fault can't be injected")
            injected = time.time()
            if planned.held:
                time.sleep(hold_seconds)
        finally:
            if planned.held:
                self.run(planned.undo, failure="The fault can't be undone; the guard will try again")
        if not planned.held:
            self.wait_for(unit)
        return injected, time.time()


def main() -> None:
    arguments = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            "fault": {"type": "str", "required": True, "choices": list(FAULTS)},
            "unit": {"type": "str", "default": ""},
            "peers": arguments,
            "power_off": arguments,
            "power_on": arguments,
            "hold_seconds": {"type": "float", "default": 30},
            "guard_seconds": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        planned = plan(wanted["fault"], wanted["unit"], wanted["peers"], wanted["power_off"], wanted["power_on"])
    except Impossible as error:
        module.fail_json(msg=str(error))
    host = Host(module)
    host.check(wanted["fault"], wanted["unit"])
    if module.check_mode:
        module.exit_json(changed=True, what=planned.what)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    hold = wanted["hold_seconds"] if planned.held else RESTART_SECONDS
    try:
        with host.guard(planned, hold + wanted["guard_seconds"], wanted["fault"] == "stop_host"):
            injected, undone = host.inject(planned, wanted["unit"], wanted["hold_seconds"])
    except Interrupted as reason:
        module.fail_json(msg=f"Interrupted by {reason}: the fault was undone before its time.", what=planned.what)
    module.exit_json(changed=True, what=planned.what, injected_at=injected, undone_at=undone)


if __name__ == "__main__":
    main()
