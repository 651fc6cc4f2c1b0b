"""Every host: quiet updates, bounded journal, names, and nothing that listens without being meant to."""

from __future__ import annotations

import pytest

# Program to the ports on which it may listen for other hosts; all of them speak TLS or, for the database, demand it.
EXPOSED = {
    "sshd": {22},
    "consul": {8300, 8301, 8501, 8503},
    "beam.smp": {5671, 15671, 15691, 25672},
    "epmd": {4369},
    "redis-server": {6379, 16379},
    "postgres": {5432},
    "patroni": {8008},
    "python3": {8008},
    "pgbouncer": {6432},
    "pgbackrest": {8432},
}


def test_the_system_is_up_and_no_unit_failed(node):
    assert node.run("systemctl --failed --no-legend --plain").strip() == ""


def test_only_what_is_meant_to_be_reached_listens(node):
    # Ports from 32768 on are given out by the kernel; nothing of ours listens there.
    surprising = {
        (program, address, port)
        for program, address, port in node.listeners
        if not address.startswith(("127.", "::1")) and port not in EXPOSED.get(program, set()) and program != "systemd"
    }
    assert surprising == set()


def test_every_host_knows_the_others_by_name(node, platform):
    for other in platform.nodes.values():
        assert node.host.addr(other.name).ipv4_addresses == [other.address]


def test_clustered_daemons_are_neither_upgraded_nor_restarted_behind_our_back(node):
    configuration = node.run("apt-config dump")
    assert "Unattended-Upgrade::Package-Blacklist" in configuration
    restarts = node.run("cat /etc/needrestart/conf.d/*.conf", check=False)
    for daemon in ("consul", "patroni", "redis", "rabbitmq"):
        assert daemon in restarts


@pytest.mark.unit("systemd-journald")
def test_the_journal_is_bounded(node):
    assert "SystemMaxUse=" in node.run("cat /etc/systemd/journald.conf.d/*.conf")
