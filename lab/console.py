"""What the operator sees: steps with elapsed time, a sign of life on long ones, and a full log beside it."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from lab.errors import LabError

HEARTBEAT_SECONDS = 15
LOGS_KEPT = 20
WHOLE_RUNS = ("up", "fresh")


def duration(seconds: float) -> str:
    """83 -> '1:23', 3723 -> '1:02:03'."""
    whole = int(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = [
        "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


class Console:
    def __init__(self, directory: Path, command: str, steps: int):
        self.started = time.monotonic()
        self.command = command
        self.directory = directory
        self.steps = steps
        self.step_number = 0
        self.step_title = ""
        self.timings: dict[str, float] = {}
        self._began_at = datetime.now().astimezone()
        self._doing = ""
        self._spoke = time.monotonic()
        self._lock = threading.RLock()
        log_directory = directory / "log"
        log_directory.mkdir(parents=True, exist_ok=True)
        self.log_path = log_directory / f"{self._began_at:%Y%m%d-%H%M%S}-{command}.log"
        self._log = self.log_path.open("a", encoding="utf-8", errors="replace", buffering=1)
        latest = log_directory / "latest.log"
        latest.unlink(missing_ok=True)
        latest.symlink_to(self.log_path.name)
        for old in sorted(log_directory.glob("2*.log"))[:-LOGS_KEPT]:
            old.unlink(missing_ok=True)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def log(self, line: str) -> None:
        with self._lock:
            self._log.write(f"{datetime.now():%H:%M:%S} {line.rstrip()}\n")

    def say(self, text: str = "") -> None:
        with self._lock:
            for line in text.split("\n"):
                with contextlib.suppress(BrokenPipeError):  # `make lab | head` goes on; the log has it all
                    print(line, file=sys.stdout, flush=True)
                self._log.write(f"{datetime.now():%H:%M:%S} | {line}\n")
            self._spoke = time.monotonic()

    def note(self, text: str) -> None:
        self.say(f"      {text}")

    def doing(self, text: str) -> None:
        """What a heartbeat says is being waited for."""
        self._doing = text.strip()

    @contextlib.contextmanager
    def step(self, key: str, title: str) -> Iterator[None]:
        self.step_number += 1
        self.step_title = title
        self._doing = ""
        self.say(f"[{duration(self.elapsed):>5}] step {self.step_number} of {self.steps}: {title}")
        began = time.monotonic()
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(began, ended), daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            self.record(key, time.monotonic() - began)

    def _beat(self, began: float, ended: threading.Event) -> None:
        while not ended.wait(1):
            if time.monotonic() - self._spoke >= HEARTBEAT_SECONDS:
                doing = f": {self._doing[:110]}" if self._doing else ""
                self.note(f"... {duration(time.monotonic() - began)}{doing}")

    def record(self, key: str, seconds: float) -> None:
        """Keep how long something took; benchmarks read it."""
        self.timings[key] = round(seconds, 1)
        report = {
            "command": self.command,
            "began_at": self._began_at.isoformat(timespec="seconds"),
            "seconds": self.timings,
            "total_seconds": round(self.elapsed, 1),
        }
        # What only looks at the lab, or makes a part of it, leaves the record of the last whole run alone.
        name = "timings.json" if self.command in WHOLE_RUNS else f"timings-{self.command}.json"
        (self.directory / name).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

    def failed(self, error: LabError) -> None:
        where = f" in step {self.step_number} of {self.steps} ({self.step_title})" if self.step_number else ""
        self.say()
        self.say(f"FAILED{where}: {error.problem}")
        if error.tail:
            self.say("  The last lines:")
            for line in error.tail:
                self.say(f"    {line}")
        if error.way_out:
            self.say(f"  Way out: {error.way_out}")
        self.say(f"  Full log: {self.log_path}")
