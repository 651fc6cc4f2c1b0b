# Apache License 2.0 (see LICENSE)
"""What a host holds from an earlier Consul, and its resolver's configuration. No input or output here."""

from __future__ import annotations

import json

HEADER = "# Managed by Ansible (sutazai.platform.consul)"
LOOPBACK = ("127.0.0.1", "::1")


def keyring_state(keyring: str | None, key: str) -> str:
    """Compare the gossip key with the keyring that an agent wrote: absent, matches, secondary or differs."""
    if keyring is None:
        return "absent"
    try:
        keys = json.loads(keyring)
    except ValueError:
        return "differs"
    if not isinstance(keys, list) or key not in keys:
        return "differs"
    return "matches" if keys[0] == key else "secondary"


def host_problems(keyring: str, gossip_before: bool, data_directory: str) -> list[str]:
    """Refuse data that this run's gossip key doesn't open."""
    if keyring == "differs":
        return [
            f"{data_directory} was made with another gossip key than consul_gossip_key: it belongs to another Consul cluster, or "
            "one of the two was changed. If the inventory has a new key, run playbooks/rotate_secrets.yml -e rotate_secrets_component=gossip_key. "
            "If the cluster has (consul keyring -list), set consul_gossip_key to it; where this host was away meanwhile, stop consul.service "
            f"and remove {data_directory}/serf/local.keyring. Move {data_directory} away if this host is to join another cluster."
        ]
    if keyring == "absent" and gossip_before:
        return [
            f"{data_directory} belongs to a Consul agent that ran without gossip encryption. Move it away if this host is to "
            "join this cluster; or enable encryption on the old cluster first (encrypt_verify_incoming and _outgoing)."
        ]
    return []


def nameservers(resolv_conf: str) -> list[str]:
    """The servers in a resolv.conf that aren't this host itself."""
    servers = []
    for line in resolv_conf.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and words[1] not in LOOPBACK and words[1] not in servers:
            servers.append(words[1])
    return servers


def local_resolv_conf(resolv_conf: str, upstream_file: str) -> str:
    """The same resolv.conf (search list, options) that asks only the forwarder on the loopback address."""
    kept = [
        line
        for line in resolv_conf.splitlines()
        if line.split()[:1] in (["search"], ["domain"], ["options"], ["sortlist"])
    ]
    lines = [
        HEADER,
        f"# consul-dns.service answers; the servers that it asks are in {upstream_file}",
        "nameserver 127.0.0.1",
        *kept,
    ]
    return "\n".join(lines) + "\n"


def upstream_conf(servers: list[str]) -> str:
    return (
        "\n".join(
            [HEADER, "# Where consul-dns.service sends what isn't .consul", *(f"nameserver {s}" for s in servers)]
        )
        + "\n"
    )
