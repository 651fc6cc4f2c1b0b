# Apache License 2.0 (see LICENSE)
"""Finishing what a killed dpkg has left half done, from a module on the host."""

from __future__ import annotations

import os
import time

from . import dpkg

DPKG = "/var/lib/dpkg"
POLL_SECONDS = 2
ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
KEEP_CONFIGURATION = ("--force-confdef", "--force-confold")


def require_debian(module) -> None:
    if not os.path.isdir(DPKG):
        module.fail_json(
            msg=f"There is no {DPKG} on this host: it isn't a Debian system, and its packages can't be managed."
        )


def status() -> str:
    with open(f"{DPKG}/status", encoding="utf-8", errors="replace") as file:
        return file.read()


def finish_interrupted_work(module, lock_timeout_seconds: int) -> bool:
    """Run what apt asks for in words: dpkg --configure -a. True when it was due."""
    if not dpkg.interrupted(os.listdir(f"{DPKG}/updates")):
        return False
    if module.check_mode:
        return True
    deadline = time.monotonic() + lock_timeout_seconds
    command = ["dpkg", *KEEP_CONFIGURATION, "--configure", "-a"]
    while True:
        rc, out, err = module.run_command(command, environ_update=ENVIRONMENT)
        if rc == 0:
            return True
        # The apt of a run that was killed may still be at work; what it finishes needs no repair.
        if "lock" not in err or time.monotonic() > deadline:
            module.fail_json(
                msg=f"A package installation on this host was interrupted, and «{' '.join(command)}» can't finish it: "
                f"{(err or out).strip()[-600:]}"
            )
        time.sleep(POLL_SECONDS)
