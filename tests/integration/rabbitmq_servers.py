"""RabbitMQ nodes on loopback, started from Debian's package: for what needs to start, stop and lose nodes."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
ADMINISTRATOR, PASSWORD = "admin", "password-of-these-tests"
EPMD = Path("/usr/bin/epmd")
# A port mapper of these nodes' own, which no other Erlang on this machine has to do with, and ends with them.
EPMD_PORT = 25800
# Room for a node's AMQP, management and distribution port.
FIRST_PORT = 25810
CONFIGURATION = """
listeners.tcp.1 = 127.0.0.1:{amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = {management}
distribution.listener.interface = 127.0.0.1
distribution.listener.port_range.min = {distribution}
distribution.listener.port_range.max = {distribution}
default_user = {user}
default_pass = {password}
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.target_cluster_size_hint = 1
queue_leader_locator = balanced
net_ticktime = 5
"""


def unavailable() -> str:
    """Why no node can be started here; empty if one can."""
    if not PROGRAM.exists():
        return f"no RabbitMQ to start: {PROGRAM} isn't there (Debian's rabbitmq-server)"
    if os.geteuid() != 0:
        return "RabbitMQ's command line wants root"
    return ""


def stop_port_mapper() -> None:
    """It started with the first node, and doesn't go before it has noticed that the last one is gone."""
    for _ in range(50):
        done = subprocess.run(
            [str(EPMD), "-port", str(EPMD_PORT), "-kill"], capture_output=True, text=True, check=False
        )
        if "not allowed" not in done.stdout + done.stderr:
            return
        time.sleep(0.1)


class Node:
    """One node. Its name ends in @localhost, so that no other machine can be meant."""

    def __init__(self, directory: Path, number: int) -> None:
        self.name = f"sutazai{number}@localhost"
        self.amqp, self.management, self.distribution = (FIRST_PORT + 10 * number + offset for offset in range(3))
        self.url = f"http://127.0.0.1:{self.management}"
        self.directory = directory / f"node-{number}"
        self.process: subprocess.Popen[bytes] | None = None
        (self.directory / "data").mkdir(parents=True)
        (self.directory / "log").mkdir()
        (self.directory / "rabbitmq.conf").write_text(
            CONFIGURATION.format(**vars(self), user=ADMINISTRATOR, password=PASSWORD), encoding="utf-8"
        )
        (self.directory / "plugins").write_text(
            "[rabbitmq_management,rabbitmq_consistent_hash_exchange].\n", encoding="utf-8"
        )
        for path in (self.directory, *self.directory.rglob("*")):
            shutil.chown(path, "rabbitmq", "rabbitmq")

    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": pwd.getpwnam("rabbitmq").pw_dir,
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(EPMD_PORT),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_CONF_ENV_FILE": "/nonexistent",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(PROGRAM)],
            env=self.environment(),
            user="rabbitmq",
            group="rabbitmq",
            cwd=self.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self, seconds: int = 120) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self.management), 1):
                    return
            except OSError:
                time.sleep(0.3)
        raise AssertionError(f"{self.name} doesn't start; see {self.directory / 'log'}")

    def kill(self) -> None:
        """Everything of this node, at once: it was started as a session of its own."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def ctl(self, *arguments: str) -> str:
        done = subprocess.run(
            ["/usr/sbin/rabbitmqctl", "--quiet", "--node", self.name, *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, done.stderr or done.stdout
        return done.stdout
