"""Hosts of an inventory for testinfra: those of the lab, or of a Molecule scenario (--inventory)."""

from __future__ import annotations

import atexit
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pytest
import testinfra

CHECKOUT = Path(__file__).resolve().parents[2]
PKI = "/etc/sutazai/pki"
# SSH's sockets. Not in ~/.ssh, which a new machine doesn't have; short, as a socket's whole path may have 107 characters.
SOCKETS = tempfile.mkdtemp(prefix="e2e-")
atexit.register(shutil.rmtree, SOCKETS, ignore_errors=True)


@dataclass
class Node:
    """One host: testinfra's view of it, and a way to hand it secrets that leaves them out of every argument."""

    name: str
    variables: dict = field(repr=False)  # secrets are among them
    groups: list[str] = field(repr=False)
    platform: Platform = field(repr=False)

    @property
    def address(self) -> str:
        return self.variables["platform_address"]

    @cached_property
    def ssh(self) -> list[str]:
        key = self.variables.get("ansible_ssh_private_key_file") or self.variables.get("ansible_private_key_file")
        common = self.variables.get("ansible_ssh_common_args") or (
            "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no"
        )
        arguments = ["-o", "LogLevel=ERROR", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", *shlex.split(common)]
        return [*(["-i", key] if key else []), *arguments]

    @cached_property
    def host(self):
        user, address = self.variables.get("ansible_user", "root"), self.variables["ansible_host"]
        return testinfra.get_host(f"ssh://{user}@{address}", ssh_extra_args=shlex.join(self.ssh), controlpersist=60)

    def run(self, command: str, stdin: str = "", check: bool = True) -> str:
        """A shell command's output; secrets go in through stdin."""
        user, address = self.variables.get("ansible_user", "root"), self.variables["ansible_host"]
        control = ["-o", "ControlMaster=auto", "-o", "ControlPersist=60", "-o", f"ControlPath={SOCKETS}/%C"]
        result = subprocess.run(
            ["ssh", *self.ssh, *control, f"{user}@{address}", command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and result.returncode:
            pytest.fail(f"{self.name}: {command}\nended with {result.returncode}\n{result.stdout}{result.stderr}")
        return result.stdout

    @cached_property
    def listeners(self) -> set[tuple[str, str, int]]:
        """(program, address, port) of every TCP socket that listens."""
        found = set()
        for line in self.run("ss -Hltnp").splitlines():
            columns = line.split()
            address, _, port = columns[3].rpartition(":")
            program = re.search(r'users:\(\("([^"]+)"', line)
            found.add((program[1] if program else "", address.strip("[]"), int(port)))
        return found

    def exposed(self, program: str) -> set[int]:
        """Ports on which a program listens on more than loopback."""
        return {
            port
            for name, address, port in self.listeners
            if name == program and not address.startswith(("127.", "::1"))
        }

    def loopback(self, program: str) -> set[int]:
        return {port for name, address, port in self.listeners if name == program and address.startswith("127.")}

    def certificate_for(self, port: int, name: str, starttls: str = "") -> str:
        """Connects with full verification, as a client that knows only the authority and the name; returns OpenSSL's verdict."""
        protocol = f"-starttls {starttls}" if starttls else ""
        return self.run(
            f"openssl s_client -connect {self.address}:{port} -servername {name} -CAfile {PKI}/ca.crt {protocol} "
            f"-verify_hostname {name} -verify_return_error -brief </dev/null 2>&1",
            check=False,
        )


@dataclass(repr=False)
class Platform:
    nodes: dict[str, Node]
    groups: dict[str, list[str]]

    def group(self, name: str) -> list[Node]:
        return [self.nodes[host] for host in self.groups.get(name, [])]

    def secret(self, name: str) -> str:
        return str(next(iter(self.nodes.values())).variables[name])

    @property
    def has_consul(self) -> bool:
        return bool(self.groups.get("consul_servers"))


def pytest_addoption(parser):
    parser.addoption("--inventory", action="append", default=[], help="inventory (default: the lab)")


def load(sources: list[str]) -> Platform:
    directory = CHECKOUT / ".cache" / "e2e"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"variables-{os.getpid()}.json"
    command = ["ansible-playbook", *(f"--inventory={source}" for source in sources), "tests/e2e/variables.yml"]
    environment = {**os.environ, "E2E_VARIABLES": str(path), "ANSIBLE_CONFIG": str(CHECKOUT / "ansible.cfg")}
    result = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.exit(f"The inventory {sources} can't be read (is the lab up? `make lab`):\n{result.stdout[-2000:]}", 3)
    read = json.loads(path.read_text())
    path.unlink()
    platform = Platform({}, read["groups"])
    for name, variables in read["hosts"].items():
        platform.nodes[name] = Node(name, variables, variables["group_names"], platform)
    return platform


_platform: Platform | None = None  # one inventory per run of pytest, read when tests are collected


def get_platform(config) -> Platform:
    global _platform
    if _platform is None:
        _platform = load(config.getoption("--inventory") or ["inventories/lab"])
    return _platform


@pytest.fixture(scope="session")
def platform(request) -> Platform:
    return get_platform(request.config)


def pytest_generate_tests(metafunc):
    """`node` is each host of the groups that the test's `hosts` marker names; `member` is only the first."""
    for fixture in {"node", "member"} & set(metafunc.fixturenames):
        marker = metafunc.definition.get_closest_marker("hosts")
        names = marker.args if marker else ("all",)
        known = get_platform(metafunc.config)
        nodes = list({node.name: node for name in names for node in known.group(name)}.values())
        nodes = nodes[:1] if fixture == "member" else nodes
        metafunc.parametrize(fixture, nodes, ids=[node.name for node in nodes])


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows the journal of the unit that the test is about."""
    outcome = yield
    report = outcome.get_result()
    marker = item.get_closest_marker("unit")
    node = getattr(item, "funcargs", {}).get("node") or getattr(item, "funcargs", {}).get("member")
    if report.failed and marker and node:
        for unit in marker.args:
            journal = node.run(f"journalctl --unit={unit} --lines=40 --no-pager --output=short-iso", check=False)
            report.sections.append((f"journal of {unit} on {node.name}", journal))


def pytest_configure(config):
    config.addinivalue_line("markers", "hosts(*groups): the groups whose hosts a test runs on")
    config.addinivalue_line("markers", "unit(*names): the systemd units that a test is about")
