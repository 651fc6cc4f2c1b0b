"""What a host is, laid out in a directory."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import host

MIB = 1024**2
GIB = 1024**3
MEMINFO = "MemTotal:        8388608 kB\nMemFree:          123 kB\n"
NO_LIMIT = "9223372036854771712\n"


def lay(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return str(root)


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, 8 * GIB),
        ({"proc/1/cgroup": "0::/init.scope\n"}, 8 * GIB),
        ({"proc/1/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 8 * GIB),
        ({"sys/fs/cgroup/memory.max": f"{512 * MIB}\n"}, 512 * MIB),
        (
            {
                "proc/1/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": f"{GIB}\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
            },
            GIB,
        ),
        (
            {
                "proc/1/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": f"{GIB}\n",
                "sys/fs/cgroup/a/b/memory.max": f"{2 * GIB}\n",
            },
            GIB,
        ),
        (
            {
                "proc/1/cgroup": "4:cpu,memory:/docker/abc/init.scope\n0::/docker/abc\n",
                "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{2 * GIB}\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT,
                "sys/fs/cgroup/docker/abc/memory.max": "max\n",
            },
            2 * GIB,
        ),
        ({"proc/1/cgroup": "4:memory:/d\n", "sys/fs/cgroup/memory/d/memory.limit_in_bytes": NO_LIMIT}, 8 * GIB),
        ({"proc/1/cgroup": "3:cpu:/d\n", "sys/fs/cgroup/memory/d/memory.limit_in_bytes": "1000"}, 8 * GIB),
        ({"proc/1/cgroup": "0::/user.slice\n", "sys/fs/cgroup/user.slice/memory.max": "0\n"}, 8 * GIB),
    ],
)
def test_memory_is_the_machines_or_what_control_groups_leave(tmp_path, files, wanted):
    assert host.memory_bytes(lay(tmp_path, {"proc/meminfo": MEMINFO, **files})) == wanted


def test_memory_of_nothing(tmp_path):
    assert host.memory_bytes(str(tmp_path)) == 0


def test_files_of_a_group_and_those_above():
    assert host.memory_limit_files("0::/a/b\n")[2:] == ["sys/fs/cgroup/a/b/memory.max", "sys/fs/cgroup/a/memory.max"]


def test_small_differences_are_none():
    assert host.in_grains(8400000 * 1024) == host.in_grains(8395000 * 1024)
    assert host.in_grains(1) == host.GRAIN_BYTES


def test_a_file_that_is_not_there(tmp_path):
    assert host.text(str(tmp_path / "none")) == ""
    assert host.text(str(tmp_path)) == ""
