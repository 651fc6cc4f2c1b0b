#!/usr/bin/env python3
"""Send tasks through the whole platform while its hosts are killed one after another, and write what became of them into benchmarks/platform/.

On a lab with all of it: `LAB_MORE_HOSTS=tests/e2e/platform_hosts.yml make lab`, then `.venv/bin/python -m benchmarks.platform [calm|kills …]`.
k6 sends at a constant rate (benchmarks/platform_load.js); afterwards every task is asked for again by its id.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import secrets
import shlex
import threading
import time
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.hosts import ROOT, Hosts
from benchmarks.lab import say
from lab import builds

RESULTS = ROOT / "benchmarks" / "platform"
HOSTS_FILE = "tests/e2e/platform_hosts.yml"
CLIENT = "client-1"
PLACE = "/root/platform-load"
RATE, SECONDS = 25, 1200
BARS = {"accept": 0.9999, "answer": 0.999}
SETTLE_SECONDS = 30
DOWN_SECONDS = 20


class Lab(Hosts):
    def __init__(self) -> None:
        super().__init__(HOSTS_FILE)

    def first(self, group: str, command: str) -> str:
        """The first of the hosts that are called so where the command succeeds."""
        for name in self.called(group):
            if self.says(name, command):
                return name
        raise SystemExit(f"No host {group}-… for which this holds: {command}")

    def prepare(self) -> None:
        tool = next(artifact for artifact in builds.load() if artifact.name == "k6")
        with zipfile.ZipFile(self.settings.cache / "artifacts" / tool.file) as archive:
            program = archive.read("k6")
        self.run(CLIENT, f"mkdir -p {PLACE}")
        if not self.says(CLIENT, f"test -x {PLACE}/k6"):
            self.run(
                CLIENT, f"cat > {PLACE}/k6.new && chmod 755 {PLACE}/k6.new && mv {PLACE}/k6.new {PLACE}/k6", program
            )
        self.run(CLIENT, f"cat > {PLACE}/load.js", (ROOT / "benchmarks" / "platform_load.js").read_bytes())

    def k6(self, mode: str, run: str, **values: int) -> tuple[dict, list[dict]]:
        """Its summary, and what the script said of single requests. `values` are what the mode asks for."""
        values = {"RUN": run, "MODE": mode, "ADDRESS": self.virtual_address, **values}
        given = " ".join(f"--env {name}={value}" for name, value in values.items())
        prefix = f"{PLACE}/{mode}-{run}"
        command = (
            f"SSL_CERT_FILE=/etc/sutazai/pki/ca.crt {PLACE}/k6 run --quiet --no-usage-report --log-format raw "
            f"--console-output {prefix}.log --summary-export {prefix}.json {given} {PLACE}/load.js >{prefix}.out 2>&1"
        )
        self.run(CLIENT, f"{command} || (tail -20 {prefix}.out; exit 1)")
        lines = self.run(CLIENT, f"cat {prefix}.log").splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{")]
        return json.loads(self.run(CLIENT, f"cat {prefix}.json"))["metrics"], said


def whole_host(choose: Callable[[Lab], str]) -> Callable[[Lab], str]:
    def kill(lab: Lab) -> str:
        host = choose(lab)
        lab.container("kill", host)
        time.sleep(DOWN_SECONDS)
        lab.container("start", host)
        return host

    return kill


def fabio(lab: Lab) -> str:
    host = lab.first("agent", "systemctl is-active --quiet fabio")
    lab.run(host, "systemctl kill --signal=KILL fabio")
    return host


FAULTS: dict[str, Callable[[Lab], str]] = {
    "load balancer's host": whole_host(
        lambda lab: lab.first("lb", f"ip -brief address show to {lab.virtual_address} | grep -q .")
    ),
    "gateway's host": whole_host(lambda lab: "gateway-1"),
    "Fabio, SIGKILL": fabio,
    "agent host, with Fabio and workers": whole_host(lambda lab: "agent-2"),
    "Swarm manager's host": whole_host(lambda lab: "manager-1"),
    "RabbitMQ node's host": whole_host(lambda lab: "rabbitmq-1"),
    "Redis master's host": whole_host(
        lambda lab: lab.first("redis", "grep -q 'myself,master.*connected [0-9]' /var/lib/redis/nodes.conf")
    ),
    "PostgreSQL leader's host": whole_host(
        lambda lab: lab.first(
            "postgresql", "curl -sk -o /dev/null -f https://$(hostname -i | cut -d' ' -f1):8008/primary"
        )
    ),
}


@dataclass(frozen=True)
class Injected:
    fault: str
    host: str
    at: float  # seconds since the epoch
    until: float


def inject(lab: Lab, began: float, seconds: float, done: list[Injected]) -> None:
    """One after another, evenly over the run, each with time to heal."""
    apart = (seconds - 2 * SETTLE_SECONDS) / len(FAULTS)
    for number, (name, fault) in enumerate(FAULTS.items()):
        time.sleep(max(0.0, began + SETTLE_SECONDS + number * apart - time.time()))
        at = time.time()
        host = fault(lab)
        done.append(Injected(name, host, at, time.time()))
        say(f"{name}: {host}")


def count(metrics: dict, name: str) -> int:
    return int(metrics.get(name, {}).get("count", 0))


def figures(metrics: dict, kind: str) -> dict[str, object]:
    attempted, failed = count(metrics, f"{kind}_attempted"), count(metrics, f"{kind}_failed")
    took = metrics.get(f"{kind}_took", {})
    return {
        "attempted": attempted,
        "retried": count(metrics, f"{kind}_retried"),
        "failed": failed,
        "ratio": round(1 - failed / attempted, 6) if attempted else None,
        "median_milliseconds": took.get("med"),
        "p99_milliseconds": took.get("p(99)"),
    }


def became(sent: Iterable[dict], found: Iterable[dict], total: int) -> dict[str, object]:
    """What the tasks came to. Not taken: the client was told so twice, and may have been told wrong."""
    sent = list(sent)
    refused = {line["number"] for line in sent if line["what"] == "failed"}
    first = {line["number"]: line["answered_at"] for line in sent if line["what"] == "answered"}
    later = {line["number"]: line for line in found if line["what"] == "found" and line["number"] < total}
    states = collections.Counter(line["status"] for line in later.values())
    lost = [n for n in range(total) if n not in refused and later.get(n, {}).get("status") not in ("done", "pending")]
    changed = [n for n, at in first.items() if n in later and later[n]["answered_at"] != at]
    return {
        "states": dict(states),
        "accepted": total - len(refused),
        "still_queued": sum(1 for n, line in later.items() if line["status"] == "pending" and n not in refused),
        "lost": len(lost),
        "lost_numbers": lost[:20],
        "wrong_answers": sum(1 for line in later.values() if not line["right"]),
        "answered_twice_differently": len(changed),
    }


def by_fault(said: Iterable[dict], faults: list[Injected]) -> dict[str, dict[str, int]]:
    """Requests that began after a fault, and before the next one."""
    result: dict[str, collections.Counter[str]] = {"before": collections.Counter()}
    result |= {each.fault: collections.Counter() for each in faults}
    for line in said:
        if line["what"] in ("retried", "failed"):
            where = next((each.fault for each in reversed(faults) if each.at <= line["at"] + 10), "before")
            result[where][f"{line['kind']} {line['what']}"] += 1
    return {name: dict(counts) for name, counts in result.items()}


def measure(lab: Lab, row: str, rate: int, seconds: int) -> dict[str, object]:
    run, faults = secrets.token_hex(4), list[Injected]()
    say(f"{row}: {rate * seconds} requests, {rate} a second, run {run}")
    thread = threading.Thread(target=inject, args=(lab, time.time(), seconds, faults), daemon=True)
    if row == "kills":
        thread.start()
    metrics, said = lab.k6("load", run, RATE=rate, SECONDS=seconds)
    if row == "kills":
        thread.join()
    time.sleep(SETTLE_SECONDS)
    # The numbers are those of the requests that were sent, without gaps. It may be one more than the rate has in the time.
    sent = count(metrics, "accept_attempted") + count(metrics, "answer_attempted")
    _metrics, found = lab.k6("check", run, TOTAL=sent)
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "rate": rate,
        "seconds": seconds,
        "dropped_by_the_tool": count(metrics, "dropped_iterations"),
        "accept": figures(metrics, "accept"),
        "answer": figures(metrics, "answer"),
        "tasks": became(said, found, sent),
        "faults": {each.fault: each.host for each in faults},
        "requests_after": by_fault(said, faults),
        "reasons": dict(collections.Counter(line["reason"][:100] for line in said if "reason" in line).most_common(8)),
        "load": os.getloadavg()[0],
    }


def report(runs: dict[str, dict]) -> str:
    lines = [
        "# Tasks through the whole platform",
        "",
        "Made by `.venv/bin/python -m benchmarks.platform` on the lab, all of it on one machine with two cores. Half of the requests want a 202, the",
        "other half the answer; a client asks once more after half a second, with the same id. Afterwards every task is asked for by its id.",
        "",
        "| run | kind | requests | asked once more | failed | success | bar | median | p99 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, run in runs.items():
        for kind, title in (("accept", "202"), ("answer", "answer")):
            of = run[kind]
            lines.append(
                f"| {name}, {run['rate']}/s | {title} | {of['attempted']} | {of['retried']} | {of['failed']} | {of['ratio']:.4%} "
                f"| {BARS[kind]:.2%} | {of['median_milliseconds']:.0f} ms | {of['p99_milliseconds']:.0f} ms |"
            )
    for name, run in runs.items():
        tasks = run["tasks"]
        lines += [
            "",
            f"{name} ({run['date']}): {tasks['accepted']} accepted, {tasks['lost']} lost, {tasks['still_queued']} still queued, "
            f"{tasks['wrong_answers']} answered wrongly, {tasks['answered_twice_differently']} answered twice differently; "
            f"{run['dropped_by_the_tool']} not sent for want of clients.",
        ]
        if run["faults"]:
            lines += ["", "| killed | host | asked once more, failed until the next one |", "|---|---|---|"]
            lines += [
                f"| {fault} | {host} | {shlex.join(f'{what}: {n}' for what, n in run['requests_after'].get(fault, {}).items()) or 'none'} |"
                for fault, host in run["faults"].items()
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=["calm", "kills"], choices=["calm", "kills"], metavar="ROW")
    parser.add_argument("--rate", type=int, default=RATE, help="requests a second")
    parser.add_argument("--seconds", type=int, default=SECONDS)
    arguments = parser.parse_args()
    lab = Lab()
    lab.prepare()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "runs.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for row in arguments.rows:
        runs[row] = measure(lab, row, arguments.rate, arguments.seconds)
        say(f"{row}: {json.dumps(runs[row])}")
        path.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
        (RESULTS / "README.md").write_text(report(runs), encoding="utf-8")


if __name__ == "__main__":
    main()
