# Apache License 2.0 (see LICENSE)
"""How an ordinary table becomes a partitioned one while it is used: the SQL of each stage. Pure functions.

The table stays what it is, and the only place that readers and writers know, until one short transaction at the end. Until then a
partitioned copy is filled beside it:

1. One transaction makes the copy, a log of changed keys and the trigger that writes it. CREATE TRIGGER waits for the writers of that moment, so
   whatever is changed later is in the log.
2. Batches copy the rows in the order of a unique key. They read as any reader does, and lock no row.
3. Rounds take keys out of the log and make the copy's rows equal to the table's: delete, then insert what the table has now.
   A change commits together with its entry in the log, so what a round doesn't see yet is left to a later one.
4. When few entries are left, one transaction locks the table, does the rest of the log and exchanges the names.

Each batch and round is a transaction that also records how far it has come: after a kill, the next run goes on from there.
The other known way, to attach the table as default partition and to move its rows out of it, can't bound its locks: all rows of a
range must move in one transaction, with the default partition locked, because a range can't be attached while the default has rows of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_partition import (
    EXCLUSIVE,
    Step,
    Table,
    plan,
    table_problems,
)
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_ranges import (
    NAME_LIMIT_BYTES,
    Refused,
    declared,
    literal,
    qualified,
    quote,
    show,
)

SUFFIX_COPY, SUFFIX_LOG, SUFFIX_PROGRESS = "__partitioned", "__changes", "__progress"
SUFFIX_TRIGGER, SUFFIX_OLD = "__converting", "__unpartitioned"
ROUND_ENTRIES = 20000  # of the log; nobody waits for a round, it only must not become a very long transaction
LONGEST_SUFFIX = SUFFIX_TRIGGER + "_truncate"


@dataclass(frozen=True)
class Source:
    """What the catalog says of an ordinary table beyond its columns."""

    owner: str = ""
    unique_keys: tuple[tuple[str, ...], ...] = ()  # of columns that are not null, the primary key first
    primary_key_name: str = ""
    # Name, unique, columns, definition; without the primary key.
    indexes: tuple[tuple[str, bool, tuple[str, ...], str], ...] = ()
    grants: tuple[tuple[str, str, bool], ...] = ()  # to whom, privilege, may be passed on
    sequences: tuple[tuple[str, str], ...] = ()  # schema-qualified and quoted, column that owns it
    identities: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()  # what a conversion would lose, in words
    rows_without_key: int = 0
    rows_outside: int = 0
    converting: bool = False  # an earlier run has begun
    old: bool = False  # an earlier conversion's table is still there


@dataclass(frozen=True)
class Conversion:
    """The names and columns of one conversion."""

    schema: str
    table: str
    key: str
    primary_key: tuple[str, ...]
    order: tuple[str, ...]  # the unique key in whose order rows are copied
    columns: tuple[str, ...]  # those that can be written
    types: dict[str, str] = field(default_factory=dict)

    @property
    def copy(self) -> str:
        return self.table + SUFFIX_COPY

    def name(self, suffix: str = "") -> str:
        return qualified(self.schema, self.table + suffix)


def conversion_of(wanted: dict[str, Any], table: Table, source: Source) -> Conversion:
    """Raises Refused with every reason why the table can't be converted."""
    name, key = wanted["table"], wanted["key"]
    problems = table_problems(wanted, table)
    primary_key = tuple(wanted.get("primary_key") or ())
    order = next((each for each in source.unique_keys if set(each) <= set(primary_key)), ())
    if not primary_key:
        problems.append(
            f"{name} can't be converted without a `primary_key` of the partitioned table: by it, copied rows are told apart. "
            f"Declare its present key with {key} added"
        )
    elif not order:
        keys = " and ".join(f"({', '.join(each)})" for each in source.unique_keys) or "none"
        problems.append(
            f"{name} has no unique key within the declared `primary_key` ({', '.join(primary_key)}), so its rows can't be told apart; its keys: {keys}. "
            "Add one (CREATE UNIQUE INDEX CONCURRENTLY, of columns that are NOT NULL)"
        )
    problems += [f"{name} can't be converted as it is: {blocker}" for blocker in source.blockers]
    problems += [
        f"{name} can't be converted with its unique index {index}: while rows are copied, it would be violated in passing. Drop it, and make it "
        f"again afterwards ({key} must be among its columns)"
        for index, unique, columns, _definition in source.indexes
        if unique and not set(columns) <= set(primary_key)
    ]
    if source.rows_without_key:
        problems.append(
            f"{source.rows_without_key} rows of {name} have no {key}, so they belong into no partition: give them one"
        )
    if source.rows_outside and (wanted.get("default_partition") or {}).get("state") != "present":
        problems.append(
            f"{source.rows_outside} rows of {name} lie in none of the declared ranges: declare more of them, a `rule`, or a default partition"
        )
    if len((name + LONGEST_SUFFIX).encode()) > NAME_LIMIT_BYTES:
        problems.append(f"The name {name} is too long to be converted: {LONGEST_SUFFIX} is appended to it meanwhile")
    if source.old:
        problems.append(f"{name}{SUFFIX_OLD} is there from an earlier conversion: drop it, or rename it")
    if problems:
        raise Refused(problems)
    columns = tuple(column for column in table.columns if column not in table.generated)
    types = {column: table.columns[column] for column in primary_key}
    return Conversion(wanted["schema"], name, key, primary_key, order, columns, types)


def copy_of(wanted: dict[str, Any]) -> dict[str, Any]:
    """What is wanted, for the partitioned copy: the same ranges under another name, and their names as the table's."""
    ranges = [
        {"name": each.name, "from": show(each.lower), "to": show(each.upper)}
        for each in declared(wanted, wanted.get("highest"))
        if each.state == "present"
    ]
    default = dict(wanted.get("default_partition") or {})
    if default.get("state") == "present":
        default["name"] = default.get("name") or f"{wanted['table']}_default"
    return {
        **wanted,
        "table": wanted["table"] + SUFFIX_COPY,
        "partitions": ranges,
        "rule": None,
        "columns": [],
        "default_partition": default,
    }


def plan_conversion(wanted: dict[str, Any], table: Table, source: Source, copy: Table) -> list[Step]:
    """All stages; what an earlier run has done is left out."""
    conversion = conversion_of(wanted, table, source)
    target = copy_of({**wanted, "highest": table.highest, "owner": wanted.get("owner") or source.owner})
    live = (
        copy
        if source.converting
        else replace(
            table,
            kind="partitioned",
            method="range",
            key=(wanted["key"],),
            primary_key=conversion.primary_key,
            partitions=(),
            taken=copy.taken,
        )
    )
    steps = [] if source.converting else [setup(conversion, source, target["owner"])]
    return [
        *steps,
        *plan(target, live),
        Step(
            f"copy the rows of {conversion.table} in batches of {wanted['batch_rows']}, and what is changed meanwhile",
            (copy_batch(conversion, None, wanted["batch_rows"]), *log_round(conversion, ROUND_ENTRIES)),
            kind="copy",
        ),
        Step(
            f"exchange {conversion.table} and its partitioned copy",
            tuple(swap(conversion, source)),
            EXCLUSIVE.format(conversion.table),
            kind="swap",
        ),
    ]


def _list(names: tuple[str, ...], prefix: str = "") -> str:
    return ", ".join(prefix + quote(name) for name in names)


def setup(conversion: Conversion, source: Source, owner: str) -> Step:
    """The copy, the log and the trigger. They come together or not at all, so a trigger that is there means that all of it is."""
    table, copy = conversion.name(), conversion.name(SUFFIX_COPY)
    log, progress, function = (conversion.name(each) for each in (SUFFIX_LOG, SUFFIX_PROGRESS, SUFFIX_TRIGGER))
    keys, trigger = conversion.primary_key, quote(conversion.table + SUFFIX_TRIGGER)
    busy = literal(
        f"{conversion.table} is being converted into a partitioned table; TRUNCATE has to wait for the end of that"
    )
    statements = [
        f"CREATE TABLE {copy} (LIKE {table} INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS) PARTITION BY RANGE ({quote(conversion.key)})",
        f"ALTER TABLE {copy} ADD CONSTRAINT {quote(conversion.copy + '_pkey')} PRIMARY KEY ({_list(keys)})",
    ]
    for _name, unique, _columns, definition in source.indexes:
        if not unique:
            statements.append(
                re.sub(
                    r"^CREATE INDEX .*? ON .*? USING ",
                    lambda _found: f"CREATE INDEX ON {copy} USING ",
                    definition,
                    count=1,
                )
            )
    for to, privilege, grantable in source.grants:
        grantee = "PUBLIC" if to == "PUBLIC" else quote(to)
        statements.append(f"GRANT {privilege} ON {copy} TO {grantee}{' WITH GRANT OPTION' if grantable else ''}")
    statements += [
        f"ALTER TABLE {copy} OWNER TO {quote(owner)}",
        # Without NOT NULL: the log may never be the reason why a writer fails.
        f"CREATE TABLE {log} (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
        + ", ".join(f"{quote(name)} {conversion.types[name]}" for name in keys)
        + ")",
        f"CREATE TABLE {progress} AS SELECT {_list(conversion.order)} FROM {table} WITH NO DATA",
        f"ALTER TABLE {progress} ADD COLUMN copied_rows bigint NOT NULL DEFAULT 0, ADD COLUMN copied_all boolean NOT NULL DEFAULT false",
        f"INSERT INTO {progress} DEFAULT VALUES",
        # As its owner, so that writers need no rights on the log.
        f"""CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION {busy};
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO {log} ({_list(keys)}) VALUES ({_list(keys, "OLD.")});
    END IF;
    IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND ROW({_list(keys, "NEW.")}) IS DISTINCT FROM ROW({_list(keys, "OLD.")})) THEN
        INSERT INTO {log} ({_list(keys)}) VALUES ({_list(keys, "NEW.")});
    END IF;
    RETURN NULL;
END $body$""",
        f"CREATE TRIGGER {trigger} AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {function}()",
        f"CREATE TRIGGER {quote(conversion.table + SUFFIX_TRIGGER + '_truncate')} BEFORE TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()",
        # ALWAYS: also for changes that come by logical replication.
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}, "
        f"ENABLE ALWAYS TRIGGER {quote(conversion.table + SUFFIX_TRIGGER + '_truncate')}",
    ]
    return Step(
        f"begin to convert {conversion.table}: make its partitioned copy, the log of changes and the trigger that writes it",
        tuple(statements),
        f"SHARE ROW EXCLUSIVE on {conversion.table}",
        kind="setup",
        free=next(index for index, text in enumerate(statements) if text.startswith("CREATE TRIGGER")),
    )


def copy_batch(conversion: Conversion, last: tuple[str, ...] | None, rows: int) -> str:
    """Copy the next rows after the key `last` (as text) and record it. Returns their number; no row when none is left."""
    table, copy, progress = (conversion.name(each) for each in ("", SUFFIX_COPY, SUFFIX_PROGRESS))
    order, columns = _list(conversion.order), _list(conversion.columns)
    where = ""
    if last is not None:
        values = ", ".join(f"{literal(value)}::{conversion.types[name]}" for name, value in zip(conversion.order, last))
        where = f"WHERE ({order}) > ({values}) "
    backwards = ", ".join(f"{quote(name)} DESC" for name in conversion.order)
    texts = ", ".join(f"{quote(name)}::text" for name in conversion.order)
    # A row that is there already was brought by a round of the log. If it has changed since, the log has it again.
    return (
        f"WITH batch AS MATERIALIZED (SELECT {columns} FROM ONLY {table} {where}ORDER BY {order} LIMIT {rows}),\n"
        f"copied AS (INSERT INTO {copy} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM batch\n"
        f"ON CONFLICT ({_list(conversion.primary_key)}) DO NOTHING),\n"
        f"total AS (SELECT count(*) AS rows FROM batch)\n"
        f"UPDATE {progress} SET ({order}, copied_rows) =\n"
        f"(SELECT {order}, copied_rows + (SELECT rows FROM total) FROM batch ORDER BY {backwards} LIMIT 1)\n"
        f"WHERE EXISTS (SELECT FROM batch) RETURNING (SELECT rows FROM total), {texts}"
    )


def where_copied(conversion: Conversion) -> str:
    """How far the copying has come: whether all is copied, how many rows, the last key (nulls before the first batch)."""
    texts = ", ".join(f"{quote(name)}::text" for name in conversion.order)
    return f"SELECT copied_all, copied_rows, {texts} FROM {conversion.name(SUFFIX_PROGRESS)}"


def set_copied(conversion: Conversion) -> str:
    return f"UPDATE {conversion.name(SUFFIX_PROGRESS)} SET copied_all = true"


def make_keys(conversion: Conversion) -> str:
    """The keys that one round works on; a table of this session's."""
    columns = ", ".join(f"{quote(name)} {conversion.types[name]}" for name in conversion.primary_key)
    return f"CREATE TEMPORARY TABLE IF NOT EXISTS changed_keys ({columns}) ON COMMIT DELETE ROWS"


def log_round(conversion: Conversion, entries: int | None) -> tuple[str, ...]:
    """Take entries out of the log (all, without a number) and make those rows of the copy equal to the table's. The first statement's count
    is the number of keys."""
    table, copy, log = (conversion.name(each) for each in ("", SUFFIX_COPY, SUFFIX_LOG))
    keys, columns = _list(conversion.primary_key), _list(conversion.columns)
    some = ""
    if entries:
        some = f" WHERE number <= (SELECT max(number) FROM (SELECT number FROM {log} ORDER BY number LIMIT {entries}) AS first)"
    matching = " AND ".join(f"one.{quote(name)} = changed.{quote(name)}" for name in conversion.primary_key)
    return (
        f"WITH taken AS (DELETE FROM {log}{some} RETURNING {keys})\n"
        f"INSERT INTO pg_temp.changed_keys ({keys}) SELECT DISTINCT {keys} FROM taken",
        # By the index, whatever the planner thinks of a table without statistics; and the price that it sets on what is off is not to make
        # it compile the query.
        "SET LOCAL jit = off",
        "SET LOCAL enable_hashjoin = off",
        "SET LOCAL enable_mergejoin = off",
        "SET LOCAL enable_seqscan = off",
        f"DELETE FROM {copy} AS one USING pg_temp.changed_keys AS changed WHERE {matching}",
        f"INSERT INTO {copy} ({columns}) OVERRIDING SYSTEM VALUE SELECT {_list(conversion.columns, 'one.')} "
        f"FROM pg_temp.changed_keys AS changed JOIN ONLY {table} AS one ON {matching}",
    )


def log_length(conversion: Conversion, limit: int) -> str:
    """How many entries the log has, counted up to a limit."""
    return f"SELECT count(*) FROM (SELECT FROM {conversion.name(SUFFIX_LOG)} LIMIT {limit}) AS entries"


def swap(conversion: Conversion, source: Source) -> list[str]:
    """The last transaction. Who waits for the table meanwhile goes on with the new one: names are looked up again after a wait."""
    table, copy, old = (conversion.name(each) for each in ("", SUFFIX_COPY, SUFFIX_OLD))
    trigger, name = conversion.table + SUFFIX_TRIGGER, conversion.table
    nulls = " OR ".join(f"{quote(each)} IS NULL" for each in conversion.primary_key)
    complaint = literal(f"rows of {name} have got a key without a value since the conversion began")
    statements = [
        f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE",
        f"DO $$ BEGIN IF EXISTS (SELECT FROM {conversion.name(SUFFIX_LOG)} WHERE {nulls}) "
        f"AND EXISTS (SELECT FROM ONLY {table} WHERE {nulls}) THEN RAISE EXCEPTION {complaint}; END IF; END $$",
        *log_round(conversion, None),
        f"DROP TRIGGER {quote(trigger)} ON {table}",
        f"DROP TRIGGER {quote(trigger + '_truncate')} ON {table}",
        f"DROP FUNCTION {conversion.name(SUFFIX_TRIGGER)}()",
        f"DROP TABLE {conversion.name(SUFFIX_LOG)}, {conversion.name(SUFFIX_PROGRESS)}",
        f"ALTER TABLE {table} RENAME TO {quote(name + SUFFIX_OLD)}",
        f"ALTER TABLE {copy} RENAME TO {quote(name)}",
    ]
    for column in source.identities:
        # The new column goes on where the old one's sequence is.
        new, before = (f"pg_get_serial_sequence({literal(each)}, {literal(column)})" for each in (table, old))
        statements.append(
            f"DO $$ DECLARE value bigint; called boolean; BEGIN EXECUTE format('SELECT last_value, is_called FROM %s', {before}) INTO value, called; "
            f"PERFORM setval({new}, value, called); END $$"
        )
    statements += [
        f"ALTER SEQUENCE {sequence} OWNED BY {table}.{quote(column)}" for sequence, column in source.sequences
    ]
    if source.primary_key_name:
        # ON CONFLICT ON CONSTRAINT and error messages know it by this name.
        kept, made = source.primary_key_name, f"{conversion.copy}_pkey"
        statements += [
            f"ALTER TABLE {old} RENAME CONSTRAINT {quote(kept)} TO {quote(name + SUFFIX_OLD + '_pkey')}",
            f"ALTER TABLE {table} RENAME CONSTRAINT {quote(made)} TO {quote(kept)}",
        ]
    return statements


def drop_old(wanted: dict[str, Any]) -> Step:
    name = wanted["table"] + SUFFIX_OLD
    return Step(
        f"drop {name}, what {wanted['table']} was before its conversion",
        (f"DROP TABLE {qualified(wanted['schema'], name)}",),
        EXCLUSIVE.format(name),
        kind="drop",
    )
