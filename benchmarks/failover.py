#!/usr/bin/env python3
"""Measure what a client sees of a failover, several times per row, and write the medians into benchmarks/failover/.

Run from the checkout's root on a lab that is up and healthy: `.venv/bin/python -m benchmarks.failover [ROW …] [--rounds 5]`. Rounds of the
rows take turns, so that a busy quarter of an hour doesn't hit one row alone. A run that is interrupted goes on with `--continue`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.lab import say
from lab import converge, settings

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "failover"
LOGS = ROOT / ".cache" / "benchmarks"
PATIENCE_SECONDS = 2400
#: How long a probe may write while a command runs. Replacing an authority takes each host in turn three times.
COMMAND_SECONDS = 1800
#: Runs a command and keeps what it says in the file named first: the playbook shows it only when it fails.
NOTED = 'set -o pipefail; log=$1; shift; "$@" 2>&1 | tee "$log"'


@dataclass(frozen=True)
class Row:
    """One row of the table. `bar` is how long no write may be acknowledged."""

    title: str
    component: str
    fault: str
    bar: float
    hold: float = 30
    #: What the fault `command` runs: playbooks, one after another, each with its arguments.
    playbooks: tuple[tuple[str, ...], ...] = ()
    #: Instead of those: the hosts in GROWTH come and go.
    scale: bool = False
    #: Instead of those: secrets that are replaced (benchmarks.rotation).
    secrets: str = ""
    #: Instead of those: the lab's host that is removed; a new machine takes its place.
    replaced: str = ""

    @property
    def test(self) -> dict[str, Any]:
        return {"component": self.component, "fault": self.fault, "hold_seconds": self.hold}

    def command(self, inventories: list[str]) -> list[str]:
        if self.secrets:
            return [sys.executable, "-m", "benchmarks.rotation", self.secrets]
        given = [argument for one in inventories for argument in ("-i", one)]
        playbooks = self.playbooks
        if self.scale:
            out, back = (str(inventory(self.component, way)) for way in ("out", "in"))
            playbooks = (("-i", out, "site.yml"), ("-i", back, "playbooks/scale.yml"))
        lines = []
        if self.replaced:
            lab = settings.load(ROOT)
            lines.append(shlex.join(["docker", "rm", "--force", "--volumes", lab.container(self.replaced)]))
            lines.append(f"HOSTS={self.replaced} {shlex.join([sys.executable, '-m', 'lab', 'hosts'])}")
            playbooks = (("playbooks/replace_host.yml", "-e", f"replace_host={self.replaced}"),)
        if not playbooks:
            return []
        # With the strategy of `make lab`, which the test itself can't use: Mitogen ends a probe that is to go on in the background.
        fast = converge.environment(settings.load(ROOT))
        strategy = shlex.join(f"{name}={value}" for name, value in fast.items() if "STRATEGY" in name)
        lines += [shlex.join(["ansible-playbook", *given, *arguments]) for arguments in playbooks]
        return ["bash", "-ec", "\n".join([f"export {strategy}", *lines])]


#: Hosts that are added to the lab and taken out again: their group and lab_address_index.
GROWTH = {
    "consul": ("consul_servers", {"consul-4": 14, "consul-5": 15}),
    "rabbitmq": ("rabbitmq", {"rabbitmq-4": 24, "rabbitmq-5": 25}),
    "redis": ("redis", {"redis-7": 37, "redis-8": 38}),
    "postgresql": ("postgresql", {"postgresql-4": 44}),
}


def inventory(component: str, way: str) -> Path:
    """The file that adds a component's hosts to its group, or to the group of those that leave."""
    group, hosts = GROWTH[component]
    path = ROOT / ".cache" / "benchmarks" / f"{component}-{way}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    members = {host: {"lab_address_index": index} for host, index in hosts.items()}
    name = group if way == "out" else f"{group}_removed"
    path.write_text(yaml.safe_dump({"all": {"children": {name: {"hosts": members}}}}), encoding="utf-8")
    return path


def restart(component: str, bar: float = 2) -> Row:
    arguments = ("playbooks/rolling_restart.yml", "-e", f"rolling_restart_component={component.lower()}")
    return Row(f"{component} restarted member by member", component.lower(), "command", bar, playbooks=(arguments,))


def replaced(component: str, host: str, bar: float) -> Row:
    return Row(f"{host} lost for good, a new machine in its place", component, "command", bar, replaced=host)


def rotated(component: str, secrets: str, what: str) -> Row:
    return Row(f"{what}, killed and repeated, and back", component, "command", 2, secrets=secrets)


# Redis' bar is cluster-node-timeout (5 s) + 2 s.
ROWS = {
    "postgresql-killed": Row("PostgreSQL leader host killed", "postgresql", "stop_host", 25, hold=45),
    "postgresql-stopped": Row("PostgreSQL leader stopped (SIGSTOP)", "postgresql", "pause_process", 25),
    "postgresql-process": Row("PostgreSQL leader's processes killed", "postgresql", "kill_process", 25),
    "postgresql-isolated": Row("PostgreSQL leader host cut off", "postgresql", "isolate_host", 25, hold=45),
    "postgresql-switchover": Row("PostgreSQL planned switchover through PgBouncer", "postgresql", "switchover", 2),
    "redis-killed": Row("Redis master killed", "redis", "kill_process", 7),
    "redis-host-killed": Row("Redis master's host killed", "redis", "stop_host", 7),
    "redis-isolated": Row("Redis master's host cut off", "redis", "isolate_host", 7),
    "rabbitmq-host-killed": Row("RabbitMQ queue leader's host killed", "rabbitmq", "stop_host", 5),
    "rabbitmq-isolated": Row("RabbitMQ queue leader's host cut off", "rabbitmq", "isolate_host", 5),
    "consul-killed": Row("Consul leader killed", "consul", "kill_process", 5),
    "consul-host-killed": Row("Consul leader's host killed", "consul", "stop_host", 5),
    "consul-cut": Row("Consul leader cut off from the majority only", "consul", "cut_from_majority", 5),
    "postgresql-restart": restart("PostgreSQL"),
    "redis-restart": restart("Redis"),
    "rabbitmq-restart": restart("RabbitMQ"),
    "consul-restart": restart("Consul"),
    "postgresql-scaled": Row("PostgreSQL scaled out and in", "postgresql", "command", 5, scale=True),
    "redis-scaled": Row("Redis scaled out and in", "redis", "command", 5, scale=True),
    "rabbitmq-scaled": Row("RabbitMQ scaled out and in", "rabbitmq", "command", 5, scale=True),
    "consul-scaled": Row("Consul scaled out and in", "consul", "command", 5, scale=True),
    "postgresql-replaced": replaced("postgresql", "postgresql-1", 25),
    "redis-replaced": replaced("redis", "redis-1", 7),
    "rabbitmq-replaced": replaced("rabbitmq", "rabbitmq-1", 5),
    "consul-replaced": replaced("consul", "consul-1", 5),
    "postgresql-rotated": rotated("postgresql", "postgresql", "PostgreSQL's passwords replaced"),
    "redis-rotated": rotated("redis", "redis", "Redis' passwords replaced"),
    "rabbitmq-rotated": rotated("rabbitmq", "rabbitmq", "RabbitMQ's passwords replaced"),
    "tokens-rotated": rotated("consul", "consul_tokens", "Consul's tokens replaced"),
    "gossip-rotated": rotated("consul", "gossip_key", "Consul's gossip key replaced"),
    "certificates-rotated": rotated("postgresql", "certificates", "All certificates replaced"),
    "ca-rotated": rotated("postgresql", "ca", "The certificate authority replaced"),
}


def more_hosts(row: Row) -> None:
    """Start the hosts that a row adds to the lab; they stay, and join again in the next round."""
    added = {
        "LAB_MORE_HOSTS": str(inventory(row.component, "out").relative_to(ROOT)),
        "HOSTS": " ".join(GROWTH[row.component][1]),
    }
    subprocess.run([sys.executable, "-m", "lab", "hosts"], cwd=ROOT, env={**os.environ, **added}, check=True)


def run(name: str, row: Row, number: int, inventories: list[str], extra: list[str]) -> dict[str, Any]:
    """One test; the report's JSON. A test that isn't passed has one too; one that couldn't be made ends everything."""
    directory = ROOT / ".cache" / "failover" / "bench" / f"{name}-{number}-{time.time():.0f}"
    variables = {"failover_tests": [row.test], "failover_results_directory": str(directory)}
    if row.scale:
        more_hosts(row)
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"failover-{directory.name}.log"
    if asked := row.command(inventories):
        noted = ["bash", "-c", NOTED, "bash", str(log.with_suffix(".command.log"))]
        variables.update(failover_command=[*noted, *asked], failover_max_seconds=COMMAND_SECONDS)
    command = ["ansible-playbook", *(f"--inventory={one}" for one in inventories), "playbooks/failover_test.yml"]
    # The others aren't asked anything, which spares half of the time.
    command.append(f"--limit=clients:{GROWTH[row.component][0]}")
    before = os.getloadavg()
    with log.open("w", encoding="utf-8") as output:
        done = subprocess.run(
            [*command, "-e", json.dumps(variables), *extra],
            cwd=ROOT,
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    reports = list(directory.glob("*.json"))
    if not reports:
        sys.exit(f"{name}, run {number + 1}: no report (ansible-playbook ended with {done.returncode}), see {log}")
    result = json.loads(reports[0].read_text(encoding="utf-8"))
    result["load_of_the_machine"] = [round(value, 2) for value in (*before, *os.getloadavg())]
    result["passed"] = result["passed"] and done.returncode == 0
    say(f"{name} {number + 1}: {result['summary']}")
    return result


def kept(result: dict[str, Any]) -> dict[str, Any]:
    """What is worth keeping of a run."""
    names = (
        "summary",
        "passed",
        "longest_gap_seconds",
        "lost",
        "lost_where_allowed",
        "healthy_after_fault_seconds",
        "series",
    )
    names += ("healthy_after_undo_seconds", "leader_before", "leader_after", "load_of_the_machine", "began")
    return {name: result.get(name) for name in names}


def median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 2) if known else None


def summary(row: Row, runs: list[dict[str, Any]]) -> dict[str, Any]:
    gaps = [entry["longest_gap_seconds"] for entry in runs]
    return {
        "title": row.title,
        **row.test,
        "runs": len(runs),
        "bar_seconds": row.bar,
        "gap_median_seconds": median(gaps),
        "gap_worst_seconds": round(max(gaps), 2),
        "within_the_bar": sum(gap <= row.bar for gap in gaps),
        "lost": sum(entry["lost"] for entry in runs),
        "lost_where_allowed": sum(entry["lost_where_allowed"] for entry in runs),
        "duplicated": sum(one["duplicated"] for entry in runs for one in entry["series"]),
        "acknowledged": sum(one["acknowledged"] for entry in runs for one in entry["series"]),
        "healthy_median_seconds": median(entry["healthy_after_fault_seconds"] for entry in runs),
        "load_median": median(entry["load_of_the_machine"][0] for entry in runs),
    }


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = [
        "| component, fault | runs | longest gap, median (worst) | bar | acknowledged | lost | lost without `WAIT` | duplicated | healthy after | load |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in rows.values():
        lines.append(
            f"| {entry['title']} | {entry['runs']} | {entry['gap_median_seconds']} s ({entry['gap_worst_seconds']} s) | ≤ {entry['bar_seconds']:g} s | "
            f"{entry['acknowledged']} | {entry['lost']} | {entry['lost_where_allowed'] if entry['component'] == 'redis' else ''} | "
            f"{entry['duplicated']} | {entry['healthy_median_seconds']} s | {entry['load_median']} |"
        )
    return "\n".join(lines) + "\n"


def write(runs: dict[str, list[dict[str, Any]]]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "runs.json").write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
    rows = {name: summary(ROWS[name], entries) for name, entries in runs.items() if entries and name in ROWS}
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "cores": os.cpu_count()}
    (RESULTS / "results.json").write_text(json.dumps({**about, "rows": rows}, indent=2) + "\n", encoding="utf-8")
    text = (
        "# Failovers as a client sees them\n\n"
        "Made by `.venv/bin/python -m benchmarks.failover` on the lab; gaps in acknowledged writes through the address that clients use, ten writes a second.\n"
        f"{about['date']}, all hosts on {about['cores']} cores; load is the machine's, one minute, before a run.\n\n"
    )
    (RESULTS / "README.md").write_text(text + table(rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="runs per row")
    parser.add_argument(
        "--continue", dest="goon", action="store_true", help="keep earlier runs and make what is missing"
    )
    parser.add_argument("--inventory", action="append", default=[], help="default: inventories/lab")
    parser.add_argument("--extra", action="append", default=[], metavar="VARIABLES", help="for ansible-playbook's -e")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rows if name not in ROWS]
    if unknown:
        parser.error(f"no such row: {', '.join(unknown)}")
    os.environ["PATH"] = f"{ROOT / '.venv/bin'}:{os.environ['PATH']}"
    inventories = arguments.inventory or ["inventories/lab"]
    extra = [argument for variables in arguments.extra for argument in ("-e", variables)]
    path = RESULTS / "runs.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if arguments.goon and path.exists() else {}
    for number in range(arguments.rounds):
        for name in arguments.rows or ROWS:
            entries = runs.setdefault(name, [])
            if len(entries) <= number:
                entries.append(kept(run(name, ROWS[name], number, inventories, extra)))
                write(runs)
    for name, entries in runs.items():
        say(f"{name}: {json.dumps(summary(ROWS[name], entries))}")


if __name__ == "__main__":
    main()
