"""The agent as a process: sockets, signals, gRPC; and with a broker, Redis and a worker behind it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from servers_here import CHECKOUT, environment, messages_in, wait_for, worker

from sutazai_runtime.agent import client, rpc, tasks_pb2, tasks_pb2_grpc
from sutazai_runtime.partitioning import partition_names, routing_key_of
from tests.integration.ports import free_ports

TASK = {"tenant_id": 42, "agent_id": "agent-1", "prompt": "Why?"}
COMMAND = [sys.executable, "-m", "sutazai_runtime.agent"]


@dataclass
class Agent:
    process: subprocess.Popen
    http: httpx.Client
    grpc_address: str
    log: Path


def clean_environment(**more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SUTAZAI_")}
    return {**ours, "PYTHONPATH": str(CHECKOUT / "runtime" / "src"), **more}


@contextlib.contextmanager
def agent(directory: Path, variables: dict[str, str], *arguments: str) -> Iterator[Agent]:
    port, grpc_port = free_ports(2)
    log = directory / f"agent-{port}.log"
    with log.open("w") as sink:
        process = subprocess.Popen(
            [*COMMAND, "--port", str(port), "--grpc-port", str(grpc_port), *arguments],
            env={"SUTAZAI_AGENT_HOST": "127.0.0.1", "SUTAZAI_AGENT_LAME_DUCK_SECONDS": "1", **variables},
            stdout=sink,
            stderr=sink,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
            wait_for(lambda: process.poll() is not None or http.get("/health").is_success, "the agent doesn't start")
            assert process.poll() is None, log.read_text()
            yield Agent(process, http, f"127.0.0.1:{grpc_port}", log)
    finally:
        process.kill()
        process.wait()
        print(log.read_text())


def echo(directory: Path, seconds: float) -> contextlib.AbstractContextManager[Agent]:
    arguments = ("--execution", "local", "--backend", "echo", "--service-seconds", str(seconds))
    return agent(directory, clean_environment(), *arguments)


def test_an_agent_that_is_told_to_go_answers_what_it_has(tmp_path):
    with echo(tmp_path, 2) as running:
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(running.http.post("/v1/tasks", json=TASK)))
        asking.start()
        wait_for(lambda: "in_flight 2.0" in running.http.get("/metrics").text, "the request doesn't arrive")
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: running.http.get("/health").status_code == 503, "the agent doesn't say that it goes")
        asking.join()
        assert running.process.wait(30) == 0
        assert [answer.json()["output"] for answer in answers] == ["Why?"]
        with pytest.raises(httpx.ConnectError):
            running.http.get("/health")


def test_a_second_signal_is_understood(tmp_path):
    with agent(
        tmp_path, clean_environment(SUTAZAI_AGENT_LAME_DUCK_SECONDS="60"), "--execution", "local", "--backend", "echo"
    ) as running:
        running.process.send_signal(signal.SIGTERM)
        wait_for(lambda: running.http.get("/health").status_code == 503, "the agent doesn't say that it goes")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0


def test_the_service_time_is_kept_and_tasks_are_done_one_at_a_time(tmp_path):
    """Simulated inference, for measuring how throughput grows with agents."""
    with echo(tmp_path, 0.1) as running:
        began = asyncio.run(many(str(running.http.base_url), 5))
    assert 0.5 <= began < 3


async def many(url: str, count: int) -> float:
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        began = loop.time()
        answers = await asyncio.gather(*(client.post("/v1/tasks", json=TASK) for _ in range(count)))
    assert [answer.status_code for answer in answers] == [200] * count, [answer.text for answer in answers]
    return loop.time() - began


def test_grpc_has_the_same_answers_and_errors(tmp_path):
    with echo(tmp_path, 0.2) as running, grpc.insecure_channel(running.grpc_address) as channel:
        tasks = tasks_pb2_grpc.TasksStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service=rpc.SERVICE)
        assert health.Check(asked, timeout=10).status == health_pb2.HealthCheckResponse.SERVING
        answer = tasks.Submit(tasks_pb2.SubmitRequest(**TASK), timeout=10)
        assert (answer.status, answer.output, answer.backend) == ("done", "Why?", "echo")
        assert tasks.Get(tasks_pb2.GetRequest(task_id=answer.task_id), timeout=10) == answer
        with pytest.raises(grpc.RpcError) as refused:
            tasks.Submit(tasks_pb2.SubmitRequest(tenant_id=-1, prompt="x"), timeout=10)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "tenant_id" in refused.value.details() and "agent_id" in refused.value.details()
        with pytest.raises(grpc.RpcError) as refused:
            tasks.Submit(tasks_pb2.SubmitRequest(**TASK, wait_seconds=0), timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED
        running.process.send_signal(signal.SIGTERM)
        wait_for(
            lambda: health.Check(asked, timeout=10).status == health_pb2.HealthCheckResponse.NOT_SERVING,
            "gRPC's health service doesn't say that the agent goes",
            0.9,
        )


def test_a_client_balances_over_agents_and_leaves_the_one_that_goes(tmp_path):
    async def run(addresses: list[str], leaving: subprocess.Popen) -> None:
        async with client.balanced(addresses) as channel:
            tasks = tasks_pb2_grpc.TasksStub(channel)
            request = tasks_pb2.SubmitRequest(**TASK)
            for number in range(30):
                answer = await tasks.Submit(request, timeout=10, wait_for_ready=True)
                assert answer.output == "Why?"
                if number == 10:
                    leaving.send_signal(signal.SIGTERM)
                    await asyncio.to_thread(leaving.wait, 30)

    with echo(tmp_path, 0) as one, echo(tmp_path, 0) as other:
        asyncio.run(run([one.grpc_address, other.grpc_address], one.process))
        counted = other.http.get("/health")
        assert counted.is_success


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["--execution", "local"], {}, "backend"),
        (["--execution", "local", "--backend", "http"], {}, "SUTAZAI_INFERENCE_MODEL isn't set"),
        (["--backend", "echo"], {}, "of local execution"),
        ([], {}, "SUTAZAI_RABBITMQ_PASSWORD_FILE isn't set"),
        (["--execution", "local", "--backend", "echo", "--port", "70000"], {}, "port"),
        (["--execution", "local", "--backend", "echo"], {"SUTAZAI_AGENT_CONCURRENCY": "0"}, "concurrency"),
    ],
)
def test_an_agent_that_cannot_work_does_not_start(arguments, variables, said):
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "The agent can't start: " in done.stderr
    assert said in done.stderr


def test_an_agent_whose_port_is_taken_says_so(tmp_path):
    with echo(tmp_path, 0) as running:
        arguments = [
            "--execution",
            "local",
            "--backend",
            "echo",
            "--grpc-port",
            "0",
            "--port",
            str(running.http.base_url.port),
        ]
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=clean_environment(SUTAZAI_AGENT_HOST="127.0.0.1"),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert "The agent can't start: it can't listen on" in done.stderr
    assert "Address already in use" in done.stderr


# With a queue ------------------------------------------------------------------------------------


def test_the_way_through_the_queue(topology, broker_settings, redis_settings, tmp_path):
    for name in partition_names():
        assert topology.delete(f"/queues/%2F/{name}/contents").is_success
    variables = environment(broker_settings, redis_settings, SUTAZAI_INFERENCE_BACKEND="echo")

    def waiting() -> int:
        return sum(messages_in(broker_settings, name) for name in partition_names())

    with agent(tmp_path, variables) as running:
        http = running.http
        for wrong in ("{", '{"tenant_id": 1, "prompt": "x"}', '{"tenant_id": -1, "agent_id": "a", "prompt": "x"}'):
            assert 400 <= http.post("/v1/tasks", content=wrong).status_code < 500
        assert http.post("/v1/tasks", content=b"x" * 2_000_000).status_code == 413
        assert waiting() == 0, "nothing of it was enqueued"

        task_id = str(uuid.uuid4())
        accepted = http.post("/v1/tasks", json={**TASK, "task_id": task_id}, headers={"prefer": "respond-async"})
        assert accepted.status_code == 202
        assert http.get(accepted.headers["location"]).json()["status"] == "pending"
        assert http.post("/v1/tasks", json=TASK, headers={"prefer": "wait=1"}).status_code == 202, "no worker yet"
        assert waiting() == 2
        assert messages_in(broker_settings, routing_key_of("agent-1")) == 2

        with worker(tmp_path, variables, *partition_names()):
            answer = http.post("/v1/tasks", json={**TASK, "prompt": "And now?"})
            assert (answer.status_code, answer.json()["output"]) == (200, "And now?")
            assert http.get(accepted.headers["location"]).json()["output"] == "Why?"
            assert http.post("/v1/tasks", json={**TASK, "task_id": task_id}).json()["output"] == "Why?"
            other = http.post("/v1/tasks", json={**TASK, "prompt": "Else?", "task_id": task_id})
            assert (other.status_code, other.headers["content-type"]) == (409, "application/problem+json")
            seconds = asyncio.run(many(str(http.base_url), 20))
        print(f"20 tasks at once through the queue, one worker process: {seconds:.2f} s")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0


def test_tasks_are_taken_while_redis_is_away(topology, broker_settings, redis_settings, tmp_path):
    """Only the answer needs it: a failover of Redis must not reach the accepting path."""
    (nobody,) = free_ports(1)
    away = redis_settings.model_copy(update={"nodes": [f"127.0.0.1:{nobody}"]})
    variables = environment(broker_settings, away, SUTAZAI_REDIS_RETRIES="0", SUTAZAI_AGENT_WAIT_SECONDS="1")
    with agent(tmp_path, variables) as running:
        answer = running.http.post("/v1/tasks", json=TASK, headers={"prefer": "respond-async"})
        assert answer.status_code == 202
        assert running.http.post("/v1/tasks", json=TASK).status_code == 202
        assert running.http.get(answer.headers["location"]).status_code == 503


def test_a_task_is_not_taken_while_the_broker_is_away(broker_settings, redis_settings, tmp_path):
    (nobody,) = free_ports(1)
    away = broker_settings.model_copy(update={"nodes": [f"127.0.0.1:{nobody}"]})
    with agent(tmp_path, environment(away, redis_settings)) as running:
        answer = running.http.post("/v1/tasks", json=TASK)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "couldn't be put into the queue" in answer.json()["detail"]
        assert running.http.get("/health").is_success
