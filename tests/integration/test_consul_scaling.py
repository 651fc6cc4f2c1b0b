"""Servers leave a real cluster of five agents. CONSUL_BIN names the binary."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid

import pytest

from .ports import free_ports
from .test_consul_modules import run

BINARY = os.environ.get("CONSUL_BIN") or shutil.which("consul")
TOKEN = str(uuid.uuid4())
NAMES = [f"server-{number}" for number in range(1, 6)]

pytestmark = pytest.mark.skipif(not BINARY, reason="no Consul binary: set CONSUL_BIN to the path of one")


class Servers:
    """Agents on the loopback address, each with its own ports."""

    def __init__(self, directory):
        self.directory = directory
        self.ports = {name: free_ports(4) for name in NAMES}
        self.processes = {}

    def start(self, name):
        http, server, serf, dns = self.ports[name]
        settings = {
            "server": True,
            "bootstrap_expect": len(NAMES),
            "retry_join": [f"127.0.0.1:{self.ports[other][2]}" for other in NAMES if other != name],
            "retry_interval": "1s",
            "node_name": name,
            "datacenter": "test",
            "bind_addr": "127.0.0.1",
            "data_dir": str(self.directory / name / "data"),
            "performance": {"raft_multiplier": 2},
            "autopilot": {"server_stabilization_time": "1s", "min_quorum": 3},
            "leave_on_terminate": False,
            "skip_leave_on_interrupt": True,
            "acl": {"enabled": True, "default_policy": "deny", "tokens": {"initial_management": TOKEN, "agent": TOKEN}},
            "ports": {
                "http": http,
                "server": server,
                "serf_lan": serf,
                "serf_wan": -1,
                "dns": dns,
                "grpc": -1,
                "grpc_tls": -1,
            },
        }
        (self.directory / name).mkdir(exist_ok=True)
        (self.directory / name / "consul.json").write_text(json.dumps(settings))
        with (self.directory / f"{name}.log").open("w") as log:
            self.processes[name] = subprocess.Popen(
                [BINARY, "agent", f"-config-file={self.directory / name / 'consul.json'}"], stdout=log, stderr=log
            )

    def stop(self, name, kill=False):
        process = self.processes.pop(name)
        process.kill() if kill else process.terminate()
        process.wait(20)

    def url(self, name):
        return f"http://127.0.0.1:{self.ports[name][0]}"

    def ask(self, name, path):
        request = urllib.request.Request(self.url(name) + path, headers={"X-Consul-Token": TOKEN})
        # A server that knows of no leader says so after 7 s.
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def peers(self):
        return sorted(peer["Node"] for peer in self.ask("server-1", "/v1/operator/raft/configuration")["Servers"])

    def leader(self):
        servers = self.ask("server-1", "/v1/operator/raft/configuration")["Servers"]
        return next(peer["Node"] for peer in servers if peer["Leader"])

    def wait_until_healthy(self, names):
        deadline = time.monotonic() + 90
        found = None
        while time.monotonic() < deadline:
            try:
                state = self.ask("server-1", "/v1/operator/autopilot/state")
                found = {one["Name"]: one["Status"] for one in state["Servers"].values() if one["Healthy"]}
                if sorted(found) == sorted(names) and set(found.values()) <= {"leader", "voter"}:
                    return
            except (urllib.error.URLError, OSError, KeyError) as error:
                found = error
            time.sleep(0.5)
        raise AssertionError(f"not healthy: {found}\n{self.report()}")

    def report(self):
        """Why it may be so: who ended, and what each said last."""
        lines = []
        for name, process in self.processes.items():
            state = "runs" if process.poll() is None else f"ended with {process.returncode}"
            lines.append(f"{name} {state}, ports {self.ports[name]}")
            lines += [f"  {line}" for line in (self.directory / f"{name}.log").read_text().splitlines()[-8:]]
        return "\n".join(lines)


@pytest.fixture
def servers(tmp_path):
    cluster = Servers(tmp_path)
    try:
        for name in NAMES:
            cluster.start(name)
        cluster.wait_until_healthy(NAMES)
        yield cluster
    finally:
        for name in list(cluster.processes):
            cluster.stop(name, kill=True)


def peers(cluster, staying, *leaving, check=False, **more):
    return run(
        "consul_peers",
        check=check,
        url=cluster.url("server-1"),
        token=TOKEN,
        servers=staying,
        removed_servers=dict.fromkeys(leaving, "127.0.0.1"),
        wait_seconds=60,
        **more,
    )


def test_five_become_three_the_leader_last(servers):
    leader = servers.leader()
    if leader == "server-1":
        # Asked is server-1, which stays.
        request = urllib.request.Request(
            servers.url("server-1") + "/v1/operator/raft/transfer-leader",
            method="POST",
            headers={"X-Consul-Token": TOKEN},
        )
        urllib.request.urlopen(request, timeout=10).close()
        deadline = time.monotonic() + 30
        while (leader := servers.leader()) == "server-1" and time.monotonic() < deadline:
            time.sleep(0.5)
    other = next(name for name in NAMES[1:] if name != leader)
    staying = [name for name in NAMES if name not in (leader, other)]

    refused = peers(servers, staying[:2], leader, other)
    assert refused["failed"] and "2 servers would stay" in refused["msg"]

    plan = peers(servers, staying, leader, other)
    assert [one["name"] for one in plan["leaving"]] == [other, leader]
    assert not plan["changed"]
    would = peers(servers, staying, leader, other, check=True, action="hand_over", server=leader)
    assert would["changed"] and servers.leader() == leader

    for name in (other, leader):
        handed = peers(servers, staying, leader, other, action="hand_over", server=name)
        assert handed["changed"] == (name == leader), handed
        servers.stop(name)
        removed = peers(servers, staying, leader, other, action="remove", server=name)
        assert removed["changes"] == [f"{name} taken out"], removed
        assert name not in servers.peers()
    assert servers.peers() == sorted(staying)
    servers.wait_until_healthy(staying)
    again = peers(servers, staying, leader, other)
    assert again["leaving"] == [] and not again["changed"]


def test_the_dead_are_taken_out_and_replaced(servers):
    dead = [name for name in NAMES[1:] if name != servers.leader()][-2:]
    staying = [name for name in NAMES if name not in dead]
    for name in dead:
        servers.stop(name, kill=True)
    # Still alive, as far as the others know.
    alive = peers(servers, [name for name in staying if name != "server-1"], "server-1", replacing=True)
    assert "the others hear of it" in alive["msg"]
    for name in dead:
        # Autopilot may have taken one of them out before; what counts is that it is out.
        removed = peers(servers, staying, *dead, action="remove", server=name)
        assert not removed.get("failed"), removed
    assert servers.peers() == sorted(staying)
    # Another machine with the same name: no data, another identity.
    shutil.rmtree(servers.directory / dead[0])
    servers.start(dead[0])
    servers.wait_until_healthy([*staying, dead[0]])
