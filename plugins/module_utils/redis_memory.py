# Apache License 2.0 (see LICENSE)
"""How much memory a process on this host can really have: the host's, or less when a cgroup (a container's) limits it."""

from __future__ import annotations

import os
from collections.abc import Callable

# A change smaller than this isn't one: hosts report a little more or less after a reboot or a kernel upgrade.
GRAIN_BYTES = 64 * 1024 * 1024


def cgroup_limit_files(cgroup_text: str, root: str = "/sys/fs/cgroup") -> list[str]:
    """The files that may hold a memory limit for a process with this /proc/<pid>/cgroup: its groups and all above, v1 and v2."""
    files = []
    for line in cgroup_text.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = os.path.join(root, "memory"), "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part]
        files.extend(os.path.join(base, *parts[:depth], name) for depth in range(len(parts), -1, -1))
    return files


def memory_bytes(read: Callable[[str], str | None]) -> int:
    """Memory for processes of this host, rounded down. `read` returns a file's text or None."""
    meminfo = dict(line.split(":", 1) for line in (read("/proc/meminfo") or "").splitlines() if ":" in line)
    limits = [int(meminfo["MemTotal"].split()[0]) * 1024]
    # Of process 1: the container's own group, not that of this login session.
    for path in cgroup_limit_files(read("/proc/1/cgroup") or ""):
        text = (read(path) or "max").strip()
        if text.isdigit():
            limits.append(int(text))
    return max(GRAIN_BYTES, min(limits) // GRAIN_BYTES * GRAIN_BYTES)
