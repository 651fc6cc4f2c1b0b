from pathlib import Path

import pytest

from lab import inventory
from lab.errors import LabError

ROOT = Path(__file__).parents[3]


def one(**host_vars):
    return {"all": {"children": {"redis": {"hosts": {"redis-1": host_vars}}}}}


def test_the_labs_own_inventory_is_understood():
    hosts = {host.name: host for host in inventory.load(ROOT / "inventories" / "lab" / "hosts.yml")}
    assert hosts["consul-1"].index == 11
    assert hosts["postgresql-3"].groups == ("postgresql",)


def test_a_second_file_adds_hosts_and_groups():
    files = [ROOT / "inventories" / "lab" / "hosts.yml", ROOT / "tests" / "e2e" / "grown.yml"]
    hosts = {host.name: host for host in inventory.load(*files)}
    assert hosts["consul-1"].index == 11
    assert hosts["redis-8"] == inventory.Host("redis-8", 38, ("redis",))
    with pytest.raises(LabError, match="nonsense.yml isn't there"):
        inventory.load(files[0], ROOT / "nonsense.yml")


def test_groups_of_a_host_include_their_parents():
    tree = {"all": {"children": {"data": {"children": {"redis": {"hosts": {"redis-1": {"lab_address_index": 31}}}}}}}}
    assert inventory.parse(tree)[0].groups == ("data", "redis")


def test_a_host_in_two_groups_is_one_host():
    tree = one(lab_address_index=31)
    tree["all"]["children"]["clients"] = {"hosts": {"redis-1": None}}
    assert inventory.parse(tree) == [inventory.Host("redis-1", 31, ("redis", "clients"))]


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        (one(), "no lab_address_index"),
        (one(lab_address_index="31"), "no lab_address_index"),
        (one(lab_address_index=2), "the mirror"),
        (one(lab_address_index=300), r"outside 3\.\.254"),
        ({"all": {"hosts": {"a": {"lab_address_index": 9}, "b": {"lab_address_index": 9}}}}, "Hosts a and b"),
        (one(lab_address_index=31, lab_memory_mb="much"), "lab_memory_mb 'much'"),
        ({"all": {}}, "no hosts"),
    ],
)
def test_a_wrong_inventory_is_refused_with_its_reason(tree, says):
    with pytest.raises(LabError, match=says) as caught:
        inventory.parse(tree)
    assert caught.value.way_out


def test_select_takes_hosts_and_groups():
    hosts = [inventory.Host("a", 3, ("redis",)), inventory.Host("b", 4, ("redis",)), inventory.Host("c", 5, ("other",))]
    assert inventory.select(hosts, []) == hosts
    assert [host.name for host in inventory.select(hosts, ["redis"])] == ["a", "b"]
    assert [host.name for host in inventory.select(hosts, ["c", "a"])] == ["a", "c"]
    with pytest.raises(LabError, match="nonsense"):
        inventory.select(hosts, ["nonsense"])
