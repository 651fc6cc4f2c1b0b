# Apache License 2.0 (see LICENSE)
"""What a host holds before Patroni is set up on it: data directories and other clusters. Reads files only."""

from __future__ import annotations

import glob
import os
import re
import struct

from ansible_collections.sutazai.platform.plugins.module_utils.host import text

# Keeps Patroni from starting on a member whose restore was begun and isn't finished (tasks/stop.yml of the role).
RESTORING = "/etc/systemd/system/patroni.service.d/restoring.conf"


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


def problems(
    path: str,
    data: dict,
    wanted_version: str,
    others: list[str],
    initialize: str,
    peers: dict[str, str],
    restoring: bool = False,
) -> list[str]:
    """Why Patroni must not be started on this host. `peers` are the system identifiers that running members report."""
    found = []
    if restoring:
        found.append(
            "A restore of the database was begun and isn't finished here. Repeat playbooks/restore/postgresql.yml as it was called. To go on "
            f"with the data as it is instead, remove {RESTORING} and run `systemctl daemon-reload`."
        )
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


def consul_token(configuration: str) -> str:
    """Patroni's token, from its configuration."""
    token = re.search(r"^  token: ['\"]?([0-9a-fA-F-]{36})", configuration, re.MULTILINE)
    return token.group(1) if token else ""


def forgotten(keys: list[str], prefix: str) -> list[str]:
    """What Consul has to forget of a cluster so that it can be founded anew: all but its settings."""
    return sorted(key for key in keys if key.startswith(prefix) and key != f"{prefix}config")
