# Apache License 2.0 (see LICENSE)
"""What a failover probe wrote down, and what follows from it. Nothing here talks to anybody.

The probe writes one JSON object per line:
  {"kind": "begin", "wall": …, "component": …, "series": [{"name": …, "may_lose": …, "limited": …}], "rate": …, "deadline": …, "load": …}
  {"kind": "write", "series": …, "number": …, "began": …, "ended": …, "acknowledged": …, "error": …}
  {"kind": "read", "series": …, "number": …, "at": …}             while it writes: a consumer
  {"kind": "found", "series": …, "numbers": […]}                  afterwards: what is there
  {"kind": "end", "at": …, "load": …}                             when it stopped writing
Times are seconds since "wall" by a clock that nobody sets; "wall" is the time of day that they begin at.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SHOWN = 20  # of numbers that are lost or unexpected


class Unreadable(Exception):
    """The records don't tell what happened."""


@dataclass(frozen=True)
class Write:
    number: int
    began: float
    ended: float
    acknowledged: bool
    error: str = ""


@dataclass
class Series:
    """Records of one kind, such as those written with WAIT."""

    name: str
    may_lose: bool = False
    limited: bool = True  # whether its gap says how long the service was away, and is compared with a limit
    writes: list[Write] = field(default_factory=list)
    reads: list[tuple[int, float]] = field(default_factory=list)
    found: list[int] | None = None  # with repetitions; None when it couldn't be read


@dataclass
class Records:
    component: str
    wall: float
    rate: float
    deadline: float
    series: list[Series]
    ended: float | None = None
    load_before: list[float] = field(default_factory=list)
    load_after: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Events:
    """When what happened, as times of day in seconds; None where it didn't."""

    injected: float | None = None
    undone: float | None = None
    healthy: float | None = None


def parse(lines: Iterable[str]) -> Records:
    """The records of one run. A last line that was cut off is left out."""
    records: Records | None = None
    by_name: dict[str, Series] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        kind = entry.get("kind")
        if kind == "begin":
            series = [
                Series(one["name"], one.get("may_lose", False), one.get("limited", True)) for one in entry["series"]
            ]
            by_name = {one.name: one for one in series}
            records = Records(entry["component"], entry["wall"], entry["rate"], entry["deadline"], series)
            records.load_before = entry.get("load", [])
        elif records is None:
            continue
        elif kind == "write":
            by_name[entry["series"]].writes.append(
                Write(entry["number"], entry["began"], entry["ended"], entry["acknowledged"], entry.get("error", ""))
            )
        elif kind == "read":
            by_name[entry["series"]].reads.append((entry["number"], entry["at"]))
        elif kind == "found":
            by_name[entry["series"]].found = entry["numbers"]
        elif kind == "end":
            records.ended, records.load_after = entry["at"], entry.get("load", [])
    if records is None:
        raise Unreadable("The probe wrote down nothing: it was stopped before it began to write.")
    return records


def longest_gap(moments: Iterable[float], end: float) -> tuple[float, float]:
    """The longest time without any of these moments, from the first of them to `end`: (its length, when it began)."""
    ordered = sorted(moments)
    if not ordered:
        return 0.0, 0.0
    stops = [*ordered, max(end, ordered[-1])]
    return max(((after - before, before) for before, after in zip(stops, stops[1:])), key=lambda gap: gap[0])


def percentile(values: Iterable[float], percent: float) -> float | None:
    """By nearest rank; None of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def summarise(series: Series, end: float, injected: float | None) -> dict[str, Any]:
    """What became of one series. Counts; of lost and unexpected records also the first few numbers."""
    attempted = {write.number for write in series.writes}
    acknowledged = [write for write in series.writes if write.acknowledged]
    moments = [write.ended for write in acknowledged]
    kept = {write.number for write in acknowledged}
    counts = Counter(series.found or [])
    found = set(counts)
    known = series.found is not None
    lost, unexpected = sorted(kept - found) if known else [], sorted(found - attempted)
    gap, gap_began = longest_gap(moments, end)
    before = [write for write in acknowledged if injected is None or write.ended < injected]
    errors = Counter(write.error for write in series.writes if not write.acknowledged)
    result = {
        "name": series.name,
        "may_lose": series.may_lose,
        "limited": series.limited,
        "attempted": len(attempted),
        "acknowledged": len(kept),
        "failed": len(attempted) - len(kept),
        "found": len(found) if known else None,
        "lost": len(lost) if known else None,
        "lost_numbers": lost[:SHOWN],
        "duplicated": sum(1 for count in counts.values() if count > 1),
        # Not acknowledged, and yet there: the answer was what got lost.
        "recovered": len(found & attempted - kept),
        "unexpected": len(unexpected),
        "unexpected_numbers": unexpected[:SHOWN],
        "longest_gap_seconds": _rounded(gap),
        "gap_began_seconds": _rounded(gap_began),
        # What is normal here: the noise that the gap is to be compared with.
        "longest_gap_before_fault_seconds": _rounded(
            longest_gap([write.ended for write in before], before[-1].ended if before else 0.0)[0]
        ),
        "latency_median_seconds": _rounded(percentile((write.ended - write.began for write in before), 50)),
        "latency_p99_seconds": _rounded(percentile((write.ended - write.began for write in before), 99)),
        "errors": dict(errors.most_common(10)),
    }
    if series.reads:
        result["longest_read_gap_seconds"] = _rounded(longest_gap((at for _number, at in series.reads), end)[0])
    return result


def judge(records: Records, events: Events, max_gap_seconds: float = 0) -> dict[str, Any]:
    """The result of a run: what became of each series, the longest gap, what is wrong in sentences."""
    last = max((write.ended for series in records.series for write in series.writes), default=0.0)
    end = last if records.ended is None else records.ended
    injected = None if events.injected is None else events.injected - records.wall
    undone = None if events.undone is None else events.undone - records.wall
    healthy = None if events.healthy is None else events.healthy - records.wall
    series = [summarise(one, end, injected) for one in records.series]
    result = {
        "began": records.wall,
        "seconds": _rounded(end),
        "rate_per_second": records.rate,
        "deadline_seconds": records.deadline,
        "injected_seconds": _rounded(injected),
        "undone_seconds": _rounded(undone),
        "healthy_seconds": _rounded(healthy),
        "healthy_after_fault_seconds": _rounded(
            healthy - injected if healthy is not None and injected is not None else None
        ),
        "healthy_after_undo_seconds": _rounded(
            healthy - undone if healthy is not None and undone is not None else None
        ),
        "longest_gap_seconds": max((one["longest_gap_seconds"] for one in series if one["limited"]), default=0.0),
        "lost": sum(one["lost"] or 0 for one in series if not one["may_lose"]),
        "lost_where_allowed": sum(one["lost"] or 0 for one in series if one["may_lose"]),
        "load_before": records.load_before,
        "load_after": records.load_after,
        "series": series,
    }
    result["problems"] = problems(records, series, max_gap_seconds, injected, end)
    result["passed"] = not result["problems"]
    return result


def problems(
    records: Records, series: list[dict[str, Any]], max_gap_seconds: float, injected: float | None, end: float
) -> list[str]:
    found = []
    if injected is not None and not 0 <= injected <= end:
        found.append(
            "By the clocks of the hosts, the fault wasn't injected while the probe wrote: the client's and the other host's "
            "time of day don't agree, so the picture marks the wrong moment. Gaps and losses don't depend on it."
        )
    if records.ended is None:
        found.append("The probe was cut short: it didn't write down its end, so what came last is missing.")
    for one in series:
        name = f"{records.component}, {one['name']}"
        numbers = ", ".join(str(number) for number in one["lost_numbers"])
        if not one["acknowledged"]:
            found.append(f"{name}: no write was acknowledged; the first errors: {'; '.join(one['errors']) or 'none'}.")
        elif one["lost"] is None:
            found.append(f"{name}: what was written couldn't be read back, so nobody knows what is lost.")
        elif one["lost"] and not one["may_lose"]:
            found.append(f"{name}: {one['lost']} acknowledged writes are lost (numbers {numbers}).")
        if one["unexpected"]:
            found.append(f"{name}: {one['unexpected']} records are there that nobody wrote.")
        if max_gap_seconds and one["limited"] and one["longest_gap_seconds"] > max_gap_seconds:
            found.append(
                f"{name}: no write was acknowledged for {one['longest_gap_seconds']} s, longer than the "
                f"{max_gap_seconds:g} s that this test allows (max_gap_seconds)."
            )
    return found


def headline(meta: dict[str, Any], result: dict[str, Any]) -> str:
    """One line for the operator's log."""
    attempted = sum(one["attempted"] for one in result["series"])
    acknowledged = sum(one["acknowledged"] for one in result["series"])
    duplicated = sum(one["duplicated"] for one in result["series"])
    lost = f"{result['lost']} lost"
    if result["lost_where_allowed"]:
        lost += f" (and {result['lost_where_allowed']} of those that may be)"
    healthy = result["healthy_after_fault_seconds"]
    parts = [
        f"{meta['component']}, {meta['fault']}" + (f" on {meta['victim']}" if meta.get("victim") else ""),
        f"{attempted} attempted, {acknowledged} acknowledged, {lost}, {duplicated} duplicated",
        f"longest gap {result['longest_gap_seconds']} s",
    ]
    if healthy is not None:
        parts.append(f"healthy after {healthy} s")
    if meta.get("leader_before"):
        parts.append(f"leader {meta['leader_before']} -> {meta.get('leader_after') or 'nobody'}")
    return "; ".join(parts)
