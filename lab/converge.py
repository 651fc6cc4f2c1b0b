"""Runs a playbook: everything into the log, plays, roles and the task being run onto the screen."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path

from lab.command import run
from lab.console import Console, count, duration
from lab.errors import LabError
from lab.settings import Settings

HEADING = re.compile(r"^(PLAY|TASK|RUNNING HANDLER) \[(.*?)\] \**$")
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")
FAILURE = re.compile(r"^(fatal: |\[ERROR\]|ERROR! )|Failure bundle|failure bundle")


def environment(settings: Settings) -> dict[str, str]:
    bin_directory = Path(sys.executable).parent
    result = {
        "PATH": f"{bin_directory}:{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_CONFIG": str(settings.checkout / "ansible.cfg"),
        # With skipped tasks hidden, a task is only named when its first host has answered.
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
    }
    if settings.strategy == "mitogen":
        if not importlib.util.find_spec("ansible_mitogen"):
            raise LabError("LAB_STRATEGY=mitogen, but Mitogen isn't installed in .venv.", "Use LAB_STRATEGY=linear.")
        result["ANSIBLE_STRATEGY"] = "mitogen_unpinned"
        result["ANSIBLE_STRATEGY_PLUGINS"] = str(settings.checkout / "lab" / "strategy")
    return result


class Progress:
    """Follows ansible-playbook's output."""

    def __init__(self, console: Console, quiet: bool = False):
        self.console = console
        self.quiet = quiet
        self.play = ""
        self.role = ""
        self.task = ""
        self.recap: dict[str, tuple[int, int, int, int]] = {}
        self.telling: list[str] = []
        self._telling_lines = 0

    def line(self, text: str) -> None:
        heading = HEADING.match(text)
        if heading:
            self._telling_lines = 0
            self._heading(*heading.groups())
            return
        recap = RECAP.match(text)
        if recap:
            ok, changed, unreachable, failed = (int(value) for value in recap.groups()[1:])
            self.recap[recap.group(1)] = (ok, changed, unreachable, failed)
            return
        if FAILURE.search(text):
            self._telling_lines = 12
        if self._telling_lines:
            self._telling_lines -= 1
            self.telling.append(text[:400])

    def _heading(self, kind: str, name: str) -> None:
        if kind == "PLAY":
            self.play, self.role = name, ""
            self._show(f"[{duration(self.console.elapsed):>5}] {name}")
            self.console.doing(name)
            return
        role, separator, task = name.partition(" : ")
        role = role.removeprefix("sutazai.platform.") if separator else ""
        self.task = name
        if role and role != self.role:
            self.role = role
            self._show(f"[{duration(self.console.elapsed):>5}]   {role}: {task}")
        self.console.doing(f"{role}: {task}" if role else name)

    def _show(self, text: str) -> None:
        if not self.quiet:
            self.console.note(text)

    def summary(self) -> str:
        hosts = len(self.recap)
        changed = sum(counts[1] for counts in self.recap.values())
        failed = [host for host, counts in self.recap.items() if counts[2] or counts[3]]
        text = f"{count(hosts, 'host')}, {count(changed, 'change')}"
        return text + (f", failed: {', '.join(failed)}" if failed else "")


def playbook(
    console: Console,
    settings: Settings,
    name: str,
    *arguments: str,
    failure: str,
    way_out: str = "",
    quiet: bool = False,
) -> Progress:
    argv = [
        str(Path(sys.executable).parent / "ansible-playbook"),
        *("-i", str(settings.inventory.relative_to(settings.checkout))),
        *(("-i", settings.more_hosts) if settings.more_hosts else ()),
        name,
        *arguments,
    ]
    progress = Progress(console, quiet)
    try:
        run(
            console,
            argv,
            failure=failure,
            way_out=way_out,
            environment=environment(settings),
            cwd=settings.checkout,
            on_line=progress.line,
        )
    except LabError as error:
        if progress.telling:
            error.tail = progress.telling[-24:]
        raise
    return progress


def site(console: Console, settings: Settings) -> None:
    arguments = shlex.split(settings.ansible_arguments)
    limit = settings.limit or ",".join(settings.hosts)
    if limit:
        arguments += ["--limit", limit]
    progress = playbook(
        console,
        settings,
        "site.yml",
        *arguments,
        failure="site.yml failed.",
        way_out="Correct what it names and run the same command again: it goes on from what is there.",
    )
    console.note(progress.summary())
