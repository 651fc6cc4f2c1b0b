"""Patroni's modules against three real members on this machine, each with a PostgreSQL of its own. Their lock is kept by Raft among
themselves, so that no other server is needed; nothing in the modules knows the difference.

Needs PostgreSQL's programs below /usr/lib/postgresql and Patroni with Raft: on the PATH (Debian: patroni, python3-pysyncobj) or where
PATRONI_BIN says.
"""

from __future__ import annotations

import glob
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.modules import restart_by_role, run_module
from tests.integration.ports import free_ports

PATRONI = os.environ.get("PATRONI_BIN") or shutil.which("patroni") or ""
PROGRAMS = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), default="")
PASSWORD = "integration-password"
MEMBERS = {"pg-1": "127.0.0.1", "pg-2": "127.0.0.2", "pg-3": "127.0.0.3"}
WAIT_SECONDS = 120


def missing() -> str:
    """Why it can't be tried here; "" where it can."""
    if not PATRONI or not PROGRAMS:
        return "Patroni or PostgreSQL isn't installed"
    if os.geteuid() == 0 and "postgres" not in {entry.pw_name for entry in pwd.getpwall()}:
        return "PostgreSQL doesn't run as root, and there is no user postgres"
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "possible here")


class Cluster:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Raft listens on all addresses, so that each member needs a port of its own.
        self.port, self.database_port, *raft = free_ports(2 + len(MEMBERS), addresses=tuple(MEMBERS.values()))
        self.raft = {name: f"{address}:{port}" for (name, address), port in zip(MEMBERS.items(), raft, strict=True)}
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self.running: dict[str, subprocess.Popen] = {}

    def settings(self, name: str) -> dict:
        address, home = MEMBERS[name], self.directory / name
        return {
            "scope": "test",
            "name": name,
            "restapi": {
                "listen": f"{address}:{self.port}",
                "connect_address": f"{address}:{self.port}",
                "authentication": {"username": "patroni", "password": PASSWORD},
            },
            "raft": {
                "data_dir": str(home / "raft"),
                "self_addr": self.raft[name],
                "partner_addrs": [other for other in self.raft.values() if other != self.raft[name]],
            },
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "synchronous_mode": True,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"max_connections": 30, "shared_buffers": "16MB", "wal_log_hints": "on"},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"{address}:{self.database_port}",
                "connect_address": f"{address}:{self.database_port}",
                "data_dir": str(home / "data"),
                "bin_dir": PROGRAMS,
                "pgpass": str(home / "pgpass"),
                "authentication": {
                    "superuser": {"username": "postgres", "password": PASSWORD},
                    "replication": {"username": "replicator", "password": PASSWORD},
                },
                "parameters": {"unix_socket_directories": str(home), "fsync": False},
                "pg_hba": [
                    "local all all trust",
                    "host all all 127.0.0.0/8 trust",
                    "host replication all 127.0.0.0/8 trust",
                ],
            },
        }

    def start(self) -> None:
        for name in MEMBERS:
            home = self.directory / name
            home.mkdir(mode=0o700)
            (home / "patroni.yml").write_text(json.dumps(self.settings(name)))  # JSON is YAML
            if self.user:
                for path in (home, home / "patroni.yml"):
                    shutil.chown(path, "postgres", "postgres")
            with (self.directory / f"{name}.log").open("w") as log:
                command = [PATRONI, str(home / "patroni.yml")]
                self.running[name] = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, **self.user)

    def stop(self) -> None:
        for process in self.running.values():
            process.terminate()  # Patroni stops its PostgreSQL
        for process in self.running.values():
            process.wait(timeout=60)

    def logs(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.directory.glob("*.log"))
        )

    def run(self, module: str, check: bool = False, **arguments: object) -> dict:
        return run_module(module, {"members": MEMBERS, "port": self.port, **arguments}, check)

    def tell(self, module: str, check: bool = False, **arguments: object) -> dict:
        return self.run(module, check, username="patroni", password=PASSWORD, **arguments)

    def connections(self) -> dict[str, str]:
        """max_connections as each member's PostgreSQL has it."""
        found = {}
        for name, address in MEMBERS.items():
            command = [f"{PROGRAMS}/psql", f"--host={address}", f"--port={self.database_port}", "--username=postgres"]
            command += ["--tuples-only", "--no-align", "--command=show max_connections"]
            found[name] = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        return found

    def healthy(self) -> dict:
        result = self.run("patroni_cluster_info", wait_seconds=WAIT_SECONDS)
        assert result["healthy"], (result["problems"], self.logs())
        return result


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    directory = Path(tempfile.mkdtemp(prefix="patroni-"))
    directory.chmod(0o755)
    started = Cluster(directory)
    try:
        started.start()
        started.healthy()
        yield started
    finally:
        started.stop()
        shutil.rmtree(directory)


def test_a_former_leader_takes_orders_as_soon_as_it_has_stepped_down(cluster):
    before = cluster.healthy()
    leader = before["leader"]
    planned = cluster.tell("patroni_member", check=True, name=leader, action="step_down")
    assert planned["leader"] in before["sync_standbys"]
    assert cluster.healthy()["leader"] == leader

    stepped_down = cluster.tell("patroni_member", name=leader, action="step_down", wait_seconds=WAIT_SECONDS)
    assert stepped_down["changed"], (stepped_down, cluster.logs())
    assert stepped_down["leader"] == planned["leader"]
    followers = cluster.run("patroni_cluster_info", synchronous=False)["members"]
    assert next(member for member in followers if member["name"] == leader)["replication_state"] == "streaming"
    restarted = cluster.tell("patroni_member", name=leader, action="restart", wait_seconds=WAIT_SECONDS)
    assert restarted["changed"], (restarted, cluster.logs())

    again = cluster.tell("patroni_member", name=leader, action="step_down")
    assert not again["changed"]
    assert cluster.healthy()["leader"] == planned["leader"]


def test_maintenance_mode_is_known_to_all_when_it_has_begun(cluster):
    cluster.healthy()
    assert cluster.tell("patroni_member", action="pause")["changed"]
    assert cluster.run("patroni_cluster_info", allow_paused=True)["paused"]
    assert not cluster.tell("patroni_member", action="pause")["changed"]
    assert cluster.tell("patroni_member", action="resume")["changed"]
    assert not cluster.run("patroni_cluster_info")["paused"]


def test_a_setting_that_waits_for_a_restart_is_taken_over_member_by_member(cluster, tmp_path):
    began = time.time()
    assert all(0 < member["postgresql_start_time"] < began for member in cluster.healthy()["members"])
    live = cluster.tell("patroni_config", config={})["config"]["postgresql"]["parameters"]
    wanted = {"postgresql": {"parameters": {**live, "max_connections": 40}}}
    assert cluster.tell("patroni_config", check=True, config=wanted)["changed"]
    assert cluster.tell("patroni_config", config=wanted)["changed"]
    assert not cluster.tell("patroni_config", config=wanted)["changed"]
    deadline = time.monotonic() + WAIT_SECONDS
    while (found := cluster.healthy())["pending_restart"] != sorted(MEMBERS):
        assert time.monotonic() < deadline, (found["pending_restart"], cluster.logs())
        time.sleep(0.5)

    # Replicas first: PostgreSQL refuses a replica with fewer connections than its leader has.
    hosts = sorted(MEMBERS, key=lambda member: (member == found["leader"], member))
    done = restart_by_role(
        tmp_path,
        MEMBERS,
        hosts,
        cluster.port,
        patroni_rest_password=PASSWORD,
        patroni_health_timeout_seconds=WAIT_SECONDS,
    )
    assert done.returncode == 0, (done.stdout, done.stderr, cluster.logs())
    after = cluster.healthy()
    assert after["pending_restart"] == []
    assert all(member["postgresql_start_time"] > began for member in after["members"])
    assert after["leader"] != found["leader"]
    assert cluster.connections() == dict.fromkeys(MEMBERS, "40")
