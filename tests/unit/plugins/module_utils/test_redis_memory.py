"""Memory that a process can really have."""

from __future__ import annotations

from ansible_collections.sutazai.platform.plugins.module_utils.redis_memory import cgroup_limit_files, memory_bytes

GIB = 1024**3
MEMINFO = "MemTotal:        8388608 kB\nMemFree:          123 kB\n"


def test_a_host_without_limits():
    assert memory_bytes({"/proc/meminfo": MEMINFO, "/proc/1/cgroup": "0::/init.scope\n"}.get) == 8 * GIB


def test_a_container_with_a_limit_above_its_own_group():
    files = {
        "/proc/meminfo": MEMINFO,
        "/proc/1/cgroup": "4:cpu,memory:/docker/abc/init.scope\n0::/docker/abc\n",
        "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{2 * GIB}\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "/sys/fs/cgroup/docker/abc/memory.max": "max\n",
    }
    assert memory_bytes(files.get) == 2 * GIB


def test_small_differences_are_none():
    assert memory_bytes({"/proc/meminfo": "MemTotal: 8400000 kB\n"}.get) == memory_bytes(
        {"/proc/meminfo": "MemTotal: 8395000 kB\n"}.get
    )


def test_files_of_both_cgroup_versions():
    assert cgroup_limit_files("0::/a/b\n") == [
        "/sys/fs/cgroup/a/b/memory.max",
        "/sys/fs/cgroup/a/memory.max",
        "/sys/fs/cgroup/memory.max",
    ]
