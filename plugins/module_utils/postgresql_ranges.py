# Apache License 2.0 (see LICENSE)
"""The ranges of a partitioned table as they are declared, one by one or by a rule, and what is wrong with them. Pure functions."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

MINIMUM, MAXIMUM = -math.inf, math.inf
Bound = float  # a whole number, or one of these two
KEY_TYPES: dict[str, tuple[int, int]] = {
    "smallint": (-(2**15), 2**15 - 1),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}
# Types that PostgreSQL calls by another name than the one they are usually declared by.
ALIASES = {
    "int2": "smallint",
    "smallserial": "smallint",
    "int": "integer",
    "int4": "integer",
    "serial": "integer",
    "int8": "bigint",
    "bigserial": "bigint",
    "bool": "boolean",
    "float4": "real",
    "float8": "double precision",
    "decimal": "numeric",
    "varchar": "character varying",
    "char": "character",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
}
TYPE = re.compile(r"[a-z_][a-z0-9_. ]*(\(\d+(, ?\d+)?\))?( with(out)? time zone)?(\[\])*", re.IGNORECASE)
NAME_LIMIT_BYTES = 63
MOST_PARTITIONS = 10000


class Refused(Exception):
    """What is declared can't be had; every reason is in `problems`."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Range:
    """A declared partition: from `lower` on, up to but without `upper`."""

    lower: Bound
    upper: Bound
    name: str
    named: bool = False
    state: str = "present"

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        return self.lower, self.upper

    def __str__(self) -> str:
        return f"{self.name} ({show(self.lower)} to {show(self.upper)})"


# --- names and values ---


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def qualified(schema: str, name: str) -> str:
    return f"{quote(schema)}.{quote(name)}"


def show(bound: Bound) -> str:
    return "MINVALUE" if bound == MINIMUM else "MAXVALUE" if bound == MAXIMUM else str(bound)


def bound_of(value: Any) -> Bound:
    """A declared bound. Raises ValueError for what is neither a whole number nor MINVALUE or MAXVALUE."""
    text = str(value).strip()
    if text.upper() in ("MINVALUE", "MAXVALUE"):
        return MINIMUM if text.upper() == "MINVALUE" else MAXIMUM
    return int(text)


def parse_bound(text: str) -> tuple[Bound, Bound] | None:
    """The bounds in PostgreSQL's words, as `FOR VALUES FROM (1) TO (1000)`; None for a default partition."""
    if text == "DEFAULT":
        return None
    found = re.fullmatch(r"FOR VALUES FROM \((.+)\) TO \((.+)\)", text)
    if not found:
        raise ValueError(f"not a range of one column: {text}")
    lower, upper = (bound_of(value.strip("'()")) for value in found.groups())
    return lower, upper


def condition(key: str, lower: Bound, upper: Bound) -> str:
    """What holds for the rows of a range."""
    parts = [f"{quote(key)} IS NOT NULL"]
    parts += [f"{quote(key)} >= {lower}"] if lower != MINIMUM else []
    parts += [f"{quote(key)} < {upper}"] if upper != MAXIMUM else []
    return " AND ".join(parts)


def canonical_type(declared: str) -> str:
    """A declared type as format_type() writes it."""
    text = re.sub(r"\s+", " ", declared.strip().lower())
    found = re.fullmatch(r"([a-z0-9_. ]+?) ?(\(.*?\))?( with(?:out)? time zone)?((?:\[\])*)", text)
    if not found:
        return text
    name, modifier, zone, array = (part or "" for part in found.groups())
    name = ALIASES.get(name + zone, ALIASES.get(name, name) if not zone else name + zone)
    if modifier:
        head, space, tail = name.partition(" with")
        name = head + modifier.replace(" ", "") + space + tail
    return name + array


# --- what is declared ---


def declared(wanted: dict[str, Any], highest: int | None = None) -> list[Range]:
    """The partitions that are to be, in order. Raises Refused with everything that is wrong with them.

    `highest` is a key value where the table's highest row is: `keep_ahead` counts from there.
    """
    problems: list[str] = []
    table, key = wanted["table"], wanted["key"]
    listed = _listed(wanted, problems)
    ranges = listed + _ruled(wanted, listed, highest, problems)
    low, high = KEY_TYPES[canonical_type(wanted["key_type"])] if wanted.get("key_type") else (MINIMUM, MAXIMUM)
    for each in ranges:
        for bound in each.bounds:
            if abs(bound) != math.inf and not low <= bound <= high:
                problems.append(
                    f"{each} of {table} doesn't fit the type {wanted['key_type']} of {key} ({low} to {high})"
                )
        if len(each.name.encode()) > NAME_LIMIT_BYTES:
            problems.append(f"{each} of {table} has a name of more than {NAME_LIMIT_BYTES} bytes: give it a `name`")
    names: dict[str, Range] = {}
    for each in ranges:
        if each.name in names:
            problems.append(f"{names[each.name]} and {each} of {table} have the same name: give one another `name`")
        names[each.name] = each
    ranges = sorted(ranges, key=lambda each: each.bounds)
    problems += _overlaps(table, ranges)
    if wanted.get("primary_key") and key not in wanted["primary_key"]:
        problems.append(
            f"The primary key of {table} ({', '.join(wanted['primary_key'])}) is without {key}, by which the table is partitioned. "
            f"PostgreSQL can't keep such a key: add {key} to `primary_key`"
        )
    problems += _column_problems(wanted)
    if problems:
        raise Refused(problems)
    return ranges


def _listed(wanted: dict[str, Any], problems: list[str]) -> list[Range]:
    ranges = []
    for given in wanted.get("partitions") or []:
        what = f"{given.get('name') or 'a partition'} of {wanted['table']}: from {given['from']} to {given['to']}"
        try:
            lower, upper = bound_of(given["from"]), bound_of(given["to"])
        except ValueError:
            problems.append(f"{what} aren't whole numbers (or MINVALUE, MAXVALUE)")
            continue
        if lower == upper:
            problems.append(f"{what} is empty: `to` itself is not in the range, so it must be more than `from`")
        elif lower > upper or lower == MAXIMUM or upper == MINIMUM:
            problems.append(f"{what} is inverted: `to` must be more than `from`")
        else:
            name = given.get("name") or f"{wanted['table']}_{show(lower).lower()}"
            ranges.append(Range(lower, upper, name, bool(given.get("name")), given.get("state") or "present"))
    return ranges


def _ruled(wanted: dict[str, Any], listed: list[Range], highest: int | None, problems: list[str]) -> list[Range]:
    rule, table = wanted.get("rule"), wanted["table"]
    if not rule:
        return []
    width, count, ahead = int(rule["width"]), int(rule.get("count") or 0), int(rule.get("keep_ahead") or 0)
    if width < 1:
        problems.append(f"The rule of {table} has a `width` of {width}: it must be 1 or more")
    if count < 0 or ahead < 0 or not count + ahead:
        problems.append(f"The rule of {table} makes no partitions: set `count`, `keep_ahead` or both to 1 or more")
    ends = [each.upper for each in listed if each.state == "present"]
    start = rule.get("from") if rule.get("from") is not None else (max(ends) if ends else None)
    if start is None or abs(start) == math.inf:
        problems.append(f"The rule of {table} doesn't say where to begin: set its `from`")
    if problems:
        return []
    start = int(start)
    reached = (highest - start) // width + 1 if highest is not None and highest >= start else 0
    number = max(count, reached + ahead)
    if number > MOST_PARTITIONS:
        problems.append(
            f"The rule of {table} asks for {number} partitions (its highest {wanted['key']} is {highest}), more than {MOST_PARTITIONS}: "
            "make `width` larger"
        )
        return []
    template = rule.get("name") or "{table}_{from}"
    fields = {name for _text, name, _format, _conversion in string.Formatter().parse(template) if name is not None}
    if fields - {"table", "from", "to", "number"} or not fields & {"from", "to", "number"}:
        problems.append(
            f"The rule of {table} names its partitions {template!r}: use {{from}}, {{to}} or {{number}}, and {{table}} if you like"
        )
        return []
    limit = KEY_TYPES[canonical_type(wanted["key_type"])][1] if wanted.get("key_type") else MAXIMUM
    overruled = {each.bounds for each in listed}
    before = sum(each.upper <= start for each in listed)
    ranges = []
    for index in range(number):
        lower, upper = start + index * width, start + (index + 1) * width
        if upper <= limit and (lower, upper) not in overruled:
            values = {"table": table, "from": lower, "to": upper, "number": before + index + 1}
            ranges.append(Range(lower, upper, template.format(**values)))
    return ranges


def _overlaps(table: str, ranges: Iterable[Range]) -> list[str]:
    problems: list[str] = []
    last: Range | None = None
    for each in ranges:
        if last is not None and each.lower < last.upper:
            problems.append(f"{last} and {each} of {table} overlap: a row belongs into one partition")
        if last is None or each.upper > last.upper:
            last = each
    return problems


def _column_problems(wanted: dict[str, Any]) -> list[str]:
    table, key = wanted["table"], wanted["key"]
    columns = {column["name"]: column for column in wanted.get("columns") or []}
    if not columns:
        return []
    problems = [
        f"The column {name} of {table} has the type {column['type']!r}, which is no type's name"
        for name, column in columns.items()
        if not TYPE.fullmatch(column["type"].strip())
    ]
    if key not in columns:
        problems.append(f"{table} is to be partitioned by {key}, which isn't among its `columns`")
    elif canonical_type(columns[key]["type"]) not in KEY_TYPES:
        problems.append(
            f"{table} is to be partitioned by {key} of the type {columns[key]['type']}: ranges are of whole numbers ({', '.join(KEY_TYPES)})"
        )
    problems += [
        f"The primary key of {table} names {name}, which isn't among its `columns`"
        for name in wanted.get("primary_key") or []
        if name not in columns
    ]
    return problems


def gaps(ranges: Iterable[tuple[Bound, Bound]]) -> list[tuple[Bound, Bound]]:
    """What lies between the ranges and in none of them."""
    found, end = [], None
    for lower, upper in sorted(ranges):
        if end is not None and lower > end:
            found.append((end, lower))
        end = upper if end is None else max(end, upper)
    return found
