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
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from lab import converge, mirror, settings
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


def site(*arguments: str, strategy: str = "", extra: dict[str, str] | None = None) -> tuple[float, dict[str, int]]:
    """Run site.yml to its end, as `make lab` does unless told; seconds, and changed tasks per host. Exits when it fails."""
    told = {**os.environ, "LAB_STRATEGY": strategy or os.environ.get("LAB_STRATEGY", "")}
    environment = {**os.environ, **converge.environment(settings.load(ROOT, told)), **(extra or {})}
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
    """New hosts, caches kept: `make lab-down lab`; then site.yml again, which may change nothing and restart nothing."""
    make("lab-down")
    say("make lab, caches kept")
    seconds = make("lab")
    steps = timings()
    write("lab-warm", {"seconds": round(seconds), "steps": steps})
    before = e2e.started()
    second_seconds, changed = site()
    after = e2e.started()
    first_seconds = steps["seconds"]["converge"]
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


def cold(_arguments: argparse.Namespace) -> None:
    """New hosts, an empty cache directory: `make lab-down lab LAB_CACHE=…`."""
    make("lab-down")
    cache = ROOT / ".cache" / f"cold-{os.getpid()}"
    say(f"make lab with the empty cache {cache}")
    write("lab-cold", {"seconds": round(make("lab", LAB_CACHE=str(cache))), "steps": timings()})


def killed(arguments: argparse.Namespace) -> None:
    """On fresh hosts each time: SIGKILL site.yml in a random task, run it again, and look at every cluster."""
    rounds = []
    chosen = random.Random(arguments.seed)
    for number in range(arguments.rounds):
        make("lab-down")
        make("lab-hosts")
        # A task, not a moment: how far a run has come after some seconds is the machine's business.
        wanted = chosen.randint(arguments.earliest, arguments.latest)
        LOGS.mkdir(parents=True, exist_ok=True)
        tasks: list[str] = []
        with (LOGS / f"killed-{number}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                ["ansible-playbook", "-i", "inventories/lab", "site.yml"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                env={**os.environ, "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "1"},
            )
            for line in process.stdout or ():
                log.write(line)
                tasks += re.findall(r"^TASK \[(.*?)\]", line)
                if len(tasks) >= wanted:
                    break
            if process.poll() is None:
                # Somewhere in the task's first seconds, when its hosts are at work.
                time.sleep(chosen.uniform(0, 3))
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        say(f"round {number + 1}: killed in task {len(tasks)}, «{tasks[-1] if tasks else 'none'}»; running again")
        seconds, _changed = site()
        again, changed = site()
        rounds.append(
            {
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


@contextlib.contextmanager
def network_cut(lab: settings.Settings) -> Iterator[None]:
    """The lab's mirror stopped, and nothing forwarded from the hosts to beyond the lab."""
    rule = ["DOCKER-USER", "--source", str(lab.subnet), "!", "--destination", str(lab.subnet), "--jump", "REJECT"]
    mirror_container = lab.container(mirror.HOST)
    subprocess.run(["docker", "stop", "--time", "2", mirror_container], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["iptables", "--insert", *rule], check=True)
    try:
        yield
    finally:
        subprocess.run(["iptables", "--delete", *rule], check=True)
        subprocess.run(["docker", "start", mirror_container], check=True, stdout=subprocess.DEVNULL)


def airgap(_arguments: argparse.Namespace) -> None:
    """Fresh hosts, a bundle of what they need, the network cut: site.yml from the bundle, twice."""
    make("lab-down")
    make("lab-hosts")
    lab = settings.load(ROOT)
    began = time.monotonic()
    said = subprocess.run(
        ["ansible-playbook", "-i", "inventories/lab", "playbooks/bundle.yml"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    bundle = re.search(r"platform_artifact_bundle=(\S+\.tar)", said)
    if not bundle:
        sys.exit(f"playbooks/bundle.yml didn't say where the bundle is:\n{said[-2000:]}")
    bundling = time.monotonic() - began
    say(f"the bundle took {bundling:.0f} s: {bundle[1]}")
    from_bundle = (
        f"--extra-vars=platform_artifact_bundle={bundle[1]}",
        "--extra-vars=platform_package_proxy= platform_artifact_mirror=",
    )
    with network_cut(lab):
        command = ["ansible", "client-1", "-i", "inventories/lab", "-m", "ansible.builtin.command", "-a"]
        reached = subprocess.run(
            [*command, "apt-get update --error-on=any"], cwd=ROOT, check=False, capture_output=True
        )
        if reached.returncode == 0:
            sys.exit("The network isn't cut: a host reads its package sources.")
        first, _changed = site(*from_bundle)
        second, changed = site(*from_bundle)
    write(
        "airgap",
        {
            "bundle_seconds": round(bundling),
            "bundle_bytes": Path(bundle[1]).stat().st_size,
            "site_seconds": round(first),
            "site": "all verify.yml passed",
            "second_seconds": round(second),
            "second_changed": sum(changed.values()),
        },
    )


def strategies(arguments: argparse.Namespace) -> None:
    """A converged lab: site.yml with the stock strategy, without and with warm_workers, and with Mitogen, in turn."""
    cold_workers = {"ANSIBLE_CALLBACKS_ENABLED": "sutazai.platform.failure_bundle"}
    ways = {
        "linear, workers not warmed": ("linear", cold_workers),
        "linear": ("linear", {}),
        "mitogen": ("mitogen", {}),
    }
    wall: dict[str, list[int]] = {way: [] for way in ways}
    processor: dict[str, list[int]] = {way: [] for way in ways}
    for _round in range(arguments.rounds):
        for way, (strategy, environment) in ways.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            wall[way].append(round(site(strategy=strategy, extra=environment)[0]))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            processor[way].append(round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    write("strategies", {"second_run_seconds": wall, "controller_processor_seconds": processor})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function in (warm, cold, airgap, killed, postgresql, strategies):
        command = commands.add_parser(function.__name__, help=function.__doc__)
        command.set_defaults(function=function)
        if function is killed:
            command.add_argument("--rounds", type=int, default=3)
            command.add_argument("--seed", type=int, default=1, help="of the random tasks")
            command.add_argument("--earliest", type=int, default=10, help="tasks begun")
            command.add_argument("--latest", type=int, default=150, help="tasks begun")
        if function is strategies:
            command.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    os.environ["PATH"] = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    arguments.function(arguments)


if __name__ == "__main__":
    main()
