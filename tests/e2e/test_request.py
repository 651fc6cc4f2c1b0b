"""One request through every layer: virtual address, HAProxy, a gateway, Fabio, an agent in the Swarm, RabbitMQ, a worker, and back."""

from __future__ import annotations

import json
import shlex
import time
import uuid

import pytest

GROUPS = ("load_balancers", "gateways", "fabio", "agents", "clients")
TASK = {"tenant_id": 42, "agent_id": "agent-1", "prompt": "Why?"}


def text_of(body: str) -> str:
    """For the shell. A long one of equal letters is written shorter: an argument has its limits."""
    begin, letters, end = body.partition("x" * 1000)
    if not letters:
        return shlex.quote(body)
    rest = end.lstrip("x")
    count = len(letters) + len(end) - len(rest)
    return f'{shlex.quote(begin)}"$(head -c {count} /dev/zero | tr "\\0" x)"{shlex.quote(rest)}'


@pytest.fixture
def ask(platform):
    """Asks as a client does; the status and the body."""
    if missing := [group for group in GROUPS if not platform.group(group)]:
        pytest.skip(f"no {', '.join(missing)} in this inventory")
    client = platform.group("clients")[0]
    address = platform.group("load_balancers")[0].variables["platform_vip"]

    def ask(path: str, body: str | None = None, **headers: str) -> tuple[int, dict]:
        command = ["curl", "--silent", "--max-time", "40", "--cacert", "/etc/sutazai/pki/ca.crt"]
        command += ["--write-out", "\n%{http_code}"]
        for name, value in headers.items():
            command += ["--header", f"{name.replace('_', '-')}: {value}"]
        if body is not None:
            command += ["--data-binary", "@-"]
        lines = client.run(f"printf %s {text_of(body or '')} | {shlex.join([*command, f'https://{address}{path}'])}")
        text, _, status = lines.rpartition("\n")
        return int(status), json.loads(text)

    return ask


def test_a_task_is_answered(ask):
    status, answer = ask("/v1/tasks", json.dumps(TASK))
    assert (status, answer["status"], answer["output"]) == (200, "done", "Why?")
    assert ask(f"/v1/tasks/{answer['task_id']}")[1] == answer


def test_a_task_is_accepted_and_answered_later(ask):
    status, accepted = ask("/v1/tasks", json.dumps(TASK), Prefer="respond-async")
    assert status == 202
    deadline = time.monotonic() + 30
    while (answer := ask(accepted["url"])[1])["status"] != "done":
        assert time.monotonic() < deadline, answer
        time.sleep(0.2)
    assert answer["output"] == "Why?"


def test_the_same_task_again_has_the_same_answer(ask):
    task = json.dumps({**TASK, "task_id": str(uuid.uuid4())})
    first = ask("/v1/tasks", task)
    assert first[0] == 200
    assert ask("/v1/tasks", task) == first


# Run where the package is installed; the name's SRV records have the ports at which the Swarm publishes the agents.
BY_GRPC = f"""\
import asyncio, uuid
from sutazai_runtime.agent import client, tasks_pb2, tasks_pb2_grpc

async def main():
    async with client.Agents("ai-agent-grpc.service.consul") as agents:
        tasks = tasks_pb2_grpc.TasksStub(agents)
        for _ in range(20):
            request = tasks_pb2.SubmitRequest(**{TASK}, task_id=str(uuid.uuid4()))
            print((await tasks.Submit(request, timeout=30, wait_for_ready=True)).output)

asyncio.run(main())
"""


@pytest.mark.hosts("agents")
def test_agents_are_reached_by_grpc_at_the_ports_that_consul_names(member, platform):
    if not platform.group("rabbitmq"):
        pytest.skip("no rabbitmq in this inventory")
    assert member.run("/opt/sutazai-runtime/current/bin/python -", BY_GRPC).splitlines() == ["Why?"] * 20


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("tenant_id=42", 400, "isn't JSON"),
        (json.dumps({**TASK, "tenant_id": -1}), 422, "tenant_id"),
        (json.dumps({"tenant_id": 42, "prompt": "Why?"}), 422, "agent_id"),
        (json.dumps({**TASK, "prompt": "x" * 1_100_000}), 413, "bytes"),
    ],
    ids=["not JSON", "negative tenant", "no agent", "too large"],
)
def test_what_is_wrong_is_refused_and_says_why(ask, body, status, said):
    got, problem = ask("/v1/tasks", body)
    assert (got, problem["status"]) == (status, status)
    assert said in problem["detail"]
