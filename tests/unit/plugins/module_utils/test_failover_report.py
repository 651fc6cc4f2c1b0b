from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from ansible_collections.sutazai.platform.plugins.module_utils.failover_records import (
    Events,
    Records,
    Series,
    Write,
    judge,
)
from ansible_collections.sutazai.platform.plugins.module_utils.failover_report import Scale, page, ticks, timeline

META = {"component": "postgresql", "fault": "stop_host", "victim": "<pg-1>", "max_gap_seconds": 25.0, "platform": "lab"}


def records(found=(0, 2)):
    series = Series("PgBouncer <&>")
    series.writes = [Write(0, 0.0, 0.01, True), Write(1, 1.0, 3.0, False, "server <closed>"), Write(2, 2.0, 9.0, True)]
    series.found = list(found)
    return Records("postgresql", 1_700_000_000.0, 1, 2, [series], 10.0, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])


EVENTS = Events(1_700_000_001.0, 1_700_000_004.0, 1_700_000_008.0)


def render(events=EVENTS, **more):
    known = records(**more)
    result = judge(known, events)
    return page(META, known, result), result


def test_every_write_is_in_the_picture():
    html, result = render()
    svg = ElementTree.fromstring(re.search(r"<svg.*?</svg>", html, re.DOTALL)[0])  # noqa: S314 made by ourselves
    kinds = [element.get("class") for element in svg.iter()]
    assert (kinds.count("dot"), kinds.count("cross")) == (2, 1)
    assert (kinds.count("fault"), kinds.count("mark"), kinds.count("healthy")) == (1, 1, 1)
    assert f"{result['longest_gap_seconds']} s" in html and "8.99 s" in html


def test_without_a_fault_none_is_marked():
    html, _result = render(Events())
    assert 'class="mark"' not in html and 'class="healthy"' not in html and "not seen" in html


def test_the_page_needs_no_network_and_no_script():
    html, _result = render()
    assert not re.search(r"https?:|<script|<link|@import|url\(|src=", html)


def test_what_others_said_is_escaped():
    html, _result = render()
    assert "&lt;pg-1&gt;" in html and "server &lt;closed&gt;" in html and "PgBouncer &lt;&amp;&gt;" in html
    assert "<pg-1>" not in html and "<closed>" not in html


def test_a_failure_is_said_first():
    html, result = render(found=(0,))
    assert not result["passed"]
    assert "1 acknowledged writes are lost (numbers 2)" in html and "Passed" not in html
    assert "no gap was longer than 25 s" in render()[0]


def test_nothing_leaves_the_picture():
    scale = Scale(10, 7)
    assert scale.top == 10
    for seconds in (-5, 0, 5, 10, 50):
        assert 64 <= scale.x(seconds) <= 1104
        assert 34 <= scale.y(seconds) <= 216
    assert scale.y(0.001) > scale.y(0.01) > scale.y(1)


def test_a_series_without_an_answer_has_no_bracket():
    known = records(found=())
    known.series[0].writes = [Write(0, 0.0, 2.0, False, "no")]
    result = judge(known, Events())
    assert 'class="gap"' not in timeline(known.series[0], result["series"][0], result)


def test_ticks_are_few_and_round():
    assert ticks(9.5) == list(range(10))
    assert ticks(95)[:3] == [0, 10, 20]
    assert len(ticks(100_000)) < 40
