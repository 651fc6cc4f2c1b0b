"""Another gossip key for real agents that are running. CONSUL_BIN names the binary."""

import base64
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.integration.modules import run_module

BINARY = os.environ.get("CONSUL_BIN") or shutil.which("consul")
OLD, NEW, NEWER = (base64.b64encode(letter * 32).decode() for letter in (b"a", b"b", b"c"))
TOKEN = "5b1f0a3e-53a5-4f5a-9d9e-1c1d2e3f4a5b"

pytestmark = pytest.mark.skipif(not BINARY, reason="no Consul binary: set CONSUL_BIN to the path of one")


class Agents:
    """A server and two clients, each at its own address on loopback."""

    def __init__(self, directory):
        self.directory = directory
        self.processes = {}
        for index, name in enumerate(("server", "one", "two"), 1):
            settings = {
                "server": name == "server",
                "node_name": name,
                "datacenter": "test",
                "bind_addr": f"127.77.0.{index}",
                "client_addr": f"127.77.0.{index}",
                "retry_join": ["127.77.0.1"] if name != "server" else [],
                "retry_interval": "1s",
                "data_dir": str(directory / name),
                "encrypt": OLD,
                "performance": {"raft_multiplier": 1},
                "acl": {"enabled": True, "default_policy": "allow", "tokens": {"initial_management": TOKEN}},
                "ports": {"dns": -1, "grpc": -1, "grpc_tls": -1, "serf_wan": -1},
                # A killed agent is noticed soon.
                "gossip_lan": {"probe_interval": "100ms", "probe_timeout": "50ms", "suspicion_mult": 1},
                **({"bootstrap_expect": 1} if name == "server" else {}),
            }
            (directory / f"{name}.json").write_text(json.dumps(settings))
            self.start(name)

    def start(self, name):
        with (self.directory / f"{name}.log").open("a") as log:
            self.processes[name] = subprocess.Popen(
                [BINARY, "agent", f"-config-file={self.directory / f'{name}.json'}"], stdout=log, stderr=log
            )

    def kill(self, name):
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes.pop(name).wait(10)

    def keyring(self, name):
        return json.loads((self.directory / name / "serf" / "local.keyring").read_text())

    def wait_for(self, state, *names):
        for _ in range(200):
            result = run_module("consul_cluster_info", {"url": "http://127.77.0.1:8500", "token": TOKEN})
            if set(names) <= set(result["members"][state]) and result["leader"]:
                return
            time.sleep(0.2)
        raise AssertionError(f"{names} don't become {state}: {result['members']}\n{self.last_words(names)}")

    def last_words(self, names):
        """Whether the named agents run, and the ends of what they and the server logged: for a report on why."""
        told = []
        for name in sorted({"server", *names}):
            process = self.processes.get(name)
            state = "killed" if process is None else {None: "runs"}.get(process.poll(), f"ended with {process.poll()}")
            lines = (self.directory / f"{name}.log").read_text().splitlines()[-25:]
            told.append("\n".join([f"{name} {state}, its log ends with:", *lines]))
        return "\n".join(told)

    def rotate(self, key, check=False, **more):
        arguments = {"url": "http://127.77.0.1:8500", "token": TOKEN, "gossip_key": key, **more}
        return run_module("consul_keyring", arguments, check)


@pytest.fixture
def agents(tmp_path):
    started = Agents(tmp_path)
    started.wait_for("alive", "server", "one", "two")
    yield started
    for name in list(started.processes):
        started.kill(name)


def test_running_agents_get_another_key_and_one_that_is_away_is_not_left_behind(agents):
    would = agents.rotate(NEW, check=True)
    assert would["changed"] and would["changes"] == ["the new key made known to 3 agents"]
    assert agents.keyring("one") == [OLD]

    first = agents.rotate(NEW, retire_others=False)
    assert len(first["changes"]) == 2, first
    assert all(sorted(agents.keyring(name)) == [OLD, NEW] for name in agents.processes)
    assert all(agents.keyring(name)[0] == NEW for name in agents.processes)
    assert not agents.rotate(NEW, retire_others=False)["changed"]

    second = agents.rotate(NEW)
    assert second["changes"] == ["a former key removed"]
    assert all(agents.keyring(name) == [NEW] for name in agents.processes)
    assert not agents.rotate(NEW)["changed"]
    assert OLD not in json.dumps(second) and NEW not in json.dumps(second)
    agents.wait_for("alive", "server", "one", "two")

    agents.kill("two")
    agents.wait_for("failed", "two")
    refused = agents.rotate(NEWER)
    assert refused["failed"] and "two" in refused["msg"] and "force-leave" in refused["msg"]
    assert not agents.rotate(NEW)["changed"], "nothing to do is no reason to refuse"
    agents.start("two")
    agents.wait_for("alive", "two")
    assert agents.rotate(NEWER)["changed"]
