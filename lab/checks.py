"""What a machine must have before anything is touched. Thinking only: the facts come in as arguments."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from lab.errors import LabError
from lab.inventory import Host

MIB = 1024**2
GIB = 1024**3

# Measured on a converged lab, with room: what a host of the group adds to what every host needs.
HOST_MEMORY_MIB = 130
GROUP_MEMORY_MIB = {"consul_servers": 120, "rabbitmq": 260, "redis": 60, "postgresql": 320}
CONTROLLER_MEMORY_MIB = 1500  # ansible-playbook with its forks, and the mirror
HOST_DISK_MIB = 450
CACHE_DISK_MIB = 1500  # node images, Debian packages
BUILD_DISK_MIB = 5000  # Go's module and build caches, when Consul has to be built
VENV_DISK_MIB = 1200


def memory_needed(hosts: Iterable[Host]) -> int:
    """Bytes of memory that these hosts and the controller need."""
    total = CONTROLLER_MEMORY_MIB
    for host in hosts:
        total += HOST_MEMORY_MIB + sum(GROUP_MEMORY_MIB.get(group, 0) for group in host.groups)
    return total * MIB


def disk_needed(hosts: Iterable[Host], build: bool) -> tuple[int, int]:
    """Bytes for the engine's directory and for the cache."""
    return len(list(hosts)) * HOST_DISK_MIB * MIB, (CACHE_DISK_MIB + (BUILD_DISK_MIB if build else 0)) * MIB


def memory_available(meminfo: str) -> int:
    """Bytes, from the text of /proc/meminfo."""
    for line in meminfo.splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no MemAvailable in /proc/meminfo")


def gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


def require_memory(available: int, needed: int, count: int) -> None:
    if available < needed:
        raise LabError(
            f"{gib(available)} of memory are available, {count} hosts need {gib(needed)}.",
            "Free some, or start a part: `make lab HOSTS=consul_servers,redis`.",
        )


def require_disk(path: str, free: int, needed: int) -> None:
    if free < needed:
        raise LabError(
            f"{gib(free)} are free on the disk of {path}, {gib(needed)} are needed.",
            "Free some, or put the cache elsewhere with LAB_CACHE=/some/directory.",
        )


def subnet_conflicts(
    subnet: ipaddress.IPv4Network,
    bridge: str,
    addresses: Iterable[Mapping[str, Any]],
    routes: Iterable[Mapping[str, Any]],
) -> list[str]:
    """Who else uses the subnet: `ip -json address` and `ip -json route`, without our own bridge and fallback route."""
    conflicts = []
    for interface in addresses:
        if interface.get("ifname") == bridge:
            continue
        for address in interface.get("addr_info", []):
            if address.get("family") != "inet" or "local" not in address:
                continue
            network = ipaddress.IPv4Network(f"{address['local']}/{address.get('prefixlen', 32)}", strict=False)
            if network.overlaps(subnet):
                conflicts.append(f"interface {interface.get('ifname')} has {address['local']}/{network.prefixlen}")
    for route in routes:
        destination = route.get("dst", "default")
        if destination == "default" or route.get("dev") == bridge:
            continue
        network = ipaddress.IPv4Network(destination, strict=False)
        if route.get("type") == "unreachable" and network == subnet:
            continue
        if network.overlaps(subnet):
            conflict = f"a route to {destination} leads over {route.get('dev', route.get('type', '?'))}"
            if not any(f"interface {route.get('dev')} " in known for known in conflicts):
                conflicts.append(conflict)
    return conflicts


def require_free_subnet(subnet: ipaddress.IPv4Network, conflicts: list[str]) -> None:
    if conflicts:
        raise LabError(
            f"The lab's network {subnet} is in use on this machine: {'; '.join(conflicts)}.",
            "Choose another one: `make lab LAB_SUBNET=10.77.0.0/24`.",
        )
