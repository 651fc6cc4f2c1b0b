"""The lab's bridge, and the route that keeps its addresses on this machine when it is down."""

from __future__ import annotations

import ipaddress
import json
import subprocess

from lab import checks
from lab.command import output, run, succeeds
from lab.console import Console
from lab.errors import LabError
from lab.settings import LABEL, Settings

FALLBACK_METRIC = "4278198272"  # worse than any real route


def existing_subnet(name: str) -> str | None:
    """The subnet of the lab's network in the engine; None when there is no such network."""
    try:
        found = json.loads(output(["docker", "network", "inspect", name]))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    configuration = (found[0].get("IPAM") or {}).get("Config") or [{}]
    return configuration[0].get("Subnet", "")


def check_subnet(settings: Settings) -> None:
    addresses = json.loads(output(["ip", "-json", "-4", "address"]) or "[]")
    routes = json.loads(output(["ip", "-json", "-4", "route"]) or "[]")
    conflicts = checks.subnet_conflicts(settings.subnet, settings.bridge, addresses, routes)
    checks.require_free_subnet(settings.subnet, conflicts)


def ensure(console: Console, settings: Settings) -> None:
    existing = existing_subnet(settings.name)
    if existing == str(settings.subnet):
        fallback(console, settings.subnet)
        return
    if existing is not None:
        containers = output(["docker", "ps", "-aq", "--filter", f"network={settings.name}"]).split()
        if containers:
            raise LabError(
                f"The lab runs in {existing}, not in {settings.subnet}.",
                f"Keep it with LAB_SUBNET={existing}, or remove it first: `make lab-down`.",
            )
        console.note("removing a half-made network of an earlier run")
        remove(console, settings)
    fallback(console, settings.subnet)
    if succeeds(["ip", "link", "show", "dev", settings.bridge]):
        console.note(f"removing the bridge {settings.bridge}, left by an engine that is gone")
        run(
            console,
            ["ip", "link", "delete", settings.bridge],
            failure=f"The bridge {settings.bridge} can't be removed.",
        )
    arguments = ["docker", "network", "create", "--driver", "bridge", "--label", f"{LABEL}={settings.name}"]
    arguments += ["--subnet", str(settings.subnet), "--gateway", settings.gateway]
    arguments += ["--opt", f"com.docker.network.bridge.name={settings.bridge}", settings.name]
    run(
        console,
        arguments,
        failure="The engine couldn't make the lab's network.",
        way_out="If it says that addresses overlap, choose another network: `make lab LAB_SUBNET=10.77.0.0/24`.",
    )


def remove(console: Console, settings: Settings) -> None:
    if existing_subnet(settings.name) is not None:
        run(
            console, ["docker", "network", "rm", settings.name], failure="The engine couldn't remove the lab's network."
        )


def fallback(console: Console, subnet: ipaddress.IPv4Network) -> None:
    """Packets to a lab that is down end here instead of at somebody else's host."""
    if str(subnet) not in output(["ip", "-4", "route", "show", "type", "unreachable"]):
        run(
            console,
            ["ip", "route", "add", "unreachable", str(subnet), "metric", FALLBACK_METRIC],
            failure="The fallback route for the lab's network can't be set.",
        )


def remove_fallback(console: Console, subnet: ipaddress.IPv4Network) -> None:
    if str(subnet) in output(["ip", "-4", "route", "show", "type", "unreachable"]):
        run(
            console,
            ["ip", "route", "delete", "unreachable", str(subnet), "metric", FALLBACK_METRIC],
            failure="The fallback route for the lab's network can't be removed.",
        )
