"""Rules about the groups that requests pass through: load balancers, gateways, the Swarm's managers, agents."""

from __future__ import annotations

import ipaddress

from ..swarm_state import pool_problems
from .model import Inventory, Problem, name_list

#: What there have to be two of, and what the other one takes over.
PAIRS = {"load_balancers": ("load balancer", "the VIP"), "gateways": ("gateway", "its requests")}

#: What agents would starve, by the group of its hosts.
STATE = {
    "consul_servers": "a Consul server",
    "rabbitmq": "RabbitMQ",
    "redis": "Redis",
    "postgresql": "PostgreSQL",
}


def alone(inventory: Inventory) -> list[Problem]:
    """Of two one may be lost, of one none."""
    problems = []
    for group, (word, work) in PAIRS.items():
        hosts = inventory.members(group)
        if len(hosts) == 1:
            problems.append(
                Problem(
                    f"There is one {word} ({hosts[0].name}): nobody takes {work} over.",
                    inventory.group_where(group),
                    "Give the group 2 hosts.",
                )
            )
    return problems


def balanced_gateways(inventory: Inventory) -> list[Problem]:
    """Load balancers need somebody to balance; the variable may name hosts that aren't the inventory's."""
    without = [host.name for host in inventory.members("load_balancers") if not host.values.get("haproxy_gateways")]
    if not without or inventory.members("gateways"):
        return []
    return [
        Problem(
            f"{name_list(without)} would balance requests between gateways, but there are none.",
            inventory.group_where("gateways"),
            "Put two hosts into the group gateways, or none into load_balancers.",
        )
    ]


def swarm_managers(inventory: Inventory) -> list[Problem]:
    hosts = inventory.members("swarm_managers")
    names = name_list(host.name for host in hosts)
    if len(hosts) == 1:
        return [
            Problem(
                f"There is one Swarm manager ({names}): without it nothing is started anew, and its services are lost with it.",
                inventory.group_where("swarm_managers"),
                "Give the group 3 hosts.",
                warning=True,
            )
        ]
    if len(hosts) % 2 or not hosts:
        return []
    return [
        Problem(
            f"There are {len(hosts)} Swarm managers ({names}): an even number survives no more losses than one manager less.",
            inventory.group_where("swarm_managers"),
            f"Give the group {len(hosts) + 1} hosts, or {len(hosts) - 1}; the others can be in agents.",
        )
    ]


def idle_agents(inventory: Inventory) -> list[Problem]:
    """A manager may be an agent, too, unless managers are kept free of containers."""
    idle = [
        host
        for host in inventory.members("agents")
        if "swarm_managers" in host.groups and host.get("swarm_manager_availability", "active") != "active"
    ]
    if not idle:
        return []
    names = tuple(host.name for host in idle)
    return [
        Problem(
            f"{name_list(names)} {'is' if len(names) == 1 else 'are'} in agents and in swarm_managers, and managers run no "
            f"containers (swarm_manager_availability is {idle[0].get('swarm_manager_availability')}): no agent would start there.",
            f"{inventory.group_where('agents')}, {idle[0].where('swarm_manager_availability')}",
            "Take them out of one of the groups, or set swarm_manager_availability to active.",
            names,
        )
    ]


def crowded_agents(inventory: Inventory) -> list[Problem]:
    """Warnings: agents come in numbers that nobody has planned, beside what everything else waits for."""
    problems = []
    for group, word in STATE.items():
        both = tuple(host.name for host in inventory.members("agents") if group in host.groups)
        if both:
            problems.append(
                Problem(
                    f"{name_list(both)} would run agents beside {word}: under load they take the processor that all others wait for.",
                    inventory.group_where("agents"),
                    "Give the agents hosts of their own.",
                    both,
                    warning=True,
                )
            )
    return problems


def address_pools(inventory: Inventory) -> list[Problem]:
    """Containers whose network has the hosts' addresses can't reach the hosts."""
    for host in inventory.members("swarm_managers"):
        pools, prefix = host.get("swarm_address_pools"), host.get("swarm_address_pool_prefix")
        subnet = str(host.get("platform_subnet"))
        try:
            ipaddress.ip_network(subnet)
            length = int(prefix)
        except (TypeError, ValueError):
            continue  # said by the rules about these variables
        if isinstance(pools, list) and (found := pool_problems([str(pool) for pool in pools], length, subnet)):
            return [
                Problem(
                    f"{problem}.",
                    host.where("swarm_address_pools"),
                    "Give networks that no host, and nothing that containers are to reach, has an address in.",
                )
                for problem in found
            ]
    return []


def router_ids(inventory: Inventory) -> list[Problem]:
    """By it the members know each other's advertisements, and those of others on the network."""
    name, taken = "keepalived_virtual_router_id", "keepalived_taken_router_ids"
    hosts = [host for host in inventory.members("load_balancers") if str(host.get(name)).isdigit()]
    ids = {host.name: int(host.get(name)) for host in hosts}
    problems = []
    if len(set(ids.values())) > 1:
        shown = name_list(f"{host} has {number}" for host, number in ids.items())
        problems.append(
            Problem(
                f"The load balancers have different virtual router ids ({shown}): each would hold the virtual address.",
                hosts[0].where(name),
                "Set it once, for the group load_balancers.",
                tuple(ids),
            )
        )
    for host in hosts:
        number = ids[host.name]
        others = host.get(taken) if isinstance(host.get(taken), list) else []
        if str(number) in {str(other) for other in others}:
            problems.append(
                Problem(
                    f"The virtual router id {number} belongs to others on the network: two groups with one id disturb each other.",
                    host.where(name, taken),
                    "Give a number from 1 to 255 that nobody has.",
                    (host.name,),
                )
            )
        elif not 1 <= number <= 255:
            problems.append(
                Problem(
                    f"The virtual router id {number} is out of range.",
                    host.where(name),
                    "Give a number from 1 to 255 that nobody else on the network has.",
                    (host.name,),
                )
            )
    return problems


def edge_rates(inventory: Inventory) -> list[Problem]:
    """Of each client, and of each API key, by the load balancers."""
    return [
        Problem(
            f"A rate limit of {host.get(name)} would refuse every request.",
            host.where(name),
            "Give the requests that are allowed in a second; haproxy_rate_limits_enabled: false has no limit.",
            (host.name,),
        )
        for host in inventory.members("load_balancers")
        for name in ("haproxy_client_requests_per_second", "haproxy_key_requests_per_second")
        if host.get("haproxy_rate_limits_enabled", True)
        and str(host.get(name, 1)).lstrip("-").isdigit()
        and int(host.get(name, 1)) <= 0
    ]


RULES = (alone, balanced_gateways, swarm_managers, idle_agents, crowded_agents, address_pools, router_ids, edge_rates)
