"""What is read on a host, laid out in a directory."""

from __future__ import annotations

import datetime
import os
import socket
import struct

from ansible_collections.sutazai.platform.plugins.module_utils.preflight import host_state
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def lay(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content)
    return str(root)


def test_the_release(tmp_path):
    root = lay(tmp_path, {"etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n'})
    assert host_state.release(root) == {
        "distribution": "debian",
        "release": "13",
        "name": "Debian GNU/Linux 13 (trixie)",
    }


def test_memory_is_the_machines(tmp_path):
    root = lay(
        tmp_path, {"proc/meminfo": "MemTotal:        2097152 kB\nMemFree: 1 kB\n", "sys/fs/cgroup/memory.max": "max\n"}
    )
    assert host_state.memory_mb(root) == 2048


def test_memory_is_the_containers_limit(tmp_path):
    files = {"proc/meminfo": "MemTotal: 2097152 kB\n", "sys/fs/cgroup/memory.max": f"{512 * 1024 * 1024}\n"}
    assert host_state.memory_mb(lay(tmp_path / "2", files)) == 512
    files = {
        "proc/meminfo": "MemTotal: 2097152 kB\n",
        "proc/1/cgroup": "5:memory:/docker/abc/init.scope\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{256 * 1024 * 1024}\n",
    }
    assert host_state.memory_mb(lay(tmp_path / "1", files)) == 256


def test_a_listener_is_named():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        found = host_state.listeners([port, 1])
    assert set(found) == {str(port)}
    assert "py" in found[str(port)]


def test_packages(tmp_path):
    status = (
        "Package: rabbitmq-server\nStatus: install ok installed\nVersion: 4.0.5-8\n\n"
        "Package: patroni\nStatus: deinstall ok config-files\nVersion: 4.0.7-1\n\n"
        "Package: redis-server\nStatus: install ok installed\nVersion: 5:8.0.2-3\n"
    )
    assert host_state.packages(lay(tmp_path, {"var/lib/dpkg/status": status})) == {
        "rabbitmq-server": "4.0.5-8",
        "redis-server": "8.0.2-3",
    }


def test_consul(tmp_path):
    root = lay(
        tmp_path,
        {
            "opt/sutazai/consul/1.20.6/consul": "",
            "var/lib/consul/node-id": "x",
            "etc/consul.d/consul.hcl": 'datacenter     = "paris"\nnode_name = "a"\n',
            "var/lib/consul/serf/local.snapshot": "alive: a 10.0.0.1:8301\nalive: b 10.0.0.2:8301\nclock: 3\nnot-alive: b\nalive: c [fd00::1]:8301\n",
        },
    )
    (tmp_path / "usr/local/bin").mkdir(parents=True)
    os.symlink(f"{root}/opt/sutazai/consul/1.20.6/consul", f"{root}/usr/local/bin/consul")
    assert host_state.consul("/var/lib/consul", "/etc/consul.d", "/usr/local/bin/consul", root) == {
        "version": "1.20.6",
        "datacenter": "paris",
        "members": {"a": "10.0.0.1", "c": "fd00::1"},
    }


def test_no_consul(tmp_path):
    found = host_state.consul("/var/lib/consul", "/etc/consul.d", "/usr/local/bin/consul", str(tmp_path))
    assert found == {"version": "", "datacenter": "", "members": {}}


def test_rabbitmq(tmp_path):
    root = lay(
        tmp_path,
        {
            "var/lib/rabbitmq/mnesia/rabbit@a/cluster_nodes.config": "{[rabbit@a,'rabbit@b-1'],[rabbit@a]}.\n",
            "var/lib/rabbitmq/mnesia/rabbit@a-plugins-expand/x": "",
            "var/lib/rabbitmq/mnesia/rabbit@a.pid": "1",
        },
    )
    assert host_state.rabbitmq("/var/lib/rabbitmq", root) == {"nodes": {"rabbit@a": ["rabbit@a", "rabbit@b-1"]}}


def test_redis(tmp_path):
    nodes = (
        "aaa 10.0.0.1:6379@16379,redis-1 myself,master - 0 0 1 connected 0-5460\n"
        "bbb 10.0.0.2:6379@16379,redis-2 master - 0 0 2 connected 5461-10922\n"
        "ccc :0@0 slave,fail,noaddr aaa 0 0 1 disconnected\n"
        "vars currentEpoch 6 lastVoteEpoch 0\n"
    )
    root = lay(tmp_path, {"var/lib/redis/nodes.conf": nodes, "var/lib/redis/dump.rdb": b"x" * 100})
    assert host_state.redis("/var/lib/redis", root) == {
        "nodes": ["10.0.0.2"],
        "cluster": True,
        "replication": False,
        "data_bytes": 100,
    }
    with_sentinels = lay(tmp_path / "other", {"var/lib/redis/running.conf": "port 0\n"})
    assert host_state.redis("/var/lib/redis", with_sentinels)["replication"]


def test_postgresql(tmp_path):
    root = lay(
        tmp_path,
        {
            "var/lib/postgresql/17/main/PG_VERSION": "17\n",
            "var/lib/postgresql/17/main/global/pg_control": struct.pack("<Q", 7301) + b"\0" * 100,
            "var/lib/postgresql/17/main/patroni.dynamic.json": "{}",
            "etc/patroni/config.yml": "scope: 'postgresql'\nname: a\n",
        },
    )
    assert host_state.postgresql("/var/lib/postgresql", "/etc/patroni", root) == {
        "clusters": [{"path": "/var/lib/postgresql/17/main", "version": "17", "identifier": "7301", "patroni": True}],
        "scope": "postgresql",
    }


def pair(directory, name, days, key=None):
    """A certificate that began ten days ago and is good for so many, and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=10)
    made = x509.CertificateBuilder(
        subject, subject, key.public_key(), 1, begin, begin + datetime.timedelta(days=days)
    ).sign(key, hashes.SHA256())
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    lay(directory, {f"{name}.crt": made.public_bytes(serialization.Encoding.PEM), f"{name}.key": secret})
    return str(directory / f"{name}.crt"), str(directory / f"{name}.key")


def test_a_certificate_is_compared_with_its_key_and_the_day(tmp_path):
    good, key = pair(tmp_path, "good", 20)
    expired = pair(tmp_path, "expired", 5)
    assert host_state.certificate(good, key) == ""
    assert host_state.certificate(good, expired[1]) == f"isn't that of the key {expired[1]}"
    assert host_state.certificate(*expired).startswith("has expired on ")
    assert host_state.certificate(key, key).startswith(f"or its key {key} can't be read: ")
    assert host_state.certificate(str(tmp_path / "later.crt"), key) == ""
