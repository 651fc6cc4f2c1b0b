"""The closing table: what runs, who leads, how it is, where to connect, where the credentials are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import converge, engine, inventory, nodes
from lab.console import Console, table
from lab.errors import LabError
from lab.inventory import Host
from lab.settings import Settings

REPORT = "status.json"


@dataclass(frozen=True)
class Component:
    key: str  # in the report of playbooks/status.yml
    title: str
    group: str
    connect: str
    credentials: str  # user, and the name of its secret in secrets.yml


COMPONENTS = [
    Component("consul", "Consul", "consul_servers", "https://{address}:8501", "token platform_consul_management_token"),
    Component("rabbitmq", "RabbitMQ", "rabbitmq", "rabbitmq.service.consul:5671", "admin, rabbitmq_admin_password"),
    Component("redis", "Redis Cluster", "redis", "redis.service.consul:6379", "admin, redis_admin_password"),
    Component(
        "postgresql",
        "PostgreSQL",
        "postgresql",
        "postgresql-rw.service.consul:6432",
        "postgres, patroni_superuser_password",
    ),
]


def rows(settings: Settings, hosts: list[Host], up: set[str], report: Mapping[str, Any]) -> list[list[str]]:
    """One row per component: name, hosts, leader, health, where to connect, credentials."""
    result = []
    for component in COMPONENTS:
        members = [host for host in hosts if component.group in host.groups]
        if not members:
            continue
        found = report.get(component.key, {})
        running = [host for host in members if host.name in up]
        if not running:
            health = "down"
        elif not found:
            health = "unknown"
        else:
            health = "healthy" if found.get("healthy") else "NOT HEALTHY"
        first = (running or members)[0]
        result.append(
            [
                component.title,
                f"{len(running)}/{len(members)}",
                ", ".join(found.get("leaders", [])) or "-",
                health,
                component.connect.format(address=settings.address(first.index)),
                component.credentials,
            ]
        )
    return result


def problems(hosts: list[Host], up: set[str], report: Mapping[str, Any]) -> list[str]:
    """What is wrong, in sentences."""
    down = [host.name for host in hosts if host.name not in up]
    found = [f"Down: {', '.join(down)}."] if down else []
    for component in COMPONENTS:
        for problem in report.get(component.key, {}).get("problems", []):
            found += [f"{component.title}: {line}" for line in str(problem).splitlines() if line.strip()]
    return found


def ask(console: Console, settings: Settings) -> dict[str, Any]:
    """What the clusters themselves say; empty when they can't be asked."""
    path = settings.directory / REPORT
    path.unlink(missing_ok=True)
    try:
        converge.playbook(
            console,
            settings,
            "playbooks/status.yml",
            *("-e", f"status_report_file={path}"),
            failure="The hosts can't be asked.",
            quiet=True,
        )
        return json.loads(path.read_text(encoding="utf-8"))
    except (LabError, OSError, ValueError) as error:
        console.log(f"status: {error}")
        return {}


def show(console: Console, settings: Settings) -> bool:
    """Prints the table; returns whether everything is up and healthy."""
    hosts = inventory.load(*settings.host_files)
    up: set[str] = set()
    if engine.running():
        up = {container.host for container in nodes.containers(settings) if container.state == "running"}
    known = (settings.group_vars / "generated.yml").exists() and (settings.group_vars / "secrets.yml").exists()
    report = ask(console, settings) if up and known else {}

    header = ["component", "hosts", "leader", "health", "connect to (TLS)", "credentials"]
    for line in table(header, rows(settings, hosts, up, report)):
        console.say(line)
    wrong = problems(hosts, up, report)
    if wrong:
        console.say()
        for line in wrong:
            console.say(f"! {line}")
    if not up:
        console.say("\nThe lab is down: `make lab` brings it up.")
        return False
    if not report:
        console.say(f"! The clusters couldn't be asked; see {console.log_path}")
    console.say()
    for line in footer(settings, hosts):
        console.say(line)
    return bool(report) and not wrong and all(entry.get("healthy") for entry in report.values())


def footer(settings: Settings, hosts: list[Host]) -> list[str]:
    client = next((host for host in hosts if "clients" in host.groups), hosts[0])
    here = settings.checkout

    def short(path: Path) -> str:
        return str(path.relative_to(here))

    ssh = settings.directory / "ssh"
    return [
        f"Credentials: {short(settings.group_vars / 'secrets.yml')}   "
        f"The CA to trust: {short(settings.directory / 'state')}/",
        f"The .consul names resolve on every host. From {client.name}: "
        f"ssh -i {short(ssh / 'id_ed25519')} -o UserKnownHostsFile={short(ssh / 'known_hosts')} "
        f"root@{settings.address(client.index)}",
    ]
