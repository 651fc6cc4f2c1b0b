# Apache License 2.0 (see LICENSE)
"""What a host holds before Patroni is set up on it: data directories, other clusters, memory. Reads files only."""

from __future__ import annotations

import glob
import os
import struct

UNLIMITED = 1 << 60


def text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read()
    except OSError:
        return ""


def data_directory(path: str) -> dict:
    """Whether there is a database cluster, of which version, and its system identifier (the first 8 bytes of pg_control)."""
    version = text(os.path.join(path, "PG_VERSION")).strip()
    identifier = ""
    try:
        with open(os.path.join(path, "global", "pg_control"), "rb") as handle:
            identifier = str(struct.unpack("<Q", handle.read(8))[0])
    except (OSError, struct.error):
        pass
    return {"present": bool(version), "version": version, "system_identifier": identifier if identifier != "0" else ""}


def debian_clusters(root: str, ours: str) -> list[str]:
    """Clusters that Debian's own tools manage beside ours, as version/name."""
    found = []
    for file in sorted(glob.glob(os.path.join(root, "*", "*", "postgresql.conf"))):
        if f"data_directory = '{ours}'" not in text(file).replace('"', "'"):
            found.append("/".join(file.split(os.sep)[-3:-1]))
    return found


def cgroup_limit(root: str = "/") -> int:
    """The smallest memory limit on the way from this process' control group up to the root; 0 for none."""
    limits = []
    for line in text(os.path.join(root, "proc/self/cgroup")).splitlines():
        _number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers == "":
            base, name = os.path.join(root, "sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            base, name = os.path.join(root, "sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):
            value = text(os.path.join(base, *parts[:depth], name)).strip()
            if value.isdigit() and 0 < int(value) < UNLIMITED:
                limits.append(int(value))
    return min(limits, default=0)


def memory_bytes(root: str = "/") -> int:
    """Memory that may be used here: the machine's, or less where a control group says so."""
    total = 0
    for line in text(os.path.join(root, "proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            total = int(line.split()[1]) * 1024
    limit = cgroup_limit(root)
    return min(total, limit) if limit else total


def problems(
    path: str, data: dict, wanted_version: str, others: list[str], initialize: str, peers: dict[str, str]
) -> list[str]:
    """Why Patroni must not be started on this host. `peers` are the system identifiers that running members report."""
    found = []
    if others:
        found.append(
            f"Debian's own PostgreSQL cluster {', '.join(others)} is set up here and would want the same port. Move its data elsewhere and drop it "
            "(pg_dropcluster), or take this host out of the group postgresql; nothing of it was touched."
        )
    if not data["present"]:
        return found
    if data["version"] != wanted_version:
        found.append(
            f"{path} holds data of PostgreSQL {data['version']}, but this role would run {wanted_version}. A major upgrade is a procedure of its own; "
            "set patroni_data_directory to another path or take this host out of the group postgresql."
        )
    mine = data["system_identifier"]
    for whom, identifier in ([("Consul (the cluster's initialize key)", initialize)] if initialize else []) + sorted(
        peers.items()
    ):
        if mine and identifier and identifier != mine:
            found.append(
                f"{path} holds another cluster's data: its system identifier is {mine}, that of {whom} is {identifier}. It was not touched. "
                "Set patroni_data_directory or patroni_scope if this is to be a cluster of its own; if the data isn't needed, move it away."
            )
            break
    return found
