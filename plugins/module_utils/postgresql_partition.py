# Apache License 2.0 (see LICENSE)
"""From what the catalog says of a partitioned table to what is declared: the steps, their SQL and their locks. Pure functions.

A partition is made as a table of its own and attached: that takes SHARE UPDATE EXCLUSIVE on the partitioned table, which neither readers
nor writers notice, where CREATE TABLE ... PARTITION OF takes ACCESS EXCLUSIVE.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_ranges import (
    KEY_TYPES,
    MAXIMUM,
    MINIMUM,
    Bound,
    Range,
    Refused,
    canonical_type,
    condition,
    declared,
    gaps,
    literal,
    qualified,
    quote,
    show,
)

SHARED = "SHARE UPDATE EXCLUSIVE on {}"
EXCLUSIVE = "ACCESS EXCLUSIVE on {}"
MOVE_LIMIT_ROWS = 100000


@dataclass(frozen=True)
class Partition:
    """A partition in the catalog."""

    name: str
    lower: Bound = MINIMUM
    upper: Bound = MAXIMUM
    default: bool = False
    detaching: bool = False

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        return self.lower, self.upper

    def __str__(self) -> str:
        return self.name if self.default else f"{self.name} ({show(self.lower)} to {show(self.upper)})"


@dataclass(frozen=True)
class Table:
    """What the catalog says of the declared table."""

    kind: str = "missing"  # missing, plain, partitioned or what else it is
    owner: str = ""
    method: str = "range"
    key: tuple[str, ...] = ()
    columns: dict[str, str] = field(default_factory=dict)
    generated: tuple[str, ...] = ()
    primary_key: tuple[str, ...] = ()
    partitions: tuple[Partition, ...] = ()
    highest: int | None = None  # a key value that lies where the highest row does
    # In the default partition: rows per declared range that isn't there yet, all rows.
    default_rows: dict[tuple[Bound, Bound], int] = field(default_factory=dict)
    default_total: int = 0
    # Names that are declared and taken in the schema: "table" has the columns of this one and could be attached, "other" couldn't.
    taken: dict[str, str] = field(default_factory=dict)

    @property
    def default(self) -> Partition | None:
        return next((partition for partition in self.partitions if partition.default), None)

    @property
    def ranges(self) -> list[Partition]:
        return sorted((each for each in self.partitions if not each.default), key=lambda each: each.bounds)


@dataclass(frozen=True)
class Step:
    """Statements that belong together: in one transaction unless PostgreSQL refuses that."""

    says: str
    statements: tuple[str, ...]
    lock: str = ""
    transaction: bool = True
    kind: str = "create"
    free: int = 0  # so many of the statements come before any lock that somebody could wait for

    @property
    def sql(self) -> str:
        text = ";\n".join(self.statements) + ";"
        return f"BEGIN;\n{text}\nCOMMIT;" if self.transaction and len(self.statements) > 1 else text


def plan(wanted: dict[str, Any], table: Table) -> list[Step]:
    """The steps from what is to what is declared, in order. Raises Refused with every reason why there are none.

    The table is missing or partitioned; an ordinary one is converted first (postgresql_conversion).
    """
    wanted = {**wanted, "owner": wanted.get("owner") or table.owner}
    ranges = declared(wanted, table.highest)
    problems = [] if table.kind == "missing" else table_problems(wanted, table)
    if problems:
        raise Refused(problems)
    steps = create_table(wanted) if table.kind == "missing" else []
    steps += [finalize(wanted, each) for each in table.partitions if each.detaching]
    attached = [each for each in table.partitions if not each.detaching]
    present = [each for each in ranges if each.state == "present"]
    # Free the ranges that go before others come: bounds may be taken over.
    for each in ranges:
        if each.state != "present":
            steps += _leave(wanted, table, attached, each, problems)
    gone = {each.bounds for each in ranges if each.state != "present"}
    kept = [each for each in attached if each.default or each.bounds not in gone]
    problems += _gap_problems(wanted, [*present, *(each for each in kept if not each.default)])
    for each in present:
        steps += _come(wanted, table, kept, each, problems)
    steps += _default_steps(wanted, table, problems)
    if problems:
        raise Refused(problems)
    return steps


def table_problems(wanted: dict[str, Any], table: Table) -> list[str]:
    """Why the table in the catalog is not the declared one, as far as nothing here can change that."""
    name, key = wanted["table"], wanted["key"]
    if table.kind not in ("plain", "partitioned"):
        return [f"{name} is a {table.kind}, not a table"]
    problems = []
    if table.kind == "partitioned" and (table.method != "range" or table.key != (key,)):
        problems.append(
            f"{name} is partitioned by {table.method} ({', '.join(table.key)}), not by range ({key}). That can't be changed in place: "
            "set `key` to what it is, or make a new table and move the rows"
        )
    if key not in table.columns:
        problems.append(f"{name} has no column {key} to be partitioned by")
    elif table.columns[key] not in KEY_TYPES:
        problems.append(
            f"{key} of {name} is of the type {table.columns[key]}: ranges are of whole numbers ({', '.join(KEY_TYPES)})"
        )
    for column in wanted.get("columns") or []:
        live, expected = table.columns.get(column["name"]), canonical_type(column["type"])
        if live is None:
            problems.append(
                f"{name} has no column {column['name']}: add it with a migration of the application's, or drop it from `columns`"
            )
        elif live != expected and live.rpartition(".")[2] != expected.rpartition(".")[2]:
            problems.append(
                f"{column['name']} of {name} is of the type {live}, declared is {column['type']}: correct `columns`"
            )
    wanted_key = tuple(wanted.get("primary_key") or ())
    if table.kind == "partitioned" and wanted_key and set(wanted_key) != set(table.primary_key):
        problems.append(
            f"The primary key of {name} is ({', '.join(table.primary_key) or 'none'}), declared is ({', '.join(wanted_key)}): "
            "correct `primary_key`, or change the key with a migration"
        )
    return problems


def create_table(wanted: dict[str, Any]) -> list[Step]:
    name = qualified(wanted["schema"], wanted["table"])
    if not wanted.get("columns"):
        raise Refused([f"{wanted['table']} doesn't exist, and without `columns` it can't be made"])
    lines = []
    for column in wanted["columns"]:
        default = f" DEFAULT {column['default']}" if column.get("default") is not None else ""
        lines.append(
            f"{quote(column['name'])} {column['type']}{default}{' NOT NULL' if column.get('not_null') else ''}"
        )
    if wanted.get("primary_key"):
        lines.append(f"PRIMARY KEY ({', '.join(map(quote, wanted['primary_key']))})")
    body = ",\n".join(f"    {line}" for line in lines)
    statements = [f"CREATE TABLE {name} (\n{body}\n) PARTITION BY RANGE ({quote(wanted['key'])})"]
    if wanted.get("owner"):
        statements.append(f"ALTER TABLE {name} OWNER TO {quote(wanted['owner'])}")
    return [Step(f"make the table {wanted['table']}, partitioned by {wanted['key']}", tuple(statements), kind="table")]


def _like(wanted: dict[str, Any], partition: str) -> list[str]:
    parent, name = qualified(wanted["schema"], wanted["table"]), qualified(wanted["schema"], partition)
    # A partition may have no identity column of its own; it takes the values of the partitioned table's.
    statements = [f"CREATE TABLE {name} (LIKE {parent} INCLUDING ALL EXCLUDING IDENTITY)"]
    return statements + ([f"ALTER TABLE {name} OWNER TO {quote(wanted['owner'])}"] if wanted.get("owner") else [])


def _attach(wanted: dict[str, Any], each: Range) -> str:
    parent, name = qualified(wanted["schema"], wanted["table"]), qualified(wanted["schema"], each.name)
    return f"ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ({show(each.lower)}) TO ({show(each.upper)})"


def _attach_lock(wanted: dict[str, Any], default: str) -> str:
    return SHARED.format(wanted["table"]) + (f", {EXCLUSIVE.format(default)}" if default else "")


def _come(
    wanted: dict[str, Any], table: Table, attached: list[Partition], each: Range, problems: list[str]
) -> list[Step]:
    """The steps that make a declared partition be there."""
    owner = wanted["table"]
    for live in attached:
        if live.default:
            continue
        if live.bounds == each.bounds:
            if each.named and live.name != each.name:
                problems.append(
                    f"The partition {each} of {owner} is there as {live.name}: set that `name`, or rename it (ALTER TABLE ... RENAME)"
                )
            return []
        if live.name == each.name:
            problems.append(
                f"{each} of {owner} is there with other bounds, {show(live.lower)} to {show(live.upper)}. Bounds can't be changed in place: "
                "declare it as it is, or detach it (`state: detached`) and declare ranges for its rows"
            )
            return []
        if live.lower < each.upper and each.lower < live.upper:
            problems.append(f"{each} of {owner} overlaps the partition {live}, which is there: correct its bounds")
            return []
    default = table.default
    lock = _attach_lock(wanted, default.name if default else "")
    rows = table.default_rows.get(each.bounds, 0)
    taken = table.taken.get(each.name)
    detached = any(live.detaching and live.name == each.name for live in table.partitions)
    if taken == "other":
        problems.append(
            f"{each} of {owner} can't be made: {each.name} is the name of something else. Give it another `name`"
        )
        return []
    if taken or detached:
        if rows:
            problems.append(
                f"{each.name} can't be attached to {owner}: {rows} rows of its range are in the default partition {default.name}. "
                "Move them into it by hand first"
            )
            return []
        return attach_existing(wanted, each, lock)
    if rows:
        return _move(wanted, table, each, rows, problems)
    made = _like(wanted, each.name)
    return [
        Step(f"add the partition {each} to {owner}", (*made, _attach(wanted, each)), lock, free=len(made)),
    ]


def attach_existing(wanted: dict[str, Any], each: Range, lock: str) -> list[Step]:
    """Attach a table that may hold rows: a constraint that is checked beforehand spares the scan under the lock."""
    name, check = qualified(wanted["schema"], each.name), quote("partition_bound")
    bounds = condition(wanted["key"], each.lower, each.upper)
    return [
        Step(
            f"check that the rows of {each.name} lie in {show(each.lower)} to {show(each.upper)}",
            (
                f"ALTER TABLE {name} DROP CONSTRAINT IF EXISTS {check}, ADD CONSTRAINT {check} CHECK ({bounds}) NOT VALID",
                f"ALTER TABLE {name} VALIDATE CONSTRAINT {check}",
            ),
            EXCLUSIVE.format(each.name),
            transaction=False,
            kind="attach",
        ),
        Step(
            f"attach {each} to {wanted['table']}",
            (_attach(wanted, each), f"ALTER TABLE {name} DROP CONSTRAINT {check}"),
            lock,
            kind="attach",
        ),
    ]


def _move(wanted: dict[str, Any], table: Table, each: Range, rows: int, problems: list[str]) -> list[Step]:
    """Make a partition and take its rows out of the default one, in one transaction: at no moment is a row in neither."""
    settings, default = wanted.get("default_partition") or {}, table.default
    if not settings.get("move_rows"):
        problems.append(
            f"{each} of {wanted['table']} can't be added: {rows} rows of its range are in the default partition {default.name}. "
            "Set `default_partition.move_rows` to have them moved"
        )
        return []
    limit = settings.get("move_limit_rows", MOVE_LIMIT_ROWS)
    if limit and rows > limit:
        problems.append(
            f"{each} of {wanted['table']} would take {rows} rows out of the default partition {default.name}, which nobody can use meanwhile; "
            "`default_partition.move_limit_rows` is {0}. Raise it (and `max_lock_ms`) at a quiet hour".format(limit)
        )
        return []
    parent, source = qualified(wanted["schema"], wanted["table"]), qualified(wanted["schema"], default.name)
    columns = ", ".join(quote(name) for name in table.columns if name not in table.generated)
    bounds = condition(wanted["key"], each.lower, each.upper)
    statements = (
        # In the order in which a writer takes them.
        f"LOCK TABLE ONLY {parent} IN SHARE UPDATE EXCLUSIVE MODE",
        f"LOCK TABLE {source} IN ACCESS EXCLUSIVE MODE",
        *_like(wanted, each.name),
        f"WITH moved AS (DELETE FROM ONLY {source} WHERE {bounds} RETURNING {columns})\n"
        f"INSERT INTO {qualified(wanted['schema'], each.name)} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM moved",
        _attach(wanted, each),
    )
    says = f"add the partition {each} to {wanted['table']} and move {rows} rows from {default.name} into it"
    return [Step(says, statements, _attach_lock(wanted, default.name), kind="move")]


def finalize(wanted: dict[str, Any], each: Partition) -> Step:
    """End a concurrent detachment that was interrupted."""
    statement = f"ALTER TABLE {qualified(wanted['schema'], wanted['table'])} DETACH PARTITION {qualified(wanted['schema'], each.name)} FINALIZE"
    return Step(
        f"finish the interrupted detachment of {each}",
        (statement,),
        f"{SHARED.format(wanted['table'])}, {EXCLUSIVE.format(each.name)}",
        kind="detach",
    )


def detach(wanted: dict[str, Any], name: str, concurrently: bool) -> Step:
    table = wanted["table"]
    statement = f"ALTER TABLE {qualified(wanted['schema'], table)} DETACH PARTITION {qualified(wanted['schema'], name)}"
    if concurrently:
        return Step(
            f"detach {name} from {table} concurrently",
            (f"{statement} CONCURRENTLY",),
            SHARED.format(table),
            transaction=False,
            kind="detach",
        )
    return Step(
        f"detach {name} from {table} (not concurrently: it has a default partition)",
        (statement,),
        EXCLUSIVE.format(table),
        kind="detach",
    )


def _leave(
    wanted: dict[str, Any], table: Table, attached: list[Partition], each: Range, problems: list[str]
) -> list[Step]:
    """The steps that detach or drop a partition that is declared to be so."""
    steps: list[Step] = []
    live = next((one for one in attached if not one.default and one.bounds == each.bounds), None)
    if live is None:
        other = next((one for one in attached if one.name == each.name), None)
        if other:
            problems.append(
                f"{each} of {wanted['table']} is to be {each.state}, but {other} has other bounds: declare it as it is"
            )
            return []
    elif each.named and live.name != each.name:
        problems.append(
            f"{each} of {wanted['table']} is to be {each.state}, but the range is called {live.name}: set that `name`"
        )
        return []
    name = live.name if live else each.name
    if live:
        steps.append(detach(wanted, name, concurrently=table.default is None))
    if each.state == "absent":
        detaching = any(one.detaching and one.name == name for one in table.partitions)
        if not live and not detaching and table.taken.get(name) == "other":
            problems.append(
                f"{name} is declared absent, but it is no table with the columns of {wanted['table']}: drop it yourself"
            )
        elif live or detaching or table.taken.get(name):
            statement = f"DROP TABLE {qualified(wanted['schema'], name)}"
            steps.append(Step(f"drop {name} with its rows", (statement,), EXCLUSIVE.format(name), kind="drop"))
    return steps


def _gap_problems(wanted: dict[str, Any], ranges: Iterable[Range | Partition]) -> list[str]:
    if wanted.get("gaps") != "forbid":
        return []
    return [
        f"{wanted['table']} has no partition for {show(lower)} to {show(upper)}, and `gaps` is forbid: declare one"
        for lower, upper in gaps(each.bounds for each in ranges)
    ]


def _default_steps(wanted: dict[str, Any], table: Table, problems: list[str]) -> list[Step]:
    """The default partition: one that comes is made last, one that goes is emptied by then or refused."""
    settings, live = wanted.get("default_partition") or {}, table.default
    state = settings.get("state")
    if not state:
        return []
    parent = qualified(wanted["schema"], wanted["table"])
    if state == "present" and live is None:
        name = settings.get("name") or f"{wanted['table']}_default"
        if table.taken.get(name):
            problems.append(f"The default partition of {wanted['table']} can't be made: the name {name} is taken")
            return []
        statements = (
            *_like(wanted, name),
            f"ALTER TABLE {parent} ATTACH PARTITION {qualified(wanted['schema'], name)} DEFAULT",
        )
        return [
            Step(f"add the default partition {name} to {wanted['table']}", statements, SHARED.format(wanted["table"]))
        ]
    if state == "absent" and live is not None:
        left = table.default_total - (sum(table.default_rows.values()) if settings.get("move_rows") else 0)
        if left:
            problems.append(
                f"The default partition {live.name} of {wanted['table']} is to be absent but holds {left} rows for which no range is declared"
            )
            return []
        name = qualified(wanted["schema"], live.name)
        complaint = literal(f"{live.name} has got rows meanwhile")
        statements = (
            f"ALTER TABLE {parent} DETACH PARTITION {name}",
            f"DO $$ BEGIN IF EXISTS (SELECT FROM {name}) THEN RAISE EXCEPTION {complaint}; END IF; END $$",
            f"DROP TABLE {name}",
        )
        lock = EXCLUSIVE.format(wanted["table"])
        return [
            Step(f"drop the empty default partition {live.name} of {wanted['table']}", statements, lock, kind="drop")
        ]
    return []
