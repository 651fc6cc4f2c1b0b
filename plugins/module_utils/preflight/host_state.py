"""Reads what a host is and holds, without changing it and with nothing but the standard library: this runs on the hosts.

Every path is taken below `root`, so that tests can lay out a host in a directory.
"""

from __future__ import annotations

import glob
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import time

from ansible_collections.sutazai.platform.plugins.module_utils.host import memory_bytes, text
from ansible_collections.sutazai.platform.plugins.module_utils.patroni_host import data_directory

LISTEN = "0A"
DPKG_PACKAGES = ("rabbitmq-server", "redis-server", "patroni", "pgbouncer", "postgresql-common")


def release(root: str = "/") -> dict[str, str]:
    """Distribution and its release, from os-release."""
    fields = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', text(os.path.join(root, "etc/os-release")), re.MULTILINE))
    return {
        "distribution": fields.get("ID", ""),
        "release": fields.get("VERSION_ID", ""),
        "name": fields.get("PRETTY_NAME", ""),
    }


def memory_mb(root: str = "/") -> int:
    """What the host may use: of a container that is its limit, not the machine's memory."""
    return memory_bytes(root) // (1024 * 1024)


def disk_free_mb(path: str) -> int:
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path)
    usage = os.statvfs(path)
    return usage.f_bavail * usage.f_frsize // (1024 * 1024)


def listeners(ports: list[int], root: str = "/") -> dict[str, str]:
    """Which of the ports something listens on, and what: port -> command line, `unknown` where it can't be seen."""
    inodes: dict[str, int] = {}
    for file in ("tcp", "tcp6"):
        for line in text(os.path.join(root, "proc/net", file)).splitlines()[1:]:
            words = line.split()
            if len(words) < 10 or words[3] != LISTEN:
                continue
            port = int(words[1].rsplit(":", 1)[1], 16)
            if port in ports:
                inodes[words[9]] = port
    found = {str(port): "unknown" for port in inodes.values()}
    if not inodes:
        return found
    for descriptor in glob.iglob(os.path.join(root, "proc/[0-9]*/fd/*")):
        try:
            target = os.readlink(descriptor)
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            process = descriptor.rsplit("/", 2)[0]
            command = text(os.path.join(process, "comm")).strip()
            line = " ".join(text(os.path.join(process, "cmdline")).split("\0")[:3]).strip()
            port = str(inodes[target[8:-1]])
            # A socket that systemd opened is shared with the daemon that it was made for: name the daemon.
            if found[port] in ("unknown", "") or found[port].startswith("systemd "):
                found[port] = f"{command} {line}".strip()[:200]
    return found


def packages(root: str = "/") -> dict[str, str]:
    """Versions of the installed packages that matter here."""
    found = {}
    for block in text(os.path.join(root, "var/lib/dpkg/status")).split("\n\n"):
        name = re.match(r"Package: (\S+)", block)
        if name and name.group(1) in DPKG_PACKAGES and "\nStatus: install ok installed" in block:
            version = re.search(r"^Version: (?:\d+:)?(\S+)", block, re.MULTILINE)
            found[name.group(1)] = version.group(1) if version else ""
    return found


def consul(data: str, configuration: str, binary: str, root: str = "/") -> dict:
    """Installed version, configured datacenter, and the other members that its data remembers."""
    state: dict = {"version": "", "datacenter": "", "members": {}}
    path = os.path.join(root, binary.lstrip("/"))
    if os.path.lexists(path):
        match = re.search(r"/(\d+\.\d+\.\d+[^/]*)/", os.path.realpath(path))
        if match:
            state["version"] = match.group(1)
        elif root == "/":
            output = subprocess.run([path, "version"], capture_output=True, text=True, timeout=20, check=False).stdout
            match = re.search(r"v(\d+\.\d+\.\d+)", output)
            state["version"] = match.group(1) if match else ""
    folder = os.path.join(root, data.lstrip("/"))
    if not os.path.exists(os.path.join(folder, "node-id")):
        return state
    for file in sorted(glob.glob(os.path.join(root, configuration.lstrip("/"), "*"))):
        match = (
            re.search(r'"?\bdatacenter"?\s*[:=]\s*"([^"]+)"', text(file)) if file.endswith((".hcl", ".json")) else None
        )
        state["datacenter"] = match.group(1) if match else state["datacenter"]
    for line in text(os.path.join(folder, "serf/local.snapshot")).splitlines():
        match = re.match(r"alive: (\S+) \[?([^\]]+?)\]?:\d+$", line)
        if match:
            state["members"][match.group(1)] = match.group(2)
        elif line.startswith("not-alive: "):
            state["members"].pop(line.split(" ", 1)[1].strip(), None)
    return state


def rabbitmq(home: str, root: str = "/") -> dict:
    """Erlang node names that have data here, and those their clusters know."""
    nodes: dict[str, list[str]] = {}
    for folder in sorted(glob.glob(os.path.join(root, home.lstrip("/"), "mnesia", "*@*"))):
        name = os.path.basename(folder)
        if not os.path.isdir(folder) or name.endswith("-plugins-expand"):
            continue
        known = re.findall(r"'?([\w.-]+@[\w.-]+)'?", text(os.path.join(folder, "cluster_nodes.config")))
        nodes[name] = sorted(set(known))
    return {"nodes": nodes}


def redis(data: str, root: str = "/") -> dict:
    """Addresses that the cluster's node file knows, whether it was a server with sentinels, and whether there is data without either."""
    folder = os.path.join(root, data.lstrip("/"))
    replication = os.path.isfile(os.path.join(folder, "running.conf"))
    state: dict = {"nodes": [], "cluster": False, "replication": replication, "data_bytes": 0}
    for file in sorted(glob.glob(os.path.join(folder, "**", "nodes*.conf"), recursive=True)):
        state["cluster"] = True
        for line in text(file).splitlines():
            words = line.split()
            if len(words) < 8 or "noaddr" in words[2] or "myself" in words[2] or "handshake" in words[2]:
                continue
            address = words[1].split("@", 1)[0].rsplit(":", 1)[0].strip("[]")
            if address:
                state["nodes"].append(address)
    for file in (
        *glob.glob(os.path.join(folder, "**", "*.rdb"), recursive=True),
        *glob.glob(os.path.join(folder, "**", "*.aof"), recursive=True),
    ):
        state["data_bytes"] += os.path.getsize(file)
    state["nodes"] = sorted(set(state["nodes"]))
    return state


def postgresql(data: str, configuration: str, root: str = "/") -> dict:
    """Every database cluster below the data directory: its major version, system identifier, and whether Patroni made it."""
    clusters = []
    folder = os.path.join(root, data.lstrip("/"))
    candidates = (folder, *glob.glob(os.path.join(folder, "*")), *glob.glob(os.path.join(folder, "*", "*")))
    for path in sorted(candidates):
        held = data_directory(path)
        if not held["present"] or not os.path.isdir(os.path.join(path, "global")):
            continue
        patroni = os.path.exists(os.path.join(path, "patroni.dynamic.json"))
        clusters.append(
            {
                "path": "/" + os.path.relpath(path, root),
                "version": held["version"],
                "identifier": held["system_identifier"],
                "patroni": patroni,
            }
        )
    scope = ""
    for file in sorted(glob.glob(os.path.join(root, configuration.lstrip("/"), "*.y*ml"))):
        match = re.search(r"^scope:\s*['\"]?([\w.-]+)", text(file), re.MULTILINE)
        scope = match.group(1) if match else scope
    return {"clusters": clusters, "scope": scope}


ETHERNET_ARP, PROBE, REPLY = 0x0806, 1, 2
ARP = struct.Struct("!HHBBH6s4s6s4s")


def virtual_address(address: str) -> dict[str, str]:
    """Who has an address that is to move between hosts: the hardware address that answers for it, and this host's own.

    They are the same where this host holds it; nobody answers for one that is free, or not on a network of this host.
    """
    for interface in _ip("address", "show", "to", address):
        own = _hardware(interface["ifname"])
        return {"answers": own, "own": own}
    for route in _ip("route", "get", address):
        if "gateway" not in route and ":" not in address:
            return {"answers": _asked(route["dev"], address), "own": _hardware(route["dev"])}
    return {"answers": "", "own": ""}


def _hardware(interface: str) -> str:
    return next((link.get("address", "") for link in _ip("link", "show", interface)), "")


def _ip(*arguments: str) -> list[dict]:
    done = subprocess.run(["ip", "-json", *arguments], capture_output=True, text=True, check=False)
    return [entry for entry in json.loads(done.stdout or "[]") if entry] if done.returncode == 0 else []


def _asked(interface: str, address: str, attempts: int = 2, seconds: float = 1.0) -> str:
    """As a host asks before it takes an address (RFC 5227): with no address of its own, so that nobody learns anything wrong."""
    wanted = socket.inet_aton(address)
    try:
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERNET_ARP))
    except OSError:  # a container that may not, or a system without packets
        return ""
    with sender:
        sender.bind((interface, ETHERNET_ARP))
        own = sender.getsockname()[4]
        if len(own) != 6:
            return ""
        probe = ARP.pack(1, 0x0800, 6, 4, PROBE, own, bytes(4), bytes(6), wanted)
        for _attempt in range(attempts):
            sender.send(b"\xff" * 6 + own + struct.pack("!H", ETHERNET_ARP) + probe)
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                sender.settimeout(left)
                try:
                    frame = sender.recv(2048)
                except TimeoutError:
                    break
                if len(frame) >= 14 + ARP.size:
                    fields = ARP.unpack_from(frame, 14)
                    if fields[4] == REPLY and fields[6] == wanted:
                        return fields[5].hex(":")
    return ""


def certificate(certificate: str, key: str) -> str:
    """What is wrong with a certificate and its key, in words that follow `it`; empty if nothing is, or if one of them isn't there yet."""
    if not (os.path.isfile(certificate) and os.path.isfile(key)):
        return ""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"isn't that of the key {key}"
        return f"or its key {key} can't be read: {error.reason or error}"
    # The only way in the standard library to read one that isn't a connection's.
    fields = ssl._ssl._test_decode_cert(certificate)  # type: ignore[attr-defined]
    now = time.time()
    if now > ssl.cert_time_to_seconds(fields["notAfter"]):
        return f"has expired on {fields['notAfter']}"
    if now < ssl.cert_time_to_seconds(fields["notBefore"]):
        return f"isn't valid before {fields['notBefore']}"
    return ""
