"""What is written down: decisions for people, state for the next autoscaler, and what others have written for this one. Pure."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any, TypeGuard

from sutazai_runtime.autoscaler.decision import Decision, State


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def decision_line(at: float, decision: Decision, outcome: str, problem: str = "") -> str:
    """A line of the decision log. The outcome is what became of it: applied, dry_run, failed, or nothing (there was nothing to do)."""
    record: dict[str, Any] = {
        "at": moment(at),
        "service": decision.service,
        "action": str(decision.action),
        "before": decision.before,
        "replicas": decision.replicas,
        "code": str(decision.code),
        "reason": decision.reason,
        "outcome": outcome,
        "rules": [
            {
                "metric": opinion.metric,
                "per_replica": None if opinion.per_replica is None else round(opinion.per_replica, 3),
                "wanted": opinion.replicas,
                "why": opinion.why,
            }
            for opinion in decision.opinions
        ],
    }
    if problem:
        record["problem"] = problem
    return json.dumps(record, ensure_ascii=False)


def state_text(decision: Decision) -> str:
    """What has to outlive this process. `low_since` doesn't: nobody watched while there was no autoscaler."""
    state = decision.state
    return json.dumps(
        {
            "last_up": state.last_up,
            "last_down": state.last_down,
            "replicas": decision.replicas,
            "reason": decision.reason,
        },
        ensure_ascii=False,
    )


def read_state(text: str | None, now: float) -> tuple[State, str]:
    """The state that was written down, and what is wrong with it. One that can't be read is taken for a change a moment ago."""
    if text is None:
        return State(), ""
    try:
        document = json.loads(text)
        times = [document["last_up"], document["last_down"]]
        if not all(time is None or _is_time(time) for time in times):
            raise ValueError(f"{times} aren't times")
    except (ValueError, TypeError, KeyError) as error:
        return State(now, now), f"The remembered state can't be read ({error!r}); both cooldowns begin now."
    return State(*times), ""


def _is_time(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def hold_reason(text: str | None, key: str, now: float) -> str:
    """Why nothing may be done, from the key that says so; empty if it says nothing.

    The key holds a sentence, or an object with `reason` and, for who may be killed before it can be taken away, `until` (Unix time).
    """
    if text is None:
        return ""
    reason, until = text.strip(), None
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        reason, until = str(document.get("reason") or "").strip(), document.get("until")
    if _is_time(until):
        return f"{reason or f'{key} is set'} (until {moment(until)})" if now < until else ""
    return reason or f"{key} is set"
