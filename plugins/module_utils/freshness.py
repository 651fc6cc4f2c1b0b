# Apache License 2.0 (see LICENSE)
"""Which files are younger than a process that read them."""

from __future__ import annotations

import os
import time


def modified(path: str) -> float | None:
    """Seconds since the epoch of the path's last change, None when there is nothing.

    Of a link the younger of link and target counts (a switched link is a change, and so is a changed target); of a directory
    the youngest of itself and its files.
    """
    try:
        times = [os.lstat(path).st_mtime]
    except (FileNotFoundError, NotADirectoryError):
        return None
    if os.path.exists(path):
        times.append(os.stat(path).st_mtime)
    if os.path.isdir(path):
        with os.scandir(path) as entries:
            times.extend(entry.stat(follow_symlinks=False).st_mtime for entry in entries if entry.is_file())
    return max(times)


def newer_than(paths: list[str], moment: float) -> list[str]:
    """The paths that changed after a moment (seconds since the epoch), in the order given."""
    return [path for path in paths if (modified(path) or 0.0) > moment]


def start_time(shown: dict[str, str]) -> float:
    """Wall clock time of a unit's main process' start, from `systemctl show`; 0.0 while there is none."""
    microseconds = int(shown.get("ExecMainStartTimestampMonotonic") or 0)
    if shown.get("ActiveState") not in ("active", "reloading", "activating") or not microseconds:
        return 0.0
    return time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - microseconds / 1e6)
