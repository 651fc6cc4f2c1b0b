"""The lab's hosts, for what is measured on them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lab import inventory, keys, settings

ROOT = Path(__file__).resolve().parent.parent


class Hosts:
    """Asked and told by SSH. `hosts_file` is the inventory that the lab was made with beside its own."""

    def __init__(self, hosts_file: str) -> None:
        self.settings = settings.load(ROOT)
        everyone = inventory.load(*self.settings.host_files, ROOT / hosts_file)
        self.addresses = {host.name: self.settings.address(host.index) for host in everyone}
        self.virtual_address = self.settings.address(60)

    def called(self, *groups: str) -> list[str]:
        """The hosts that are called like one of these groups: manager-1, manager-2, …"""
        return sorted(name for name in self.addresses if name.rpartition("-")[0] in groups)

    def ssh(self, host: str, command: str) -> list[str]:
        return [*keys.arguments(self.settings, self.addresses[host]), command]

    def run(self, host: str, command: str, stdin: bytes = b"") -> str:
        done = subprocess.run(self.ssh(host, command), input=stdin, capture_output=True, check=True)
        return done.stdout.decode()

    def says(self, host: str, command: str) -> bool:
        return subprocess.run(self.ssh(host, command), capture_output=True, check=False).returncode == 0

    def container(self, verb: str, host: str) -> None:
        subprocess.run(["docker", verb, self.settings.container(host)], check=True, capture_output=True)
