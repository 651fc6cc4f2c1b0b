"""A client of all agents by gRPC, as they come and go: Consul's DNS says where they are, gRPC balances over them.

Each agent of a host is at a port of its own, which the SRV records of a name have. gRPC reads only A records, and no resolver can be given to
it in Python; so a channel is made for what the name has, and another one when that changes. The former one is closed when its last call has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import grpc
import grpc.aio

from sutazai_runtime.agent.rpc import SERVICE

log = logging.getLogger(__name__)

SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": SERVICE},
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            # Repeating a task is safe with its task_id; an agent that isn't reached or is overloaded hasn't taken it.
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.05s",
                "maxBackoff": "0.5s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}
#: Consul's answers have a lifetime of 0. Its checks are a second apart, too.
INTERVAL_SECONDS = 1.0
DNS_TIMEOUT_SECONDS = 3.0


def balanced(addresses: Iterable[str]) -> grpc.aio.Channel:
    """A channel over agents at these addresses: one call to each in turn, to those whose health service says that they serve."""
    ordered = sorted(addresses)
    family = "ipv6" if ordered[0].startswith("[") else "ipv4"
    options = [("grpc.service_config", json.dumps(SERVICE_CONFIG)), ("grpc.enable_retries", 1)]
    return grpc.aio.insecure_channel(f"{family}:{','.join(ordered)}", options=options)


async def addresses_of(name: str, resolver: dns.asyncresolver.Resolver) -> frozenset[str]:
    """Where the name's services are, by its SRV records. By TCP: Consul cuts what it answers by UDP."""
    answer = await resolver.resolve(name, "SRV", tcp=True, search=False)
    hosts = {
        each.name: [record.address for record in each]
        for each in answer.response.additional
        if each.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA)
    }
    found = set()
    for record in answer:
        # Name servers in between may leave out what wasn't asked for.
        here = hosts.get(record.target) or (await resolver.resolve_name(record.target)).addresses()
        found |= {f"[{host}]:{record.port}" if ":" in host else f"{host}:{record.port}" for host in here}
    # A channel has addresses of one family.
    return frozenset({each for each in found if not each.startswith("[")} or found)


@dataclass(eq=False)
class Group:
    """The agents that the name had, and how many calls to them haven't ended yet."""

    addresses: frozenset[str] = frozenset()
    channel: grpc.aio.Channel | None = None
    calls: int = 0

    def serves(self) -> bool:
        """Whether one of them does; if not, that is to be known soon."""
        ready = grpc.ChannelConnectivity.READY
        return self.channel is not None and self.channel.get_state(try_to_connect=True) is ready


class Agents:
    """What a stub takes as its channel, for calls of one request and one answer:

    async with Agents("ai-agent-grpc.service.consul") as agents:
        answer = await TasksStub(agents).Submit(request, timeout=30, wait_for_ready=True)
    """

    def __init__(self, name: str, nameserver: str = "", interval_seconds: float = INTERVAL_SECONDS) -> None:
        """The host's name servers are asked, or one at `address:port`."""
        self.name, self._interval = name, interval_seconds
        self._resolver = dns.asyncresolver.Resolver(configure=not nameserver)
        if nameserver:
            host, _, port = nameserver.rpartition(":")
            self._resolver.nameservers, self._resolver.port = [host.strip("[]")], int(port)
        self._resolver.lifetime = DNS_TIMEOUT_SECONDS
        self._group = Group()
        self._retired: list[Group] = []
        self._complaint = ""

    async def __aenter__(self) -> Agents:
        await self._look()
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_raised: object) -> None:
        self._following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._following
        for group in (self._group, *self._retired):
            if group.channel:
                await group.channel.close()

    def unary_unary(self, method: str, *serializers: Any, **more: Any) -> Callable[..., Awaitable[Any]]:
        async def call(
            request: Any, *, timeout: float | None = None, wait_for_ready: bool | None = None, **options: Any
        ) -> Any:
            ends = None if timeout is None else asyncio.get_running_loop().time() + timeout
            if wait_for_ready:
                await self._serving(timeout)
            async with self._calling() as channel:
                left = None if ends is None else max(0.0, ends - asyncio.get_running_loop().time())
                return await channel.unary_unary(method, *serializers, **more)(
                    request, timeout=left, wait_for_ready=wait_for_ready, **options
                )

        return call

    async def _serving(self, timeout: float | None) -> None:
        """Wait for an agent that serves. gRPC could wait by itself, but a channel doesn't learn of other agents."""
        try:
            async with asyncio.timeout(timeout):
                while not self._group.serves():
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise self._refused(grpc.StatusCode.DEADLINE_EXCEEDED, f" within {timeout:g} s") from error

    @contextlib.asynccontextmanager
    async def _calling(self) -> AsyncIterator[grpc.aio.Channel]:
        group = self._group
        if not group.channel:
            raise self._refused(grpc.StatusCode.UNAVAILABLE)
        group.calls += 1
        try:
            yield group.channel
        finally:
            group.calls -= 1
            await self._close_retired()

    def _refused(self, code: grpc.StatusCode, within: str = "") -> grpc.aio.AioRpcError:
        known = f"it names {', '.join(sorted(self._group.addresses)) or 'none'}"
        details = f"No agent of {self.name} serves{within}; {known}. {self._complaint}".rstrip()
        return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._look()

    async def _look(self) -> None:
        """A name that can't be resolved, or has nothing, changes nothing: gRPC knows by itself which of the agents serve."""
        try:
            found = await addresses_of(self.name, self._resolver)
        except (dns.exception.DNSException, OSError) as error:
            complaint = f"{self.name} can't be resolved: {error}"
            if not self._complaint:
                log.warning("%s", complaint)
            self._complaint = complaint
            return
        self._complaint = ""
        if found != self._group.addresses:
            log.info("%s is now %s", self.name, ", ".join(sorted(found)))
            self._retired.append(self._group)
            self._group = Group(found, balanced(found))
            self._group.serves()
            await self._close_retired()

    async def _close_retired(self) -> None:
        for group in [each for each in self._retired if not each.calls]:
            self._retired.remove(group)
            if group.channel:
                await group.channel.close()
