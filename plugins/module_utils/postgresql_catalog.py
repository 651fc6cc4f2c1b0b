# Apache License 2.0 (see LICENSE)
"""Reads what there is of a table and its partitions. Changes nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_conversion import (
    SUFFIX_COPY,
    SUFFIX_OLD,
    SUFFIX_TRIGGER,
    Source,
)
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_partition import Partition, Table
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_ranges import (
    KEY_TYPES,
    Range,
    canonical_type,
    condition,
    declared,
    parse_bound,
    qualified,
    quote,
)
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_session import DatabaseError, Session

KINDS = {
    "p": "partitioned",
    "r": "plain",
    "v": "view",
    "m": "materialized view",
    "f": "foreign table",
    "S": "sequence",
    "i": "index",
}
COUNTED_BYTES = 1024 * 1024  # a table up to this size is counted, of a larger one PostgreSQL's estimate is given

RELATION = """
SELECT c.oid::bigint, c.relkind::text, pg_get_userbyid(c.relowner)::text, coalesce(p.partstrat::text, ''),
       ARRAY(SELECT coalesce(a.attname::text, '(expression)')
             FROM unnest(p.partattrs::int2[]) WITH ORDINALITY AS k (number, place)
             LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = k.number ORDER BY k.place)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_partitioned_table AS p ON p.partrelid = c.oid
WHERE n.nspname = %s AND c.relname = %s
"""
COLUMNS = """
SELECT attname::text, format_type(atttypid, atttypmod), attgenerated::text, attidentity::text, attnotnull
FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
INDEXES = """
SELECT c.relname::text, i.indisprimary, i.indisunique AND i.indimmediate, i.indpred IS NULL AND i.indexprs IS NULL,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
             JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number
             WHERE k.place <= i.indnkeyatts ORDER BY k.place),
       pg_get_indexdef(i.indexrelid), i.indisunique
FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = %s AND i.indisvalid ORDER BY i.indisprimary DESC, c.relname
"""
PARTITIONS = """
SELECT c.relname::text, n.nspname::text, pg_get_expr(c.relpartbound, c.oid), i.inhdetachpending
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.inhparent = %s ORDER BY 1
"""
NAMES = """
SELECT c.relname::text, c.relkind::text, c.relispartition,
       ARRAY(SELECT a.attname::text || ' ' || format_type(a.atttypid, a.atttypmod) FROM pg_attribute AS a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY 1)
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = ANY (%s)
"""
# What a conversion doesn't carry over. Each finding is the end of a sentence that begins "it can't be converted as it is:".
BLOCKERS = """
SELECT 'it has the ' || CASE contype WHEN 'f' THEN 'foreign key ' ELSE 'exclusion constraint ' END || conname
       || ', which can be made again afterwards'
FROM pg_constraint WHERE conrelid = %(oid)s AND contype IN ('f', 'x')
UNION ALL SELECT 'the foreign key ' || conname || ' of ' || conrelid::regclass || ' refers to it'
FROM pg_constraint WHERE confrelid = %(oid)s AND contype = 'f' AND conrelid <> %(oid)s
UNION ALL SELECT 'it has the trigger ' || tgname || ', which can be made again afterwards'
FROM pg_trigger WHERE tgrelid = %(oid)s AND NOT tgisinternal AND NOT starts_with(tgname::text, %(trigger)s)
UNION ALL SELECT 'it has the rule ' || rulename FROM pg_rewrite WHERE ev_class = %(oid)s
UNION ALL SELECT DISTINCT 'the view ' || r.ev_class::regclass || ' reads it, and would go on reading the old table'
FROM pg_depend AS d JOIN pg_rewrite AS r ON r.oid = d.objid
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(oid)s AND r.ev_class <> %(oid)s
UNION ALL SELECT 'it has the row security policy ' || polname FROM pg_policy WHERE polrelid = %(oid)s
UNION ALL SELECT 'the publication ' || pubname || ' takes it to a subscriber that knows nothing of this'
FROM pg_publication AS p
WHERE puballtables OR EXISTS (SELECT FROM pg_publication_rel WHERE prpubid = p.oid AND prrelid = %(oid)s)
   OR EXISTS (SELECT FROM pg_publication_namespace JOIN pg_class ON relnamespace = pnnspid WHERE pnpubid = p.oid AND pg_class.oid = %(oid)s)
UNION ALL SELECT 'it inherits from another table, or another one from it' WHERE EXISTS
    (SELECT FROM pg_inherits WHERE inhparent = %(oid)s OR inhrelid = %(oid)s)
UNION ALL SELECT 'it has grants on its column ' || attname FROM pg_attribute WHERE attrelid = %(oid)s AND attacl IS NOT NULL
UNION ALL SELECT 'it has another replica identity than its primary key' FROM pg_class WHERE oid = %(oid)s AND relreplident <> 'd'
UNION ALL SELECT 'it is unlogged or temporary' FROM pg_class WHERE oid = %(oid)s AND relpersistence <> 'p'
UNION ALL SELECT 'row security is on' FROM pg_class WHERE oid = %(oid)s AND relrowsecurity
"""
GRANTS = """
SELECT CASE WHEN a.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable
FROM pg_class AS c, aclexplode(c.relacl) AS a WHERE c.oid = %s AND a.grantee <> c.relowner ORDER BY 1, 2
"""
SEQUENCES = """
SELECT n.nspname::text, s.relname::text, a.attname::text
FROM pg_depend AS d JOIN pg_class AS s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace AS n ON n.oid = s.relnamespace
JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %s AND d.deptype = 'a' ORDER BY 2
"""
SIZES = """
SELECT c.relname::text, pg_get_expr(c.relpartbound, c.oid), c.reltuples::bigint, pg_total_relation_size(c.oid), pg_relation_size(c.oid)
FROM pg_class AS c WHERE c.oid = %(oid)s AND c.relkind = 'r' OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %(oid)s)
"""


def with_key_type(wanted: dict[str, Any], columns: dict[str, str]) -> dict[str, Any]:
    """The declaration with the type of its key, from the table or from the declared columns."""
    declared_columns = {column["name"]: canonical_type(column["type"]) for column in wanted.get("columns") or []}
    known = columns.get(wanted["key"]) or declared_columns.get(wanted["key"])
    return {**wanted, "key_type": known if known in KEY_TYPES else None}


def read_table(session: Session, wanted: dict[str, Any], name: str | None = None) -> Table:
    """The declared table, or another that is to have its partitions."""
    schema, name = wanted["schema"], name or wanted["table"]
    found = session.rows(RELATION, (schema, name))
    if not found:
        return Table(taken=taken(session, wanted, declared(with_key_type(wanted, {})), {}, ()))
    oid, kind, owner, strategy, key = found[0]
    described = session.rows(COLUMNS, (oid,))
    columns = {column: type_name for column, type_name, _generated, _identity, _not_null in described}
    generated = tuple(column for column, _type, is_generated, _identity, _not_null in described if is_generated)
    primary_key = next(
        (
            tuple(names)
            for _name, primary, *_rest, names, _definition, _unique in session.rows(INDEXES, (oid,))
            if primary
        ),
        (),
    )
    method = {"r": "range", "l": "list", "h": "hash"}.get(strategy, strategy)
    table = Table(KINDS.get(kind, kind), owner, method, tuple(key), columns, generated, primary_key)
    if table.kind not in ("plain", "partitioned") or columns.get(wanted["key"]) not in KEY_TYPES:
        return table
    if table.kind == "partitioned" and (table.method, table.key) != ("range", (wanted["key"],)):
        return table
    partitions = _partitions(session, schema, name, oid)
    wanted = with_key_type(wanted, columns)
    highest = _highest(session, wanted, name, table.kind, partitions) if wanted.get("rule") else None
    ranges = declared(wanted, highest)
    rows, total = _default_rows(session, wanted, partitions, ranges)
    return replace(
        table,
        partitions=partitions,
        highest=highest,
        default_rows=rows,
        default_total=total,
        taken=taken(session, wanted, ranges, columns, partitions),
    )


def _partitions(session: Session, schema: str, name: str, oid: int) -> tuple[Partition, ...]:
    partitions = []
    for partition, where, expression, detaching in session.rows(PARTITIONS, (oid,)):
        if expression is None:
            continue  # an inheriting table, which the conversion refuses
        if where != schema:
            raise DatabaseError(
                f"The partition {partition} of {name} is in the schema {where}, not in {schema}: move it (ALTER TABLE ... SET SCHEMA)"
            )
        bounds = parse_bound(expression)
        partitions.append(Partition(partition, *(bounds or ()), default=bounds is None, detaching=detaching))
    return tuple(partitions)


def _highest(
    session: Session, wanted: dict[str, Any], name: str, kind: str, partitions: tuple[Partition, ...]
) -> int | None:
    """A key value where the highest row is. To know its partition is enough, which is cheap: the highest that isn't empty."""
    schema, key = wanted["schema"], quote(wanted["key"])
    if kind == "plain":
        return session.rows(f"SELECT max({key}) FROM ONLY {qualified(schema, name)}")[0][0]
    found = []
    for each in sorted((one for one in partitions if not one.default), key=lambda one: one.bounds, reverse=True):
        if session.rows(f"SELECT EXISTS (SELECT FROM {qualified(schema, each.name)})")[0][0]:
            if abs(each.lower) != math.inf:
                found.append(each.lower)
            else:
                found.append(session.rows(f"SELECT max({key}) FROM {qualified(schema, each.name)}")[0][0])
            break
    for each in partitions:
        if each.default:
            found += [
                value
                for (value,) in session.rows(f"SELECT max({key}) FROM {qualified(schema, each.name)}")
                if value is not None
            ]
    return max(found, default=None)


def _default_rows(
    session: Session, wanted: dict[str, Any], partitions: tuple[Partition, ...], ranges: list[Range]
) -> tuple[dict, int]:
    """The rows in the default partition: of each declared range that isn't there, and all."""
    default = next((each for each in partitions if each.default), None)
    if default is None:
        return {}, 0
    there = {each.bounds for each in partitions}
    missing = [each for each in ranges if each.state == "present" and each.bounds not in there]
    counts = ["count(*)", *(f"count(*) FILTER (WHERE {condition(wanted['key'], *each.bounds)})" for each in missing)]
    total, *numbers = session.rows(f"SELECT {', '.join(counts)} FROM ONLY {qualified(wanted['schema'], default.name)}")[
        0
    ]
    return {each.bounds: number for each, number in zip(missing, numbers) if number}, total


def taken(
    session: Session,
    wanted: dict[str, Any],
    ranges: list[Range],
    columns: dict[str, str],
    partitions: tuple[Partition, ...],
) -> dict[str, str]:
    """Which declared names something else than this table's partitions has."""
    names = [each.name for each in ranges]
    names.append((wanted.get("default_partition") or {}).get("name") or f"{wanted['table']}_default")
    ours = {each.name for each in partitions}
    expected = sorted(f"{name} {type_name}" for name, type_name in columns.items())
    return {
        name: "table" if kind == "r" and not partition and sorted(described) == expected else "other"
        for name, kind, partition, described in session.rows(NAMES, (wanted["schema"], names))
        if name not in ours
    }


def read_source(session: Session, wanted: dict[str, Any], table: Table) -> Source:
    """What matters for the conversion of an ordinary table."""
    schema, name, key = wanted["schema"], wanted["table"], wanted["key"]
    oid, _kind, owner, _strategy, _key = session.rows(RELATION, (schema, name))[0]
    described = session.rows(COLUMNS, (oid,))
    not_null = {column for column, _type, _generated, _identity, is_not_null in described if is_not_null}
    indexes = session.rows(INDEXES, (oid,))
    trigger = name + SUFFIX_TRIGGER
    ranges = [each for each in declared(with_key_type(wanted, table.columns), table.highest) if each.state == "present"]
    inside = " OR ".join(f"({condition(key, *each.bounds)})" for each in ranges) or "false"
    keyless, outside = (0, 0)
    if key in table.columns:
        keyless, outside = session.rows(
            f"SELECT count(*) FILTER (WHERE {quote(key)} IS NULL), count(*) FILTER (WHERE {quote(key)} IS NOT NULL AND NOT ({inside})) "
            f"FROM ONLY {qualified(schema, name)}"
        )[0]
    blockers = session.rows(BLOCKERS, {"oid": oid, "trigger": trigger})
    return Source(
        owner=owner,
        unique_keys=tuple(
            tuple(columns)
            for _name, _primary, immediate, plain, columns, _definition, _unique in indexes
            if immediate and plain and set(columns) <= not_null
        ),
        primary_key_name=next((index for index, primary, *_rest in indexes if primary), ""),
        indexes=tuple(
            (index, unique, tuple(columns), definition)
            for index, primary, _immediate, _plain, columns, definition, unique in indexes
            if not primary
        ),
        grants=tuple(session.rows(GRANTS, (oid,))),
        sequences=tuple(
            (qualified(where, sequence), column) for where, sequence, column in session.rows(SEQUENCES, (oid,))
        ),
        identities=tuple(column for column, _type, _generated, identity, _not_null in described if identity),
        blockers=tuple(blocker for (blocker,) in blockers),
        rows_without_key=keyless,
        rows_outside=outside,
        converting=bool(session.rows("SELECT FROM pg_trigger WHERE tgrelid = %s AND tgname = %s", (oid, trigger))),
        old=exists(session, schema, name + SUFFIX_OLD),
    )


def exists(session: Session, schema: str, name: str) -> bool:
    return bool(session.rows(RELATION, (schema, name)))


def copy_exists(session: Session, wanted: dict[str, Any]) -> bool:
    return exists(session, wanted["schema"], wanted["table"] + SUFFIX_COPY)


def sizes(session: Session, schema: str, name: str, exact: bool = False) -> list[dict[str, Any]]:
    """Rows and bytes of each partition (of the table itself when it has none), in the order of their ranges."""
    found = session.rows(RELATION, (schema, name))
    if not found:
        return []
    result = []
    for partition, expression, estimate, total, heap in session.rows(SIZES, {"oid": found[0][0]}):
        bounds = parse_bound(expression) if expression else None
        counted = exact or estimate < 0 or heap <= COUNTED_BYTES
        rows = session.rows(f"SELECT count(*) FROM {qualified(schema, partition)}")[0][0] if counted else estimate
        result.append(
            {
                "name": partition,
                "from": _plain(bounds[0]) if bounds else None,
                "to": _plain(bounds[1]) if bounds else None,
                "default": bool(expression) and bounds is None,
                "rows": rows,
                "rows_exact": counted,
                "bytes": total,
            }
        )
    order = {None: math.inf, "MINVALUE": -math.inf, "MAXVALUE": math.inf}
    return sorted(result, key=lambda one: (one["default"], order.get(one["from"], one["from"]), one["name"]))


def _plain(bound: int | float) -> int | str:
    return bound if abs(bound) != math.inf else ("MINVALUE" if bound < 0 else "MAXVALUE")
