"""Backups as files: their names, how one is taken, which is chosen; and the programs that the roles put on the hosts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import backup_files
from ansible_collections.sutazai.platform.plugins.module_utils.backup_files import Problem, choose, found, take

ROOT = Path(__file__).resolve().parents[4]
MOMENT = 1795557600  # 2026-11-24 22:00 UTC


def backup(host, name, component="consul"):
    return {"host": host, "name": name, "path": f"/b/{name}", "time": backup_files.time_of(name, component)}


def writes(text):
    def make(path):
        Path(path).write_text(text)
        return {"keys": len(text)}

    return make


def test_a_name_says_component_and_time():
    assert backup_files.file_name("redis", MOMENT) == "redis-20261124T220000Z.rdb"
    assert backup_files.time_of("redis-20261124T220000Z.rdb", "redis") == "20261124T220000Z"
    assert backup_files.seconds_of("20261124T220000Z") == MOMENT


@pytest.mark.parametrize(
    "name", ["redis-20261124T220000Z.rdb.about", "redis-2026.rdb", ".partial", "consul-20261124T220000Z.snap"]
)
def test_other_names_are_no_backups_of_redis(name):
    assert backup_files.time_of(name, "redis") == ""


def test_a_backup_is_taken_with_what_it_holds(tmp_path):
    made = take(str(tmp_path), "redis", 3, writes("four"), MOMENT)
    assert made["path"] == str(tmp_path / "redis-20261124T220000Z.rdb")
    assert made["size_bytes"] == 4
    assert made["about"] == {"keys": 4}
    assert os.stat(made["path"]).st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["redis-20261124T220000Z.rdb", "redis-20261124T220000Z.rdb.about"]


def test_the_oldest_go_with_what_stood_beside_them(tmp_path):
    for hour in range(5):
        take(str(tmp_path), "redis", 2, writes("x"), MOMENT + 3600 * hour)
    assert [one["time"] for one in found(str(tmp_path), "redis")] == ["20261125T020000Z", "20261125T010000Z"]
    assert len(os.listdir(tmp_path)) == 4


def test_a_failed_one_leaves_nothing_and_takes_nothing_away(tmp_path):
    take(str(tmp_path), "redis", 1, writes("old"), MOMENT)

    def half(path):
        Path(path).write_text("half")
        raise Problem("the disk is full")

    with pytest.raises(Problem, match="the disk is full"):
        take(str(tmp_path), "redis", 1, half, MOMENT + 60)
    assert [one["time"] for one in found(str(tmp_path), "redis")] == ["20261124T220000Z"]
    assert not (tmp_path / ".partial").exists()


def test_what_a_killed_run_left_is_no_backup_and_is_cleared_away(tmp_path):
    (tmp_path / ".partial").write_text("half")
    (tmp_path / "redis-20261124T210000Z.rdb.about").write_text("{}")
    assert found(str(tmp_path), "redis") == []
    take(str(tmp_path), "redis", 2, writes("x"), MOMENT)
    assert sorted(os.listdir(tmp_path)) == ["redis-20261124T220000Z.rdb", "redis-20261124T220000Z.rdb.about"]


def test_no_directory_has_no_backups(tmp_path):
    assert found(str(tmp_path / "missing"), "redis") == []


BACKUPS = [
    backup("consul-1", "consul-20261124T200000Z.snap"),
    backup("consul-1", "consul-20261124T220000Z.snap"),
    backup("consul-2", "consul-20261124T210000Z.snap"),
]


@pytest.mark.parametrize(
    ("wanted", "host", "hour"),
    [
        ("", "consul-1", "22"),
        ("consul-2", "consul-2", "21"),
        ("consul-1/consul-20261124T200000Z.snap", "consul-1", "20"),
        ("consul-20261124T210000Z.snap", "consul-2", "21"),
        ("20261124T215959Z", "consul-2", "21"),
    ],
)
def test_the_newest_of_what_is_wanted_is_chosen(wanted, host, hour):
    chosen = choose(BACKUPS, wanted)
    assert (chosen["host"], chosen["time"]) == (host, f"20261124T{hour}0000Z")


def test_an_unknown_one_is_refused_with_what_there_is():
    with pytest.raises(Problem, match=r"restore_from \(consul-9\).*There are: consul-1/consul-20261124T220000Z.snap, "):
        choose(BACKUPS, "consul-9")
    with pytest.raises(Problem, match="no backup on any host"):
        choose([], "")


# ------------------------------------------------------------------------------------------- the programs on the hosts


@pytest.fixture
def program(tmp_path):
    """Runs a role's program beside stand-ins for the commands that it calls."""
    commands, backups = tmp_path / "bin", tmp_path / "backups"
    commands.mkdir()
    backups.mkdir()

    def run(role, *arguments, **stand_ins):
        here = tmp_path / role
        here.mkdir(exist_ok=True)
        shutil.copy(ROOT / f"roles/{role}/files/take-backup", here)
        shutil.copy(ROOT / "plugins/module_utils/backup_files.py", here)
        for name, script in stand_ins.items():
            path = commands / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)
        command = [sys.executable, "-B", str(here / "take-backup"), str(backups), "2", *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={"PATH": f"{commands}:{os.environ['PATH']}"}
        )
        return done, found(str(backups), role)

    program_run = run
    program_run.commands = commands
    return program_run


LAST = 'for last; do :; done; echo "$last" >/dev/null;'  # the last argument is the path


def test_rabbitmqs_definitions_are_counted(program):
    content = {"users": [{"name": "admin"}], "vhosts": [{"name": "/"}], "queues": [{}, {}]}
    done, backups = program("rabbitmq", rabbitmqctl=f"{LAST} echo '{json.dumps(content)}' > \"$last\"")
    assert done.returncode == 0, done.stderr
    assert backups[0]["about"]["queues"] == 2


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (f'{LAST} echo broken > "$last"', "wrote no JSON"),
        (f"{LAST} echo '{{}}' > \"$last\"", "no users or no virtual hosts"),
        ("echo node is down >&2; exit 69", "rabbitmqctl ended with 69: node is down"),
    ],
)
def test_a_backup_of_rabbitmq_that_is_none_fails_with_a_sentence(program, script, why):
    done, backups = program("rabbitmq", rabbitmqctl=script)
    assert done.returncode == 1
    assert done.stderr.startswith("No backup of rabbitmq was taken: ")
    assert why in done.stderr
    assert backups == []


def nodes_conf(tmp_path, *lines):
    path = tmp_path / "nodes.conf"
    path.write_text("\n".join(lines) + "\nvars currentEpoch 6 lastVoteEpoch 0\n")
    return path


MASTER = "aaa 10.0.0.1:6379@16379 {flags}master - 0 0 1 connected 0-5460 9000{moving}"
REPLICA = "bbb 10.0.0.2:6379@16379 {flags}slave aaa 0 0 1 connected"
CHECKED = r"""printf "AUX FIELD redis-ver = '8.0.2'\nAUX FIELD used-mem = '1700'\n\\o/ RDB looks OK! \\o/\n[info] 7 keys read\n" """


@pytest.fixture
def redis(program, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("secret\n")

    def run(topology, dump=f'{LAST} [ "$REDISCLI_AUTH" = secret ] && echo data > "$last"', check=CHECKED):
        return program("redis", "/s", "replication", secret, topology, redis_cli=dump, redis_check_rdb=check)

    return run


def test_a_masters_backup_knows_its_slots(redis, tmp_path):
    topology = nodes_conf(tmp_path, MASTER.format(flags="myself,", moving=""), REPLICA.format(flags=""))
    done, backups = redis(topology)
    assert done.returncode == 0, done.stderr
    assert backups[0]["about"] == {
        "node_id": "aaa",
        "role": "master",
        "slots": "0-5460 9000",
        "key_count": 7,
        "memory_bytes": 1700,
        "redis_version": "8.0.2",
    }


def test_a_replicas_backup_knows_its_masters_slots(redis, tmp_path):
    topology = nodes_conf(tmp_path, MASTER.format(flags="", moving=""), REPLICA.format(flags="myself,"))
    about = redis(topology)[1][0]["about"]
    assert (about["node_id"], about["role"], about["slots"]) == ("bbb", "replica", "0-5460 9000")


def test_a_server_in_no_cluster_has_all_slots(redis, tmp_path):
    assert redis(tmp_path / "none")[1][0]["about"]["slots"] == "0-16383"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"moving": " [100->-ccc]"}, "slots of this shard are being moved"),
        ({"dump": "echo NOMASTERLINK >&2; exit 1"}, "redis-cli ended with 1: NOMASTERLINK"),
        ({"check": "echo Unexpected EOF; exit 1"}, "redis-check-rdb ended with 1: Unexpected EOF"),
        ({"check": "echo nothing"}, "doesn't find the snapshot in order"),
    ],
)
def test_a_backup_of_redis_that_is_none_fails_with_a_sentence(redis, tmp_path, changed, why):
    topology = nodes_conf(tmp_path, MASTER.format(flags="myself,", moving=changed.pop("moving", "")))
    done, backups = redis(topology, **changed)
    assert done.returncode == 1
    assert why in done.stderr
    assert backups == []


def test_slots_that_move_while_a_backup_is_taken_make_it_none(redis, tmp_path):
    topology = nodes_conf(tmp_path, MASTER.format(flags="myself,", moving=""))
    done, backups = redis(topology, dump=f"{LAST} echo data > \"$last\"; sed -i 's/ 9000//' {topology}")
    assert done.returncode == 1
    assert "role or slots changed" in done.stderr
    assert backups == []


CONSUL = f"""case "$2" in
save) {LAST} echo state > "$last" ;;
inspect) echo '{{"Meta": {{"Index": 77}}, "Stats": [{{"Name": "KVS", "Count": 5}}, {{"Name": "ACLToken", "Count": 9}}]}}' ;;
esac"""


def test_consuls_snapshot_is_inspected(program):
    done, backups = program("consul", program.commands / "consul", "http://127.0.0.1:8500", "/t", consul=CONSUL)
    assert done.returncode == 0, done.stderr
    assert backups[0]["about"] == {"index": 77, "key_count": 5, "token_count": 9}


def test_a_snapshot_that_consul_refuses_is_no_backup(program):
    script = CONSUL.replace("inspect) echo", "inspect) exit 1; echo")
    done, backups = program("consul", program.commands / "consul", "http://127.0.0.1:8500", "/t", consul=script)
    assert done.returncode == 1
    assert backups == []


@pytest.mark.parametrize(
    ("any_backup", "age", "limit", "said"),
    [
        (True, 3600, 0, ""),
        (True, 10800, 10800, ""),
        (True, 12600, 10800, "is 3.5 h old, and 3.0 h is allowed"),
        (False, 60, 10800, ""),
        (False, 12600, 10800, "There is no backup of redis yet"),
        (False, -1, 10800, "There is no backup of redis yet"),
    ],
)
def test_an_old_backup_is_a_problem(any_backup, age, limit, said):
    problem = backup_files.age_problem("redis", any_backup, age, limit)
    assert said in problem
    assert bool(said) == bool(problem)


def test_a_snapshot_that_was_cut_short_is_asked_for_again(program, tmp_path):
    once = f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; echo 'read: connection reset by peer' >&2; exit 1; }};"
    script = CONSUL.replace("save)", f"save) {once}")
    done, backups = program("consul", program.commands / "consul", "http://127.0.0.1:8500", "/t", consul=script)
    assert done.returncode == 0, done.stderr
    assert "attempt 1 of 5" in done.stdout
    assert len(backups) == 1


def test_a_refused_snapshot_is_not_asked_for_again(program):
    script = CONSUL.replace("save)", "save) echo 'Permission denied' >&2; exit 1;")
    done, backups = program("consul", program.commands / "consul", "http://127.0.0.1:8500", "/t", consul=script)
    assert done.returncode == 1
    assert "attempt" not in done.stdout
    assert backups == []
