"""Ports for the servers that the tests start."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

#: Below what Linux gives to outgoing connections (net.ipv4.ip_local_port_range): one of those would take a port between the moment when it
#: is found free and the moment when its server listens. Each of the tests' processes looks in a range of its own.
FIRST, RANGE, RANGES = 10000, 1500, 7
#: Redis Cluster's bus listens so far above the port for clients.
BUS_OFFSET = 10000


def _candidates() -> Iterator[int]:
    """Once round the process's range and round again, so that a port is used again as late as possible."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % RANGES
    first = FIRST + RANGE * worker
    while True:
        yield from range(first, first + RANGE)


_next = _candidates()


def _is_free(port: int, address: str) -> bool:
    try:
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(type=kind) as tried:
                tried.bind((address, port))
    except OSError:
        return False
    return True


def free_ports(count: int, bus: bool = False, addresses: tuple[str, ...] = ("127.0.0.1",)) -> list[int]:
    """Ports that are free on all addresses, with `bus` those of Redis Cluster's bus too."""
    found: list[int] = []
    for _ in range(RANGE):
        port = next(_next)
        wanted = (port, port + BUS_OFFSET) if bus else (port,)
        if all(_is_free(each, address) for each in wanted for address in addresses):
            found.append(port)
            if len(found) == count:
                return found
    raise AssertionError("no free ports")
