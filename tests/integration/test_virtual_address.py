"""Who has the virtual address, asked of a real network: two hosts as namespaces with a cable between them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.integration.modules import run_ansible, run_module

ADDRESSES = {"lb-1": "10.20.0.75", "lb-2": "10.20.0.76"}
VIRTUAL = "10.20.0.70"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Host:
    def __init__(self, name: str) -> None:
        self.name = name
        self.process = subprocess.Popen(["unshare", "--net", "sleep", "300"])

    @property
    def inside(self) -> list[str]:
        return ["nsenter", f"--target={self.process.pid}", "--net"]

    def ip(self, *arguments: str) -> str:
        return run(*self.inside, "ip", *arguments)

    def hardware(self) -> str:
        return json.loads(self.ip("-json", "link", "show", "eth0"))[0]["address"]

    def look(self) -> dict:
        return run_module("preflight_host", {"virtual_address": VIRTUAL}, through=self.inside)["state"][
            "virtual_address"
        ]


@pytest.fixture
def hosts():
    missing = [program for program in ("unshare", "nsenter", "ip") if not shutil.which(program)]
    if missing:
        pytest.skip(f"{', '.join(missing)} isn't here: install util-linux and iproute2")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespaces for networks here: run as root")
    made = {name: Host(name) for name in ADDRESSES}
    try:
        one, other = made.values()
        for host in made.values():
            # Until it is in its own network, it is in this one.
            while run("readlink", f"/proc/{host.process.pid}/ns/net") == run("readlink", "/proc/self/ns/net"):
                pass
        one.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(other.process.pid))
        for host in made.values():
            host.ip("address", "add", f"{ADDRESSES[host.name]}/24", "dev", "eth0")
            host.ip("link", "set", "eth0", "up")
        yield made
    finally:
        for host in made.values():
            host.process.kill()
            host.process.wait()


def judged(hosts: dict[str, Host], tmp_path, members: list[str], *options: str) -> subprocess.CompletedProcess:
    """By the role's own tasks, on hosts whose Python runs in their networks."""
    inventory = {}
    for name, host in hosts.items():
        python = tmp_path / f"python-{name}"
        python.write_text(f'#!/bin/sh\nexec {" ".join(host.inside)} {sys.executable} "$@"\n')
        python.chmod(0o755)
        inventory[name] = {"platform_address": ADDRESSES[name], "ansible_python_interpreter": str(python)}
    variables = {"ansible_connection": "local", "keepalived_virtual_address": VIRTUAL, "keepalived_members": members}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": inventory, "vars": variables}}))
    tasks = [{"ansible.builtin.import_role": {"name": "sutazai.platform.keepalived", "tasks_from": "stranger"}}]
    (tmp_path / "play.json").write_text(json.dumps([{"hosts": members, "gather_facts": False, "tasks": tasks}]))
    return run_ansible("ansible-playbook", f"-i{tmp_path / 'hosts.json'}", str(tmp_path / "play.json"), *options)


def test_an_address_that_nobody_has_is_free(hosts, tmp_path):
    assert hosts["lb-1"].look() == {"answers": "", "own": hosts["lb-1"].hardware()}
    done = judged(hosts, tmp_path, ["lb-1", "lb-2"])
    assert done.returncode == 0, done.stdout


def test_the_one_that_holds_it_is_known_to_the_others(hosts, tmp_path):
    one, other = hosts.values()
    other.ip("address", "add", f"{VIRTUAL}/32", "dev", "eth0")
    assert other.look() == {"answers": other.hardware(), "own": other.hardware()}
    assert one.look() == {"answers": other.hardware(), "own": one.hardware()}
    done = judged(hosts, tmp_path, ["lb-1", "lb-2"])
    assert done.returncode == 0, done.stdout
    done = judged(hosts, tmp_path, ["lb-1", "lb-2"], "--limit=lb-1")
    assert done.returncode == 0, done.stdout


def test_an_address_that_somebody_else_has_is_refused(hosts, tmp_path):
    stranger = hosts["lb-2"]
    stranger.ip("address", "add", f"{VIRTUAL}/24", "dev", "eth0")
    done = judged(hosts, tmp_path, ["lb-1"])
    assert done.returncode != 0
    said = " ".join(done.stdout.replace("\\n", " ").split())
    assert (
        f"The virtual address {VIRTUAL} (keepalived_virtual_address, by default platform_vip) already answers" in said
    )
    assert f"lb-1: {stranger.hardware()} has it, which is none of lb-1." in said
