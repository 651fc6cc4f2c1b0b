#!/usr/bin/env python3
"""Ctrl-C in the playbooks of the request path, and what the next run makes of what is left.

On the platform's hosts after `playbooks/database.yml`, with nothing of the request path on them yet (docs/lab.md):
`.venv/bin/python -m benchmarks.interrupted [PLAYBOOK …] [--times 2]`. Each playbook is interrupted in random tasks as a terminal
does it, SIGINT to every process of the run. Then it runs to its end, verify.yml of every role included, and once more, which may
change nothing. The result is benchmarks/results/interrupted-runs.json.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time

from benchmarks import lab
from tests.tools import e2e

# The registry is on two of these hosts.
INVENTORIES = ("-i", "tests/e2e/platform_hosts.yml", "-i", "tests/e2e/registry_hosts.yml")
PLAYBOOKS = ("registry", "agents", "workers", "fabio", "gateway")


def tasks_of(process: subprocess.Popen[str], wanted: int) -> list[str]:
    """The names of the tasks that were begun, until there are so many or the run has ended."""
    begun: list[str] = []
    for line in process.stdout or ():
        begun += re.findall(r"^(?:TASK|RUNNING HANDLER) \[(.*?)\]", line)
        if len(begun) >= wanted:
            break
    return begun


def interrupt(playbook: str, wanted: int, seconds: float) -> dict:
    """Presses Ctrl-C some seconds into the task of this number."""
    command = ["ansible-playbook", "-i", "inventories/lab", *INVENTORIES, playbook]
    with subprocess.Popen(
        command,
        cwd=lab.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "1"},
    ) as process:
        begun = tasks_of(process, wanted)
        time.sleep(seconds)
        interrupted = process.poll() is None
        if interrupted:
            os.killpg(process.pid, signal.SIGINT)
        rest = process.communicate()[0]
    return {
        "task": begun[-1] if begun else "",
        "number": len(begun),
        "interrupted": interrupted,
        "code": process.returncode,
        "trace": "Traceback" in rest,
    }


def finish(playbook: str) -> dict:
    """To its end, and once more."""
    rounds = []
    for _number in range(2):
        code, changed, seconds = e2e.site(*INVENTORIES, playbook=playbook)
        if code != 0:
            sys.exit(f"{playbook} ended with {code} after it was interrupted; it has said above why.")
        rounds.append({"seconds": round(seconds), "changed": sum(changed.values())})
    return {"next_run": rounds[0], "run_after_that": rounds[1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("playbooks", nargs="*", default=PLAYBOOKS, metavar="PLAYBOOK")
    parser.add_argument("--times", type=int, default=2, help="how often each is interrupted")
    parser.add_argument("--seed", type=int, default=1, help="of the random tasks")
    parser.add_argument("--latest", type=int, default=60, help="tasks begun")
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{lab.ROOT / '.venv/bin'}:{os.environ['PATH']}"
    chosen = random.Random(arguments.seed)
    result: dict[str, dict] = {}
    for name in arguments.playbooks:
        playbook = f"playbooks/{name}.yml"
        interrupts = []
        for _number in range(arguments.times):
            interrupts.append(interrupt(playbook, chosen.randint(2, arguments.latest), chosen.uniform(0, 3)))
            lab.say(f"{name}: {interrupts[-1]}")
        result[name] = {"interrupts": interrupts, **finish(playbook)}
        lab.say(f"{name}: {result[name]}")
    lab.write("interrupted-runs", {"seed": arguments.seed, "playbooks": result})
    repeated = {
        name: kept["run_after_that"]["changed"] for name, kept in result.items() if kept["run_after_that"]["changed"]
    }
    if repeated:
        sys.exit(f"The run after the next one still changed something: {repeated}")


if __name__ == "__main__":
    main()
