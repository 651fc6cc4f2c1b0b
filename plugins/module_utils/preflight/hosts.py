"""The hosts' tier: what was found on every host against what its roles need. Runs on the controller, over plain data."""

from __future__ import annotations

from typing import Any

from ..upgrade_paths import consul_step, rabbitmq_step
from .clock import certain_difference, reference
from .model import Problem, merged, name_list, version_tuple
from .plan import POSTGRESQL_OF_DEBIAN
from .variables import MIRRORING_REMEDY, RABBITMQ_OF_DEBIAN

SUPPORTED_RELEASES = ("12", "13")
ADOPT = "A run must never overwrite it: take the host out of the group, or move the data away"

Plan = dict[str, Any]
State = dict[str, Any]


def release(name: str, plan: Plan, state: State) -> list[Problem]:
    found = state["release"]
    if found["distribution"] == "debian" and found["release"] in SUPPORTED_RELEASES:
        return []
    shown = found.get("name") or f"{found['distribution']} {found['release']}".strip() or "an unknown system"
    return [
        Problem(
            f"{name} runs {shown}, which isn't supported.",
            f"host {name}",
            f"Install Debian {' or '.join(SUPPORTED_RELEASES)}, or take it out of the inventory.",
        )
    ]


def memory(name: str, plan: Plan, state: State) -> list[Problem]:
    need = sum(plan["memory_mb"].values())
    if state["memory_mb"] >= need:
        return []
    parts = ", ".join(f"{role} {amount}" for role, amount in plan["memory_mb"].items())
    return [
        Problem(
            f"{name} has {state['memory_mb']} MB of memory; its roles need {need} MB ({parts}).",
            f"host {name}, groups {name_list(plan['groups']) or 'all'}",
            "Give it more memory, or fewer groups. If less is enough here, say so in preflight_memory_needs_mb "
            "(role: MB) or preflight_memory_required_mb.",
        )
    ]


def disk(name: str, plan: Plan, state: State) -> list[Problem]:
    if state["disk_free_mb"] >= plan["disk_mb"]:
        return []
    return [
        Problem(
            f"{name} has {state['disk_free_mb']} MB free in /var/lib; at least {plan['disk_mb']} MB are wanted.",
            f"host {name}",
            "Free or add space, or lower preflight_disk_required_mb.",
        )
    ]


def ports(name: str, plan: Plan, state: State) -> list[Problem]:
    problems = []
    for wanted in plan["ports"]:
        holder = state["listeners"].get(str(wanted["port"]))
        if holder is None or any(_is(owner, holder) for owner in wanted["owners"]):
            continue
        problems.append(
            Problem(
                f"Port {wanted['port']} of {name}, which {wanted['role']} needs, is held by {holder}.",
                f"host {name}",
                f"Stop what holds it, or give {wanted['role']} another port. If it belongs there, list the port in "
                "preflight_accept_ports.",
            )
        )
    return problems


def _is(owner: str, holder: str) -> bool:
    """The holder is a process name and the start of its command line (`patroni /usr/bin/python3 /usr/bin/patroni`)."""
    return any(word.rsplit("/", 1)[-1].rstrip(":") == owner for word in holder.split())


def consul(name: str, plan: Plan, state: State) -> list[Problem]:
    expect, found = plan["expect"].get("consul"), state.get("consul")
    if not expect or not found:
        return []
    problems = []
    where = f"host {name}, {plan['look']['consul']['data']}"
    if "consul" not in plan["accept_data"]:
        if found["datacenter"] and found["datacenter"] != expect["datacenter"]:
            problems.append(
                Problem(
                    f"{name} holds the data of Consul datacenter {found['datacenter']}; the inventory says "
                    f"{expect['datacenter']}.",
                    f"{where}; variable platform_datacenter",
                    f"{ADOPT}; or correct platform_datacenter.",
                )
            )
        others = {member: address for member, address in found["members"].items() if member != name}
        members = expect["members"]
        known = [member for member, address in others.items() if member in members or address in members.values()]
        if others and not known:
            problems.append(
                Problem(
                    f"{name} holds the data of another Consul cluster: it knows "
                    f"{name_list(f'{m} ({a})' for m, a in others.items())}, none of the inventory's hosts.",
                    where,
                    f"{ADOPT}.",
                )
            )
    problems += _upgrade(name, "Consul", found["version"], expect["version"], "consul_version", consul_step)
    return problems


def _upgrade(name: str, product: str, installed: str, wanted: str, variable: str, step) -> list[Problem]:
    before, after = version_tuple(installed), version_tuple(wanted)
    if not before or not after:
        return []
    remedy = step(before, after)
    if not remedy:
        return []
    return [
        Problem(
            f"{name} runs {product} {installed}; it can't go to {wanted}.", f"host {name}, variable {variable}", remedy
        )
    ]


def rabbitmq(name: str, plan: Plan, state: State) -> list[Problem]:
    expect, found = plan["expect"].get("rabbitmq"), state.get("rabbitmq")
    if not expect or found is None:
        return []
    problems = []
    where = f"host {name}, {plan['look']['rabbitmq']['home']}/mnesia"
    if "rabbitmq" not in plan["accept_data"]:
        nodes = found["nodes"]
        strangers = sorted(
            {node for known in nodes.values() for node in known} - {*expect["nodes"], *expect["leaving"]}
        )
        if strangers:
            problems.append(
                Problem(
                    f"{name} holds the data of another RabbitMQ cluster: it knows {name_list(strangers)}.",
                    where,
                    f"{ADOPT}. If these are nodes of this cluster that are to leave it, put their hosts into the group "
                    "rabbitmq_removed and run playbooks/scale.yml.",
                )
            )
        elif nodes and expect["node"] not in nodes:
            problems.append(
                Problem(
                    f"{name} holds the data of {name_list(nodes)}, but would be {expect['node']}.",
                    where,
                    f"{ADOPT}. A node can't be renamed by renaming its host.",
                )
            )
    installed = state["packages"].get("rabbitmq-server", "")
    target = expect["version"] or RABBITMQ_OF_DEBIAN.get(state["release"]["release"], "")
    problems += _upgrade(name, "RabbitMQ", installed, target, "rabbitmq_version", rabbitmq_step)
    if expect["mirroring"] and version_tuple(installed or target) >= (4,):
        problems.append(
            Problem(
                f"{name} runs RabbitMQ {installed or target}, which has no mirrored queues. "
                f"They are asked for by {' and '.join(expect['mirroring'])}.",
                "variables rabbitmq_mirrored_queues, rabbitmq_policies",
                MIRRORING_REMEDY,
            )
        )
    return problems


def redis(name: str, plan: Plan, state: State) -> list[Problem]:
    expect, found = plan["expect"].get("redis"), state.get("redis")
    if not expect or found is None or "redis" in plan["accept_data"]:
        return []
    where = f"host {name}, {plan['look']['redis']['data']}"
    strangers = sorted(set(found["nodes"]) - {*expect["addresses"], *expect["leaving"]})
    if strangers:
        return [
            Problem(
                f"{name} holds the data of another Redis cluster: it knows {name_list(strangers)}, which "
                f"{'is' if len(strangers) == 1 else 'are'} not in the inventory.",
                where,
                f"{ADOPT}. If these are nodes of this cluster that are to leave it, put their hosts into the group "
                "redis_removed and run playbooks/scale.yml.",
            )
        ]
    runs = "cluster" if found["cluster"] else "sentinel" if found.get("replication") else ""
    if runs and runs != expect["mode"]:
        return [
            Problem(
                f"{name} has Redis in {runs} mode, and redis_mode is {expect['mode']}: what runs isn't switched over.",
                f"{where}; variable redis_mode",
                f"Set redis_mode to {runs}. To change the mode, copy the keys to new hosts and give those the other mode.",
            )
        ]
    if not runs and found["data_bytes"] > 4096:
        return [
            Problem(
                f"{name} holds {found['data_bytes']} bytes of a Redis that isn't in {expect['mode']} mode.",
                where,
                f"{ADOPT}.",
            )
        ]
    return []


def postgresql(name: str, plan: Plan, state: State) -> list[Problem]:
    expect, found = plan["expect"].get("postgresql"), state.get("postgresql")
    if not expect or not found or "postgresql" in plan["accept_data"] or "patroni" in plan["accept_data"]:
        return []
    problems = []
    ours = [cluster for cluster in found["clusters"] if cluster["patroni"]]
    wanted = expect["version"] or POSTGRESQL_OF_DEBIAN.get(state["release"]["release"], "")
    if found["scope"] and found["scope"] != expect["scope"] and found["clusters"]:
        problems.append(
            Problem(
                f"{name} holds the data of the Patroni cluster {found['scope']}; the inventory says {expect['scope']}.",
                f"host {name}, {plan['look']['postgresql']['configuration']}; variable patroni_scope",
                f"{ADOPT}; or correct patroni_scope.",
            )
        )
    if not ours and not found["scope"]:
        for cluster in found["clusters"]:
            problems.append(
                Problem(
                    f"{name} holds a PostgreSQL {cluster['version']} database that Patroni didn't make.",
                    f"host {name}, {cluster['path']}",
                    f"{ADOPT}. Where it is to be taken over, preflight_accept_existing_data: [postgresql] leaves the "
                    "decision to the role.",
                )
            )
    for cluster in ours:
        if wanted and cluster["version"] != wanted and not any(other["version"] == wanted for other in ours):
            problems.append(
                Problem(
                    f"{name} holds PostgreSQL {cluster['version']} data, but PostgreSQL {wanted} would run.",
                    f"host {name}, {cluster['path']}",
                    "A major upgrade of PostgreSQL converts the data: it is not done by installing.",
                )
            )
    return problems


def certificates(name: str, plan: Plan, state: State) -> list[Problem]:
    given = plan["look"].get("certificates", {})
    return [
        Problem(
            f"The certificate {given[variable]['certificate']} on {name} {wrong}.",
            f"host {name}, variable {variable}",
            f"Bring a valid certificate and the key that belongs to it there, or remove {variable} to use the platform's own.",
        )
        for variable, wrong in state.get("certificates", {}).items()
    ]


HOST_RULES = (release, memory, disk, ports, certificates, consul, rabbitmq, redis, postgresql)


def system_identifiers(plans: dict[str, Plan], states: dict[str, State]) -> list[Problem]:
    """Members that were initialised apart share a scope but not their history; they can never become one cluster."""
    found: dict[str, list[str]] = {}
    for name, state in states.items():
        if "postgresql" in plans[name]["expect"] and not {"postgresql", "patroni"} & set(plans[name]["accept_data"]):
            for cluster in (state.get("postgresql") or {}).get("clusters", []):
                if cluster["identifier"] and cluster["patroni"]:
                    found.setdefault(cluster["identifier"], []).append(name)
    if len(found) < 2:
        return []
    shown = "; ".join(
        f"{name_list(names)} {'has' if len(names) == 1 else 'have'} {identifier}" for identifier, names in found.items()
    )
    return [
        Problem(
            f"The PostgreSQL members hold databases that were initialised apart (system identifiers: {shown}).",
            "group postgresql",
            "Find out which one has the data; move the others' data directories away and let Patroni clone them "
            "(patronictl reinit).",
        )
    ]


def strangers(plans: dict[str, Plan], states: dict[str, State]) -> list[Problem]:
    """Somebody else at the virtual address. Who of the members holds it is known only if all of them were looked at."""
    members = [name for name, plan in plans.items() if "virtual_address" in plan["look"]]
    looks = {name: states[name].get("virtual_address") for name in members if name in states}
    if len(looks) < len(members) or not all(looks.values()):
        return []
    ours = {look["own"] for look in looks.values()}
    return [
        Problem(
            f"The virtual address {plans[name]['look']['virtual_address']} already answers on the network of {name}: "
            f"{look['answers']} has it, no load balancer. Two hosts with one address lose each other's connections.",
            f"host {name}; variable keepalived_virtual_address, by default platform_vip",
            "Free the address, or set another.",
        )
        for name, look in looks.items()
        if look["answers"] and look["answers"] not in ours
    ][:1]


def clocks(clock: dict[str, dict[str, float] | None], limit: float) -> list[Problem]:
    bounds = {name: (value["low"], value["high"]) for name, value in clock.items() if value}
    if not bounds:
        return []
    middle = reference(bounds)
    problems = []
    for name, pair in bounds.items():
        difference = certain_difference(pair, middle)
        if len(bounds) > 1 and difference > limit:
            ahead = "ahead of" if pair[0] > middle[1] else "behind"
            problems.append(
                Problem(
                    f"The clock of {name} is at least {difference:.1f} s {ahead} the other hosts'; {limit:g} s are "
                    "allowed.",
                    f"host {name}; variable preflight_clock_skew_limit_seconds",
                    "Let a time service set it (timedatectl; chronyc makestep): leases, certificates and tokens "
                    "depend on it.",
                )
            )
    controller = certain_difference(middle, (0.0, 0.0))
    if controller > limit:
        problems.append(
            Problem(
                f"The controller's clock is at least {controller:.1f} s {'behind' if middle[0] > 0 else 'ahead of'} "
                "the hosts': certificates that it makes now may not be valid there.",
                "the controller",
                "Set its clock, or the hosts'.",
                warning=True,
            )
        )
    return problems


def check(
    plans: dict[str, Plan], results: dict[str, dict[str, Any]], members: dict[str, str], limit: float
) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings of all hosts. A result is what the module returned, or its failure; members are all hosts' addresses."""
    found: list[Problem] = []
    states: dict[str, State] = {}
    clock = {}
    for name, result in results.items():
        if name not in plans:
            continue
        if "consul" in plans[name]["expect"]:
            plans[name]["expect"]["consul"]["members"] = members
        if "state" not in result:
            unreachable = result.get("unreachable")
            what = (
                f"{name} can't be {'reached' if unreachable else 'examined'}: "
                f"{' '.join(str(result.get('msg', 'no answer')).split())[:300]}"
            )
            remedy = (
                "Check its address and the SSH settings"
                if unreachable
                else "It needs python3 and the rights of root (become)"
            )
            found.append(
                Problem(
                    f"{what.rstrip('.')}.",
                    f"host {name}; variables ansible_host, ansible_user",
                    f"{remedy}, or leave it out with --limit.",
                )
            )
            continue
        states[name] = result["state"]
        clock[name] = result.get("clock")
        for rule in HOST_RULES:
            found += rule(name, plans[name], states[name])
    found += system_identifiers(plans, states)
    found += strangers(plans, states)
    found += clocks(clock, limit)
    found = merged(found)
    return [problem for problem in found if not problem.warning], [problem for problem in found if problem.warning]
