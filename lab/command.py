"""Runs other programs: their output goes to the log, their last words into the error."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.console import Console
from lab.errors import LabError

TAIL_LINES = 12
_running: set[subprocess.Popen[bytes]] = set()


def run(
    console: Console,
    argv: Sequence[str],
    *,
    failure: str,
    way_out: str = "",
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    heartbeat: bool = False,
    on_line: Callable[[str], None] | None = None,
) -> list[str]:
    """Run to the end, logging each line. A failure raises LabError with `failure` and the last lines."""
    console.log("$ " + " ".join(argv))
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    process = start(argv, environment=environment, cwd=cwd, stdin=stdin is not None)
    assert process.stdout
    _running.add(process)
    try:
        if stdin is not None:
            assert process.stdin
            process.stdin.write(stdin)
            process.stdin.close()
        for raw in process.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            console.log("  " + line)
            if line.strip():
                tail.append(line)
                if heartbeat:
                    console.doing(line)
                if on_line:
                    on_line(line)
        code = process.wait()
    except BaseException:
        stop(process)
        raise
    finally:
        _running.discard(process)
    if code:
        raise LabError(failure, way_out, list(tail))
    return list(tail)


def start(
    argv: Sequence[str], *, environment: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: bool = False
) -> subprocess.Popen[bytes]:
    # Should this process be killed, what it runs ends too instead of going on unseen.
    setpriv = shutil.which("setpriv")
    return subprocess.Popen(
        [setpriv, "--pdeathsig", "TERM", "--", *argv] if setpriv else argv,
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **environment} if environment else None,
        cwd=cwd,
    )


def stop(process: subprocess.Popen[bytes], seconds: float = 10) -> None:
    """End a program that we started, politely first."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def stop_all() -> None:
    """End what other threads still run, so that an interrupted command ends soon."""
    for process in list(_running):
        stop(process, seconds=3)


def output(argv: Sequence[str], *, timeout: float | None = 60) -> str:
    """The standard output of a short command; raises CalledProcessError."""
    return subprocess.run(
        argv, check=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout
    ).stdout


def succeeds(argv: Sequence[str], *, timeout: float | None = 60) -> bool:
    try:
        output(argv, timeout=timeout)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
