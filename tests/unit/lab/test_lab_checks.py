import ipaddress

import pytest

from lab import checks, kernel
from lab.errors import LabError
from lab.inventory import Host

SUBNET = ipaddress.IPv4Network("10.203.0.0/24")


def interface(name, address, prefix=24):
    return {"ifname": name, "addr_info": [{"family": "inet", "local": address, "prefixlen": prefix}]}


@pytest.mark.parametrize(
    ("addresses", "routes", "expected"),
    [
        ([], [], 0),
        ([interface("eth0", "192.0.2.2")], [{"dst": "default", "dev": "eth0"}], 0),
        ([interface("sutazai-lab", "10.203.0.1")], [{"dst": "10.203.0.0/24", "dev": "sutazai-lab"}], 0),
        ([], [{"type": "unreachable", "dst": "10.203.0.0/24"}], 0),
        ([interface("tun0", "10.203.0.9")], [{"dst": "10.203.0.0/24", "dev": "tun0"}], 1),
        ([interface("eth0", "10.1.2.3", 8)], [], 1),
        ([], [{"dst": "10.203.0.128/25", "dev": "vpn"}], 1),
        ([], [{"dst": "10.203.0.7", "dev": "vpn"}], 1),
        ([], [{"type": "unreachable", "dst": "10.0.0.0/8"}], 1),
    ],
)
def test_who_else_uses_the_subnet(addresses, routes, expected):
    conflicts = checks.subnet_conflicts(SUBNET, "sutazai-lab", addresses, routes)
    assert len(conflicts) == expected, conflicts


def test_a_used_subnet_is_refused_with_the_way_out():
    with pytest.raises(LabError, match="tun0") as caught:
        checks.require_free_subnet(SUBNET, ["interface tun0 has 10.203.0.9/24"])
    assert "LAB_SUBNET=" in caught.value.way_out


def test_memory_grows_with_what_the_hosts_run():
    client = Host("client-1", 91, ("clients",))
    database = Host("postgresql-1", 41, ("postgresql",))
    assert checks.memory_needed([client]) < checks.memory_needed([database]) < checks.memory_needed([client, database])


def test_too_little_memory_is_refused():
    checks.require_memory(8 * checks.GIB, 6 * checks.GIB, 16)
    with pytest.raises(LabError, match=r"2\.0 GiB of memory are available, 16 hosts need 6\.0 GiB") as caught:
        checks.require_memory(2 * checks.GIB, 6 * checks.GIB, 16)
    assert "HOSTS=" in caught.value.way_out


def test_too_little_disk_is_refused():
    with pytest.raises(LabError, match="/var/lib/docker") as caught:
        checks.require_disk("/var/lib/docker", checks.GIB, 2 * checks.GIB)
    assert "LAB_CACHE=" in caught.value.way_out


def test_a_build_needs_more_disk():
    hosts = [Host("a", 3)]
    assert checks.disk_needed(hosts, build=True)[1] > checks.disk_needed(hosts, build=False)[1]


def test_available_memory_is_read():
    assert checks.memory_available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n") == 2048 * 1024


def test_kernel_limits_are_only_raised():
    name = "fs/inotify/max_user_instances"
    assert kernel.too_low({name: 128}) == {name: kernel.WANTED[name]}
    assert kernel.too_low({name: 10**6}) == {}
    assert kernel.too_low({}) == {}
