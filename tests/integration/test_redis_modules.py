"""The Redis modules against six real servers on loopback, with TLS and ACL users. REDIS_SERVER names the binary."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

BINARY = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
COLLECTIONS = Path(__file__).resolve().parents[2] / ".ansible" / "collections"
MODULES = "ansible_collections.sutazai.platform.plugins.modules"
PASSWORD = "integration-password"

pytestmark = pytest.mark.skipif(
    not BINARY, reason="no redis-server on PATH: install it, or set REDIS_SERVER to its path"
)


def free_ports(count: int) -> list[int]:
    """Ports whose bus port (10000 above) is free too."""
    found: list[int] = []
    for port in range(21000, 29000):
        try:
            for candidate in (port, port + 10000):
                socket.create_server(("127.0.0.1", candidate)).close()
        except OSError:
            continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def certificates(directory: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=directory, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", *key, "-days", "2", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test CA", *usage)
    openssl("req", *key, "-keyout", "host.key", "-out", "host.csr", "-subj", "/CN=localhost")
    (directory / "san").write_text(
        "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\nauthorityKeyIdentifier=keyid\n"
    )
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san", "-days", "2")
    openssl("x509", "-req", "-in", "host.csr", *signed, "-out", "host.crt")


class Servers:
    """Six redis-server processes."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        certificates(directory)
        (directory / "users.acl").write_text(f"user default off\nuser admin on >{PASSWORD} ~* &* +@all\n")
        self.ports = dict(zip([f"redis-{n}" for n in range(1, 7)], free_ports(6), strict=True))
        self.processes: dict[str, subprocess.Popen] = {}
        for name in self.ports:
            self.start(name)

    def start(self, name: str) -> None:
        home = self.directory / name
        home.mkdir(exist_ok=True)
        tls = {"tls-cert-file": "host.crt", "tls-key-file": "host.key", "tls-ca-cert-file": "ca.crt"}
        settings = {
            "bind": "127.0.0.1",
            "port": 0,
            "tls-port": self.ports[name],
            **{key: self.directory / file for key, file in tls.items()},
            "tls-auth-clients": "optional",
            "tls-replication": "yes",
            "tls-cluster": "yes",
            "aclfile": self.directory / "users.acl",
            "masteruser": "admin",
            "masterauth": PASSWORD,
            "cluster-enabled": "yes",
            "cluster-announce-ip": "127.0.0.1",
            "cluster-node-timeout": 3000,
            "cluster-require-full-coverage": "no",
            "cluster-allow-replica-migration": "no",
            "repl-diskless-sync-delay": 0,
            "appendonly": "yes",
            "dir": home,
            "logfile": home / "log",
        }
        (home / "redis.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self.processes[name] = subprocess.Popen([BINARY, home / "redis.conf"])

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def nodes(self) -> list[dict]:
        return [
            {"name": name, "host": "127.0.0.1", "port": port, "failure_domain": ""} for name, port in self.ports.items()
        ]

    def arguments(self, check: bool = False, **more) -> dict:
        ours = {
            "nodes": self.nodes(),
            "username": "admin",
            "password": PASSWORD,
            "ca_file": str(self.directory / "ca.crt"),
            "_ansible_check_mode": check,
            "_ansible_diff": True,
            "_ansible_remote_tmp": str(self.directory),
            **more,
        }
        return {"ANSIBLE_MODULE_ARGS": ours}

    def popen(self, module: str, **more) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": str(COLLECTIONS)}
        file = self.directory / "arguments.json"
        file.write_text(json.dumps(self.arguments(**more)))
        return subprocess.Popen(
            [sys.executable, "-m", f"{MODULES}.{module}", file],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.directory,
        )

    def run(self, module: str, **more) -> dict:
        out, _err = self.popen(module, **more).communicate(timeout=180)
        return json.loads(out)

    def call(self, name: str, *command: object) -> object:
        import redis

        client = redis.Redis(  # one per call: servers come and go here
            host="127.0.0.1",
            port=self.ports[name],
            username="admin",
            password=PASSWORD,
            ssl=True,
            ssl_ca_certs=str(self.directory / "ca.crt"),
            decode_responses=True,
        )
        client.response_callbacks.clear()
        return client.execute_command(*command)


@pytest.fixture
def servers(tmp_path):
    started = Servers(tmp_path)
    deadline = time.monotonic() + 30
    while len(started.run("redis_cluster_info")["unreachable_members"]) and time.monotonic() < deadline:
        time.sleep(0.5)
    yield started
    for name in list(started.processes):
        started.stop(name)


def test_forms_once_fails_over_and_explains(servers):
    would = servers.run("redis_cluster", check=True)
    assert would["changed"]
    assert servers.run("redis_cluster_info")["masters"] == []

    formed = servers.run("redis_cluster")
    assert formed.get("changed"), formed
    assert sorted(formed["roles"].values()) == ["master"] * 3 + ["replica"] * 3
    again = servers.run("redis_cluster")
    assert not again["changed"]
    assert again["actions"] == []
    assert not servers.run("redis_cluster", check=True)["changed"]

    health = servers.run("redis_cluster_info", wait_seconds=20, config=["maxmemory-policy", "masterauth"])
    assert health["healthy"], health["problems"]
    assert health["slots_covered"] == 16384
    assert health["members"]["redis-1"]["config"] == {"maxmemory-policy": "noeviction"}
    assert PASSWORD not in json.dumps(health["members"])

    handed = servers.run("redis_cluster_failover", node="redis-1")
    assert handed["changed"], handed
    assert not servers.run("redis_cluster_failover", node="redis-1")["changed"]
    assert servers.run("redis_cluster_info", wait_seconds=20)["members"]["redis-1"]["master"] == handed["promoted"]
    assert not servers.run("redis_cluster")["changed"], "a failover is no reason to change anything"

    # A member dies: a problem in the result, and no reason to touch the cluster.
    servers.stop("redis-1")
    health = servers.run("redis_cluster_info")
    assert not health["healthy"]
    assert health["unreachable_members"] == ["redis-1"]
    still = servers.run("redis_cluster")
    assert not still.get("failed"), still
    assert not still["changed"]

    # Its host comes back empty: it takes the lost member's place.
    shutil.rmtree(servers.directory / "redis-1")
    servers.start("redis-1")
    rejoined = servers.run("redis_cluster", timeout_seconds=90)
    assert rejoined["changed"], rejoined
    assert rejoined["layout"][handed["promoted"]]["replicas"] == ["redis-1"]
    health = servers.run("redis_cluster_info", wait_seconds=30)
    assert health["healthy"], health["problems"]


def test_goes_on_after_being_killed_and_takes_no_data(servers):
    servers.call("redis-5", "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    deadline = time.monotonic() + 20
    while "cluster_state:ok" not in str(servers.call("redis-5", "CLUSTER", "INFO")) and time.monotonic() < deadline:
        time.sleep(0.3)
    servers.call("redis-5", "SET", "precious", "1")
    servers.call("redis-5", "CLUSTER", "DELSLOTSRANGE", 0, 16383)
    refused = servers.run("redis_cluster")
    assert refused["failed"]
    assert "redis-5" in refused["msg"]
    assert "never overwritten" in refused["msg"]
    servers.call("redis-5", "FLUSHALL")

    for delay in (0.9, 1.2, 1.6):
        forming = servers.popen("redis_cluster")
        time.sleep(delay)
        forming.send_signal(signal.SIGKILL)
        forming.communicate()
    formed = servers.run("redis_cluster")
    assert not formed.get("failed"), formed
    health = servers.run("redis_cluster_info", wait_seconds=20)
    assert health["healthy"], health["problems"]
    assert len(health["masters"]) == 3
