"""What a host holds before Patroni is set up on it."""

import struct

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import patroni_host

PATH = "/var/lib/postgresql/17/postgresql"


def make(root, files):
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content) if isinstance(content, bytes) else file.write_text(content)


def test_an_empty_directory(tmp_path):
    assert patroni_host.data_directory(str(tmp_path)) == {"present": False, "version": "", "system_identifier": ""}


def test_the_identifier_is_read_from_pg_control(tmp_path):
    make(tmp_path, {"PG_VERSION": "17\n", "global/pg_control": struct.pack("<Q", 7711562886193480413) + b"rest"})
    assert patroni_host.data_directory(str(tmp_path)) == {
        "present": True,
        "version": "17",
        "system_identifier": "7711562886193480413",
    }


@pytest.mark.parametrize("content", [b"", b"\0" * 8])
def test_a_cluster_that_initdb_did_not_finish(tmp_path, content):
    make(tmp_path, {"PG_VERSION": "17\n", "global/pg_control": content})
    assert patroni_host.data_directory(str(tmp_path))["system_identifier"] == ""


def test_debians_clusters_but_ours(tmp_path):
    make(
        tmp_path,
        {
            "17/main/postgresql.conf": "data_directory = '/var/lib/postgresql/17/main'",
            "17/ours/postgresql.conf": f"data_directory = '{PATH}'",
        },
    )
    assert patroni_host.debian_clusters(str(tmp_path), PATH) == ["17/main"]


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "1000",
                "sys/fs/cgroup/a/b/memory.max": "max",
            },
            1000,
        ),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "500",
                "sys/fs/cgroup/a/b/memory.max": "900",
            },
            500,
        ),
        ({"proc/self/cgroup": "4:memory:/d/x\n", "sys/fs/cgroup/memory/d/x/memory.limit_in_bytes": "2000"}, 2000),
        (
            {
                "proc/self/cgroup": "4:memory:/d\n",
                "sys/fs/cgroup/memory/d/memory.limit_in_bytes": "9223372036854771712",
            },
            0,
        ),
        ({"proc/self/cgroup": "3:cpu:/d\n"}, 0),
        ({}, 0),
    ],
)
def test_memory_limits_of_control_groups(tmp_path, files, limit):
    make(tmp_path, files)
    assert patroni_host.cgroup_limit(str(tmp_path)) == limit


def test_memory_is_the_machines_or_less(tmp_path):
    make(tmp_path, {"proc/meminfo": "MemTotal:       4 kB\nMemFree: 1 kB\n"})
    assert patroni_host.memory_bytes(str(tmp_path)) == 4096
    make(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1024"})
    assert patroni_host.memory_bytes(str(tmp_path)) == 1024


def data(identifier="11", version="17", present=True):
    return {"present": present, "version": version, "system_identifier": identifier}


def problems(found, others=(), initialize="", peers=None):
    return patroni_host.problems(PATH, found, "17", list(others), initialize, peers or {})


def test_nothing_speaks_against_an_empty_host_or_our_own_data():
    assert problems(data("", "", False)) == []
    assert problems(data("", "", False), initialize="11", peers={"pg-2": "11"}) == []
    assert problems(data(), initialize="11", peers={"pg-1": "", "pg-2": "11"}) == []
    assert problems(data()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"found": data(), "initialize": "12"}, "system identifier is 11, that of Consul"),
        ({"found": data(), "peers": {"pg-2": "12"}}, "that of pg-2 is 12. It was not touched"),
        ({"found": data(version="15")}, "PostgreSQL 15, but this role would run 17"),
        ({"found": data("", "", False), "others": ["17/main"]}, "Debian's own PostgreSQL cluster 17/main"),
    ],
)
def test_what_is_never_overwritten(arguments, words):
    found = problems(**arguments)
    assert len(found) == 1
    assert words in found[0]
