# Apache License 2.0 (see LICENSE)
"""Finds out what is to be done with a partitioned table, and does it. The module uses it, and the timer on the database's hosts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils import postgresql_conversion as stages
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_catalog import (
    copy_exists,
    exists,
    read_source,
    read_table,
    sizes,
    with_key_type,
)
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_conversion import Conversion, Source
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_partition import Step, Table, plan
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_ranges import Refused, show
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_session import (
    DatabaseError,
    Limits,
    Session,
    driver,
)

LAST_ENTRIES = 500  # so many entries of the log are left to the transaction that locks the table
KILLED_SECONDS = 30.0  # how long the server may take to notice that an earlier run is gone


@dataclass
class Work:
    """What is there, and the steps from there."""

    table: Table
    steps: list[Step]
    conversion: Conversion | None = None
    resumed: bool = False
    figures: dict[str, Any] = field(default_factory=dict)


def prepare(session: Session, wanted: dict[str, Any]) -> Work:
    """Read, and plan. Raises Refused."""
    table = read_table(session, wanted)
    wanted = with_key_type(wanted, table.columns)
    if table.kind != "plain":
        steps = plan(wanted, table)
        if wanted.get("convert_drop_old") and exists(session, wanted["schema"], wanted["table"] + stages.SUFFIX_OLD):
            steps.append(stages.drop_old(wanted))
        return Work(table, steps)
    if not wanted.get("convert"):
        raise Refused(
            [
                f"{wanted['table']} is an ordinary table, not a partitioned one: set `convert` to have it converted while it is used"
            ]
        )
    source: Source = read_source(session, wanted, table)
    target = stages.copy_of({**wanted, "highest": table.highest})
    if source.converting or not copy_exists(session, wanted):
        copy = read_table(session, target)
    else:
        raise Refused([f"{target['table']} exists, but no conversion that has made it: drop it, or rename it"])
    return Work(
        table,
        stages.plan_conversion(wanted, table, source, copy),
        stages.conversion_of(wanted, table, source),
        source.converting,
    )


def perform(session: Session, wanted: dict[str, Any], limits: Limits) -> Work:
    """Plan anew, now that nobody else does the same, and do it."""
    if not session.alone(wanted["schema"], wanted["table"], KILLED_SECONDS):
        raise DatabaseError(
            f"Another run is at work on {wanted['table']}: let it come to its end (its connection is in pg_stat_activity), then repeat this"
        )
    work = prepare(session, wanted)
    began = time.monotonic()
    longest = 0
    for step in work.steps:
        table = wanted["table"]
        if step.kind == "copy":
            copy_rows(session, work, wanted)
            continue
        between: Callable[[], None] | None = None
        if step.kind == "swap":
            catch_up(session, work, wanted, limits)

            def between() -> None:
                catch_up(session, work, wanted, limits)

        held = session.repeat(step, limits, wanted["schema"], table, between)
        longest = max(longest, held)
    work.figures |= {"seconds": round(time.monotonic() - began, 3), "longest_lock_ms": longest}
    return work


def keep(session: Session, given: dict[str, Any], limits: Limits) -> list[str]:
    """What the timer does: add partitions that a table has come to need, and nothing else. Returns what was done."""
    wanted = {"schema": "public", **given}
    table = read_table(session, wanted)
    if table.kind != "partitioned":
        raise Refused([f"{wanted['table']} is {table.kind}, not partitioned: the playbook makes or converts it"])
    wanted = with_key_type(wanted, table.columns)
    if not any(step.kind in ("create", "move") for step in plan(wanted, table)):
        return []
    if not session.alone(wanted["schema"], wanted["table"], 0):
        return []  # a playbook is at it
    done = []
    for step in plan(wanted, read_table(session, wanted)):
        if step.kind in ("create", "move"):
            session.repeat(step, limits, wanted["schema"], wanted["table"])
            done.append(step.says)
    return done


def copy_rows(session: Session, work: Work, wanted: dict[str, Any]) -> None:
    """Copy what isn't copied yet, batch by batch, and follow what is changed meanwhile."""
    conversion, rows = work.conversion, wanted["batch_rows"]
    done, copied, *last = session.rows(stages.where_copied(conversion))[0]
    key = None if any(value is None for value in last) else tuple(last)
    session.run(stages.make_keys(conversion))
    work.figures |= {"rows_copied_before": copied, "rows_copied": 0, "changes_followed": 0, "batches": 0}
    while not done:
        try:
            batch = session.rows(stages.copy_batch(conversion, key, rows))
        except driver.Error as error:
            raise failed(work, error) from error
        number = batch[0][0] if batch else 0
        key = tuple(batch[0][1:]) if batch else key
        work.figures["rows_copied"] += number
        work.figures["batches"] += 1
        done = number < rows
        if done:
            session.run(stages.set_copied(conversion))
        follow(session, work)
        time.sleep(wanted["batch_pause_ms"] / 1000)
    # Nobody analyzes a partitioned table by itself, and the first query after the exchange wants to be planned well.
    session.run(f"ANALYZE {conversion.name(stages.SUFFIX_COPY)}")


def follow(session: Session, work: Work) -> int:
    """One round of the log. Returns the number of changed keys."""
    try:
        with session.transaction():
            changed = 0
            for index, statement in enumerate(stages.log_round(work.conversion, stages.ROUND_ENTRIES)):
                about = session.run(statement)
                changed = about if not index else changed
    except driver.Error as error:
        raise failed(work, error) from error
    work.figures["changes_followed"] += changed
    return changed


def catch_up(session: Session, work: Work, wanted: dict[str, Any], limits: Limits) -> None:
    """Rounds until little is left for the transaction that locks the table."""
    until = time.monotonic() + limits.lock_wait_seconds
    while session.rows(stages.log_length(work.conversion, LAST_ENTRIES + 1))[0][0] > LAST_ENTRIES:
        follow(session, work)
        if time.monotonic() >= until:
            raise DatabaseError(
                f"{wanted['table']} is changed faster than the changes can be followed, for {limits.lock_wait_seconds:.0f} s now. "
                "What is copied is kept: repeat this when less is written"
            )


def failed(work: Work, error: Exception) -> DatabaseError:
    table = work.conversion.table
    return DatabaseError(
        f"The conversion of {table} stopped: {str(error).strip()}. {table} is as it was, in use, and what is copied is kept: "
        "see to the cause (rows outside of all ranges? declare more), then repeat this"
    )


def report(session: Session, wanted: dict[str, Any], exact: bool = False) -> list[dict[str, Any]]:
    return sizes(session, wanted["schema"], wanted["table"], exact)


def default_rows(table: Table) -> dict[str, int]:
    """Rows in the default partition, by the declared range that they belong into."""
    found = {f"{show(lower)} to {show(upper)}": rows for (lower, upper), rows in sorted(table.default_rows.items())}
    other = table.default_total - sum(table.default_rows.values())
    return found | ({"no declared range": other} if other else {})
