"""Real redis-servers on loopback, with TLS and ACL users as the role configures them. REDIS_SERVER names the binary."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.integration.ports import free_ports

BINARY = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
COLLECTIONS = Path(__file__).resolve().parents[2] / ".ansible" / "collections"
MODULES = "ansible_collections.sutazai.platform.plugins.modules"
PASSWORD = "integration-password"
FOR_SENTINELS = "+multi +slaveof +ping +exec +subscribe +config|rewrite +role +publish +info +client|setname +client|kill +script|kill"
USERS = f"""\
user default off resetpass resetkeys resetchannels -@all
user admin on >{PASSWORD} ~* &* +@all
user replication on >{PASSWORD} resetkeys resetchannels -@all +sync +psync +replconf +ping
user sentinel on >{PASSWORD} resetkeys &* -@all {FOR_SENTINELS}
user application on >{PASSWORD} ~* &* -@all +@all -@admin -@dangerous +info
"""
SENTINEL_USERS = f"""\
user default off resetpass resetkeys resetchannels -@all
user admin on >{PASSWORD} ~* &* +@all
user sentinel on >{PASSWORD} resetkeys resetchannels &__sentinel__:hello -@all +ping +publish +client|setname +sentinel|is-master-down-by-addr
user application on >{PASSWORD} resetkeys &* -@all +ping +subscribe +sentinel|masters +sentinel|get-master-addr-by-name
"""


def certificates(directory: Path, more: str = "") -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, cwd=directory, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", *key, "-days", "2", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test CA", *usage)
    openssl("req", *key, "-keyout", "host.key", "-out", "host.csr", "-subj", "/CN=localhost")
    (directory / "san").write_text(
        f"subjectAltName=IP:127.0.0.1{more}\nextendedKeyUsage=serverAuth,clientAuth\nauthorityKeyIdentifier=keyid\n"
    )
    signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "san", "-days", "2")
    openssl("x509", "-req", "-in", "host.csr", *signed, "-out", "host.crt")


class Servers:
    """redis-server processes; `members` of them are the inventory's."""

    def __init__(self, directory: Path, count: int = 6) -> None:
        self.directory = directory
        certificates(directory)
        (directory / "users.acl").write_text(USERS)
        self.ports = dict(zip([f"redis-{n}" for n in range(1, count + 1)], free_ports(count, bus=True), strict=True))
        self.members = list(self.ports)
        self.racks: dict[str, str] = {}
        self.processes: dict[str, subprocess.Popen] = {}
        for name in self.ports:
            self.start(name)

    def common(self, name: str) -> dict:
        tls = {"tls-cert-file": "host.crt", "tls-key-file": "host.key", "tls-ca-cert-file": "ca.crt"}
        home = self.directory / name
        home.mkdir(exist_ok=True)
        return {
            "bind": "127.0.0.1",
            "port": 0,
            "tls-port": self.ports[name],
            **{key: self.directory / file for key, file in tls.items()},
            "tls-auth-clients": "optional",
            "tls-replication": "yes",
            "dir": home,
            "logfile": home / "log",
        }

    def start(self, name: str) -> None:
        settings = {
            **self.common(name),
            "tls-cluster": "yes",
            "aclfile": self.directory / "users.acl",
            "masteruser": "replication",
            "masterauth": PASSWORD,
            "cluster-enabled": "yes",
            "cluster-announce-ip": "127.0.0.1",
            "cluster-node-timeout": 3000,
            "cluster-require-full-coverage": "no",
            "cluster-allow-replica-migration": "no",
            "repl-diskless-sync-delay": 0,
            "appendonly": "yes",
            "unixsocket": self.directory / name / "redis.sock",
        }
        self.spawn(name, self.directory / name / "redis.conf", settings)

    def spawn(self, name: str, file: Path, settings: dict, *arguments: str) -> None:
        file.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        self.processes[name] = subprocess.Popen([BINARY, file, *arguments])

    def stop(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def nodes(self, names: list[str] | None = None) -> list[dict]:
        return [
            {"name": name, "host": "127.0.0.1", "port": self.ports[name], "failure_domain": self.racks.get(name, "")}
            for name in (self.members if names is None else names)
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

    def sign_in(self, user: str) -> dict:
        return {
            "username": user,
            "password": PASSWORD,
            "ssl": True,
            "ssl_ca_certs": str(self.directory / "ca.crt"),
            "decode_responses": True,
        }

    def call(self, name: str, *command: object) -> object:
        import redis

        # One client per call: servers come and go here.
        client = redis.Redis(host="127.0.0.1", port=self.ports[name], **self.sign_in("admin"))
        client.response_callbacks.clear()
        return client.execute_command(*command)


class SentinelServers(Servers):
    """Redis servers, and beside each, on the same loopback address of its own, a sentinel."""

    port, sentinel_port = 21379, 21380

    def __init__(self, directory: Path, count: int = 3) -> None:
        self.directory = directory
        certificates(directory, "".join(f",IP:127.0.3.{n}" for n in range(1, count + 1)))
        (directory / "users.acl").write_text(USERS)
        (directory / "sentinel-users.acl").write_text(SENTINEL_USERS)
        self.addresses = {f"redis-{n}": f"127.0.3.{n}" for n in range(1, count + 1)}
        self.members = list(self.addresses)
        self.processes = {}
        for name in self.addresses:
            self.start(name)
            self.start_sentinel(name)

    def start(self, name: str) -> None:
        """As the role starts it: settings from the template, and from the running file who is master."""
        file = self.directory / name / "redis.conf"
        replicaof = (
            [line for line in file.read_text().splitlines() if line.startswith("replicaof ")]
            if file.exists()
            else ["replicaof 127.0.0.1 1"]
        )
        settings = {
            **self.common(name),
            "aclfile": self.directory / "users.acl",
            "masteruser": "replication",
            "masterauth": PASSWORD,
            "replica-announce-ip": self.addresses[name],
            "repl-diskless-sync-delay": 0,
            "min-replicas-to-write": 1,
            "appendonly": "yes",
            **dict(line.split(" ", 1) for line in replicaof),
        }
        self.spawn(name, file, settings)

    def start_sentinel(self, name: str) -> None:
        title = f"{name}-sentinel"
        settings = {
            **self.common(title),
            "bind": self.addresses[name],
            "tls-port": self.sentinel_port,
            "aclfile": self.directory / "sentinel-users.acl",
            "sentinel announce-ip": self.addresses[name],
            "sentinel announce-port": self.sentinel_port,
            "sentinel sentinel-user": "sentinel",
            "sentinel sentinel-pass": PASSWORD,
        }
        self.spawn(title, self.directory / title / "sentinel.conf", settings, "--sentinel")

    def common(self, name: str) -> dict:
        return {**super().common(name), "bind": self.addresses.get(name, "127.0.0.1")}

    @property
    def ports(self) -> dict[str, int]:
        return dict.fromkeys((*self.addresses, *(f"{name}-sentinel" for name in self.addresses)), self.port)

    def nodes(self, names: list[str] | None = None) -> list[dict]:
        return [
            {"name": name, "host": self.addresses[name], "port": self.port}
            for name in (self.members if names is None else names)
        ]

    def arguments(self, check: bool = False, **more) -> dict:
        return super().arguments(check, sentinel_port=self.sentinel_port, **more)

    def call(self, name: str, *command: object, user: str = "admin", sentinel: bool = False) -> object:
        import redis

        port = self.sentinel_port if sentinel else self.port
        client = redis.Redis(host=self.addresses[name], port=port, **self.sign_in(user))
        client.response_callbacks.clear()
        return client.execute_command(*command)
