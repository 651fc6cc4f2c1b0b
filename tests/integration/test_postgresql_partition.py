"""Partitions on real PostgreSQL servers: each version that is installed, or the server that the environment names."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.postgresql_server import (
    CHECKOUT,
    LockWaits,
    Place,
    Server,
    Writer,
    available,
    compare,
    connect,
    kill,
    ordinary_table,
    start,
)

SERVERS = available()
pytestmark = pytest.mark.skipif(
    not SERVERS,
    reason="no /usr/lib/postgresql/*/bin: install postgresql, or name a server in SUTAZAI_TEST_POSTGRESQL_HOST and the like",
)

COLUMNS = [
    {"name": "id", "type": "bigserial"},
    {"name": "agent_id", "type": "uuid"},
    {"name": "tenant_id", "type": "int"},
    {"name": "data", "type": "jsonb"},
    {"name": "created_at", "type": "timestamp"},
]
SEED = [
    {"name": "agent_data_tenant_1", "from": 1, "to": 1000},
    {"name": "agent_data_tenant_2", "from": 1000, "to": 2000},
]
AGENT_DATA = {
    "table": "agent_data",
    "key": "tenant_id",
    "columns": COLUMNS,
    "primary_key": ["tenant_id", "id"],
    "partitions": SEED,
}


@pytest.fixture(
    scope="module",
    params=SERVERS or [None],
    ids=lambda programs: f"postgresql-{programs.parent.name}" if programs else "given",
)
def server(request):
    started = start(request.param)
    yield started
    started.stop()


@pytest.fixture
def place(server):
    made = Place(server)
    yield made
    made.close()


def names(result: dict) -> list[str]:
    assert not result.get("failed"), result
    return [each["name"] for each in result["partitions"]]


def bound(place: Place, name: str) -> str:
    return place.value("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = %s::regclass", name)


def test_the_seeds_table_is_made_once_and_takes_the_seeds_rows(place):
    would = place.run(check=True, **AGENT_DATA)
    assert would["changed"], would
    assert "PARTITION BY RANGE" in would["diff"]["prepared"]
    assert place.value("SELECT to_regclass('agent_data')") is None, "check mode changes nothing"
    made = place.run(**AGENT_DATA)
    assert made["changed"]
    assert names(made) == ["agent_data_tenant_1", "agent_data_tenant_2"]
    assert bound(place, "agent_data_tenant_2") == "FOR VALUES FROM (1000) TO (2000)"
    for check in (True, False):
        again = place.run(check, **AGENT_DATA)
        assert not again["changed"], again["steps"]
    place.sql("INSERT INTO agent_data (tenant_id, data) SELECT n, '{}' FROM generate_series(1, 1999) AS n")
    told = place.run(**AGENT_DATA)
    assert [each["rows"] for each in told["partitions"]] == [999, 1000]
    assert all(each["rows_exact"] and each["bytes"] > 0 for each in told["partitions"])
    assert (
        place.value(
            "SELECT count(DISTINCT indisprimary) FROM pg_index WHERE indrelid = 'agent_data_tenant_2'::regclass"
        )
        == 1
    )


def test_a_rule_keeps_partitions_ahead_of_the_highest_tenant(place):
    declaration = {
        **AGENT_DATA,
        "rule": {"width": 1000, "keep_ahead": 2, "name": "{table}_tenant_{number}"},
        "gaps": "forbid",
    }
    assert names(place.run(**declaration))[2:] == ["agent_data_tenant_3", "agent_data_tenant_4"]
    place.sql("INSERT INTO agent_data (tenant_id) VALUES (2500)")
    assert names(place.run(**declaration))[2:] == ["agent_data_tenant_3", "agent_data_tenant_4", "agent_data_tenant_5"]
    assert not place.run(**declaration)["changed"]
    place.sql("DELETE FROM agent_data")
    assert not place.run(**declaration)["changed"], "what was made stays"


def test_nobody_waits_while_a_partition_is_added(place):
    place.run(**AGENT_DATA)
    with connect(place.login) as other:
        other.execute(f'SET search_path = "{place.schema}"')
        other.execute("BEGIN")
        other.execute("INSERT INTO agent_data (tenant_id) VALUES (1)")
        more = place.run(**{**AGENT_DATA, "partitions": [*SEED, {"from": 2000, "to": 3000}]}, lock_wait_seconds=1)
        assert more.get("changed"), more
        other.execute("INSERT INTO agent_data (tenant_id) VALUES (2001)")
        other.execute("COMMIT")


def test_detached_attached_again_and_dropped_only_when_told(place):
    place.run(**AGENT_DATA)
    place.sql("INSERT INTO agent_data (tenant_id) VALUES (1500)")
    detached = {**AGENT_DATA, "partitions": [SEED[0], {**SEED[1], "state": "detached"}]}
    result = place.run(**detached)
    assert names(result) == ["agent_data_tenant_1"]
    assert "CONCURRENTLY" in result["steps"][0]["sql"]
    assert not place.run(**detached)["changed"]
    assert place.value("SELECT count(*) FROM agent_data_tenant_2") == 1
    assert not place.run(**{**AGENT_DATA, "partitions": SEED[:1]})["changed"]
    assert names(place.run(**AGENT_DATA)) == ["agent_data_tenant_1", "agent_data_tenant_2"]
    assert place.value("SELECT count(*) FROM agent_data WHERE tenant_id = 1500") == 1
    absent = {**AGENT_DATA, "partitions": [SEED[0], {**SEED[1], "state": "absent"}]}
    assert names(place.run(**absent)) == ["agent_data_tenant_1"]
    assert place.value("SELECT to_regclass('agent_data_tenant_2')") is None
    assert not place.run(**absent)["changed"]


def test_a_detachment_that_was_interrupted_is_finished(place):
    place.run(**AGENT_DATA)
    declaration = {**AGENT_DATA, "partitions": [SEED[0], {**SEED[1], "state": "detached"}]}
    with connect(place.login) as other:
        other.execute(f'SET search_path = "{place.schema}"')
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM agent_data")
        begun = place.popen(**declaration)
        deadline = time.monotonic() + 20
        while not place.value(
            "SELECT bool_or(inhdetachpending) FROM pg_inherits WHERE inhparent = 'agent_data'::regclass"
        ):
            assert time.monotonic() < deadline, "the detachment hasn't begun"
            time.sleep(0.05)
        kill(begun)
        # The server notices that its client is gone when it wants to answer: cut the wait short as an operator would.
        place.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%%DETACH PARTITION%%' AND pid <> pg_backend_pid()"
        )
        other.execute("COMMIT")
    result = place.run(**declaration)
    assert [step["sql"].split()[-1] for step in result["steps"]] == ["FINALIZE;"], result
    assert not place.run(**declaration)["changed"]


def test_rows_in_the_default_partition(place):
    declaration = {**AGENT_DATA, "default_partition": {"state": "present"}}
    assert names(place.run(**declaration))[-1] == "agent_data_default"
    place.sql("INSERT INTO agent_data (tenant_id) VALUES (2000), (2500), (9000), (1)")
    declaration["partitions"] = [*SEED, {"name": "agent_data_tenant_3", "from": 2000, "to": 3000}]
    refused = place.run(**declaration)
    assert "2 rows of its range are in the default partition agent_data_default" in refused["msg"]
    declaration["default_partition"] = {"state": "present", "move_rows": True}
    moved = place.run(**declaration)
    assert moved["changed"], moved
    assert moved["default_rows"] == {"2000 to 3000": 2, "no declared range": 1}
    assert "1 rows for which no range is declared" in str(moved["warnings"])
    assert place.value("SELECT count(*) FROM agent_data_tenant_3") == 2
    assert place.value("SELECT count(*) FROM agent_data") == 4
    assert not place.run(**declaration)["changed"]
    detached = {**declaration, "partitions": [{**SEED[0], "state": "detached"}, *declaration["partitions"][1:]]}
    result = place.run(**detached)
    assert "CONCURRENTLY" not in result["steps"][0]["sql"], "PostgreSQL refuses that with a default partition"
    gone = {**declaration, "partitions": declaration["partitions"][1:], "default_partition": {"state": "absent"}}
    assert "holds 1 rows for which no range is declared" in place.run(**gone)["msg"]
    place.sql("DELETE FROM agent_data WHERE tenant_id = 9000")
    assert place.run(**gone)["changed"]
    assert place.value("SELECT to_regclass('agent_data_default')") is None


def test_a_lock_is_not_waited_for_for_long_and_its_holder_is_named(place):
    declaration = {**AGENT_DATA, "default_partition": {"state": "present"}}
    place.run(**declaration)
    with connect(place.login, application_name="slow report") as other:
        other.execute(f'SET search_path = "{place.schema}"')
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM agent_data")
        waits = LockWaits(place)
        waits.start()
        stuck = place.popen(**{**declaration, "partitions": [*SEED, {"from": 2000, "to": 3000}]}, lock_wait_seconds=2)
        while stuck.poll() is None:
            place.sql("INSERT INTO agent_data (tenant_id) VALUES (7777)")
            time.sleep(0.02)
        out, _err = stuck.communicate()
        assert "slow report" in out
        assert 0 < waits.stop() < 1, "a writer into the default partition waits for each attempt, but not for long"
        other.execute("COMMIT")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"partitions": [*SEED, {"from": 1999, "to": 3000}]}, "overlap"),
        ({"partitions": [{**SEED[0], "to": 900}, SEED[1]]}, "with other bounds, 1 to 1000"),
        ({"partitions": [*SEED, {"from": 2500, "to": 3000}], "gaps": "forbid"}, "no partition for 2000 to 2500"),
        ({"partitions": [*SEED, {"from": 2000, "to": 2**31 + 5}]}, "doesn't fit the type integer"),
        ({"primary_key": ["id"]}, "is without tenant_id"),
        ({"key": "id", "columns": []}, "partitioned by range (tenant_id), not by range (id)"),
        ({"table": "agent_data_tenant_1"}, "is an ordinary table"),
    ],
)
def test_what_is_refused_changes_nothing(place, changes, says):
    place.run(**AGENT_DATA)
    before = place.sql("SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class ORDER BY oid")
    refused = place.run(**{**AGENT_DATA, **changes})
    assert refused.get("failed"), refused
    assert says in refused["msg"]
    assert place.sql("SELECT relname, pg_get_expr(relpartbound, oid) FROM pg_class ORDER BY oid") == before


# --- the timer ---

UTILITIES = CHECKOUT / "plugins" / "module_utils"
PARTS = ("apply", "catalog", "conversion", "partition", "ranges", "session")
PYTHONS = [sys.executable, "/usr/bin/python3"]  # with psycopg, and with what the hosts have


def drivers(python: str) -> bool:
    command = [
        python,
        "-c",
        "import importlib.util as u; raise SystemExit(not (u.find_spec('psycopg') or u.find_spec('psycopg2')))",
    ]
    return Path(python).exists() and subprocess.run(command, check=False).returncode == 0


@pytest.fixture(params=PYTHONS, ids=["psycopg", "of-the-system"])
def timer(request, place, tmp_path):
    """What patroni-partitions.service runs, installed as the role does it."""
    if not drivers(request.param):
        pytest.skip(f"{request.param} has neither psycopg nor psycopg2: install python3-psycopg2")
    if "login_unix_socket" not in place.login:
        pytest.skip("the timer's program uses the socket, so it needs a server of our own")
    code = tmp_path / "ansible_collections/sutazai/platform/plugins/module_utils"
    code.mkdir(parents=True)
    for directory in [code, *list(code.parents)[:4]]:
        (directory / "__init__.py").touch()
    for part in PARTS:
        shutil.copy(UTILITIES / f"postgresql_{part}.py", code)
    program = tmp_path / "keep-partitions"
    shutil.copy(CHECKOUT / "roles/patroni/files/keep-partitions", program)

    def run(*tables: dict) -> subprocess.CompletedProcess:
        declaration = tmp_path / "partitions.json"
        declaration.write_text(
            json.dumps([{"database": "postgres", "schema": place.schema, **table} for table in tables])
        )
        command = [
            request.param,
            program,
            declaration,
            place.login["login_unix_socket"],
            str(place.login["login_port"]),
            "postgres",
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    return run


def test_the_timer_adds_what_is_needed_and_nothing_else(place, timer):
    rule = {"width": 1000, "keep_ahead": 1, "name": "{table}_tenant_{number}"}
    declaration = {**AGENT_DATA, "rule": rule}
    assert "agent_data is missing" in timer(declaration).stderr, "a table that was dropped isn't made again"
    place.run(**declaration)
    place.sql("CREATE ROLE partition_test_owner")
    try:
        place.sql("ALTER TABLE agent_data OWNER TO partition_test_owner")
        place.sql("INSERT INTO agent_data (tenant_id) VALUES (2999)")
        done = timer({**declaration, "partitions": [{**SEED[0], "state": "absent"}, SEED[1]]})
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "postgres: add the partition agent_data_tenant_4 (3000 to 4000) to agent_data\n"
        assert bound(place, "agent_data_tenant_4") == "FOR VALUES FROM (3000) TO (4000)"
        assert bound(place, "agent_data_tenant_1") == "FOR VALUES FROM (1) TO (1000)", "to drop is not the timer's"
        assert (
            place.value("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'agent_data_tenant_4'::regclass")
            == "partition_test_owner"
        )
        assert timer(declaration).stdout == ""
        assert not place.run(**declaration)["changed"], "the timer and the module mean the same"
        refused = timer({**declaration, "partitions": [{**SEED[0], "to": 900}, SEED[1]]})
        assert refused.returncode == 1
        assert "with other bounds" in refused.stderr
    finally:
        place.sql("DROP OWNED BY partition_test_owner")
        place.sql("DROP ROLE partition_test_owner")


# --- conversion ---

EVENTS = {
    "table": "events",
    "key": "tenant_id",
    "primary_key": ["tenant_id", "id"],
    "rule": {"from": 0, "width": 100, "keep_ahead": 1},
    "convert": True,
}


def contents(place: Place, table: str = "events") -> list[tuple]:
    return place.sql(f"SELECT id, tenant_id, data, size FROM {table} ORDER BY id, tenant_id")


@pytest.mark.parametrize("identity", [False, True])
def test_an_ordinary_table_becomes_a_partitioned_one(place, identity):
    ordinary_table(place, 3000, identity)
    before = contents(place)
    assert "set `convert`" in place.run(**{**EVENTS, "convert": False})["msg"]
    would = place.run(check=True, **EVENTS)
    assert would["changed"], would
    assert place.value("SELECT relkind FROM pg_class WHERE oid = 'events'::regclass") == "r"
    done = place.run(**EVENTS, batch_rows=700)
    assert names(done) == [f"events_{start}" for start in range(0, 600, 100)]
    assert done["conversion"]["rows_copied"] == 3000
    assert contents(place) == before
    assert contents(place, "events__unpartitioned") == before
    place.sql("INSERT INTO events (tenant_id) VALUES (1)")
    assert place.value("SELECT max(id) FROM events") == 3001, "the sequence goes on"
    assert place.value("SELECT has_table_privilege('public', 'events', 'SELECT')")
    assert (
        place.value("SELECT count(*) FROM pg_indexes WHERE tablename = 'events_100' AND schemaname = current_schema")
        == 2
    )
    assert (
        place.value("SELECT conname FROM pg_constraint WHERE conrelid = 'events'::regclass AND contype = 'p'")
        == "events_pkey"
    )
    with pytest.raises(Exception, match="check constraint"):
        place.sql("INSERT INTO events (tenant_id, data) VALUES (1, 'bad')")
    assert not place.run(**EVENTS)["changed"]
    assert [step["says"].split(",")[0] for step in place.run(**EVENTS, convert_drop_old=True)["steps"]] == [
        "drop events__unpartitioned"
    ]
    assert not place.run(**EVENTS, convert_drop_old=True)["changed"]
    left = place.sql(
        "SELECT relname FROM pg_class WHERE relnamespace = current_schema::regnamespace AND relname LIKE '%%\\_\\_%%'"
    )
    assert [name for (name,) in left if not name.endswith("_idx") and "pkey" not in name] in (
        [],
        ["events__partitioned_id_seq"],
    )


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("CREATE VIEW seen AS SELECT * FROM events", "the view"),
        ("CREATE TABLE child (event bigint REFERENCES events)", "of"),
        ("CREATE UNIQUE INDEX events_unique ON events (data)", "unique index events_unique"),
        (
            "ALTER TABLE events ALTER tenant_id DROP NOT NULL; INSERT INTO events (tenant_id) VALUES (NULL)",
            "1 rows of events have no tenant_id",
        ),
        ("INSERT INTO events (tenant_id) VALUES (-1)", "1 rows of events lie in none of the declared ranges"),
        ("ALTER TABLE events DROP CONSTRAINT events_pkey", "no unique key within"),
        ("CREATE TABLE events_100 (x int)", "events_100 is the name of something else"),
        ("CREATE TABLE events__partitioned (x int)", "no conversion that has made it"),
        ("CREATE PUBLICATION events_out FOR TABLE events", "the publication events_out"),
        ("ALTER TABLE events ENABLE ROW LEVEL SECURITY", "row security is on"),
    ],
)
def test_what_a_conversion_would_lose_is_refused(place, statement, says):
    ordinary_table(place, 10)
    for each in statement.split("; "):
        place.sql(each)
    refused = place.run(**EVENTS)
    if "PUBLICATION" in statement:
        place.sql("DROP PUBLICATION events_out")
    assert refused.get("failed"), refused
    assert says in refused["msg"]
    assert place.value("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'events'::regclass AND NOT tgisinternal") == 0


def test_truncate_waits_for_the_end_of_a_conversion(place):
    ordinary_table(place, 3000)
    begun = place.popen(**EVENTS, batch_rows=100, batch_pause_ms=50)
    wait_for_copied(place, 100, begun)
    with pytest.raises(Exception, match="is being converted"):
        place.sql("TRUNCATE events")
    kill(begun)
    place.run(**EVENTS)
    assert place.value("SELECT count(*) FROM events") == 3000


def wait_for_copied(place: Place, rows: int, begun: subprocess.Popen) -> int:
    deadline = time.monotonic() + 60
    while begun.poll() is None:
        if place.value("SELECT to_regclass('events__progress') IS NOT NULL"):
            copied = place.value("SELECT copied_rows FROM events__progress")
            if copied >= rows:
                return copied
        assert time.monotonic() < deadline, "the conversion doesn't get on"
        time.sleep(0.01)
    raise AssertionError(f"the conversion is at its end: {begun.communicate()}")


def test_converted_under_writers_and_killed_on_the_way(place):
    """What is killed is continued, and every row is as its writer has left it."""
    rows = 20000
    ordinary_table(place, rows)
    halves = [list(range(1, rows + 1, 2)), list(range(2, rows + 1, 2))]
    writers = [
        Writer(place, "events", seed=1, tenants=499, existing=halves[0]),
        Writer(place, "events", seed=2, tenants=499, existing=halves[1], isolation="REPEATABLE READ"),
    ]
    waits = LockWaits(place)
    for thread in (waits, *writers):
        thread.start()
    resumed = []
    for share in (0.0, 0.3, 0.6, 0.9):
        begun = place.popen(**EVENTS, batch_rows=500, batch_pause_ms=20)
        resumed.append(wait_for_copied(place, round(rows * share), begun))
        kill(begun)
    done = place.run(**EVENTS, batch_rows=500)
    assert done.get("changed"), done
    time.sleep(0.5)  # the writers go on with the partitioned table
    for writer in writers:
        writer.stop()
    assert [writer.errors for writer in writers] == [[], []]
    assert resumed == sorted(resumed)
    assert done["conversion"]["resumed"]
    assert done["conversion"]["rows_copied_before"] >= rows * 0.9
    assert done["conversion"]["changes_followed"] > 0
    assert place.value("SELECT relkind FROM pg_class WHERE oid = 'events'::regclass") == "p"
    assert set(compare(place, rows, writers).values()) == {0}
    assert waits.stop() < 1, "a writer waited for a lock for more than a second"


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment(place, seed):
    """Also while it sets up and while it exchanges the tables; the moments are random, the end is not."""
    chosen, rows = random.Random(seed), 4000
    ordinary_table(place, rows)
    writer = Writer(place, "events", seed=seed, tenants=499, existing=list(range(1, rows + 1)), pause=0.003)
    writer.start()
    began = time.monotonic()
    begun = place.popen(**EVENTS, batch_rows=400)
    wait_for_copied(place, 0, begun)
    usual = time.monotonic() - began  # until the first step is done, on this machine
    for _round in range(3):
        kill(begun)
        begun = place.popen(**EVENTS, batch_rows=400)
        time.sleep(chosen.uniform(0.7, 1.3) * usual)
    kill(begun)
    done = place.run(**EVENTS)
    assert not done.get("failed"), done
    writer.stop()
    assert writer.errors == []
    assert place.value("SELECT relkind FROM pg_class WHERE oid = 'events'::regclass") == "p"
    assert set(compare(place, rows, [writer]).values()) == {0}


def test_a_servers_crash_loses_no_change(place):
    if not isinstance(place.server, Server):
        pytest.skip("a server that isn't ours is not crashed here")
    rows = 3000
    ordinary_table(place, rows)
    begun = place.popen(**EVENTS, batch_rows=100, batch_pause_ms=50)
    wait_for_copied(place, 500, begun)
    place.sql("UPDATE events SET tenant_id = 400, data = 'moved' WHERE id BETWEEN 1 AND 50")
    place.sql("DELETE FROM events WHERE id BETWEEN 51 AND 100")
    place.crash()
    out, _err = begun.communicate(timeout=60)
    assert '"failed": true' in out
    place.sql("UPDATE events SET data = 'later' WHERE id BETWEEN 101 AND 150")
    expected = Writer(place, "events", seed=0, tenants=1, existing=[])
    expected.rows = dict.fromkeys(range(1, 51), (400, "moved")) | dict.fromkeys(range(51, 101))
    expected.rows |= {number: (number % 499 + 1, "later") for number in range(101, 151)}
    done = place.run(**EVENTS)
    assert done.get("changed"), done
    assert done["conversion"]["resumed"]
    assert set(compare(place, rows, [expected]).values()) == {0}


def test_the_comparison_finds_what_is_not_as_it_was_left(place):
    ordinary_table(place, 10)
    writer = Writer(place, "events", seed=1, tenants=499, existing=[])
    writer.rows = {1: (2, "row 1"), 2: (9, "other"), 3: None, 11: (1, "row 11")}
    assert compare(place, 10, [writer]) == {"lost": 1, "wrong": 1, "deleted_but_there": 1, "unknown": 0, "doubled": 0}


def test_a_conversion_can_be_given_up(place):
    """As docs/operations.md says."""
    ordinary_table(place, 3000)
    begun = place.popen(**EVENTS, batch_rows=100, batch_pause_ms=50)
    wait_for_copied(place, 100, begun)
    kill(begun)
    place.sql("DROP FUNCTION events__converting CASCADE")
    place.sql("DROP TABLE events__partitioned, events__changes, events__progress")
    place.sql("INSERT INTO events (tenant_id) VALUES (1)")
    done = place.run(**EVENTS)
    assert done.get("changed"), done
    assert not done["conversion"]["resumed"]


def test_two_runs_do_not_convert_at_once(place):
    ordinary_table(place, 2000)
    first = place.popen(**EVENTS, batch_rows=200, batch_pause_ms=100)
    wait_for_copied(place, 200, first)
    second = place.run(**EVENTS)
    out, _err = first.communicate(timeout=60)
    assert '"failed": true' not in out, out
    assert not second.get("failed"), second
    assert place.value("SELECT count(*) FROM events") == 2000
    assert place.value("SELECT count(*) FROM events__unpartitioned") == 2000
