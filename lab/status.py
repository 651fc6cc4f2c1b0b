"""The closing table: what runs, who leads, how it is, where to connect."""

from __future__ import annotations

from lab import engine, inventory, nodes
from lab.console import Console, table
from lab.settings import Settings


def show(console: Console, settings: Settings) -> bool:
    """Prints the table; returns whether everything is up."""
    hosts = inventory.load(settings.inventory / "hosts.yml")
    states = {}
    if engine.running():
        states = {c.host: c.state for c in nodes.containers(settings)}
    rows = [[host.name, states.get(host.name, "down"), settings.address(host.index)] for host in hosts]
    for line in table(["host", "state", "address"], rows):
        console.say(line)
    return all(states.get(host.name) == "running" for host in hosts)
