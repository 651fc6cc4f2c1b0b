"""Inventory files as they are written, before Ansible merges them."""

from __future__ import annotations

from ansible_collections.sutazai.platform.plugins.module_utils.preflight import model, sources, topology


def entries(tmp_path, **files):
    for name, text in files.items():
        (tmp_path / name.replace("_", ".")).write_text(text)
    found = sources.inventory_files([str(tmp_path)])
    return sources.read(found, {file: file.rsplit("/", 1)[1] for file in found})


def test_hosts_and_groups_of_yaml_with_their_lines(tmp_path):
    hosts, groups = entries(
        tmp_path,
        a_yml="all:\n  children:\n    redis:\n      hosts:\n        r1: {ansible_host: 10.0.0.1}\n        r2:\n",
    )
    assert [(host.name, host.group, host.place, host.variables) for host in hosts] == [
        ("r1", "redis", "a.yml:5", {"ansible_host": "10.0.0.1"}),
        ("r2", "redis", "a.yml:6", {}),
    ]
    assert [(group.name, group.line) for group in groups] == [("all", 1), ("redis", 3)]


def test_a_name_twice_in_one_group_of_one_file_is_seen(tmp_path):
    hosts, groups = entries(
        tmp_path, a_yml="redis:\n  hosts:\n    r1: {ansible_host: 10.0.0.1}\n    r1: {ansible_host: 10.0.0.2}\n"
    )
    inventory = model.Inventory(host_entries=hosts, group_entries=groups)
    assert "10.0.0.1 (a.yml:3) and 10.0.0.2 (a.yml:4)" in topology.duplicate_hosts(inventory)[0].what


def test_ini(tmp_path):
    text = (
        "lonely\n[redis]\nr1 ansible_host=10.0.0.1  # first\n[db:children]\nredis\n[redis:vars]\nx=1\n[other]\nr1 "
        "ansible_host=10.0.0.9\n"
    )
    hosts, groups = entries(tmp_path, hosts_ini=text)
    assert [(host.name, host.group, host.variables) for host in hosts] == [
        ("lonely", "ungrouped", {}),
        ("r1", "redis", {"ansible_host": "10.0.0.1"}),
        ("r1", "other", {"ansible_host": "10.0.0.9"}),
    ]
    assert [group.name for group in groups] == ["redis", "db", "redis", "other"]
    problems = topology.duplicate_hosts(model.Inventory(host_entries=hosts, group_entries=groups))
    assert len(problems) == 1


def test_what_is_no_inventory_file_is_left_alone(tmp_path):
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("x: 1\n")
    (tmp_path / "script").write_text("#!/bin/sh\n")
    (tmp_path / "script").chmod(0o755)
    hosts, groups = entries(tmp_path, plugin_yml="plugin: constructed\n", broken_yml="a: [\n", notes_md="# x\n")
    assert (hosts, groups) == ([], [])
    assert sources.inventory_files(["host,"]) == []
