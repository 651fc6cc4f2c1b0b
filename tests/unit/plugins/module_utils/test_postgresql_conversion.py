"""The conversion of an ordinary table: what it refuses, its stages, and what a second run leaves out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_conversion import (
    Conversion,
    Source,
    conversion_of,
    copy_batch,
    copy_of,
    log_round,
    plan_conversion,
    setup,
    swap,
)
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_partition import Partition, Table
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_ranges import Refused

COLUMNS = {"id": "bigint", "tenant_id": "integer", "data": "jsonb", "size": "integer"}
PLAIN = Table(kind="plain", owner="application", columns=COLUMNS, generated=("size",), primary_key=("id",), highest=250)
SOURCE = Source(owner="application", unique_keys=(("id",),), primary_key_name="events_pkey")
WANTED = {
    "schema": "public",
    "table": "events",
    "key": "tenant_id",
    "primary_key": ["tenant_id", "id"],
    "rule": {"from": 0, "width": 100, "keep_ahead": 1},
    "batch_rows": 500,
}
CONVERSION = Conversion(
    "public", "events", "tenant_id", ("tenant_id", "id"), ("id",), ("id", "tenant_id", "data"), COLUMNS
)


def refused(source: Source, more: dict) -> str:
    with pytest.raises(Refused) as caught:
        conversion_of({**WANTED, **more}, PLAIN, source)
    return str(caught.value)


def test_a_conversion_is_set_up_copied_and_exchanged():
    steps = plan_conversion(WANTED, PLAIN, SOURCE, Table())
    assert [step.kind for step in steps] == ["setup", *["create"] * 4, "copy", "swap"]
    assert "events_300 (300 to 400) to events__partitioned" in steps[4].says, "one ahead of the highest tenant, 250"
    assert all('OWNER TO "application"' in step.sql for step in steps[:5])
    assert steps[-1].lock == "ACCESS EXCLUSIVE on events"


def test_a_resumed_conversion_begins_where_it_was():
    there = replace(
        PLAIN,
        kind="partitioned",
        key=("tenant_id",),
        primary_key=("tenant_id", "id"),
        partitions=tuple(Partition(f"events_{start}", start, start + 100) for start in (0, 100, 200)),
    )
    steps = plan_conversion(WANTED, PLAIN, replace(SOURCE, converting=True), there)
    assert [step.kind for step in steps] == ["create", "copy", "swap"]


def test_the_copy_has_the_declared_ranges_under_their_names():
    target = copy_of({**WANTED, "highest": 250, "default_partition": {"state": "present"}})
    assert target["table"] == "events__partitioned"
    assert [each["name"] for each in target["partitions"]] == ["events_0", "events_100", "events_200", "events_300"]
    assert target["default_partition"]["name"] == "events_default"
    unbounded = {**WANTED, "rule": None, "partitions": [{"name": "all", "from": "MINVALUE", "to": "MAXVALUE"}]}
    assert copy_of(unbounded)["partitions"] == [{"name": "all", "from": "MINVALUE", "to": "MAXVALUE"}]


def test_the_trigger_is_made_last_and_is_the_first_that_waits():
    step = setup(
        CONVERSION, replace(SOURCE, grants=(("PUBLIC", "SELECT", False), ("app", "INSERT", True))), "application"
    )
    assert step.statements[step.free].startswith("CREATE TRIGGER")
    assert "ENABLE ALWAYS TRIGGER" in step.statements[-1], "changes that come by replication are followed too"
    assert "BEFORE TRUNCATE" in step.sql
    assert 'GRANT SELECT ON "public"."events__partitioned" TO PUBLIC' in step.statements
    assert 'GRANT INSERT ON "public"."events__partitioned" TO "app" WITH GRANT OPTION' in step.statements
    assert "NOT NULL" not in next(
        text for text in step.statements if text.startswith('CREATE TABLE "public"."events__changes"')
    )


def test_indexes_are_made_on_the_copy_under_names_of_their_own():
    definition = 'CREATE INDEX "the ON one" ON public.events USING btree (data) WHERE (size > 1)'
    step = setup(CONVERSION, replace(SOURCE, indexes=(("the ON one", False, ("data",), definition),)), "application")
    assert 'CREATE INDEX ON "public"."events__partitioned" USING btree (data) WHERE (size > 1)' in step.statements


def test_a_batch_goes_on_behind_the_last_key_and_reads_no_generated_column():
    assert "WHERE" not in copy_batch(CONVERSION, None, 10).splitlines()[0]
    batch = copy_batch(CONVERSION, ("it's",), 10)
    assert "WHERE (\"id\") > ('it''s'::bigint) ORDER BY \"id\" LIMIT 10" in batch
    assert '"size"' not in batch


def test_a_round_deletes_before_it_inserts_and_the_last_takes_everything():
    kinds = [statement.split()[0] for statement in log_round(CONVERSION, 10)]
    assert kinds.index("DELETE") < kinds.index("INSERT")
    assert "LIMIT 10" in log_round(CONVERSION, 10)[0]
    assert "LIMIT" not in log_round(CONVERSION, None)[0]


def test_the_exchange_locks_first_follows_then_renames():
    statements = swap(CONVERSION, replace(SOURCE, sequences=(('"public"."events_id_seq"', "id"),), identities=("id",)))
    assert statements[0] == 'LOCK TABLE ONLY "public"."events" IN ACCESS EXCLUSIVE MODE'
    renames = [index for index, text in enumerate(statements) if "RENAME TO" in text]
    last_round = max(index for index, text in enumerate(statements) if text.startswith("INSERT INTO"))
    assert last_round < min(renames)
    assert 'ALTER SEQUENCE "public"."events_id_seq" OWNED BY "public"."events"."id"' in statements[max(renames) :]
    assert any("setval" in text for text in statements[max(renames) :])


@pytest.mark.parametrize(
    ("source", "more", "says"),
    [
        (SOURCE, {"primary_key": []}, "can't be converted without a `primary_key`"),
        (replace(SOURCE, unique_keys=()), {}, "its keys: none"),
        (replace(SOURCE, unique_keys=(("data",),)), {}, "its keys: (data)"),
        (replace(SOURCE, blockers=("the view v reads it",)), {}, "can't be converted as it is: the view v reads it"),
        (replace(SOURCE, indexes=(("u", True, ("data",), ""),)), {}, "its unique index u"),
        (replace(SOURCE, rows_without_key=3), {}, "3 rows of events have no tenant_id"),
        (replace(SOURCE, rows_outside=4), {}, "4 rows of events lie in none of the declared ranges"),
        (replace(SOURCE, old=True), {}, "events__unpartitioned is there from an earlier conversion"),
        (SOURCE, {"table": "e" * 50}, "too long to be converted"),
        (SOURCE, {"key": "data"}, "of the type jsonb"),
    ],
)
def test_what_can_not_be_converted_is_refused(source, more, says):
    assert says in refused(source, more)


def test_rows_outside_may_go_into_a_default_partition():
    source = replace(SOURCE, rows_outside=4)
    assert conversion_of({**WANTED, "default_partition": {"state": "present"}}, PLAIN, source).table == "events"
