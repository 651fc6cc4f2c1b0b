from __future__ import annotations

import json

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.failover_records import (
    Events,
    Unreadable,
    headline,
    judge,
    longest_gap,
    parse,
    percentile,
)

WALL = 1_000_000.0


def lines(found, silent=(3.0, 6.0), numbers=100, end=10.0, may_lose=False, more=()):
    """Ten writes a second, each acknowledged after 10 ms, but none of those that begin within `silent`."""
    entries = [
        {"kind": "begin", "wall": WALL, "component": "redis", "series": [{"name": "WAIT 1", "may_lose": may_lose}]}
        | {"rate": 10, "deadline": 2, "load": [0.1, 0.2, 0.3]}
    ]
    for number in range(numbers):
        began = number / 10
        good = not silent[0] <= began < silent[1]
        entry = {"kind": "write", "series": "WAIT 1", "number": number, "began": began, "ended": began + 0.01}
        entries.append(entry | {"acknowledged": good, "error": "" if good else "Connection refused"})
    entries += more
    if found is not None:
        entries.append({"kind": "found", "series": "WAIT 1", "numbers": list(found)})
    entries.append({"kind": "end", "at": end, "load": [1, 1, 1]})
    return [json.dumps(entry) for entry in entries]


ACKNOWLEDGED = [number for number in range(100) if not 30 <= number < 60]


EVENTS = Events(WALL + 3, WALL + 4, WALL + 8.5)


def judged(*arguments, events=EVENTS, limit=0, **more):
    result = judge(parse(lines(*arguments, **more)), events, limit)
    return result, result["series"][0]


def test_everything_there():
    result, series = judged(ACKNOWLEDGED)
    assert result["passed"], result["problems"]
    assert (series["attempted"], series["acknowledged"], series["failed"]) == (100, 70, 30)
    assert (series["lost"], series["duplicated"], series["recovered"], series["unexpected"]) == (0, 0, 0, 0)
    assert series["errors"] == {"Connection refused": 30}
    assert (result["injected_seconds"], result["undone_seconds"], result["healthy_seconds"]) == (3, 4, 8.5)
    assert (result["healthy_after_fault_seconds"], result["healthy_after_undo_seconds"]) == (5.5, 4.5)
    assert series["latency_median_seconds"] == 0.01


def test_the_gap_lasts_from_the_last_answer_to_the_next():
    result, series = judged(ACKNOWLEDGED)
    assert series["longest_gap_seconds"] == result["longest_gap_seconds"] == pytest.approx(3.1)  # 2.91 to 6.01
    assert series["gap_began_seconds"] == pytest.approx(2.91)
    assert series["longest_gap_before_fault_seconds"] == pytest.approx(0.1)


def test_a_gap_that_never_ended_counts_up_to_the_end():
    _result, series = judged(range(30), silent=(3.0, 99.0))
    assert series["longest_gap_seconds"] == pytest.approx(10.0 - 2.91)


def test_a_lost_write_fails_the_test_and_is_named():
    result, series = judged([number for number in ACKNOWLEDGED if number not in (7, 28)])
    assert series["lost"] == 2 and series["lost_numbers"] == [7, 28]
    assert not result["passed"] and "2 acknowledged writes are lost (numbers 7, 28)" in result["problems"][0]


def test_a_series_that_may_lose_is_only_counted():
    result, _series = judged([number for number in ACKNOWLEDGED if number != 7], may_lose=True)
    assert result["passed"] and (result["lost"], result["lost_where_allowed"]) == (0, 1)


def test_what_was_not_acknowledged_and_is_there_is_no_loss():
    result, series = judged([*ACKNOWLEDGED, 30, 31])
    assert result["passed"] and series["recovered"] == 2


def test_doubles_are_counted_and_strangers_refused():
    result, series = judged([*ACKNOWLEDGED, 1, 1, 2, 4711])
    assert (series["duplicated"], series["unexpected"], series["unexpected_numbers"]) == (2, 1, [4711])
    assert not result["passed"] and "nobody wrote" in result["problems"][0]


def test_the_limit_of_the_gap():
    assert judged(ACKNOWLEDGED, limit=3.2)[0]["passed"]
    result, _series = judged(ACKNOWLEDGED, limit=3)
    assert result["problems"] == [
        "redis, WAIT 1: no write was acknowledged for 3.1 s, longer than the 3 s that this test allows (max_gap_seconds)."
    ]


def test_a_series_without_a_limit_is_left_out():
    text = lines(ACKNOWLEDGED)
    text[0] = text[0].replace('"may_lose": false', '"may_lose": false, "limited": false')
    result = judge(parse(text), EVENTS, 3)
    assert result["passed"] and result["longest_gap_seconds"] == 0
    assert result["series"][0]["longest_gap_seconds"] == pytest.approx(3.1)


def test_nothing_acknowledged_is_no_success():
    result, series = judged([], silent=(0, 99))
    assert series["longest_gap_seconds"] == 0
    assert not result["passed"] and "no write was acknowledged" in result["problems"][0]
    assert "Connection refused" in result["problems"][0]


def test_what_cannot_be_read_back_is_no_success():
    result, series = judged(None)
    assert series["lost"] is None and not result["passed"] and "couldn't be read back" in result["problems"][0]


def test_a_fault_outside_of_the_writes_is_a_matter_of_clocks():
    result, _series = judged(ACKNOWLEDGED, events=Events(WALL - 30))
    assert not result["passed"] and "time of day" in result["problems"][0]


def test_a_probe_that_was_cut_short_says_so():
    text = lines(ACKNOWLEDGED)[:-1] + ['{"kind": "wri']
    result = judge(parse(text), Events(WALL + 3))
    assert not result["passed"] and "cut short" in result["problems"][0]


def test_no_records_at_all():
    with pytest.raises(Unreadable):
        parse(["", "{"])


def test_reads_have_a_gap_of_their_own():
    reads = [{"kind": "read", "series": "WAIT 1", "number": n, "at": at} for n, at in enumerate((1, 2, 6, 9.5))]
    _result, series = judged(ACKNOWLEDGED, more=reads)
    assert series["longest_read_gap_seconds"] == 4


def test_gaps_and_percentiles_of_little():
    assert longest_gap([], 5) == (0, 0)
    assert longest_gap([1.0], 5) == (4, 1)
    assert longest_gap([3.0, 1.0], 2) == (2, 1)
    assert percentile([], 50) is None
    assert percentile([3, 1, 2], 50) == 2 and percentile(range(1, 101), 99) == 99


def test_the_headline():
    result, _series = judged([*ACKNOWLEDGED, 1])
    meta = {"component": "redis", "fault": "kill_process", "victim": "redis-1", "leader_before": "redis-1"}
    assert headline(meta | {"leader_after": "redis-4"}, result) == (
        "redis, kill_process on redis-1; 100 attempted, 70 acknowledged, 0 lost, 1 duplicated; longest gap 3.1 s; "
        "healthy after 5.5 s; leader redis-1 -> redis-4"
    )
