#!/usr/bin/env python3
"""Measure agents in the Swarm: how soon the first one is healthy from nothing, and how the throughput grows with them. Writes benchmarks/agents/.

On a lab with all of the platform: `LAB_MORE_HOSTS=tests/e2e/platform_hosts.yml make lab`, then `.venv/bin/python -m benchmarks.agents`.

The agents of these measurements do their tasks themselves, one at a time, each in 50 ms: simulated inference (`--backend echo`). They are a service
of their own beside the platform's, reached through Fabio under a path of its own, and are removed at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import yaml

from benchmarks.lab import LOGS, say
from benchmarks.platform import CLIENT, HOSTS_FILE, PLACE, Lab

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "agents"
MANAGER = "manager-1"
SERVICE, PATH = "measured", "/measured"
SERVICE_SECONDS = 0.05
REPLICAS = (1, 2, 4, 8, 16)
SECONDS = 15
#: Fabio chooses at random. With so many clients for each agent, hardly one has nothing to do.
CLIENTS_EACH = 8
PATIENCE_SECONDS = 180
BAR = 0.9
#: Where the role agent keeps what it has loaded.
IMAGE_FILES = "/opt/sutazai/sutazai-agent"
SECRETS = ROOT / "inventories" / "lab" / "group_vars" / "all" / "secrets.yml"


def image(lab: Lab) -> str:
    names = lab.run(MANAGER, "docker image ls --format '{{.Repository}}:{{.Tag}}' sutazai/agent").split()
    if not names:
        raise SystemExit(f"{MANAGER} has no image sutazai/agent: playbooks/agents.yml loads it.")
    return names[0]


def create(lab: Lab, replicas: int) -> None:
    labels = {
        "sutazai.service": "ai-agent",
        "sutazai.port": "8080",
        "sutazai.tags": f"urlprefix-{PATH} strip={PATH},{SERVICE}",
    }
    command = ["docker", "service", "create", "--quiet", "--detach", "--no-resolve-image", "--name", SERVICE]
    command += ["--replicas", str(replicas), "--endpoint-mode", "dnsrr", "--publish", "mode=host,target=8080"]
    command += ["--limit-memory", "256M", "--stop-grace-period", "10s"]
    for name, value in labels.items():
        command += ["--container-label", f"{name}={value}"]
    command += ["--env", "SUTAZAI_AGENT_LAME_DUCK_SECONDS=2", "--env", "SUTAZAI_AGENT_CONCURRENCY=1"]
    command += [image(lab), "sutazai-agent", "--execution", "local", "--backend", "echo", "--grpc-port", "0"]
    lab.run(MANAGER, shlex.join([*command, "--service-seconds", str(SERVICE_SECONDS)]))


def remove(lab: Lab) -> None:
    lab.says(MANAGER, f"docker service rm {SERVICE}")
    wait(lab, 0)


def healthy(lab: Lab, tag: str = SERVICE) -> int:
    """As Consul has it. The token goes in through curl's standard input: an argument is to be seen by everybody."""
    token = yaml.safe_load(SECRETS.read_text(encoding="utf-8"))["platform_consul_management_token"]
    address = f"http://127.0.0.1:8500/v1/health/service/ai-agent?passing&tag={tag}"
    return len(json.loads(lab.run(MANAGER, f"curl -sf -H @- '{address}'", f"X-Consul-Token: {token}\n".encode())))


def wait(lab: Lab, replicas: int) -> float:
    began = time.monotonic()
    while healthy(lab) != replicas:
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise SystemExit(f"After {PATIENCE_SECONDS} s Consul has {healthy(lab)} healthy agents, not {replicas}.")
        time.sleep(0.2)
    return time.monotonic() - began


def build() -> float:
    """The image, from the archive of the runtime package: a Debian, a virtual environment, one file."""
    with tempfile.TemporaryDirectory() as directory:
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "lab.agent_image", directory], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
        return round(time.monotonic() - began, 1)


def from_nothing(lab: Lab) -> dict[str, object]:
    """No service, and its image on no node: what playbooks/agents.yml needs until the first of its agents is healthy."""
    lab.run(MANAGER, "docker service rm ai-agent")
    for node in lab.called("manager", "agent"):
        still = "docker ps --quiet --filter label=sutazai.service=ai-agent"
        lab.run(
            node,
            f'for _try in $(seq 120); do [ -z "$({still})" ] && break; sleep 1; done; docker container prune --force',
        )
        lab.run(
            node, "docker image ls --quiet sutazai/agent | sort -u | xargs --no-run-if-empty docker image rm --force"
        )
        lab.run(node, f"rm -rf {IMAGE_FILES}")
    began = time.monotonic()
    command = ["ansible-playbook", "-i", "inventories/lab", "-i", HOSTS_FILE, "playbooks/agents.yml"]
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / "agents-from-nothing.log").open("w", encoding="utf-8") as log:
        playbook = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        while not healthy(lab, "urlprefix-/v1/tasks"):
            if playbook.poll() is not None or time.monotonic() - began > 1800:
                raise SystemExit(f"{log.name}: the playbook has ended, or half an hour, and no agent is healthy.")
            time.sleep(0.5)
        took = round(time.monotonic() - began, 1)
        if playbook.wait():
            raise SystemExit(f"{log.name}: the playbook failed.")
    return {"first_healthy": took, "playbook": round(time.monotonic() - began, 1)}


def first_replica(lab: Lab, rounds: int) -> dict[str, object]:
    """From the service's creation to the first passing check. The image is on the hosts already."""
    took = []
    for _round in range(rounds):
        began = time.monotonic()
        create(lab, 1)
        wait(lab, 1)
        took.append(round(time.monotonic() - began, 1))
        say(f"first replica: {took[-1]} s")
        remove(lab)
    return {"seconds": took, "median": statistics.median(took)}


def throughput(lab: Lab, replicas: int) -> dict[str, float]:
    agent = lab.addresses["agent-1"]
    values = {
        "CLIENTS": replicas * CLIENTS_EACH,
        "SECONDS": SECONDS,
        "ADDRESS": f"https://fabio.service.consul:9999{PATH}/v1/tasks",
    }
    given = " ".join(f"--env {name}={value}" for name, value in values.items())
    out = f"{PLACE}/agents-{replicas}.json"
    # One Fabio, by its name: the certificate is for that.
    command = (
        f"grep -q fabio.service.consul /etc/hosts || echo '{agent} fabio.service.consul' >> /etc/hosts; "
        f"SSL_CERT_FILE=/etc/sutazai/pki/ca.crt {PLACE}/k6 run --quiet --no-usage-report "
        f"--summary-export {out} {given} {PLACE}/agents_load.js >/dev/null 2>&1; cat {out}"
    )
    before = processor_seconds()
    metrics = json.loads(lab.run(CLIENT, command))["metrics"]
    busy, idle = (after - earlier for after, earlier in zip(processor_seconds(), before, strict=True))
    return {
        "replicas": replicas,
        "per_second": round(metrics["answered"]["count"] / SECONDS, 1),
        "not_answered": metrics.get("not_answered", {}).get("count", 0),
        "processors_busy": round(busy / (busy + idle), 2),
    }


def processor_seconds() -> tuple[float, float]:
    """Of the whole machine, busy and idle."""
    values = [int(part) for part in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]
    idle = values[3] + values[4]
    return float(sum(values) - idle), float(idle)


def scaling(lab: Lab, rounds: int) -> list[dict[str, float]]:
    runs: dict[int, list[dict[str, float]]] = {replicas: [] for replicas in REPLICAS}
    create(lab, REPLICAS[0])
    for _round in range(rounds):
        for replicas in REPLICAS:
            lab.run(MANAGER, f"docker service scale --detach {SERVICE}={replicas}")
            wait(lab, replicas)
            time.sleep(3)  # Fabio's table follows Consul's
            runs[replicas].append(throughput(lab, replicas))
            say(json.dumps(runs[replicas][-1]))
    remove(lab)
    result = []
    for replicas, each in runs.items():
        middle = dict(sorted(each, key=lambda run: run["per_second"])[len(each) // 2])
        middle["ideal"] = replicas / SERVICE_SECONDS
        middle["of_ideal"] = round(middle["per_second"] / middle["ideal"], 3)
        result.append(middle)
    return result


def report(done: dict) -> str:
    lines = [
        "# Agents in the Swarm",
        "",
        "Made by `.venv/bin/python -m benchmarks.agents` on the lab, all of it on one machine with two cores. Agents that do their tasks themselves,",
        f"one at a time, each in {SERVICE_SECONDS * 1000:.0f} ms (simulated inference), asked through one Fabio by {CLIENTS_EACH} clients for each agent.",
        f"{done['date']}.",
        "",
        f"The image, built from the archive of the runtime package: {done['build']} s. From there on with playbooks/agents.yml, no service and its",
        f"image on no node: {done['from_nothing']['first_healthy']} s to the first healthy agent, {done['from_nothing']['playbook']} s to the playbook's end.",
        "",
        "With the image on the hosts, from the service's creation to its first healthy agent: "
        f"{done['first_replica']['median']} s (median of {done['first_replica']['seconds']}).",
        "",
        "| agents | answers a second | ideal | of the ideal | bar | processors busy | not answered |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run['replicas']} | {run['per_second']} | {run['ideal']:.0f} | {run['of_ideal']:.0%} | ≥ {BAR:.0%} while processors are free "
        f"| {run['processors_busy']:.0%} | {run['not_answered']} |"
        for run in done["scaling"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    lab = Lab()
    lab.prepare()
    lab.run(CLIENT, f"cat > {PLACE}/agents_load.js", (ROOT / "benchmarks" / "agents_load.js").read_bytes())
    remove(lab)
    done = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "build": build(),
        "from_nothing": from_nothing(lab),
        "first_replica": first_replica(lab, arguments.rounds),
        "scaling": scaling(lab, arguments.rounds),
        "load": os.getloadavg()[0],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "runs.json").write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "README.md").write_text(report(done), encoding="utf-8")


if __name__ == "__main__":
    main()
