#!/usr/bin/env python3
"""Measure the lab: how long it takes to build, what a second run costs, and whether killed runs can be repeated.

Run from the checkout's root: `.venv/bin/python -m benchmarks.lab COMMAND`. Every command starts from what it needs
(it removes and makes lab hosts as it says) and writes its result as JSON into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from lab import converge, settings
from tests.tools import e2e

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
LOGS = ROOT / ".cache" / "benchmarks"


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def make(*targets: str, **environment: str) -> float:
    """Run make, return the seconds it took; its output goes to a log."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"make-{'-'.join(targets)}-{time.time():.0f}.log"
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            ["make", *targets], cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output, check=False
        )
    if done.returncode != 0:
        sys.exit(f"make {' '.join(targets)} failed, see {log}")
    return time.monotonic() - began


def site(*arguments: str, strategy: str = "") -> tuple[float, dict[str, int]]:
    """Run site.yml to its end, as `make lab` does unless told; seconds, and changed tasks per host. Exits when it fails."""
    told = {**os.environ, "LAB_STRATEGY": strategy or os.environ.get("LAB_STRATEGY", "")}
    environment = {**os.environ, **converge.environment(settings.load(ROOT, told))}
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"site-{time.time():.0f}.log"
    with log.open("w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
        code, changed, seconds = e2e.site(*arguments, environment=environment)
    if code != 0:
        sys.exit(f"site.yml {' '.join(arguments)} failed ({code}), see {log}")
    return seconds, changed


def load() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()]


def write(name: str, result: dict) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "cores": os.cpu_count(),
        "load_after": load(),
        **result,
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    say(f"{path.relative_to(ROOT)}: {json.dumps(result)}")


def timings() -> dict:
    return json.loads((ROOT / ".lab/timings.json").read_text(encoding="utf-8"))


def warm(_arguments: argparse.Namespace) -> None:
    """New hosts, caches kept: `make lab-down lab`."""
    make("lab-down")
    say("make lab, caches kept")
    write("lab-warm", {"seconds": round(make("lab")), "steps": timings()})


def cold(_arguments: argparse.Namespace) -> None:
    """New hosts, an empty cache directory: `make lab-down lab LAB_CACHE=…`."""
    make("lab-down")
    cache = ROOT / ".cache" / f"cold-{os.getpid()}"
    say(f"make lab with the empty cache {cache}")
    write("lab-cold", {"seconds": round(make("lab", LAB_CACHE=str(cache))), "steps": timings()})


def second(_arguments: argparse.Namespace) -> None:
    """On fresh hosts: site.yml twice; the second may change nothing and restart nothing."""
    make("lab-down")
    make("lab-hosts")
    first_seconds, _changed = site()
    before = e2e.started()
    second_seconds, changed = site()
    after = e2e.started()
    write(
        "second-run",
        {
            "first_seconds": round(first_seconds),
            "second_seconds": round(second_seconds),
            "ratio": round(second_seconds / first_seconds, 3),
            "changed": changed,
            "processes": len(before),
            "restarted": sorted(unit for unit, when in before.items() if after.get(unit) != when),
        },
    )


def killed(arguments: argparse.Namespace) -> None:
    """On fresh hosts each time: SIGKILL site.yml at a random moment, run it again, and look at every cluster."""
    rounds = []
    chosen = random.Random(arguments.seed)
    for number in range(arguments.rounds):
        make("lab-down")
        make("lab-hosts")
        moment = chosen.uniform(arguments.earliest, arguments.latest)
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"killed-{number}.log"
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                ["ansible-playbook", "-i", "inventories/lab", "site.yml"],
                cwd=ROOT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            try:
                process.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        tasks = re.findall(r"^TASK \[(.*?)\]", log.read_text(encoding="utf-8"), re.MULTILINE)
        say(
            f"round {number + 1}: killed after {moment:.0f} s in «{tasks[-1] if tasks else 'the start'}»; running again"
        )
        seconds, _changed = site()
        again, changed = site()
        rounds.append(
            {
                "killed_after_seconds": round(moment),
                "killed_in": tasks[-1] if tasks else "",
                "tasks_begun": len(tasks),
                "next_run_seconds": round(seconds),
                "next_run": "all verify.yml passed",
                "run_after_that_changed": sum(changed.values()),
                "run_after_that_seconds": round(again),
            }
        )
    write("killed-runs", {"seed": arguments.seed, "rounds": rounds})


def postgresql(_arguments: argparse.Namespace) -> None:
    """Fresh hosts: the database and the Consul servers it needs, nothing else."""
    hosts = " ".join(f"{group}-{number}" for group in ("consul", "postgresql") for number in (1, 2, 3))
    make("lab-down")
    make("lab-hosts", HOSTS=hosts)
    seconds, _changed = site("--limit", "consul_servers:postgresql:localhost")
    write("postgresql-alone", {"seconds": round(seconds), "hosts": hosts.split(), "peer_seconds": 953})


def strategies(arguments: argparse.Namespace) -> None:
    """A converged lab: site.yml with the stock strategy and with Mitogen, in turn."""
    seconds: dict[str, list[int]] = {strategy: [] for strategy in settings.STRATEGIES}
    for _round in range(arguments.rounds):
        for strategy in settings.STRATEGIES:
            seconds[strategy].append(round(site(strategy=strategy)[0]))
    write("strategies", {"second_run_seconds": seconds})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (warm, cold, second, killed, postgresql, strategies):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(function=function)
        if function is killed:
            command.add_argument("--rounds", type=int, default=3)
            command.add_argument("--seed", type=int, default=1, help="of the random moments")
            command.add_argument("--earliest", type=float, default=60, help="seconds")
            command.add_argument("--latest", type=float, default=360, help="seconds")
        if function is strategies:
            command.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    arguments.function(arguments)


if __name__ == "__main__":
    main()
