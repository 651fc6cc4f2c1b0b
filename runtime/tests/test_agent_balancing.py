"""A client that balances its gRPC calls over all agents that Consul's DNS names: a real Consul, its checks, its DNS."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import pytest
from servers_here import consul_agent

from sutazai_runtime.agent import client, rpc, tasks_pb2, tasks_pb2_grpc
from sutazai_runtime.agent.service import LocalService
from sutazai_runtime.agent.settings import AgentSettings
from sutazai_runtime.inference import TaskRequest
from tests.integration.ports import free_ports

NAME = "ai-agent-grpc"
REQUEST = tasks_pb2.SubmitRequest(tenant_id=42, agent_id="agent-1", prompt="Why?")
# Asyncio discourages the way in which grpc asks for the event loop.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@dataclass
class NamedBackend:
    """Its answers say whose they are. A prompt may have to wait for one."""

    name: str
    goes_on: threading.Event

    def generate(self, request: TaskRequest) -> str:
        assert request.prompt != "Wait" or self.goes_on.wait(60)
        return request.prompt


class Agents:
    """Agents of two hosts, each at a port of its own, as the Swarm publishes them; each is registered with a check on its health."""

    def __init__(self, consul: str) -> None:
        self.consul = consul
        self.goes_on = threading.Event()
        self.running: dict[str, rpc.Rpc] = {}

    async def start(self, name: str, host: str = "127.0.0.2") -> None:
        (port,) = free_ports(1, addresses=(host,))
        server = rpc.Rpc(
            AgentSettings(host=host, grpc_port=port, execution="local"),
            LocalService(NamedBackend(name, self.goes_on), concurrency=4, max_waiting=100),
        )
        await server.start()
        self.running[name] = server
        check = {"GRPC": f"{host}:{port}/{rpc.SERVICE}", "Interval": "1s"}
        definition = {"Name": NAME, "ID": name, "Address": host, "Port": port, "Check": check}
        async with httpx.AsyncClient(trust_env=False) as http:
            (await http.put(f"{self.consul}/v1/agent/service/register", json=definition)).raise_for_status()

    async def kill(self, *names: str) -> None:
        for name in names:
            await self.running.pop(name).stop(0)

    async def until_passing(self, *names: str) -> None:
        async def is_so() -> bool:
            async with httpx.AsyncClient(trust_env=False) as http:
                found = (await http.get(f"{self.consul}/v1/health/service/{NAME}?passing")).json()
            return {each["Service"]["ID"] for each in found} == set(names)

        await until(is_so, f"Consul doesn't name just {names}")


async def until(holds: Callable[[], Awaitable[bool]], complaint: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, complaint
        await asyncio.sleep(0.1)


async def answering(tasks: tasks_pb2_grpc.TasksStub, count: int = 40) -> collections.Counter[str]:
    """Whose answers these were. Each call has to succeed."""
    return collections.Counter(
        [(await tasks.Submit(REQUEST, timeout=10, wait_for_ready=True)).backend for _ in range(count)]
    )


async def until_shared(tasks: tasks_pb2_grpc.TasksStub, *names: str) -> None:
    async def is_so() -> bool:
        answers = await answering(tasks)
        return set(answers) == set(names) and min(answers.values()) >= 40 // len(names) - 2

    await until(is_so, f"not each of {names}, and nobody else, has its part")


@contextlib.asynccontextmanager
async def agents_and_client(consul: str, dns_port: int) -> AsyncIterator[tuple[Agents, tasks_pb2_grpc.TasksStub]]:
    agents = Agents(consul)
    try:
        await agents.start("one")
        await agents.start("two")
        await agents.start("three", "127.0.0.3")
        await agents.until_passing("one", "two", "three")
        async with client.Agents(f"{NAME}.service.consul", f"127.0.0.1:{dns_port}") as channel:
            yield agents, tasks_pb2_grpc.TasksStub(channel)
    finally:
        await agents.kill(*agents.running)


async def agents_come_and_go(consul: str, dns_port: int) -> None:
    async with agents_and_client(consul, dns_port) as (agents, tasks):
        await until_shared(tasks, "one", "two", "three")

        # A new one is found at the port that it happens to have, and what is being answered meanwhile isn't disturbed.
        long = [asyncio.create_task(submit(tasks, "Wait")) for _ in range(3)]
        await agents.start("four", "127.0.0.3")
        await until_shared(tasks, "one", "two", "three", "four")
        agents.goes_on.set()
        assert {await each for each in long} <= {"one", "two", "three"}

        # Draining: the client's own health check knows at once, Consul's a second later.
        await agents.running["one"].drain()
        await until_shared(tasks, "two", "three", "four")
        await agents.until_passing("two", "three", "four")

        # Gone without a word. No call fails: it is sent to another one.
        await agents.kill("two")
        assert set(await answering(tasks)) == {"three", "four"}

        # All of them gone: who can wait is answered by the next one, at an address that nobody has known.
        await agents.kill("one", "three", "four")
        await agents.until_passing()
        waiting = asyncio.create_task(submit(tasks, "Why?"))
        await asyncio.sleep(2)
        await agents.start("five")
        assert await waiting == "five"


async def submit(tasks: tasks_pb2_grpc.TasksStub, prompt: str) -> str:
    request = tasks_pb2.SubmitRequest(tenant_id=42, agent_id="agent-1", prompt=prompt)
    return str((await tasks.Submit(request, timeout=30, wait_for_ready=True)).backend)


def test_calls_go_to_the_healthy_agents_that_consul_names(tmp_path: Path) -> None:
    (dns_port,) = free_ports(1)
    with consul_agent(tmp_path, dns_port) as (_process, url):
        asyncio.run(agents_come_and_go(url, dns_port))


async def consul_goes(process: subprocess.Popen, consul: str, dns_port: int) -> None:
    async with agents_and_client(consul, dns_port) as (agents, tasks):
        process.kill()
        process.wait()
        await asyncio.sleep(2)
        await until_shared(tasks, "one", "two", "three")
        await agents.kill("one")
        assert set(await answering(tasks)) == {"two", "three"}


def test_calls_go_on_without_consul(tmp_path: Path) -> None:
    (dns_port,) = free_ports(1)
    with consul_agent(tmp_path, dns_port) as (process, url):
        asyncio.run(consul_goes(process, url, dns_port))


async def nobody_is_there(dns_port: int) -> None:
    async with client.Agents("ai-agnet.service.consul", f"127.0.0.1:{dns_port}") as channel:
        tasks = tasks_pb2_grpc.TasksStub(channel)
        for wait, code in ((False, grpc.StatusCode.UNAVAILABLE), (True, grpc.StatusCode.DEADLINE_EXCEEDED)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await tasks.Submit(REQUEST, timeout=0.5, wait_for_ready=wait)
            assert refused.value.code() is code
            assert str(refused.value.details()).startswith("No agent of ai-agnet.service.consul serves")
            assert "it names none. ai-agnet.service.consul can't be resolved: " in str(refused.value.details())


def test_a_name_that_nobody_has_is_said(tmp_path: Path) -> None:
    (dns_port,) = free_ports(1)
    with consul_agent(tmp_path, dns_port):
        asyncio.run(nobody_is_there(dns_port))
