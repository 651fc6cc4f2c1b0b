"""Rules about groups, hosts and addresses."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, defaultdict

from .model import GROUP_ROLES, Host, Inventory, Problem, name_list, nearest

BUILT_IN_GROUPS = ("all", "ungrouped")
ADDRESS_VARIABLE = re.compile(r"^(ansible_host|ansible_ssh_host|platform_address|.*_address|.*_index)$")


def required_groups(inventory: Inventory) -> list[Problem]:
    problems = []
    unknown = [name for name in inventory.groups if name not in GROUP_ROLES and name not in BUILT_IN_GROUPS]
    for group in inventory.setting("preflight_required_groups"):
        if inventory.groups.get(group):
            continue
        state = "is empty" if group in inventory.groups else "is missing"
        meant = nearest(group, unknown)
        remedy = (
            f"Did you mean the group '{meant}' of the inventory? Call it {group}."
            if meant
            else f"Put hosts into it; a platform that does without leaves {group} out of preflight_required_groups."
        )
        problems.append(Problem(f"The required group {group} {state}.", inventory.group_where(group), remedy))
    return problems


def unknown_groups(inventory: Inventory) -> list[Problem]:
    """Warnings: a group of one's own is fine, a misspelt one loses its hosts silently."""
    problems = []
    known = [group for group in GROUP_ROLES if group != "all"]
    placed = {name for group in known for name in inventory.groups.get(group, [])}
    for group, hosts in inventory.groups.items():
        if group in GROUP_ROLES or group in BUILT_IN_GROUPS or group in inventory.setting("preflight_extra_groups"):
            continue
        meant = nearest(group, known)
        if meant:
            remedy = f"Did you mean '{meant}'? If it is a group of your own, list it in preflight_extra_groups."
        elif hosts and not set(hosts) <= placed:
            remedy = (
                "Its hosts are in no group of the platform and get the base layer only; list it in "
                "preflight_extra_groups if that is meant."
            )
        else:
            continue
        problems.append(
            Problem(
                f"The group {group} is unknown to the platform.", inventory.group_where(group), remedy, warning=True
            )
        )
    return problems


def _names(hosts: list[Host]) -> str:
    return name_list(host.name for host in hosts)


def _count(hosts: list[Host], word: str) -> str:
    return f"There is 1 {word}" if len(hosts) == 1 else f"There are {len(hosts)} {word}s"


def consul_servers(inventory: Inventory) -> list[Problem]:
    hosts = inventory.members("consul_servers")
    if not hosts or (len(hosts) >= 3 and len(hosts) % 2):
        return []
    why = (
        "an even number survives no more losses than one server less"
        if len(hosts) >= 3
        else "no server may be lost without losing quorum"
    )
    return [
        Problem(
            f"{_count(hosts, 'Consul server')} ({_names(hosts)}): {why}.",
            inventory.group_where("consul_servers"),
            "Give the group 3 or 5 hosts; every other host is a Consul client by itself.",
        )
    ]


def rabbitmq_nodes(inventory: Inventory) -> list[Problem]:
    hosts = inventory.members("rabbitmq")
    if not hosts or (len(hosts) >= 3 and len(hosts) % 2):
        return []
    return [
        Problem(
            f"{_count(hosts, 'RabbitMQ node')} ({_names(hosts)}): quorum queues and pause_minority need a "
            "majority that survives a loss.",
            inventory.group_where("rabbitmq"),
            "Give the group 3 hosts (or 5).",
        )
    ]


def removed_members(inventory: Inventory) -> list[Problem]:
    """A host can't be a member and leave."""
    problems = []
    for removed in sorted(name for name in inventory.groups if name.endswith("_removed") and name in GROUP_ROLES):
        group = removed.removesuffix("_removed")
        both = [host for host in inventory.members(removed) if group in host.groups]
        if both:
            problems.append(
                Problem(
                    f"{_names(both)} {'is' if len(both) == 1 else 'are'} in {group} and in {removed}: to stay and to leave.",
                    inventory.group_where(removed),
                    f"Take what is to leave out of {group}, and what is to stay out of {removed}.",
                    tuple(host.name for host in both),
                )
            )
    return problems


def removed_servers(inventory: Inventory) -> list[Problem]:
    """A Consul server that leaves becomes nothing, so nothing may be left that needs an agent there."""
    problems = []
    for host in inventory.members("consul_servers_removed"):
        others = [
            name
            for name in host.groups
            if GROUP_ROLES.get(name) and name not in ("all", "consul_servers") or name == "clients"
        ]
        if others:
            problems.append(
                Problem(
                    f"{host.name} leaves Consul (consul_servers_removed), but is in {name_list(others)}, which needs an agent.",
                    inventory.group_where("consul_servers_removed"),
                    f"Take it out of {name_list(others)} first. If it is to be a client, run playbooks/scale_discovery.yml with it in "
                    "consul_servers_removed alone, then put it into its other groups instead and run site.yml.",
                    (host.name,),
                )
            )
    return problems


def postgresql_members(inventory: Inventory) -> list[Problem]:
    hosts = inventory.members("postgresql")
    if not hosts or len(hosts) >= 3:
        return []
    return [
        Problem(
            f"{_count(hosts, 'PostgreSQL member')} ({_names(hosts)}): synchronous mode needs a standby left "
            "after one is lost.",
            inventory.group_where("postgresql"),
            "Give the group at least 3 hosts.",
        )
    ]


def backup_host(inventory: Inventory) -> list[Problem]:
    hosts = inventory.members("backup")
    problems = []
    if len(hosts) > 1:
        problems.append(
            Problem(
                f"There are {len(hosts)} backup hosts ({_names(hosts)}): the database's backups are kept on one.",
                inventory.group_where("backup"),
                "Leave one host in the group; copy its repository elsewhere for a second place.",
            )
        )
    both = [host for host in hosts if "postgresql" in host.groups]
    if both:
        problems.append(
            Problem(
                "The backups would be on the disk of a database member, and lost together with it.",
                inventory.group_where("backup"),
                "Give the group backup a host that isn't in the group postgresql.",
                tuple(host.name for host in both),
            )
        )
    return problems


def redis_nodes(inventory: Inventory) -> list[Problem]:
    hosts = inventory.members("redis")
    if not hosts:
        return []
    where = inventory.group_where("redis")
    modes = sorted({_redis_mode(host) for host in hosts})
    if len(modes) > 1:
        return [
            Problem(
                f"The hosts of the group redis have different modes: {name_list(modes)}.",
                hosts[0].where("redis_mode"),
                "Set redis_mode once, for the group.",
            )
        ]
    if modes == ["sentinel"]:
        if len(hosts) >= 3 and len(hosts) % 2:
            return []
        return [
            Problem(
                f"{_count(hosts, 'Redis host')} ({_names(hosts)}) in sentinel mode: sentinels need a majority"
                f"{', and an even number survives no more than one less' if len(hosts) >= 3 else ''}.",
                where,
                f"Give the group {len(hosts) + 1 if len(hosts) >= 3 else 'at least 3'} hosts.",
            )
        ]
    replicas = _replicas(hosts[0])
    masters, rest = divmod(len(hosts), 1 + replicas)
    if masters >= 3 and not rest:
        return []
    least = 3 * (1 + replicas)
    fitting = least if len(hosts) < least else (masters + 1) * (1 + replicas)
    return [
        Problem(
            f"{_count(hosts, 'Redis node')} ({_names(hosts)}) in cluster mode: that isn't 3 or more masters "
            f"with {replicas} replica(s) each.",
            where,
            f"Give the group {fitting} hosts (masters x {1 + replicas}, at least {least}), or set redis_mode to "
            "sentinel.",
        )
    ]


def _redis_mode(host: Host) -> str:
    return str(host.get("redis_mode", "cluster"))


def _replicas(host: Host) -> int:
    value = host.first("redis_cluster_replicas", "redis_replicas_per_master", "redis_replicas", default=1)
    try:
        return max(0, int(value))
    except (TypeError, ValueError):
        return 1


def _domains(hosts: list[Host], *variables: str) -> dict[str, list[Host]]:
    """Hosts by what they would be lost together with: the declared failure domain, else the machine's address."""
    domains = defaultdict(list)
    for host in hosts:
        declared = [host.values[name] for name in (*variables, "platform_failure_domain") if host.values.get(name)]
        domains[str(declared[0] if declared else host.address or host.name)].append(host)
    return domains


def redis_spread(inventory: Inventory) -> list[Problem]:
    """No machine or failure domain may carry two masters' worth of three, or it takes the majority with it."""
    hosts = inventory.members("redis")
    if not hosts or _redis_mode(hosts[0]) != "cluster":
        return []
    masters = len(hosts) // (1 + _replicas(hosts[0]))
    if masters < 3:
        return []
    most = (masters - 1) // 2
    domains = _domains(hosts, "redis_failure_domain")
    where = inventory.group_where("redis")
    name, members = max(domains.items(), key=lambda item: len(item[1]))
    if sum(min(len(others), most) for others in domains.values()) < masters:
        carried = masters - sum(min(len(others), most) for domain, others in domains.items() if domain != name)
        return [
            Problem(
                f"{name} carries {len(members)} of {len(hosts)} Redis nodes ({_names(members)}), and so at least "
                f"{min(carried, len(members))} of {masters} "
                "masters: losing it stops the cluster.",
                where,
                f"Spread the nodes over at least {-(-masters // most)} machines or platform_failure_domains, so "
                f"that none has to hold more than {most} of the "
                f"{masters} masters.",
            )
        ]
    if len(members) > masters * max(1, _replicas(hosts[0])):
        return [
            Problem(
                f"{name} carries {len(members)} of {len(hosts)} Redis nodes ({_names(members)}): a master would be "
                "beside its own replica, and losing it loses data.",
                where,
                f"Let no machine or platform_failure_domain hold more than {masters * max(1, _replicas(hosts[0]))} "
                "of the nodes.",
            )
        ]
    return []


def quorum_spread(inventory: Inventory) -> list[Problem]:
    """Warnings: a failure domain that takes a quorum with it."""
    problems = []
    for group, word in (
        ("consul_servers", "Consul servers"),
        ("rabbitmq", "RabbitMQ nodes"),
        ("postgresql", "PostgreSQL members"),
        ("swarm_managers", "Swarm managers"),
    ):
        hosts = [host for host in inventory.members(group) if host.get("platform_failure_domain") is not None]
        for domain, members in _domains(hosts).items():
            if 2 * len(members) > len(inventory.members(group)) and len(inventory.members(group)) > 1:
                problems.append(
                    Problem(
                        f"The failure domain {domain} holds {len(members)} of {len(inventory.members(group))} "
                        f"{word}: losing it loses the majority.",
                        inventory.group_where(group),
                        "Spread the group over 3 failure domains.",
                        warning=True,
                    )
                )
    return problems


def shared_hosts(inventory: Inventory) -> list[Problem]:
    both = [host for host in inventory.members("postgresql") if "consul_servers" in host.groups]
    if not both:
        return []
    return [
        Problem(
            f"{_names(both)} would run PostgreSQL beside a Consul server: under load the database starves the store "
            "that elects its leader.",
            inventory.group_where("postgresql"),
            "Give the Consul servers hosts of their own.",
            warning=True,
        )
    ]


def duplicate_hosts(inventory: Inventory) -> list[Problem]:
    """The same name with different addresses, in the files: Ansible keeps the last one and says nothing."""
    problems = []
    entries = defaultdict(list)
    for entry in inventory.host_entries:
        entries[entry.name].append(entry)
    for name, listed in entries.items():
        for variable in sorted({v for entry in listed for v in entry.variables if ADDRESS_VARIABLE.match(v)}):
            places: dict[str, str] = {}
            for entry in listed:
                if variable in entry.variables:
                    places.setdefault(entry.variables[variable], entry.place)
            if len(places) > 1:
                shown = " and ".join(f"{value} ({place})" for value, place in places.items())
                problems.append(
                    Problem(
                        f"The host {name} is listed with different addresses: {variable} is {shown}.",
                        f"host {name} ({', '.join(places.values())})",
                        "One name is one host: give the second machine another name, or list the host with its "
                        "address once and elsewhere by name only.",
                    )
                )
                break
    return problems


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def duplicate_names(inventory: Inventory) -> list[Problem]:
    problems = []
    short = defaultdict(list)
    for host in inventory.hosts.values():
        if not _is_address(host.name):
            short[host.name.split(".", 1)[0].lower()].append(host)
    for name, hosts in short.items():
        if len(hosts) > 1 and len({host.address for host in hosts}) > 1:
            problems.append(
                Problem(
                    f"The host name {name} is used twice with different addresses: "
                    + " and ".join(f"{host.name} is {host.address or 'without address'}" for host in hosts)
                    + ".",
                    f"hosts {_names(hosts)}",
                    "Members are known by the first part of their name: make it unique.",
                )
            )
    return problems


def duplicate_addresses(inventory: Inventory) -> list[Problem]:
    problems = []
    addresses = defaultdict(list)
    for host in inventory.hosts.values():
        if host.address:
            addresses[host.address].append(host)
    for address, hosts in addresses.items():
        if len(hosts) > 1:
            variable = "platform_address" if "platform_address" in hosts[0].values else "ansible_host"
            places = dict.fromkeys(host.origins.get(variable, "") or host.name for host in hosts)
            problems.append(
                Problem(
                    f"{len(hosts)} hosts have the same address {address}: {_names(hosts)}.",
                    f"variable {variable} ({name_list(places)})",
                    "Give each host its own address. Several members on one machine would fail together, and "
                    "overwrite each other's data.",
                )
            )
    return problems


def addresses(inventory: Inventory) -> list[Problem]:
    problems = []
    for host in inventory.hosts.values():
        if "platform_address" not in host.values and "platform_address" not in host.failed:
            problems.append(
                Problem(
                    "platform_address isn't set: other hosts don't know how to reach this one.",
                    "variable platform_address",
                    'Set it for each host, or in group_vars/all as "{{ ansible_host }}".',
                    (host.name,),
                )
            )
        elif host.address and not _is_address(host.address):
            problems.append(
                Problem(
                    f"platform_address of {host.name} is '{host.address}', which is not an IP address.",
                    host.where("platform_address"),
                    "Give an IPv4 or IPv6 address.",
                )
            )
    return problems


def subnet(inventory: Inventory) -> list[Problem]:
    problems, outside = [], Counter()
    for host in inventory.hosts.values():
        text = host.get("platform_subnet")
        if text is None:
            continue
        try:
            network = ipaddress.ip_network(str(text))
        except ValueError as error:
            problems.append(
                Problem(
                    f"platform_subnet is '{text}', which is not a network: {error}.",
                    host.where("platform_subnet"),
                    "Give the hosts' network, such as 10.20.0.0/24.",
                    (host.name,),
                )
            )
            continue
        if _is_address(host.address) and ipaddress.ip_address(host.address) not in network:
            outside[str(network)] += 1
            problems.append(
                Problem(
                    f"The address {host.address} of {host.name} is outside platform_subnet {network}.",
                    host.where("platform_address", "platform_subnet"),
                    "Correct the address or the network; hosts in several networks need one that covers them.",
                    warning=True,
                )
            )
    return problems


def vip(inventory: Inventory) -> list[Problem]:
    problems = []
    addresses_in_use = {host.address: host.name for host in inventory.hosts.values() if host.address}
    seen = set()
    for host in inventory.hosts.values():
        text = host.get("platform_vip")
        if not text:
            if "load_balancers" in host.groups and "platform_vip" not in host.failed:
                problems.append(
                    Problem(
                        "platform_vip isn't set, but there are load balancers to hold it.",
                        "variable platform_vip",
                        "Set a free address of platform_subnet in group_vars/all.",
                    )
                )
            continue
        network_text = str(host.get("platform_subnet"))
        if (text, network_text) in seen:
            continue
        seen.add((text, network_text))
        where = host.where("platform_vip")
        try:
            address = ipaddress.ip_address(str(text))
        except ValueError:
            problems.append(
                Problem(
                    f"platform_vip is '{text}', which is not an IP address.",
                    where,
                    "Give a free address of platform_subnet.",
                )
            )
            continue
        try:
            inside = address in ipaddress.ip_network(network_text)
        except ValueError:
            continue
        if not inside:
            problems.append(
                Problem(
                    f"The VIP {address} is outside the hosts' subnet {network_text}.",
                    where,
                    f"Give a free address of {network_text}, or correct platform_subnet.",
                )
            )
        if str(address) in addresses_in_use:
            problems.append(
                Problem(
                    f"The VIP {address} is already the address of {addresses_in_use[str(address)]}.",
                    where,
                    "Give an address that no host has.",
                )
            )
    return problems


RULES = (
    required_groups,
    unknown_groups,
    consul_servers,
    rabbitmq_nodes,
    removed_members,
    removed_servers,
    redis_nodes,
    redis_spread,
    postgresql_members,
    backup_host,
    quorum_spread,
    shared_hosts,
    duplicate_hosts,
    duplicate_names,
    duplicate_addresses,
    addresses,
    subnet,
    vip,
)
