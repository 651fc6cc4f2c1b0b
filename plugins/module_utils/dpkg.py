# Apache License 2.0 (see LICENSE)
"""What dpkg's own records say of packages. Pure: the text of its status file in, answers out."""

from __future__ import annotations

INSTALLED = "installed"


def states(status: str) -> dict[str, tuple[str, str]]:
    """Of each package that dpkg knows (state, version), from the text of /var/lib/dpkg/status.

    The state is the third word of "Status:", such as installed, config-files or half-configured. Of a package that is there for
    several architectures the one that is installed counts.
    """
    found: dict[str, tuple[str, str]] = {}
    for paragraph in status.split("\n\n"):
        name = state = version = ""
        for line in paragraph.splitlines():
            if line.startswith("Package: "):
                name = line[9:].strip()
            elif line.startswith("Status: "):
                state = line.split()[-1]
            elif line.startswith("Version: "):
                version = line[9:].strip()
        if name and found.get(name, ("", ""))[0] != INSTALLED:
            found[name] = (state, version)
    return found


def split(wanted: str) -> tuple[str, str]:
    """'redis-server:amd64=5:8.0.2-3' -> ('redis-server', '5:8.0.2-3'); the version is empty when any will do."""
    name, _equals, version = wanted.partition("=")
    return name.partition(":")[0], version


def missing(wanted: list[str], status: str) -> list[str]:
    """Those of the wanted packages that aren't installed, or not in the wanted version."""
    found = states(status)
    absent = []
    for package in wanted:
        name, version = split(package)
        state, installed = found.get(name, ("", ""))
        if state != INSTALLED or (version and version != installed):
            absent.append(package)
    return absent


def interrupted(updates: list[str]) -> bool:
    """Whether dpkg was killed in its work: apt asks for the same files of /var/lib/dpkg/updates, whose names are numbers."""
    return any(name.isdigit() for name in updates)
