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


def update(console: Console, *, way_out: str) -> None:
    console.doing("apt-get update")
    run(console, ["apt-get", "update", "-q"], failure="apt-get update failed.", way_out=way_out, environment=QUIET)


def install(console: Console, *packages: str, way_out: str, updated: bool = False) -> None:
    names = ", ".join(packages)
    console.note(f"installing Debian's {names}")
    if not updated:
        update(console, way_out=way_out)
    run(
        console,
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages],
        failure=f"Installing {names} failed.",
        way_out=way_out,
        environment=QUIET,
        heartbeat=True,
    )
