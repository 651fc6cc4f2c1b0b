# Apache License 2.0 (see LICENSE)
"""What apt says it would do, and what a package may not do meanwhile. Pure: apt's text in, answers out."""

from __future__ import annotations

import fnmatch
import re
import shlex
from collections.abc import Iterable
from typing import Any

from .dpkg import INSTALLED, states

#: Inst redis-tools [5:7.0.15-1~deb12u7] (5:7.0.15-1~deb12u10 Debian-Security:12/oldstable-security [amd64])
INSTALLS = re.compile(r"^Inst (?P<name>\S+)(?: \[(?P<before>[^\]]+)\])? \((?P<after>\S+)", re.MULTILINE)
REMOVES = re.compile(r"^Remv (?P<name>\S+)", re.MULTILINE)
ABSENT = ("not-installed", "config-files")
MARK = "Written by sutazai.platform.package_upgrade"


def matching(patterns: list[str], status: str) -> dict[str, str]:
    """Version of each package on the host that one of the patterns fits, in the patterns' order; also of one half installed."""
    installed = {name: version for name, (state, version) in states(status).items() if state not in ABSENT}
    found: dict[str, str] = {}
    for pattern in patterns:
        found.update({name: installed[name] for name in sorted(fnmatch.filter(installed, pattern))})
    return found


def held(status: str) -> list[str]:
    """What an operator has put on hold (apt-mark hold)."""
    names = []
    for paragraph in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"(Package|Status): ", line))
        if fields.get("Status", "").startswith("hold "):
            names.append(fields.get("Package", ""))
    return names


def unfinished(names: Iterable[str], status: str) -> list[str]:
    """Those that a killed dpkg has left half installed."""
    known = states(status)
    return [name for name in names if known[name][0] != INSTALLED]


def candidates(policy: str) -> dict[str, str]:
    """The version of each package that apt would install, from `apt-cache policy`."""
    found: dict[str, str] = {}
    name = ""
    for line in policy.splitlines():
        if line and not line[0].isspace() and line.endswith(":"):
            name = line[:-1].partition(":")[0]
        elif name and line.startswith("  Candidate: "):
            version = line.split(": ", 1)[1].strip()
            if version != "(none)":
                found[name] = version
    return found


def changes(
    installed: dict[str, str], wanted: dict[str, str], on_hold: list[str], half_done: list[str]
) -> list[dict[str, str]]:
    """The packages that would get another version, or whose installation would be finished."""
    return [
        {"name": name, "from": version, "to": wanted[name]}
        for name, version in installed.items()
        if name in wanted and (wanted[name] != version or name in half_done) and name not in on_hold
    ]


def simulated(output: str, asked: list[str]) -> dict[str, Any]:
    """What else `apt-get --simulate install` would install, and what it would remove."""
    also = [
        {"name": match["name"], "from": match["before"] or "", "to": match["after"]}
        for match in INSTALLS.finditer(output)
        if match["name"].partition(":")[0] not in asked
    ]
    return {"also": also, "removed": [match["name"] for match in REMOVES.finditer(output)]}


def remote(uris: str) -> list[str]:
    """What still has to come over the network, from `apt-get --print-uris`; a file: is here already."""
    found = re.findall(r"^'([^']+)' \S+ \d+", uris, re.MULTILINE)
    return [uri for uri in found if not uri.startswith("file:")]


def policy_script(units: list[str], process: int, started: str) -> str:
    """/usr/sbin/policy-rc.d that keeps packages from starting or stopping units, as long as a process lives.

    A run that is killed leaves it behind without effect. Units may be shell patterns.
    """
    words = "|".join(pattern for unit in units for pattern in (quoted(unit), f"{quoted(unit)}.service"))
    return (
        "#!/bin/sh\n"
        f"# {MARK}. Without effect once that has ended.\n"
        f'[ "$(cut -d " " -f 22 /proc/{process}/stat 2>/dev/null)" = {shlex.quote(started)} ] || exit 0\n'
        'for word in "$@"; do\n'
        '  case "$word" in\n'
        f"    {words}) exit 101 ;;\n"
        "  esac\n"
        "done\n"
        "exit 0\n"
    )


def quoted(pattern: str) -> str:
    """Quoted for the shell, but for the stars."""
    return "*".join(shlex.quote(part) if part else "" for part in pattern.split("*"))
