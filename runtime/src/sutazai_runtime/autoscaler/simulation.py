"""Rules tried against a load that is only imagined: what they would do, before they do it to a service. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sutazai_runtime.autoscaler.decision import Action, Decision, Observed, Reading, State, decide
from sutazai_runtime.autoscaler.rules import KINDS, ServiceRules


@dataclass(frozen=True)
class Load:
    """Loads of the whole service by the metrics' names; each lasts until the next begins."""

    steps: tuple[tuple[float, Mapping[str, float]], ...]

    def at(self, second: float) -> Mapping[str, float]:
        index = bisect_right([begins for begins, _ in self.steps], second) - 1
        return self.steps[index][1] if index >= 0 else {}


def simulate(
    rules: ServiceRules, load: Load, seconds: int, interval: int = 15, replicas: int | None = None
) -> list[tuple[int, Decision]]:
    """Every decision with its second. Replicas are there as soon as they are decided.

    What a replica can't do more of is seen no more of: three replicas show 300 % of processor however much there is to do.
    """
    state = State()
    current = rules.minimum if replicas is None else replicas
    decisions = []
    for second in range(0, seconds + 1, interval):
        loads = load.at(second)
        readings = {
            metric.name: Reading(min(loads.get(metric.name, 0.0), KINDS[metric.kind].most * current), second)
            for metric in rules.metrics
        }
        decision = decide(second, rules, Observed(current, readings), state)
        decisions.append((second, decision))
        state, current = decision.state, decision.replicas
    return decisions


def changes(decisions: Iterable[tuple[int, Decision]]) -> list[tuple[int, int]]:
    """(second, replicas from then on), beginning with those at the start."""
    found: list[tuple[int, int]] = []
    for second, decision in decisions:
        if not found:
            found.append((second, decision.before))
        if decision.changes:
            found.append((second, decision.replicas))
    return found


def table(decisions: Iterable[tuple[int, Decision]]) -> str:
    """The decisions for people: a line for each change and for each new reason."""
    lines = []
    code = None
    for second, decision in decisions:
        if decision.changes or decision.code != code:
            arrow = {Action.UP: "▲", Action.DOWN: "▼"}.get(decision.action, " ")
            lines.append(f"{second:>6} s {decision.replicas:>5} {arrow} {decision.code:<11} {decision.reason}")
        code = decision.code
    return "\n".join(lines)
