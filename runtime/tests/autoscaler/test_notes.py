"""What is written down and read back."""

from __future__ import annotations

import json

import pytest

from sutazai_runtime.autoscaler.decision import Action, Code, Decision, Opinion, State
from sutazai_runtime.autoscaler.notes import decision_line, hold_reason, read_state, state_text

NOW = 1_780_000_000.5
DECISION = Decision(
    "ai-agent",
    Action.UP,
    3,
    5,
    Code.LOAD,
    "cpu is 98 % …",
    State(NOW, 7.0, 3.0),
    (Opinion("cpu", 5, "cpu is 98 % …", 98.00001), Opinion("queue_length(ai-agent)", 3, "missing", blind=True)),
)


def test_a_line_says_what_and_why():
    line = decision_line(NOW, DECISION, "applied")
    assert "\n" not in line
    assert json.loads(line) == {
        "at": "2026-05-28T20:26:40.500Z",
        "service": "ai-agent",
        "action": "up",
        "before": 3,
        "replicas": 5,
        "code": "load",
        "reason": "cpu is 98 % …",
        "outcome": "applied",
        "rules": [
            {"metric": "cpu", "per_replica": 98.0, "wanted": 5, "why": "cpu is 98 % …"},
            {"metric": "queue_length(ai-agent)", "per_replica": None, "wanted": 3, "why": "missing"},
        ],
    }
    assert json.loads(decision_line(NOW, DECISION, "failed", "it is gone"))["problem"] == "it is gone"


def test_cooldowns_survive_and_the_watch_for_idleness_begins_anew():
    assert read_state(state_text(DECISION), NOW) == (State(NOW, 7.0), "")
    assert read_state(None, NOW) == (State(), "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"last_up": "a", "last_down": null}',
        '{"last_up": NaN, "last_down": 1}',
        '{"last_up": true, "last_down": 1}',
    ],
)
def test_a_state_that_cannot_be_read_begins_both_cooldowns(text):
    state, problem = read_state(text, NOW)
    assert state == State(NOW, NOW)
    assert "both cooldowns begin now" in problem


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, ""),
        ("", "autoscaler/hold is set"),
        ("rolling upgrade\n", "rolling upgrade"),
        ('{"reason": "upgrade of ai-agent"}', "upgrade of ai-agent"),
        ("{}", "autoscaler/hold is set"),
        ("[1]", "[1]"),
        ('{"reason": "upgrade", "until": 1780000010}', "upgrade (until 2026-05-28T20:26:50.000Z)"),
        ('{"reason": "upgrade", "until": 1780000000}', ""),
        ('{"reason": "upgrade", "until": "tomorrow"}', "upgrade"),
    ],
)
def test_who_holds_it_says_so_in_a_sentence_or_with_an_end(text, reason):
    assert hold_reason(text, "autoscaler/hold", NOW) == reason
