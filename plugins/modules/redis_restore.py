#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Put a Redis Cluster's keys back from snapshots."""

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_restore
short_description: Put a Redis Cluster's keys back from snapshots, while it runs
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Loads a snapshot into a second redis-server on this host, which listens on a socket in a private directory only, and copies its keys,
    with their times to live, to whichever master serves their slots now, and its functions to all masters.
  - So masters needn't be those that the snapshot came from, nor their slots or their number, no node is restarted, and the append-only
    files hold what was restored like any write.
  - Without O(path) it only says how many keys there are, refuses, or removes them.
  - A restore that was interrupted is repeated from the beginning.
options:
  path:
    description: A snapshot (RDB) on this host.
    type: path
  slots:
    description: Take only the keys of these slots, such as C(0-5460 10000). By default all.
    type: str
    default: "0-16383"
  memory_bytes:
    description: Memory that the snapshot's data takes. The module refuses when the host hasn't that much and a fifth more. 0 doesn't look.
    type: int
    default: 0
  replace_data:
    description: >-
      Without O(path), whether all keys and functions that are in the cluster are removed. Otherwise keys in the cluster make the module fail.
    type: bool
    default: false
  user:
    description: System user that the second server runs as.
    type: str
    default: redis
extends_documentation_fragment: [sutazai.platform.redis]
attributes:
  check_mode: {support: full, description: "Says what would be done, checks the snapshot, and refuses what would be refused."}
  diff_mode: {support: none, description: RV(key_count) says it.}
notes:
  - Needs systemd, redis-server and Redis 7.0 or later.
seealso:
  - module: sutazai.platform.backup_files_info
"""

EXAMPLES = r"""
- name: Refuse to restore over live data
  sutazai.platform.redis_restore:
    nodes: "{{ __redis_nodes }}"
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
  run_once: true

- name: Load this host's snapshot
  sutazai.platform.redis_restore:
    nodes: "{{ __redis_nodes }}"
    username: admin
    password: "{{ redis_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
    path: /var/backups/redis/redis-20261124T220000Z.rdb
  throttle: 1
"""

RETURN = r"""
key_count:
  description: How many keys were in the cluster (without O(path)), or were copied.
  returned: always
  type: int
expired_count:
  description: How many of the snapshot's keys expired before they could be copied.
  returned: with O(path)
  type: int
"""

import os
import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import redis_nodes
from ansible_collections.sutazai.platform.plugins.module_utils.redis_backup import parse_slots, refusal

try:
    from redis.crc import key_slot
except ImportError:
    key_slot = None  # redis_nodes says it

UNIT = "sutazai-redis-restore"
SOCKET = f"/run/{UNIT}/redis.sock"
BATCH = 256
PATIENCE_SECONDS = 120
LOGGED_EVERY = 200_000


class SecondServer:
    """A redis-server of its own that has loaded a snapshot. It is a transient unit: visible, and gone at the end."""

    def __init__(self, module: AnsibleModule, path: str) -> None:
        self.module = module
        self.path = path

    def __enter__(self) -> object:
        # One that an interrupted run has left.
        self.module.run_command(["systemctl", "stop", UNIT])
        self.module.run_command(["systemctl", "reset-failed", UNIT])
        directory, name = os.path.split(self.path)
        properties = {
            "Type": "notify",  # ready when everything is loaded
            "TimeoutStartSec": "infinity",
            "User": self.module.params["user"],
            "RuntimeDirectory": UNIT,
            "RuntimeDirectoryMode": "0700",
            "ReadOnlyPaths": directory,
            "NoNewPrivileges": "true",
        }
        settings = {
            "port": "0",
            "unixsocket": SOCKET,
            "unixsocketperm": "700",
            "dir": directory,
            "dbfilename": name,
            "appendonly": "no",
            "save": "",
            "daemonize": "no",
            "supervised": "systemd",
            "maxmemory": "0",
        }
        command = ["systemd-run", f"--unit={UNIT}", "--collect", "--quiet"]
        command += [f"--property={name}={value}" for name, value in properties.items()]
        command += ["redis-server", *(word for key, value in settings.items() for word in (f"--{key}", value))]
        code, _out, error = self.module.run_command(command)
        if code != 0:
            journal = self.module.run_command(
                ["journalctl", "--unit", UNIT, "--lines=6", "--no-pager", "--output=cat"]
            )[1]
            self.module.fail_json(msg=f"{self.path} can't be loaded: {journal.strip() or error.strip()}")
        client = redis_nodes.redis.Redis(unix_socket_path=SOCKET, socket_timeout=PATIENCE_SECONDS)
        client.response_callbacks.clear()
        return client

    def __exit__(self, *_error: object) -> None:
        self.module.run_command(["systemctl", "stop", UNIT])


def owners(connections: redis_nodes.Connections) -> dict[int, str]:
    """Of each slot the master that serves it."""
    seen = connections.observe()
    errors = [one.error for one in seen.values() if one.error]
    if errors:
        raise redis_nodes.NodeError(f"A restore needs every member: {' '.join(errors)}")
    found = {slot: one.name for one in seen.values() for first, last in one.me.slots for slot in range(first, last + 1)}
    if len(found) < len(parse_slots("0-16383")):
        raise redis_nodes.NodeError(
            f"Only {len(found)} of 16384 slots are served. Form the cluster first (playbooks/cache.yml)."
        )
    return found


def copy(
    module: AnsibleModule, source: object, connections: redis_nodes.Connections, slots: set[int]
) -> tuple[int, int]:
    """(keys that were copied, keys that expired meanwhile)."""
    owner_of = owners(connections)
    functions = source.execute_command("FUNCTION", "DUMP")
    if source.execute_command("FUNCTION", "LIST"):
        for name in sorted(set(owner_of.values())):
            connections.ask(name, [("FUNCTION", "RESTORE", functions, "REPLACE")], PATIENCE_SECONDS)
    cursor, copied, expired = b"0", 0, 0
    while True:
        cursor, keys = source.execute_command("SCAN", cursor, "COUNT", BATCH)
        keys = [key for key in keys if key_slot(key) in slots]
        pipeline = source.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command("DUMP", key)
            pipeline.execute_command("PEXPIRETIME", key)
        answers = pipeline.execute()
        commands: dict[str, list[tuple]] = {}
        for key, payload, moment in zip(keys, answers[::2], answers[1::2], strict=True):
            if payload is None:
                expired += 1
                continue
            command = ("RESTORE", key, max(int(moment), 0), payload, "REPLACE", "ABSTTL")
            commands.setdefault(owner_of[key_slot(key)], []).append(command)
        for name, batch in commands.items():
            connections.ask(name, batch, PATIENCE_SECONDS)
            copied += len(batch)
            if copied // LOGGED_EVERY != (copied - len(batch)) // LOGGED_EVERY:
                module.log(f"{copied} keys copied")
        if cursor in (b"0", 0):
            return copied, expired


def available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as handle:
        return int(re.search(r"^MemAvailable:\s+(\d+) kB", handle.read(), re.MULTILINE)[1]) * 1024


def load(module: AnsibleModule, connections: redis_nodes.Connections) -> dict:
    path, needed = module.params["path"], module.params["memory_bytes"] * 6 // 5
    if not os.path.isfile(path):
        module.fail_json(msg=f"There is no snapshot {path} on this host.")
    if available_bytes() < needed:
        module.fail_json(
            msg=f"{path} takes {needed >> 20} MiB of memory beside Redis' own while it is copied, and this host has "
            f"{available_bytes() >> 20} MiB. Give it more for the time of the restore, or stop what else runs there."
        )
    code, out, error = module.run_command(["redis-check-rdb", path])
    if code != 0:
        module.fail_json(msg=f"{path} can't be loaded: {(error or out).strip()} Choose another backup.")
    owners(connections)
    if module.check_mode:
        return {"changed": True, "key_count": 0, "expired_count": 0}
    with SecondServer(module, path) as source:
        copied, expired = copy(module, source, connections, parse_slots(module.params["slots"]))
    return {"changed": copied > 0, "key_count": copied, "expired_count": expired}


def clear(module: AnsibleModule, connections: redis_nodes.Connections) -> dict:
    masters = sorted(set(owners(connections).values()))
    keys = {name: int(connections.call(name, "DBSIZE")) for name in masters}
    why = refusal(keys)
    if why and not module.params["replace_data"]:
        module.fail_json(msg=why, key_count=sum(keys.values()))
    if why and not module.check_mode:
        for name in masters:
            connections.ask(name, [("FLUSHALL", "ASYNC"), ("FUNCTION", "FLUSH")])
    return {"changed": bool(why), "key_count": sum(keys.values())}


def main() -> None:
    module = AnsibleModule(
        argument_spec=redis_nodes.argument_spec(
            path={"type": "path"},
            slots={"type": "str", "default": "0-16383"},
            memory_bytes={"type": "int", "default": 0},
            replace_data={"type": "bool", "default": False},
            user={"type": "str", "default": "redis"},
        ),
        supports_check_mode=True,
    )
    if redis_nodes.redis is None:
        module.fail_json(msg=redis_nodes.missing_library(), exception=redis_nodes.REDIS_IMPORT_ERROR)
    connections = redis_nodes.Connections(module.params)
    try:
        result = (load if module.params["path"] else clear)(module, connections)
    except (redis_nodes.NodeError, redis_nodes.redis.RedisError, OSError) as error:
        module.fail_json(
            msg=f"The restore stopped: {error} Repeat it with restore_replace_data=true once that is mended."
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
