# Apache License 2.0 (see LICENSE)
"""What a host is, read from its files. Every path is taken below `root`, so that tests can lay out a host in a directory."""

from __future__ import annotations

import os
import re

# A change smaller than this isn't one: hosts report a little more or less after a reboot or a kernel upgrade.
GRAIN_BYTES = 64 * 1024 * 1024


def text(path: str) -> str:
    """A file's text; empty when there is none or it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def memory_limit_files(groups: str) -> list[str]:
    """The files that may limit the memory of a process with these control groups (/proc/<pid>/cgroup): theirs and all above, v1 and v2."""
    files = ["sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"]
    for line in groups.splitlines():
        _number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if not controllers:
            base, name = "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            base, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part]
        files += [os.path.join(base, *parts[:depth], name) for depth in range(len(parts), 0, -1)]
    return files


def memory_bytes(root: str = "/") -> int:
    """Memory that processes of this host may use: the machine's, or less where a control group (a container's) says so."""
    total = re.search(r"^MemTotal:\s+(\d+) kB", text(os.path.join(root, "proc/meminfo")), re.MULTILINE)
    sizes = [int(total.group(1)) * 1024 if total else 0]
    # Of process 1: the container's own group, not that of this login session.
    for file in memory_limit_files(text(os.path.join(root, "proc/1/cgroup"))):
        value = text(os.path.join(root, file)).strip()
        if value.isdigit() and int(value) > 0:
            sizes.append(int(value))
    return min(sizes)


def in_grains(size_bytes: int) -> int:
    """Rounded down, so that settings computed from it stay the same."""
    return max(GRAIN_BYTES, size_bytes // GRAIN_BYTES * GRAIN_BYTES)
