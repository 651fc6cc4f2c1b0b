"""A client that balances its gRPC calls over all agents that Consul's DNS names: a real Consul, its checks, its DNS."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import httpx
import pytest
from servers_here import consul_agent

from sutazai_runtime.agent import rpc, tasks_pb2, tasks_pb2_grpc
from sutazai_runtime.agent.service import LocalService
from sutazai_runtime.agent.settings import AgentSettings
from sutazai_runtime.inference import TaskRequest
from tests.integration.ports import free_ports

NAME = "ai-agent-grpc"
REQUEST = tasks_pb2.SubmitRequest(tenant_id=42, agent_id="agent-1", prompt="Why?")
AGENTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5")


@dataclass
class NamedBackend:
    """Its answers say whose they are."""

    name: str

    def generate(self, request: TaskRequest) -> str:
        return request.prompt


class Agents:
    """Agents at addresses of loopback, all on one port, as they would be on hosts; each is registered with a check on its health."""

    def __init__(self, consul: str, port: int) -> None:
        self.consul, self.port = consul, port
        self.running: dict[str, rpc.Rpc] = {}

    async def start(self, address: str) -> None:
        server = rpc.Rpc(
            AgentSettings(host=address, grpc_port=self.port, execution="local"),
            LocalService(NamedBackend(address), concurrency=4, max_waiting=100),
        )
        await server.start()
        self.running[address] = server
        check = {"GRPC": f"{address}:{self.port}/{rpc.SERVICE}", "Interval": "1s"}
        definition = {"Name": NAME, "ID": address, "Address": address, "Port": self.port, "Check": check}
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.put(f"{self.consul}/v1/agent/service/register", json=definition)).raise_for_status()

    async def passing(self) -> set[str]:
        async with httpx.AsyncClient(trust_env=False) as client:
            found = (await client.get(f"{self.consul}/v1/health/service/{NAME}?passing")).json()
        return {each["Service"]["Address"] for each in found}

    async def until_passing(self, *addresses: str) -> None:
        await until(lambda: self.is_passing(set(addresses)), f"Consul doesn't name just {addresses}")

    async def is_passing(self, addresses: set[str]) -> bool:
        return await self.passing() == addresses

    async def stop(self) -> None:
        for server in self.running.values():
            await server.stop(0)


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


@contextlib.asynccontextmanager
async def agents_and_client(consul: str, dns_port: int) -> AsyncIterator[tuple[Agents, tasks_pb2_grpc.TasksStub]]:
    (port,) = free_ports(1, addresses=AGENTS)
    agents = Agents(consul, port)
    try:
        for address in AGENTS[:3]:
            await agents.start(address)
        await agents.until_passing(*AGENTS[:3])
        async with rpc.balanced(f"dns://127.0.0.1:{dns_port}/{NAME}.service.consul:{port}") as channel:
            yield agents, tasks_pb2_grpc.TasksStub(channel)
    finally:
        await agents.stop()


async def each_has_its_part(tasks: tasks_pb2_grpc.TasksStub, *addresses: str) -> bool:
    answers = await answering(tasks)
    return set(answers) == set(addresses) and min(answers.values()) >= 40 // len(addresses) - 2


async def agents_come_and_go(consul: str, dns_port: int) -> None:
    async with agents_and_client(consul, dns_port) as (agents, tasks):
        await until(lambda: each_has_its_part(tasks, *AGENTS[:3]), "not each agent has its part")

        # Draining: the client's own health check knows at once, Consul's a second later.
        await agents.running[AGENTS[0]].drain()
        await until(lambda: each_has_its_part(tasks, *AGENTS[1:3]), "an agent that drains goes on being asked")
        await agents.until_passing(*AGENTS[1:3])

        # Gone without a word. No call fails: it is sent to another one.
        await agents.running.pop(AGENTS[1]).stop(0)
        assert set(await answering(tasks)) == {AGENTS[2]}
        await agents.until_passing(AGENTS[2])

        # A new one is found, as soon as the name is asked again: when a connection ends.
        await agents.start(AGENTS[3])
        await agents.until_passing(*AGENTS[2:4])
        await agents.running.pop(AGENTS[2]).stop(0)
        await until(lambda: each_has_its_part(tasks, AGENTS[3]), "the new agent isn't asked")


@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning"
)  # grpc asks for the event loop by a way that asyncio discourages
def test_calls_go_to_the_healthy_agents_that_consul_names(tmp_path):
    (dns_port,) = free_ports(1)
    with consul_agent(tmp_path, dns_port) as (_process, url):
        asyncio.run(agents_come_and_go(url, dns_port))
