#!/usr/bin/env python3
"""Measure the autoscaler on a real Swarm: from 3 agents to what the load asks for, further when it grows, and back. Writes benchmarks/autoscaler/.

On a lab with all of the platform: `LAB_MORE_HOSTS=tests/e2e/platform_hosts.yml make lab`, then `.venv/bin/python -m benchmarks.autoscaler` (twenty
minutes: the cooldowns are the real ones, 60 s up and 300 s down).

The load is a real backlog: the workers of the partitions' queues are stopped, tasks are sent through the virtual address, and then the workers come back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from benchmarks.lab import say
from benchmarks.platform import CLIENT, ROOT, Lab

RESULTS = ROOT / "benchmarks" / "autoscaler"
MANAGER, SERVICE = "manager-1", "ai-agent"
MINIMUM = 3
#: By the rule of queue_length (target 100, up from 200 on, down from 50 on) and steps of ten up and five down.
FIRST_TASKS, SECOND_TASKS = 620, 800
WORKERS = "celery-worker@partition-*"
COOLDOWN_UP, COOLDOWN_DOWN, INTERVAL = 60, 300, 15
PATIENCE_SECONDS = 1500


@dataclass(frozen=True)
class Change:
    at: float  # seconds since the first task was sent
    wanted: int
    running: int


class Watched:
    """What the Swarm says of the service, each change noted once."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.began, self.changes = lab, time.monotonic(), list[Change]()

    def restart(self) -> None:
        self.began, self.changes = time.monotonic(), []

    def look(self) -> Change:
        said = self.lab.run(
            MANAGER, f"docker service ls --filter name={SERVICE} --format '{{{{.Replicas}}}}' | head -1"
        )
        running, _slash, wanted = said.split()[0].partition("/")
        now = Change(round(time.monotonic() - self.began, 1), int(wanted), int(running))
        last = self.changes[-1] if self.changes else None
        if last is None or (last.wanted, last.running) != (now.wanted, now.running):
            self.changes.append(now)
            say(f"{now.at:6.1f} s: {now.running} of {now.wanted}")
        return now

    def until(self, is_so: Callable[[Change], bool]) -> Change:
        end = time.monotonic() + PATIENCE_SECONDS
        while not is_so(now := self.look()):
            if time.monotonic() > end:
                raise SystemExit(f"After {PATIENCE_SECONDS} s {SERVICE} has {now.running} of {now.wanted} agents.")
            time.sleep(1)
        return now

    def settled(self, replicas: int) -> Change:
        return self.until(lambda now: now.wanted == now.running == replicas)


def send(lab: Lab, tasks: int) -> None:
    """Accepted all of them, or this ends with an error."""
    body = '{"tenant_id": 42, "agent_id": "agent-%", "prompt": "Why?"}'
    curl = (
        "curl -sS --fail --retry 3 --retry-all-errors -o /dev/null --cacert /etc/sutazai/pki/ca.crt -H 'Content-Type: application/json' "
        f"-H 'Prefer: respond-async' --data '{body}' https://{lab.virtual_address}/v1/tasks"
    )
    lab.run(CLIENT, f"seq {tasks} | xargs -P 4 -I % {curl}")


def workers(lab: Lab, verb: str) -> None:
    for host in ("agent-1", "agent-2"):
        lab.run(host, f"systemctl {verb} --all '{WORKERS}'")


def decisions(lab: Lab, since: float) -> list[dict]:
    """Of whichever manager decided."""
    lines = []
    for host in lab.called("manager"):
        said = lab.run(
            host, f"journalctl -u sutazai-autoscaler --since @{since:.0f} -o cat --no-pager | grep '^{{' || true"
        )
        lines += [{**json.loads(line), "manager": host} for line in said.splitlines()]
    return [line for line in lines if line.get("action") in ("up", "down")]


def measure(lab: Lab) -> dict[str, object]:
    watched = Watched(lab)
    lab.run(MANAGER, f"docker service scale --detach {SERVICE}={MINIMUM}")
    watched.settled(MINIMUM)
    say(f"{MINIMUM} agents, and no load for a while")
    time.sleep(COOLDOWN_UP + INTERVAL)
    workers(lab, "stop")
    try:
        watched.restart()
        since = time.time()
        send(lab, FIRST_TASKS)
        first_sent = round(time.monotonic() - watched.began, 1)
        first = watched.until(lambda now: now.wanted > MINIMUM)
        # While the cooldown lasts: more load, and nothing may happen before it is over.
        send(lab, SECOND_TASKS)
        second = watched.until(lambda now: now.wanted > first.wanted)
        top = watched.settled(second.wanted)
    finally:
        workers(lab, "start")
    released = round(time.monotonic() - watched.began, 1)
    watched.settled(MINIMUM)
    wanted = [
        change
        for before, change in zip(watched.changes, watched.changes[1:], strict=False)
        if change.wanted != before.wanted
    ]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "first_sent": first_sent,
        "top": asdict(top),
        "released": released,
        "steps": [asdict(change) for change in wanted],
        "between": [round(after.at - before.at, 1) for before, after in zip(wanted, wanted[1:], strict=False)],
        "changes": [asdict(change) for change in watched.changes],
        "decisions": decisions(lab, since),
    }


def report(done: dict) -> str:
    lines = [
        "# The autoscaler on a real Swarm",
        "",
        "Made by `.venv/bin/python -m benchmarks.autoscaler` on the lab. The rules are the defaults (the seed's): 100 messages for each agent, more from",
        "200 on, fewer up to 50; at least 3; a cooldown of 60 s up and 300 s down; at most ten more and five fewer at once; a look every 15 s.",
        f"{done['date']}.",
        "",
        f"{FIRST_TASKS} tasks were queued {done['first_sent']} s after the first of them was sent, {SECOND_TASKS} more as soon as there were more agents,",
        f"and the workers came back after {done['released']} s.",
        "",
        "| after | agents wanted | since the change before | cooldown |",
        "|---|---|---|---|",
    ]
    before = MINIMUM
    for number, step in enumerate(done["steps"]):
        since = f"{done['between'][number - 1]} s" if number else ""
        cooldown = "" if not number else f"{COOLDOWN_UP if step['wanted'] > before else COOLDOWN_DOWN} s"
        lines.append(f"| {step['at']} s | {before} → {step['wanted']} | {since} | {cooldown} |")
        before = step["wanted"]
    lines += ["", f"All {done['top']['wanted']} ran after {done['top']['at']} s.", "", "Why, by its decision log:", ""]
    lines += [f"- {line['reason']}" for line in done["decisions"]]
    return "\n".join(lines) + "\n"


def main() -> None:
    done = measure(Lab())
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "runs.json").write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "README.md").write_text(report(done), encoding="utf-8")
    say(json.dumps(done["steps"]))


if __name__ == "__main__":
    main()
