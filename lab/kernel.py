"""Limits of this machine's kernel that many systemd hosts on it would run into."""

from __future__ import annotations

from pathlib import Path

from lab.console import Console
from lab.errors import LabError

PROC_SYS = Path("/proc/sys")
# The usual 128 inotify instances are used up by about 15 hosts: their units then fail with "Too many open files".
WANTED = {"fs/inotify/max_user_instances": 8192, "fs/inotify/max_user_watches": 524288}


def too_low(values: dict[str, int]) -> dict[str, int]:
    """What has to be raised, and to what."""
    return {name: wanted for name, wanted in WANTED.items() if values.get(name, wanted) < wanted}


def ensure(console: Console, root: Path = PROC_SYS) -> None:
    values = {name: int((root / name).read_text()) for name in WANTED if (root / name).exists()}
    for name, wanted in too_low(values).items():
        key = name.replace("/", ".")
        try:
            (root / name).write_text(f"{wanted}\n")
        except OSError:
            raise LabError(
                f"{key} is {values[name]} here, too low for the lab's hosts, and can't be changed from here.",
                f"On the machine itself: `sysctl -w {key}={wanted}`.",
            ) from None
        console.note(f"raised {key} from {values[name]} to {wanted} (until a reboot)")
