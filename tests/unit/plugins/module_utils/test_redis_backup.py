"""Which backups together restore a Redis Cluster."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.backup_files import Problem
from ansible_collections.sutazai.platform.plugins.module_utils.redis_backup import (
    parse_slots,
    plan,
    refusal,
    text_of_slots,
)

MEMBERS = ["redis-1", "redis-2", "redis-3"]


def backup(host, hour, slots, keys=10, role="master"):
    name = f"redis-20261124T{hour:02}0000Z.rdb"
    return {
        "host": host,
        "name": name,
        "path": f"/var/backups/redis/{name}",
        "time": name[6:-4],
        "size_bytes": 100,
        "about": {"slots": slots, "key_count": keys, "role": role, "memory_bytes": 5},
    }


WHOLE = [backup("redis-1", 10, "0-5460"), backup("redis-2", 10, "5461-10922"), backup("redis-3", 10, "10923-16383")]


def used(chosen):
    return {(one["host"], one["time"][9:11]): one["slots"] for one in chosen}


def test_slots_are_read_and_written_as_redis_does():
    assert parse_slots("0-2 9") == {0, 1, 2, 9}
    assert text_of_slots({9, 2, 1, 0}) == "0-2 9"
    assert parse_slots("") == set()


def test_the_newest_of_each_shard():
    older = [backup("redis-1", 9, "0-5460"), backup("redis-5", 9, "5461-10922", role="replica")]
    chosen = plan(WHOLE + older, "", MEMBERS)
    assert used(chosen) == {
        ("redis-1", "10"): "0-5460",
        ("redis-2", "10"): "5461-10922",
        ("redis-3", "10"): "10923-16383",
    }
    assert {one["on"] for one in chosen} == set(MEMBERS)
    assert (chosen[0]["memory_bytes"], chosen[0]["key_count"]) == (5, 10)


def test_a_replicas_backup_stands_in_for_a_lost_masters():
    chosen = plan([*WHOLE[1:], backup("redis-4", 9, "0-5460", role="replica")], "", [*MEMBERS[1:], "redis-4"])
    assert used(chosen)["redis-4", "09"] == "0-5460"


def test_of_the_same_moment_the_masters_counts():
    assert ("redis-1", "10") in used(plan([backup("redis-4", 10, "0-5460", role="replica"), *WHOLE], "", MEMBERS))


def test_after_slots_moved_each_is_taken_from_the_newest_that_has_it():
    moved = backup("redis-4", 11, "0-99 6000-6099")
    assert used(plan([*WHOLE, moved], "", MEMBERS)) == {
        ("redis-4", "11"): "0-99 6000-6099",
        ("redis-1", "10"): "100-5460",
        ("redis-2", "10"): "5461-5999 6100-10922",
        ("redis-3", "10"): "10923-16383",
    }


def test_a_time_leaves_younger_backups_out():
    empty = [backup(one["host"], 12, one["about"]["slots"], keys=0) for one in WHOLE]
    assert {hour for _host, hour in used(plan(WHOLE + empty, "20261124T110000Z", MEMBERS))} == {"10"}


def test_a_missing_shard_is_refused():
    with pytest.raises(Problem, match=r"5462 of 16384 slots \(5461-10922\) are in no backup"):
        plan([WHOLE[0], WHOLE[2]], "", MEMBERS)
    with pytest.raises(Problem, match="no usable backup"):
        plan([], "", MEMBERS)


def test_a_backup_that_doesnt_know_its_slots_is_not_used():
    with pytest.raises(Problem, match="in no backup"):
        plan([{**WHOLE[0], "about": {}}, *WHOLE[1:]], "", MEMBERS)


def test_backups_of_the_emptied_cluster_are_refused():
    empty = [backup(one["host"], 12, one["about"]["slots"], keys=0) for one in WHOLE]
    with pytest.raises(Problem, match="are empty.*Give restore_from a time"):
        plan(WHOLE + empty, "", MEMBERS)


def test_one_shards_file_is_no_restore():
    with pytest.raises(Problem, match="has to be a time"):
        plan(WHOLE, "redis-1", MEMBERS)


def test_backups_on_the_controller_are_spread_over_the_members():
    chosen = plan(WHOLE, "/copies/redis", MEMBERS, "/var/backups/redis/restoring")
    assert [one["on"] for one in chosen] == MEMBERS
    assert all(one["path"].startswith(f"/var/backups/redis/restoring/{one['host']}-redis-") for one in chosen)
    assert chosen[0]["source"].startswith("/var/backups/redis/redis-")


def test_live_keys_are_counted_in_the_refusal():
    assert refusal({"redis-1": 0}) == ""
    assert "there are 12 keys in the cluster (redis-1: 5, redis-2: 7)" in refusal(
        {"redis-1": 5, "redis-2": 7, "redis-3": 0}
    )
