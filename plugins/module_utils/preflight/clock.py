"""Clock differences as intervals, so that a slow connection or a busy controller never looks like a wrong clock."""

from __future__ import annotations

GOOD_ENOUGH_SECONDS = 0.5

Bounds = tuple[float, float]


def offset(before: float, remote: float, after: float) -> Bounds:
    """How far the host is ahead, when it read `remote` at some moment between `before` and `after` of ours."""
    return remote - after, remote - before


def narrowed(first: Bounds | None, second: Bounds) -> Bounds | None:
    """What both measurements allow; None when a clock was set in between."""
    if first is None:
        return second
    low, high = max(first[0], second[0]), min(first[1], second[1])
    return (low, high) if low <= high else None


def certain_difference(one: Bounds, other: Bounds) -> float:
    """The least by which two clocks differ; 0 when they may agree."""
    return max(0.0, one[0] - other[1], other[0] - one[1])


def reference(bounds: dict[str, Bounds]) -> Bounds:
    """The clock that most hosts are near to: the one in the middle."""
    ordered = sorted(bounds.values(), key=lambda pair: pair[0] + pair[1])
    return ordered[len(ordered) // 2]
