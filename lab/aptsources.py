"""Where Debian packages come from: this machine's own apt configuration. Thinking only, apart from `discover`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from lab.command import output
from lab.errors import LabError

INDEX_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
SUITES = {"stable", "oldstable", "testing", "sid", "unstable", "bullseye", "bookworm", "trixie", "forky", "duke"}


@dataclass(frozen=True)
class Mirrors:
    main: str
    security: str = ""

    @property
    def all(self) -> list[str]:
        return [mirror for mirror in (self.main, self.security) if mirror]


def parse(lines: Iterable[str]) -> Mirrors | None:
    """The Debian mirrors among `apt-get indextargets` lines, whichever of apt's two file formats they came from."""
    main = security = ""
    for line in lines:
        uri, _, rest = line.strip().partition("|")
        release, _, component = rest.partition("|")
        if not uri.startswith(("http://", "https://")) or component != "main":
            continue
        uri = uri.rstrip("/")
        suite = release.partition("/")[0]
        if suite in SUITES:
            main = main or uri
        elif suite.endswith("-security") and suite.removesuffix("-security") in SUITES:
            security = security or uri
    return Mirrors(main, security) if main else None


def discover(main: str = "", security: str = "") -> Mirrors:
    if main:
        return Mirrors(main.rstrip("/"), security.rstrip("/"))
    try:
        found = parse(
            output(["apt-get", "indextargets", "--format", INDEX_FORMAT, "Created-By: Packages"]).splitlines()
        )
    except (OSError, subprocess.SubprocessError):
        found = None
    if not found:
        raise LabError(
            "apt on this machine names no Debian mirror.",
            "Name one: `make lab LAB_DEBIAN_MIRROR=http://<mirror>/debian LAB_DEBIAN_SECURITY_MIRROR=...`.",
        )
    return found


def proxy() -> str:
    """This machine's own apt proxy, if it has one."""
    try:
        text = output(["apt-config", "--format", "%v", "dump", "Acquire::http::Proxy"]).strip()
    except (OSError, subprocess.SubprocessError):
        return ""
    return "" if text in ("DIRECT", "false") else text.strip('"')


def plain(mirror: str) -> str:
    """The address that hosts use: plain http, which the package cache can keep (packages are signed)."""
    return "http://" + mirror.removeprefix("https://") if mirror.startswith("https://") else mirror


def sources(mirrors: Mirrors, release: str) -> list[str]:
    lines = [f"deb {mirrors.main} {release} main", f"deb {mirrors.main} {release}-updates main"]
    if mirrors.security:
        lines.append(f"deb {mirrors.security} {release}-security main")
    return lines


def remaps(mirrors: Mirrors) -> list[str]:
    """apt-cacher-ng settings that fetch over TLS what the hosts ask for over plain http."""
    return [
        f"Remap-lab{number}: {plain(mirror)} ; {mirror}"
        for number, mirror in enumerate(mirrors.all)
        if urlsplit(mirror).scheme == "https"
    ]
