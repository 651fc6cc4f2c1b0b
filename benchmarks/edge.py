#!/usr/bin/env python3
"""Measure what clients see of the edge while parts of it go, and write it into benchmarks/edge/.

On a lab with the edge: `LAB_MORE_HOSTS=tests/e2e/edge_hosts.yml make lab`, then `.venv/bin/python -m benchmarks.edge [ROW …] [--rounds 5]`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.hosts import ROOT, Hosts

RESULTS = ROOT / "benchmarks" / "edge"
HOSTS_FILE = "tests/e2e/edge_hosts.yml"
CLIENT = "client-1"
BACKEND_PORTS = (8000, 8001)
PLACE = "/run/edge-client.py"
SETTLE_SECONDS = 5


class Lab(Hosts):
    def __init__(self) -> None:
        super().__init__(HOSTS_FILE)

    def start_load(self, rate: float, seconds: float) -> subprocess.Popen[str]:
        command = (
            f"python3 {PLACE} load --address {self.virtual_address} --name edge --ca-file /etc/sutazai/pki/ca.crt "
            f"--rate {rate} --seconds {seconds}"
        )
        return subprocess.Popen(self.ssh(CLIENT, command), stdout=subprocess.PIPE, text=True)

    def prepare(self) -> None:
        self.run(CLIENT, f"cat > {PLACE}", (ROOT / "benchmarks" / "edge_client.py").read_bytes())
        for port in BACKEND_PORTS:
            unit = f"edge-backend-{port}"
            self.run(CLIENT, f"systemctl stop {unit}; systemd-run --quiet --unit={unit} python3 {PLACE} serve {port}")

    def holders(self) -> list[str]:
        look = f"ip -brief address show to {self.virtual_address}"
        return [name for name in ("lb-1", "lb-2") if self.run(name, look).strip()]


def kill_process(lab: Lab) -> None:
    lab.run(lab.holders()[0], "systemctl kill --signal=KILL haproxy")


def kill_host(lab: Lab) -> None:
    holder = lab.holders()[0]
    lab.container("kill", holder)
    time.sleep(10)
    lab.container("start", holder)


def reload_all(lab: Lab) -> None:
    for _time in range(5):
        for name in ("lb-1", "lb-2"):
            lab.run(name, "systemctl reload haproxy")
        time.sleep(2)


def kill_gateway(lab: Lab) -> None:
    lab.container("kill", "gateway-1")
    time.sleep(10)
    lab.container("start", "gateway-1")


def drain_gateways(lab: Lab) -> None:
    """As playbooks/restart/gateway.yml does it, for one that has nothing to restart for."""
    for name in ("gateway-1", "gateway-2"):
        lab.run(
            name, "curl -s -X POST http://127.0.0.1:9901/healthcheck/fail && sleep 5 && systemctl restart envoy-gateway"
        )
        time.sleep(6)


def routes(lab: Lab, weight: int) -> dict[str, object]:
    """Of the requests this percentage to the second backend, the rest to the first."""
    names, weights = ("backend", "other"), (100 - weight, weight)
    upstreams = [
        {"name": name, "hosts": [{"address": lab.addresses[CLIENT], "port": port}]}
        for name, port in zip(names, BACKEND_PORTS, strict=True)
    ]
    shares = [{"name": name, "weight": share} for name, share in zip(names, weights, strict=True)]
    return {
        "upstreams": upstreams,
        "services": [{"name": "backend", "upstreams": shares}],
        "routes": [{"name": "all", "service": "backend", "path": "/v1"}],
    }


def shift_weights(lab: Lab) -> None:
    """By the playbook, as an operator does it: it takes one gateway after the other."""
    for weight in (0, 25, 50, 75, 100, 0):
        extra = json.dumps({"gateway_routes": routes(lab, weight)})
        command = ["ansible-playbook", "-i", "inventories/lab", "-i", HOSTS_FILE, "playbooks/gateway.yml", "-e", extra]
        subprocess.run([*command, "--limit", "gateways"], cwd=ROOT, check=True, capture_output=True)


@dataclass(frozen=True)
class Row:
    title: str
    fault: Callable[[Lab], None]
    bar: str
    seconds: float = 25
    rate: float = 100


ROWS = {
    "nothing": Row("nothing", lambda lab: None, "0 failed"),
    "process": Row("HAProxy of the holder, SIGKILL", kill_process, "gap ≤ 1 s"),
    "host": Row("the holder's host killed", kill_host, "gap ≤ 4 s"),
    "reload": Row("HAProxy reloaded five times on both", reload_all, "0 failed"),
    "gateway-host": Row("a gateway's host killed", kill_gateway, ""),
    "weights": Row(
        "all requests moved to another backend in four steps, and back", shift_weights, "0 failed", seconds=300
    ),
    "gateway-restart": Row("both gateways drained and restarted", drain_gateways, "0 failed", seconds=40),
}


def measure(lab: Lab, row: Row) -> dict[str, object]:
    before = lab.holders()
    load = lab.start_load(row.rate, row.seconds)
    time.sleep(SETTLE_SECONDS)
    row.fault(lab)
    output = load.communicate(timeout=row.seconds * 4)[0]
    time.sleep(SETTLE_SECONDS)
    after = lab.holders()
    if len(before) != 1 or len(after) != 1:
        raise SystemExit(f"The virtual address was held by {before} before and by {after} after; it must be one.")
    return {**json.loads(output), "holder_before": before[0], "holder_after": after[0], "load": os.getloadavg()[0]}


def report(runs: dict[str, list[dict]]) -> str:
    lines = [
        "# The edge as clients see it",
        "",
        "Made by `.venv/bin/python -m benchmarks.edge` on the lab: 100 requests a second through the virtual address, HAProxy and Envoy, each on a",
        "connection of its own; who fails tries once more after half a second. Medians, with the worst run in brackets.",
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC.",
        "",
        "| what | runs | longest gap between answers | bar | requests | failed at first | failed after one retry | median | p99 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        done = runs.get(name, [])
        if not done:
            continue
        gaps = [run["longest_gap_seconds"] for run in done]
        lines.append(
            f"| {row.title} | {len(done)} | {statistics.median(gaps):.2f} s ({max(gaps):.2f} s) | {row.bar} "
            f"| {sum(run['attempted'] for run in done)} | {sum(run['failed_at_first'] for run in done)} "
            f"| {sum(run['failed'] for run in done)} | {statistics.median(run['median_milliseconds'] for run in done):.0f} ms "
            f"| {statistics.median(run['p99_milliseconds'] for run in done):.0f} ms |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    lab = Lab()
    lab.prepare()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "runs.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for name in arguments.rows:
        runs[name] = []
    for _round in range(arguments.rounds):
        for name in arguments.rows:
            result = measure(lab, ROWS[name])
            runs[name].append(result)
            print(f"{name}: {json.dumps(result)}", flush=True)
            path.write_text(json.dumps(runs, indent=1) + "\n", encoding="utf-8")
            (RESULTS / "README.md").write_text(report(runs), encoding="utf-8")
            time.sleep(SETTLE_SECONDS)


if __name__ == "__main__":
    main()
