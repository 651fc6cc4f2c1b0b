"""Two autoscalers as they are started on two managers, with a real Consul; the engine is one that speaks its API on a socket."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from sutazai_runtime.autoscaler.consul import Consul
from sutazai_runtime.autoscaler.http_api import Api, Tls, read_secret

SOURCES = str(Path(__file__).resolve().parents[2] / "src")
SECONDS = 30


def until(what, text=""):
    deadline = time.monotonic() + SECONDS
    while not (found := what()):
        assert time.monotonic() < deadline, f"it doesn't happen: {text}"
        time.sleep(0.1)
    return found


class Process:
    def __init__(self, directory: Path, name: str, command: str, settings: dict, *more: str) -> None:
        self.decisions = directory / f"{name}.jsonl"
        self.errors = directory / f"{name}.log"
        config = directory / f"{name}.yml"
        config.write_text(yaml.safe_dump(settings | {"decision_log": str(self.decisions)}))
        arguments = [sys.executable, "-m", "sutazai_runtime.autoscaler", command, "--config", str(config), *more]
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(arguments, env={**os.environ, "PYTHONPATH": SOURCES}, stderr=errors)

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.decisions.read_text().splitlines()] if self.decisions.exists() else []

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def consul(agent):
    return Consul(Api(agent.url, Tls(agent.ca_file), lambda: {"X-Consul-Token": read_secret(str(agent.token_file))}))


@pytest.fixture
def settings(agent, swarm, request):
    # A prefix of the test's own: what one test leaves in Consul is nothing to the next.
    return {
        "interval_seconds": 5,
        "metrics": {"port": 0},
        "docker": {"socket": os.path.abspath(swarm.path)},
        "consul": {
            "url": agent.url,
            "ca_file": agent.ca_file,
            "token_file": str(agent.token_file),
            "prefix": f"autoscaler/{request.node.name}",
            "lock_ttl_seconds": 10,
        },
        "rules": {
            "ai-agent": {
                "min_replicas": 3,
                "max_replicas": 50,
                "metrics": [{"type": "cpu", "target": 70, "scale_up_threshold": 80, "scale_down_threshold": 30}],
            }
        },
    }


@pytest.fixture
def start(tmp_path, settings):
    started = []

    def make(name, command="run", more=(), **changes):
        started.append(Process(tmp_path, name, command, settings | changes, *more))
        return started[-1]

    yield make
    for process in started:
        process.kill()


def sessions(agent) -> set[str]:
    return {session["ID"] for session in agent.management().request("GET", "/v1/session/list").data}


def report(percent, containers=3):
    usage = {"containers": containers, "percent": percent * containers, "unlimited": 0}
    return json.dumps({"at": time.time(), "services": {"ai-agent": usage}})


def test_the_second_takes_over_at_once_and_resumes_the_cooldown(agent, swarm, consul, settings, start):
    prefix = settings["consul"]["prefix"]
    consul.put(f"{prefix}/usage/node", report(95))
    others = sessions(agent)
    first = start("first")
    until(lambda: swarm.replicas == 5, "scaled by the first")
    second = start("second")
    until(lambda: len(sessions(agent) - others) == 2, "the second asks for the lock")
    assert first.end() == 0
    assert "is given back" in first.errors.read_text()
    assert consul.get(f"{prefix}/lock") is not None

    consul.put(f"{prefix}/usage/node", report(95, 5))
    began = time.monotonic()
    line = until(lambda: (second.lines() or [None])[-1], "a decision of the second")
    # It asks every third of the lock's 10 s; the delay of 15 s is for those that vanish.
    assert time.monotonic() - began < 10
    assert (line["code"], line["before"]) == ("cooldown", 5)
    assert [line["outcome"] for line in first.lines() if line["action"] == "up"] == ["applied"]
    assert [body["Mode"]["Replicated"]["Replicas"] for _, body in swarm.updates] == [5]
    assert swarm.updates[0][1]["FieldOfTomorrow"] == {"kept": True}
    assert second.end() == 0


def test_a_hold_in_consul_and_the_metrics_of_the_one_that_decides(swarm, consul, settings, start, free_port):
    prefix = settings["consul"]["prefix"]
    consul.put(f"{prefix}/hold", "maintenance by Ansible")
    consul.put(f"{prefix}/usage/node", report(95))
    one = start("one", metrics={"port": free_port})
    line = until(lambda: (one.lines() or [None])[-1], "a decision")
    assert (line["action"], line["reason"]) == ("hold", "Held: maintenance by Ansible")

    def shown():
        with urllib.request.urlopen(f"http://127.0.0.1:{free_port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    text = until(lambda: "sutazai_autoscaler_leader 1.0" in shown() and shown())
    assert "sutazai_autoscaler_held 1.0" in text
    assert swarm.updates == []
    consul.delete(f"{prefix}/hold")
    until(lambda: swarm.replicas == 5, "scaled after the hold")
    assert one.end() == 0


def test_a_node_reports_its_containers_and_takes_the_report_back(swarm, consul, settings, start):
    filters = "%7B%22label%22%3A+%5B%22com.docker.swarm.service.name%22%5D%2C+%22status%22%3A+%5B%22running%22%5D%7D"
    swarm.answers = {
        f"/containers/json?filters={filters}": [
            {"Id": "c1", "Labels": {"com.docker.swarm.service.name": "ai-agent"}},
        ],
        "/containers/c1/json": {"HostConfig": {"NanoCpus": 2_000_000_000}},
        "/containers/c1/stats?stream=false&one-shot=true": {"cpu_stats": {"cpu_usage": {"total_usage": 5}}},
    }
    key = f"{settings['consul']['prefix']}/usage/node-1"
    reporter = start("reporter", "report", ("--node", "node-1"))
    usage = until(
        lambda: (found := consul.get(key)) and json.loads(found)["services"]["ai-agent"]["containers"] and found,
        "a report with two samples",
    )
    assert json.loads(usage)["services"] == {"ai-agent": {"containers": 1, "percent": 0.0, "unlimited": 0}}
    assert reporter.end() == 0
    assert consul.get(key) is None
