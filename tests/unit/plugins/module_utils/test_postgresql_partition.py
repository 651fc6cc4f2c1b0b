"""Range partitions: what is declared is checked, and the plan leads there and nowhere else."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_partition import Partition, Table, plan
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_ranges import (
    MAXIMUM,
    MINIMUM,
    Refused,
    canonical_type,
    condition,
    declared,
    gaps,
    parse_bound,
    quote,
)
from hypothesis import given
from hypothesis import strategies as st

COLUMNS = {"id": "bigint", "agent_id": "uuid", "tenant_id": "integer", "data": "jsonb"}
SEED = [
    {"name": "agent_data_tenant_1", "from": 1, "to": 1000},
    {"name": "agent_data_tenant_2", "from": 1000, "to": 2000},
]
TENANTS = (Partition("agent_data_tenant_1", 1, 1000), Partition("agent_data_tenant_2", 1000, 2000))
LIVE = Table(
    kind="partitioned", key=("tenant_id",), columns=COLUMNS, primary_key=("tenant_id", "id"), partitions=TENANTS
)


def wanted(**more) -> dict:
    return {"schema": "public", "table": "agent_data", "key": "tenant_id", "partitions": SEED, **more}


def refused(declaration: dict, table: Table | None = None) -> str:
    with pytest.raises(Refused) as caught:
        plan(declaration, table or LIVE)
    return str(caught.value)


def says(declaration: dict, table: Table | None = None) -> list[str]:
    return [step.says for step in plan(declaration, table or LIVE)]


def test_a_new_table_is_made_as_it_is_declared():
    columns = [
        {"name": "id", "type": "bigserial"},
        {"name": "tenant_id", "type": "int", "not_null": True},
        {"name": "data", "type": "jsonb", "default": "'{}'"},
    ]
    steps = plan(wanted(columns=columns, primary_key=["tenant_id", "id"], owner="application"), Table())
    assert steps[0].statements == (
        'CREATE TABLE "public"."agent_data" (\n    "id" bigserial,\n    "tenant_id" int NOT NULL,\n'
        '    "data" jsonb DEFAULT \'{}\',\n    PRIMARY KEY ("tenant_id", "id")\n) PARTITION BY RANGE ("tenant_id")',
        'ALTER TABLE "public"."agent_data" OWNER TO "application"',
    )
    assert steps[1].statements[-1] == (
        'ALTER TABLE "public"."agent_data" ATTACH PARTITION "public"."agent_data_tenant_1" FOR VALUES FROM (1) TO (1000)'
    )
    assert steps[1].lock == "SHARE UPDATE EXCLUSIVE on agent_data", "neither readers nor writers wait"
    assert len(steps) == 3


def test_what_is_as_declared_needs_nothing():
    assert plan(wanted(), LIVE) == []
    assert plan(wanted(gaps="forbid"), LIVE) == []
    assert plan(wanted(partitions=[{"from": 1, "to": 1000}]), LIVE) == [], "a range without a name may have any"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"partitions": [*SEED, {"name": "c", "from": 1500, "to": 3000}]},
            "agent_data_tenant_2 (1000 to 2000) and c (1500 to 3000)",
        ),
        ({"partitions": [*SEED, {"name": "c", "from": 1, "to": 1000}]}, "overlap"),
        (
            {"partitions": [{"name": "a", "from": "MINVALUE", "to": "MAXVALUE"}, {"name": "b", "from": 5, "to": 6}]},
            "overlap",
        ),
        ({"partitions": [{"name": "c", "from": 3000, "to": 2000}]}, "from 3000 to 2000 is inverted"),
        ({"partitions": [{"name": "c", "from": "MAXVALUE", "to": 5}]}, "inverted"),
        ({"partitions": [{"name": "c", "from": 5, "to": "minvalue"}]}, "inverted"),
        ({"partitions": [{"name": "c", "from": 7, "to": 7}]}, "is empty"),
        ({"partitions": [{"name": "c", "from": "abc", "to": 7}]}, "aren't whole numbers"),
        ({"partitions": [{"name": "c", "from": 1, "to": 2}, {"name": "c", "from": 2, "to": 3}]}, "have the same name"),
        ({"partitions": [{"name": "x" * 64, "from": 1, "to": 2}]}, "more than 63 bytes"),
        ({"primary_key": ["id"]}, "(id) is without tenant_id, by which the table is partitioned"),
        ({"columns": [{"name": "id", "type": "int"}]}, "which isn't among its `columns`"),
        ({"columns": [{"name": "tenant_id", "type": "text"}]}, "of the type text: ranges are of whole numbers"),
        ({"columns": [{"name": "tenant_id", "type": "int); DROP TABLE x; --"}]}, "which is no type's name"),
        (
            {"key_type": "integer", "partitions": [{"from": 1, "to": 2**31}]},
            "doesn't fit the type integer of tenant_id",
        ),
        ({"rule": {"width": 0, "count": 1}}, "`width` of 0"),
        ({"rule": {"width": 10}}, "makes no partitions"),
        ({"rule": {"width": 10, "count": 1}, "partitions": []}, "set its `from`"),
        ({"rule": {"width": 10, "count": 1, "name": "{table}"}}, "use {from}, {to} or {number}"),
        ({"rule": {"width": 10, "count": 1, "name": "{table.__class__}_{from}"}}, "use {from}"),
        ({"rule": {"width": 1, "count": 20000}}, "asks for 20000 partitions"),
        ({"rule": {"from": 1500, "width": 1000, "count": 1}}, "overlap"),
    ],
)
def test_what_can_not_be_is_refused_with_its_reason(changes, says):
    with pytest.raises(Refused, match=re.escape(says)):
        declared(wanted(**changes))


def test_every_problem_is_told_at_once():
    told = refused(wanted(partitions=[{"from": 5, "to": 5}, {"from": 9, "to": 8}], primary_key=["id"]))
    assert len(told.splitlines()) == 3


def test_a_rule_continues_behind_the_listed_ranges_and_keeps_ahead():
    rule = {"width": 1000, "keep_ahead": 2, "name": "{table}_tenant_{number}"}
    assert [str(each) for each in declared(wanted(rule=rule))][2:] == [
        "agent_data_tenant_3 (2000 to 3000)",
        "agent_data_tenant_4 (3000 to 4000)",
    ]
    assert declared(wanted(rule=rule), highest=1999) == declared(wanted(rule=rule))
    assert declared(wanted(rule=rule), highest=2000)[-1].bounds == (4000, 5000)
    assert declared(wanted(rule=rule), highest=7999)[-1].bounds == (9000, 10000)
    assert declared(wanted(rule={**rule, "count": 4}))[-1].bounds == (5000, 6000)
    assert declared(wanted(rule={"from": -20, "width": 10, "count": 2}))[0].name == "agent_data_-20"
    near_the_end = wanted(rule={"from": 2**31 - 1500, "width": 1000, "count": 5}, key_type="integer")
    assert declared(near_the_end)[-1].upper == 2**31 - 500, "what the type can't hold is left out"


def test_a_listed_range_overrules_the_rule_of_the_same_bounds():
    ranges = [*SEED, {"from": 2000, "to": 3000, "state": "detached"}]
    live = replace(LIVE, partitions=(*TENANTS, Partition("agent_data_2000", 2000, 3000)))
    steps = plan(wanted(partitions=ranges, rule={"from": 2000, "width": 1000, "count": 2}), live)
    assert [step.kind for step in steps] == ["detach", "create"]
    assert steps[1].says.startswith("add the partition agent_data_3000")


def test_bounds_that_changed_are_refused():
    assert "is there with other bounds, 1 to 1000" in refused(
        wanted(partitions=[{"name": "agent_data_tenant_1", "from": 1, "to": 500}])
    )
    assert "is there as agent_data_tenant_1" in refused(wanted(partitions=[{"name": "first", "from": 1, "to": 1000}]))
    assert "overlaps the partition agent_data_tenant_2" in refused(
        wanted(partitions=[{"name": "c", "from": 1999, "to": 2500}])
    )


def test_gaps_are_found_between_what_will_be_there():
    far = [*SEED, {"name": "far", "from": 5000, "to": 6000}]
    assert len(plan(wanted(partitions=far), LIVE)) == 1
    assert "has no partition for 2000 to 5000" in refused(wanted(partitions=far, gaps="forbid"))
    middle = replace(LIVE, partitions=(*TENANTS, Partition("undeclared", 2000, 5000)))
    assert len(plan(wanted(partitions=far, gaps="forbid"), middle)) == 1
    hole = [{**SEED[0]}, {**SEED[1], "state": "detached"}, {"name": "c", "from": 2000, "to": 3000}]
    assert "for 1000 to 2000" in refused(wanted(partitions=hole, gaps="forbid"))


@pytest.mark.parametrize(
    ("live", "says"),
    [
        (replace(LIVE, kind="view"), "agent_data is a view, not a table"),
        (replace(LIVE, method="hash"), "partitioned by hash (tenant_id), not by range"),
        (replace(LIVE, key=("id",)), "partitioned by range (id)"),
        (replace(LIVE, columns={**COLUMNS, "tenant_id": "text"}), "tenant_id of agent_data is of the type text"),
        (replace(LIVE, columns={"id": "bigint"}), "has no column tenant_id"),
    ],
)
def test_another_kind_of_table_is_refused(live, says):
    assert says in refused(wanted(), live)


def test_declared_columns_and_key_are_compared():
    assert "data of agent_data is of the type jsonb, declared is text" in refused(
        wanted(columns=[{"name": "tenant_id", "type": "int"}, {"name": "data", "type": "text"}])
    )
    assert "has no column extra" in refused(
        wanted(columns=[{"name": "tenant_id", "type": "int"}, {"name": "extra", "type": "text"}])
    )
    assert "primary key of agent_data is (tenant_id, id), declared is (tenant_id)" in refused(
        wanted(primary_key=["tenant_id"])
    )
    assert (
        plan(
            wanted(columns=[{"name": "tenant_id", "type": "INT4"}], primary_key=["tenant_id"]),
            replace(LIVE, primary_key=("tenant_id",)),
        )
        == []
    )


def test_detach_is_concurrent_unless_there_is_a_default_partition():
    ranges = [SEED[0], {**SEED[1], "state": "detached"}]
    (step,) = plan(wanted(partitions=ranges), LIVE)
    assert step.statements[0].endswith('DETACH PARTITION "public"."agent_data_tenant_2" CONCURRENTLY')
    assert not step.transaction, "PostgreSQL refuses it in a transaction"
    with_default = replace(LIVE, partitions=(*TENANTS, Partition("rest", default=True)))
    (step,) = plan(wanted(partitions=ranges), with_default)
    assert "CONCURRENTLY" not in step.statements[0]
    assert step.lock == "ACCESS EXCLUSIVE on agent_data"


def test_an_interrupted_detachment_is_finished_first():
    half = (TENANTS[0], replace(TENANTS[1], detaching=True))
    steps = plan(wanted(partitions=[SEED[0], {**SEED[1], "state": "detached"}]), replace(LIVE, partitions=half))
    assert [step.statements[0].split()[-1] for step in steps] == ["FINALIZE"]
    steps = plan(wanted(), replace(LIVE, partitions=half))
    assert [step.kind for step in steps] == ["detach", "attach", "attach"], (
        "and attached again where it is declared present"
    )
    steps = plan(wanted(partitions=[SEED[0], {**SEED[1], "state": "absent"}]), replace(LIVE, partitions=half))
    assert [step.kind for step in steps] == ["detach", "drop"]


def test_only_what_is_declared_absent_is_dropped():
    assert says(wanted(partitions=[SEED[0]])) == [], "what isn't declared stays"
    assert says(wanted(partitions=[SEED[0], {**SEED[1], "state": "absent"}])) == [
        "detach agent_data_tenant_2 from agent_data concurrently",
        "drop agent_data_tenant_2 with its rows",
    ]
    left = replace(LIVE, partitions=TENANTS[:1], taken={"agent_data_tenant_2": "table"})
    assert says(wanted(partitions=[SEED[0], {**SEED[1], "state": "absent"}]), left) == [
        "drop agent_data_tenant_2 with its rows"
    ]
    other = replace(left, taken={"agent_data_tenant_2": "other"})
    assert "drop it yourself" in refused(wanted(partitions=[SEED[0], {**SEED[1], "state": "absent"}]), other)
    assert "other bounds" in refused(wanted(partitions=[{**SEED[1], "from": 1500, "state": "absent"}]))
    assert "is called agent_data_tenant_2" in refused(wanted(partitions=[{**SEED[1], "name": "x", "state": "absent"}]))


def test_a_table_of_the_declared_name_is_checked_and_attached():
    check, attach = plan(wanted(), replace(LIVE, partitions=TENANTS[:1], taken={"agent_data_tenant_2": "table"}))
    assert "NOT VALID" in check.statements[0]
    assert "VALIDATE" in check.statements[1]
    assert "agent_data" not in check.lock.split()[-1].removeprefix("agent_data_tenant_2"), (
        "the partitioned table isn't locked"
    )
    assert attach.lock == "SHARE UPDATE EXCLUSIVE on agent_data"
    assert "name of something else" in refused(
        wanted(), replace(LIVE, partitions=TENANTS[:1], taken={"agent_data_tenant_2": "other"})
    )


DEFAULT = Partition("rest", default=True)
FULL = replace(LIVE, partitions=(*TENANTS, DEFAULT), default_rows={(2000, 3000): 7}, default_total=9)
THREE = [*SEED, {"name": "agent_data_tenant_3", "from": 2000, "to": 3000}]


def test_rows_in_the_default_partition_are_reported_and_moved_on_request():
    assert "7 rows of its range are in the default partition rest" in refused(wanted(partitions=THREE), FULL)
    (step,) = plan(wanted(partitions=THREE, default_partition={"move_rows": True, "move_limit_rows": 100}), FULL)
    assert step.transaction
    assert step.kind == "move"
    assert [statement.split()[0] for statement in step.statements] == ["LOCK", "LOCK", "CREATE", "WITH", "ALTER"]
    assert "ACCESS EXCLUSIVE on rest" in step.lock
    assert "`default_partition.move_limit_rows` is 6" in refused(
        wanted(partitions=THREE, default_partition={"move_rows": True, "move_limit_rows": 6}), FULL
    )


def test_the_default_partition_comes_and_goes():
    assert says(wanted(default_partition={"state": "present"})) == [
        "add the default partition agent_data_default to agent_data"
    ]
    assert says(wanted(default_partition={"state": "present"}), FULL) == []
    assert "holds 9 rows for which no range is declared" in refused(wanted(default_partition={"state": "absent"}), FULL)
    (step,) = plan(wanted(default_partition={"state": "absent"}), replace(FULL, default_total=0, default_rows={}))
    assert [statement.split()[0] for statement in step.statements] == ["ALTER", "DO", "DROP"]
    everything = replace(FULL, default_total=7)
    steps = plan(wanted(partitions=THREE, default_partition={"state": "absent", "move_rows": True}), everything)
    assert [step.kind for step in steps] == ["move", "drop"]


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("FOR VALUES FROM (1) TO (1000)", (1, 1000)),
        ("FOR VALUES FROM ('1') TO ('1000')", (1, 1000)),
        ("FOR VALUES FROM ('-5') TO (MAXVALUE)", (-5, MAXIMUM)),
        ("FOR VALUES FROM (MINVALUE) TO (1)", (MINIMUM, 1)),
        ("DEFAULT", None),
    ],
)
def test_the_catalogs_bounds_are_read(text, bounds):
    assert parse_bound(text) == bounds


def test_bounds_of_several_columns_are_not_taken_for_one():
    with pytest.raises(ValueError, match="invalid literal"):
        parse_bound("FOR VALUES FROM (1, 2) TO (3, 4)")


@pytest.mark.parametrize(
    ("given_type", "canonical"),
    [
        ("INT", "integer"),
        ("bigserial", "bigint"),
        ("timestamp", "timestamp without time zone"),
        ("timestamp(3) with time zone", "timestamp(3) with time zone"),
        ("timestamptz(3)", "timestamp(3) with time zone"),
        ("varchar( 20 )", "character varying(20)"),
        ("numeric(10, 2)", "numeric(10,2)"),
        ("int[]", "integer[]"),
        ("jsonb", "jsonb"),
    ],
)
def test_types_are_compared_by_postgresqls_own_names(given_type, canonical):
    assert canonical_type(given_type) == canonical


def test_names_are_quoted():
    assert quote('a"b') == '"a""b"'
    assert condition('ten"ant', 1, MAXIMUM) == '"ten""ant" IS NOT NULL AND "ten""ant" >= 1'


# --- whatever is declared, the plan leads there, and from there to nothing more ---

edges = st.lists(st.integers(-50, 50), unique=True, min_size=2, max_size=12).map(sorted)
listed = edges.flatmap(
    lambda ends: st.lists(st.booleans(), min_size=len(ends) - 1, max_size=len(ends) - 1).map(
        lambda chosen: [
            {"name": f"p{index}", "from": ends[index], "to": ends[index + 1]}
            for index, take in enumerate(chosen)
            if take
        ]
    )
)
ATTACH = re.compile(r'ATTACH PARTITION "public"."([^"]+)" FOR VALUES FROM \((\S+)\) TO \((\S+)\)')
DETACH = re.compile(r'DETACH PARTITION "public"."([^"]+)"')
DROP = re.compile(r'DROP TABLE "public"."([^"]+)"')


def after(table: Table, steps) -> Table:
    """What PostgreSQL would have after these steps."""
    partitions = {each.name: each for each in table.partitions}
    taken = dict(table.taken)
    rows = dict(table.default_rows)
    for step in steps:
        for statement in step.statements:
            if found := ATTACH.search(statement):
                name, lower, upper = found[1], int(found[2]), int(found[3])
                for live in partitions.values():
                    assert live.default or not (live.lower < upper and lower < live.upper), (
                        "an overlap that PostgreSQL refuses"
                    )
                assert not rows.get((lower, upper)) or step.kind == "move", "rows in the default partition forbid it"
                rows.pop((lower, upper), None)
                partitions[name] = Partition(name, lower, upper)
                taken.pop(name, None)
            elif found := DETACH.search(statement):
                assert ("CONCURRENTLY" in statement) != any(each.default for each in partitions.values())
                partitions.pop(found[1])
                taken[found[1]] = "table"
            elif found := DROP.search(statement):
                taken.pop(found[1])
    return replace(table, kind="partitioned", partitions=tuple(partitions.values()), taken=taken, default_rows=rows)


@given(
    listed,
    st.sets(st.integers(0, 11)),
    st.sets(st.integers(0, 11)),
    st.booleans(),
    st.sampled_from(["detached", "absent"]),
)
def test_a_plan_leads_to_what_is_declared(ranges, there, leaving, has_default, how):
    live = tuple(
        Partition(each["name"], each["from"], each["to"]) for index, each in enumerate(ranges) if index in there
    )
    table = replace(LIVE, partitions=(*live, Partition("rest", default=True)) if has_default else live)
    declaration = wanted(
        partitions=[{**each, "state": how} if index in leaving else each for index, each in enumerate(ranges)]
    )
    result = after(table, plan(declaration, table))
    expected = {each["name"] for index, each in enumerate(ranges) if index not in leaving}
    assert {each.name for each in result.ranges} == expected
    assert plan(declaration, result) == []
    back = wanted(partitions=ranges)
    if how == "detached":
        result = after(result, plan(back, result))
        assert {each.name for each in result.ranges} == {each["name"] for each in ranges}
        assert plan(back, result) == []


@given(
    st.integers(-1000, 1000),
    st.integers(1, 200),
    st.integers(0, 20),
    st.integers(1, 5),
    st.one_of(st.none(), st.integers(-5000, 5000)),
)
def test_a_rule_always_keeps_that_many_ahead(start, width, count, ahead, highest):
    rule = {"from": start, "width": width, "count": count, "keep_ahead": ahead}
    ranges = declared(wanted(partitions=[], rule=rule), highest)
    assert gaps(each.bounds for each in ranges) == []
    assert ranges[0].lower == start
    assert len(ranges) >= count
    assert sum(each.lower > (start - 1 if highest is None else highest) for each in ranges) >= ahead
    assert len({each.name for each in ranges}) == len(ranges)


@given(edges, st.data())
def test_an_overlap_is_never_planned(ends, data):
    ranges = [{"name": f"p{n}", "from": low, "to": high} for n, (low, high) in enumerate(zip(ends, ends[1:]))]
    lower = data.draw(st.integers(ends[0], ends[-1] - 1))
    upper = data.draw(st.integers(lower + 1, ends[-1] + 10))
    with pytest.raises(Refused, match="overlap"):
        plan(wanted(partitions=[*ranges, {"name": "more", "from": lower, "to": upper}]), replace(LIVE, partitions=()))


def test_the_test_model_notices_an_overlap():
    steps = plan(wanted(), replace(LIVE, partitions=()))
    with pytest.raises(AssertionError, match="an overlap"):
        after(replace(LIVE, partitions=(Partition("x", 0, 5000),)), steps)
