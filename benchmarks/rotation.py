#!/usr/bin/env python3
"""Replace a component's secrets in the lab as an operator would, and the worst that happens to one: what the rows *-rotated measure.

Run from the checkout's root on a lab that is up and healthy: `.venv/bin/python -m benchmarks.rotation COMPONENT`. New values go into the
inventory, the first runs of the playbook are killed (SIGKILL), each after more changes, the next one ends it, and another finds nothing to
do. Then the same way back to the values of the beginning, without a kill: whoever loaded the inventory before can still sign in afterwards.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import yaml

from benchmarks.lab import say
from lab import converge, settings, variables

KILL_AFTER_CHANGES = (1, 4, 9)
LAB = settings.load(Path(__file__).resolve().parent.parent)
SECRETS = LAB.group_vars / "secrets.yml"
COMPONENTS = (*variables.ROTATED, "certificates", "ca")


def playbook(component: str, before: int) -> list[str]:
    asked = ("-e", f"rotate_secrets_component={component}", "-e", f"rotate_secrets_before={before}")
    return ["ansible-playbook", "-i", "inventories/lab", "playbooks/rotate_secrets.yml", *asked]


def run(command: list[str], kill_after: int | None = None) -> str | None:
    """Its output; nothing when it was killed, as told, after that many changes. Ends everything when it fails by itself."""
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=LAB.checkout,
        env={**os.environ, **converge.environment(LAB)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    lines: list[str] = []
    changed = 0
    for line in process.stdout or ():
        lines.append(line)
        changed += line.startswith("changed: [")
        if changed == kill_after:
            process.kill()
            process.wait()
            say(f"killed after {time.monotonic() - began:.0f} s and {changed} changes, in {last_task(''.join(lines))}")
            return None
    output = "".join(lines)
    if process.wait():
        sys.exit(f"{output}\nended with {process.returncode}")
    say(f"{' '.join(command[3:])}: {time.monotonic() - began:.0f} s, {changes(output)} changes")
    return output


def last_task(output: str) -> str:
    headings = [found.group(2) for found in map(converge.HEADING.match, output.splitlines()) if found]
    return headings[-1] if headings else "no task"


def changes(output: str) -> int:
    return sum(int(found.group(3)) for found in map(converge.RECAP.match, output.splitlines()) if found)


def back(first: Mapping[str, str], now: Mapping[str, str], component: str) -> dict[str, str]:
    """The values of the beginning, with those of now as the previous ones where there are such."""
    names = variables.ROTATED[component]
    return {**first, **{previous: now[name] for name, previous in names.items() if previous}}


def write(values: Mapping[str, str]) -> None:
    variables.write_secrets(SECRETS, lambda _existing: dict(values))


def settle(component: str, kill: bool) -> None:
    """Bring the hosts to the inventory's secrets, then to accepting those alone."""
    command = playbook(component, int(time.time()))
    ended = False
    for number in KILL_AFTER_CHANGES if kill else ():
        ended = ended or run(command, number) is not None
    if not ended:
        run(command)
    again = run(command) or ""
    if changes(again):
        sys.exit(f"{again}\nThe repeated run has changed something.")
    if any(variables.ROTATED.get(component, {}).values()):
        write(variables.without_previous(current(), component))
        run(command)


def current() -> dict[str, str]:
    return yaml.safe_load(SECRETS.read_text(encoding="utf-8"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("component", choices=COMPONENTS)
    component = parser.parse_args().component
    if component not in variables.ROTATED:
        settle(component, kill=True)
        return
    first = current()
    write(variables.renewed_secrets(first, component))
    settle(component, kill=True)
    write(back(first, current(), component))
    settle(component, kill=False)
    write(first)


if __name__ == "__main__":
    main()
