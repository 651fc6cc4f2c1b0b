# Apache License 2.0 (see LICENSE)
"""A failover test's result as one HTML page that needs no network: the numbers, and a picture of every write. Pure."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from html import escape
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.failover_records import Records, Series

WIDTH, HEIGHT = 1120, 250
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 34
FASTEST = 0.001  # seconds; the bottom of the picture
STYLE = """
:root { color-scheme: light dark; --text: #1c2126; --muted: #5b6670; --line: #d5dade; --back: #fff; --good: #1a7f5a; --bad: #c4352b;
  --fault: #e8a33d; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ec; --muted: #9aa5af; --line: #3a434b; --back: #171b1f; --good: #46b98c; --bad: #ff7468; --fault: #d9902a; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 1160px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin: 1.8rem 0 .3rem }
p.about { color: var(--muted); margin-top: 0 }
.verdict { font-weight: 600; border-left: 4px solid; padding: .3rem .8rem } .passed { color: var(--good) } .failed { color: var(--bad) }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left } th { color: var(--muted); font-weight: 500 }
svg { width: 100%; min-width: 720px; height: auto; display: block } svg text { font-size: 12px; fill: var(--muted) }
.grid { stroke: var(--line); stroke-width: 1 } .dot { fill: var(--good); fill-opacity: .65 } .cross { stroke: var(--bad); stroke-width: 1.6 }
.fault { fill: var(--fault); fill-opacity: .18 } .mark { stroke: var(--fault); stroke-width: 2 }
.healthy { stroke: var(--good); stroke-width: 1.5; stroke-dasharray: 5 4 } .gap { stroke: var(--bad); stroke-width: 2 }
text.gaptext { fill: var(--bad); font-weight: 600 } dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem }
dt { color: var(--muted) } dd { margin: 0 }
"""
COLUMNS = (
    ("attempted", "attempted"),
    ("acknowledged", "acknowledged"),
    ("failed", "failed"),
    ("lost", "lost"),
    ("duplicated", "duplicated"),
    ("recovered", "there without an answer"),
    ("unexpected", "unexpected"),
    ("longest_gap_seconds", "longest gap, s"),
    ("longest_gap_before_fault_seconds", "before the fault, s"),
    ("latency_median_seconds", "median, s"),
    ("latency_p99_seconds", "99 %, s"),
)


def ticks(span: float, most: int = 12) -> list[float]:
    """Round numbers of seconds from 0 to span."""
    for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600):
        if span / step <= most:
            break
    return [float(second) for second in range(0, int(span) + 1, step)]


class Scale:
    """From seconds to places in the picture: time to the right, how long a write took upwards, by powers of ten."""

    def __init__(self, end: float, slowest: float) -> None:
        self.end = max(end, 1.0)
        self.top = max(1.0, 10 ** math.ceil(math.log10(max(slowest, FASTEST * 10))))
        self.decades = math.log10(self.top / FASTEST)

    def x(self, seconds: float) -> float:
        share = min(max(seconds / self.end, 0.0), 1.0)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def y(self, seconds: float) -> float:
        share = math.log10(max(seconds, FASTEST) / FASTEST) / self.decades
        return round(HEIGHT - BOTTOM - min(share, 1.0) * (HEIGHT - TOP - BOTTOM), 1)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}>{escape(text)}</text>'


def timeline(series: Series, summary: dict[str, Any], result: dict[str, Any]) -> str:
    """The picture of one series, as SVG."""
    slowest = max((write.ended - write.began for write in series.writes), default=1.0)
    scale = Scale(result["seconds"], slowest)
    floor = HEIGHT - BOTTOM
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Writes of the series {escape(series.name, quote=True)}">'
    ]
    value = FASTEST
    while value <= scale.top * 1.01:
        y = scale.y(value)
        parts.append(_line("grid", LEFT, y, WIDTH - RIGHT, y))
        parts.append(_text(LEFT - 8, y + 4, f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms", anchor="end"))
        value *= 10
    parts += [_text(scale.x(second), floor + 18, f"{second:g} s") for second in ticks(scale.end)]
    parts += _events(scale, result, floor)
    for write in series.writes:
        x, y = scale.x(write.began), scale.y(write.ended - write.began)
        if write.acknowledged:
            parts.append(f'<circle class="dot" cx="{x}" cy="{y}" r="2.4"/>')
        else:
            parts.append(f'<path class="cross" d="M{x - 3:.1f} {y - 3:.1f}l6 6m0-6l-6 6"/>')
    if summary["acknowledged"]:
        first = scale.x(summary["gap_began_seconds"])
        last = scale.x(summary["gap_began_seconds"] + summary["longest_gap_seconds"])
        parts.append(_line("gap", first, TOP - 6, last, TOP - 6))
        parts += [_line("gap", x, TOP - 11, x, TOP - 1) for x in (first, last)]
        middle = min(max((first + last) / 2, LEFT + 40), WIDTH - RIGHT - 40)
        parts.append(_text(middle, TOP - 16, f"{summary['longest_gap_seconds']} s", "gaptext"))
    return "\n".join([*parts, "</svg>"])


def _events(scale: Scale, result: dict[str, Any], floor: int) -> list[str]:
    injected, undone, healthy = (result[f"{name}_seconds"] for name in ("injected", "undone", "healthy"))
    parts = []
    if injected is not None:
        x = scale.x(injected)
        if undone is not None:
            width = max(0.0, scale.x(undone) - x)
            parts.append(
                f'<rect class="fault" x="{x}" y="{TOP}" width="{width:.1f}" height="{floor - TOP}"><title>until undone</title></rect>'
            )
        parts += [_line("mark", x, TOP, x, floor), _text(x + 5, floor - 6, "fault", anchor="start")]
    if healthy is not None:
        x = scale.x(healthy)
        parts += [_line("healthy", x, TOP, x, floor), _text(x + 5, TOP + 12, "healthy", anchor="start")]
    return parts


def _table(result: dict[str, Any]) -> str:
    def cell(value: Any) -> str:
        return "–" if value is None else escape(str(value))

    head = "".join(f"<th>{escape(title)}</th>" for _key, title in COLUMNS)
    rows = []
    for one in result["series"]:
        name = one["name"] + (" (may lose)" if one["may_lose"] else "")
        rows.append(
            f"<tr><td>{escape(name)}</td>" + "".join(f"<td>{cell(one[key])}</td>" for key, _title in COLUMNS) + "</tr>"
        )
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def _facts(meta: dict[str, Any], result: dict[str, Any]) -> str:
    def seconds(value: float | None, after: str) -> str:
        return "not seen" if value is None else f"{value} s {after}"

    load = " → ".join(
        " ".join(f"{value:.2f}" for value in loads) for loads in (result["load_before"], result["load_after"])
    )
    facts = {
        "Fault": meta.get("what") or meta["fault"],
        "Host": meta.get("victim") or "none",
        "Leader before, after": f"{meta.get('leader_before') or '–'}, {meta.get('leader_after') or '–'}",
        "Fault injected": seconds(result["injected_seconds"], "after the first write"),
        "Fault undone": seconds(result["undone_seconds"], "after the first write"),
        "Cluster healthy again": seconds(result["healthy_after_fault_seconds"], "after the fault was injected")
        + (
            ""
            if result["healthy_after_undo_seconds"] is None
            else f", {result['healthy_after_undo_seconds']} s after it was undone"
        ),
        "Writes": f"{result['rate_per_second']:g} a second and series, whatever becomes of the earlier ones; each may take "
        f"{result['deadline_seconds']:g} s; none is tried again",
        "Client": meta.get("client") or "–",
        "Load of the client's machine (1, 5, 15 min)": load,
    }
    return (
        "<dl>"
        + "".join(f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items())
        + "</dl>"
    )


def _errors(result: dict[str, Any]) -> str:
    rows = [
        f"<tr><td>{escape(one['name'])}</td><td>{count}</td><td style='text-align:left'>{escape(error)}</td></tr>"
        for one in result["series"]
        for error, count in one["errors"].items()
    ]
    if not rows:
        return ""
    return f'<h2>What writers were told</h2><div class="scroll"><table>{"".join(rows)}</table></div>'


def page(meta: dict[str, Any], records: Records, result: dict[str, Any]) -> str:
    """The whole page."""
    title = f"{meta['component']}: {meta['fault'].replace('_', ' ')}"
    when = datetime.fromtimestamp(result["began"], UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    verdict = (
        '<p class="verdict passed">Passed: no acknowledged write was lost that may not be lost'
        + (f", and no gap was longer than {meta['max_gap_seconds']:g} s" if meta.get("max_gap_seconds") else "")
        + ".</p>"
        if result["passed"]
        else "".join(f'<p class="verdict failed">{escape(problem)}</p>' for problem in result["problems"])
    )
    pictures = "".join(
        f'<h2>{escape(series.name)}</h2><div class="scroll">{timeline(series, summary, result)}</div>'
        for series, summary in zip(records.series, result["series"])
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>\n"
        f'<h1>{escape(title)}</h1><p class="about">{escape(meta.get("platform") or "")} · {when}</p>\n{verdict}\n{_table(result)}\n'
        f'{pictures}\n<p class="about">A dot is a write that was acknowledged, a cross one that was not; how high it is says how '
        f"long it took. The bracket is the longest time without an acknowledged write.</p>\n"
        f"<h2>The test</h2>{_facts(meta, result)}{_errors(result)}\n</body></html>\n"
    )
