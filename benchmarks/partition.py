#!/usr/bin/env python3
"""Measure the conversion of an ordinary table into a partitioned one while it is written.

Run from the checkout's root: `.venv/bin/python -m benchmarks.partition`. It starts a PostgreSQL of its own from Debian's package (with
fsync), or uses the one that the environment names (SUTAZAI_TEST_POSTGRESQL_HOST and so on, see tests/integration/postgresql_server.py). The
table is converted once without a break and once killed half-way and resumed; every row is compared afterwards. The result goes to
benchmarks/results/partition.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.lab import say
from tests.integration.postgresql_server import (
    LockWaits,
    Place,
    Writer,
    available,
    compare,
    kill,
    ordinary_table,
    start,
)

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
DECLARATION = {
    "table": "events",
    "key": "tenant_id",
    "primary_key": ["tenant_id", "id"],
    "rule": {"from": 0, "width": 100, "keep_ahead": 1},
    "convert": True,
}


def copied(place: Place) -> int:
    if place.value("SELECT to_regclass('events__progress')") is None:
        return 0
    # Without a row in the moment of the exchange.
    return max((number for (number,) in place.sql("SELECT copied_rows FROM events__progress")), default=0)


def convert(place: Place, rows: int, killed: bool) -> tuple[dict, float]:
    """The module's result and the seconds from the first start to the end."""
    began = time.monotonic()
    if killed:
        first = place.popen(**DECLARATION)
        while copied(place) < rows / 2:
            if first.poll() is not None:
                sys.exit(f"the conversion ended before it could be killed: {first.communicate()}")
            time.sleep(0.02)
        kill(first)
        say(f"killed after {copied(place)} rows")
    result = place.run(**DECLARATION, timeout=7200)
    if result.get("failed"):
        sys.exit(result["msg"])
    return result, time.monotonic() - began


def measure(place: Place, rows: int, killed: bool) -> dict:
    ordinary_table(place, rows)
    before = place.value("SELECT pg_total_relation_size('events')")
    writer = Writer(place, "events", seed=1, tenants=499, existing=list(range(1, rows + 1)), pause=0.002)
    writer.start()
    time.sleep(5)
    usual, transactions = writer.longest, writer.transactions
    waits = LockWaits(place)
    waits.start()
    result, seconds = convert(place, rows, killed)
    time.sleep(2)  # the writer goes on with the partitioned table
    longest_wait = waits.stop()
    writer.stop()
    if writer.errors:
        sys.exit(f"the writer met {writer.errors}")
    found = compare(place, rows, [writer])
    figures = {
        "rows": rows,
        "bytes_before": before,
        "seconds": round(seconds, 1),
        "longest_lock_wait_ms": round(longest_wait * 1000, 1),
        "longest_statement_of_the_writer_ms": round(writer.longest * 1000, 1),
        "longest_statement_before_ms": round(usual * 1000, 1),
        "writers_transactions_before_per_second": round(transactions / 5),
        "writers_transactions_during_per_second": round((writer.transactions - transactions) / (seconds + 2)),
        "conversion": result["conversion"],
        "rows_compared": found,
    }
    place.sql("DROP TABLE events, events__unpartitioned")
    say(json.dumps(figures))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--name", default="partition", help="of the result's file")
    arguments = parser.parse_args()
    servers = available()
    if not servers:
        sys.exit(
            "no /usr/lib/postgresql/*/bin: install postgresql, or name a server in SUTAZAI_TEST_POSTGRESQL_HOST and the like"
        )
    server = start(servers[-1], durable=True)
    try:
        place = Place(server)
        result = {
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "cores": os.cpu_count(),
            "load_before": [round(value, 2) for value in os.getloadavg()],
            "postgresql": place.value("SHOW server_version"),
            "uninterrupted": measure(place, arguments.rows, killed=False),
            "killed_half_way": measure(place, arguments.rows, killed=True),
            "load_after": [round(value, 2) for value in os.getloadavg()],
        }
        place.close()
    finally:
        server.stop()
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{arguments.name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    lost = [run for run in ("uninterrupted", "killed_half_way") if any(result[run]["rows_compared"].values())]
    say(
        f"{path.relative_to(ROOT)}: {'rows differ after ' + ' and '.join(lost) if lost else 'every row is as it was left'}"
    )
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
