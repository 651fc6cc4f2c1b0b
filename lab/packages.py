"""Installs Debian packages on this machine when a program is missing."""

from __future__ import annotations

import shutil

from lab.command import run
from lab.console import Console
from lab.errors import LabError

QUIET = {"DEBIAN_FRONTEND": "noninteractive"}


def require(console: Console, program: str, *packages: str, way_out: str) -> None:
    if shutil.which(program):
        return
    if not shutil.which("apt-get"):
        raise LabError(f"{program} is missing, and there is no apt-get to install it.", way_out)
    install(console, *packages, way_out=way_out)


def install(console: Console, *packages: str, way_out: str) -> None:
    names = ", ".join(packages)
    console.note(f"installing Debian's {names}")
    run(console, ["apt-get", "update", "-q"], failure="apt-get update failed.", way_out=way_out, environment=QUIET)
    run(
        console,
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages],
        failure=f"Installing {names} failed.",
        way_out=way_out,
        environment=QUIET,
        heartbeat=True,
    )
