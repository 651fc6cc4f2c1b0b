"""A real Consul. CONSUL_BIN names the binary."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.ports import free_ports

BINARY = os.environ.get("CONSUL_BIN") or shutil.which("consul")


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """The address of a server of its own."""
    http, server, serf, serf_wan, dns = free_ports(5)
    (directory / "consul.json").write_text(
        json.dumps(
            {
                "server": True,
                "bootstrap_expect": 1,
                "node_name": "alone",
                "datacenter": "test",
                "bind_addr": "127.0.0.1",
                "data_dir": str(directory / "data"),
                "performance": {"raft_multiplier": 1},
                "acl": {"enabled": True, "default_policy": "deny"},
                "connect": {"enabled": True},
                "ports": {
                    "http": http,
                    "server": server,
                    "serf_lan": serf,
                    "serf_wan": serf_wan,
                    "dns": dns,
                    "grpc": -1,
                    "grpc_tls": -1,
                },
            }
        )
    )
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [BINARY, "agent", f"-config-file={directory / 'consul.json'}"], stdout=log, stderr=log
        )
    yield f"http://127.0.0.1:{http}"
    process.terminate()
    process.wait(20)
