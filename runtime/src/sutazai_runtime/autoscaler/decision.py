"""How many replicas a service should have now, and why. Pure.

All metrics are loads of the whole service; a rule's thresholds and target are what one replica carries of it. So what a rule wants
follows from the load alone, whatever the replicas are now: with a steady load it is reached and stays, there is nothing to swing around.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sutazai_runtime.autoscaler.rules import Metric, ServiceRules

#: Sums of measured fractions are a little off: 210.00000000000003 for three replicas at 70 needs no fourth.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class Reading:
    """A load of the whole service, and when it was so."""

    total: float
    at: float
    #: Why the real load may be larger; empty if all of it was seen.
    partial: str = ""


@dataclass(frozen=True)
class Missing:
    """There is no reading."""

    why: str


@dataclass(frozen=True)
class Observed:
    """What is known about a service now."""

    replicas: int
    #: By the metrics' names.
    readings: Mapping[str, Reading | Missing]
    #: Why nothing may be done now; empty if something may.
    hold: str = ""
    #: The managed range that the service's own labels name. It narrows the rules' range.
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True)
class State:
    """What has to be remembered between two decisions."""

    last_up: float | None = None
    last_down: float | None = None
    #: Since when fewer replicas would do, without a break.
    low_since: float | None = None

    def until(self, now: float) -> State:
        """Nothing lies ahead. A clock that was set back would make a cooldown as long as the clock was wrong."""

        def past(at: float | None) -> float | None:
            return at if at is None else min(at, now)

        return State(past(self.last_up), past(self.last_down), past(self.low_since))


class Action(StrEnum):
    UP = "up"
    DOWN = "down"
    KEEP = "keep"
    HOLD = "hold"


class Code(StrEnum):
    """Why, in one word, for metrics and to tell whether a reason is a new one."""

    LOAD = "load"
    RANGE = "range"
    COOLDOWN = "cooldown"
    STABILIZING = "stabilizing"
    MISSING = "missing"
    LIMIT = "limit"
    SETTLED = "settled"
    HELD = "held"
    STOPPED = "stopped"
    NO_RANGE = "no_range"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Opinion:
    """What one rule wants."""

    metric: str
    replicas: int
    why: str
    #: None if there is no reading.
    per_replica: float | None = None
    #: Whether something wasn't seen, so that the rule may not ask for fewer.
    blind: bool = False


@dataclass(frozen=True)
class Decision:
    service: str
    action: Action
    before: int
    replicas: int
    code: Code
    reason: str
    #: Of the next decision, if this one is carried out.
    state: State
    opinions: tuple[Opinion, ...] = field(default=())

    @property
    def changes(self) -> bool:
        return self.replicas != self.before


def decide(now: float, rules: ServiceRules, observed: Observed, state: State) -> Decision:
    """The largest number that any rule wants, in steps, in the range, not before a cooldown is over."""
    state = state.until(now)
    current = observed.replicas
    opinions = tuple(_opinion(now, metric, rules, observed) for metric in rules.metrics)
    choice = _Choice(now, rules, current, opinions)
    keep = choice.keep

    # Who wasn't looking can't say that it was quiet meanwhile.
    unseen = replace(state, low_since=None)
    if observed.hold:
        return keep(Code.HELD, f"Held: {observed.hold}", unseen, Action.HOLD)
    if current == 0:
        reason = (
            "The service has been scaled to 0, which only people do; scale it to 1 or more to have it managed again."
        )
        return keep(Code.STOPPED, reason, unseen, Action.HOLD)
    least, most = managed_range(rules, observed)
    if least > most:
        reason = f"The service's labels and the rules have no number in common: at least {least}, at most {most}. Change either."
        return keep(Code.NO_RANGE, reason, unseen, Action.HOLD)
    # A range is an order, not a conclusion: it needs no metric, and waits for nothing.
    if not least <= current <= most:
        to = min(max(current, least), most)
        limit = f"fewer than the {least} it must have" if current < least else f"more than the {most} it may have"
        return choice.change(to, Code.RANGE, f"The service has {current}, {limit}.", unseen)

    leading = max(opinions, key=lambda opinion: opinion.replicas)
    wanted = min(max(leading.replicas, least), most)
    if wanted > current:
        return choice.up(unseen, wanted, leading.why)
    if wanted < current:
        low = state if state.low_since is not None else replace(state, low_since=now)
        return choice.down(low, wanted, leading.why)
    if leading.replicas > most:
        return keep(Code.LIMIT, f"At the most it may have, {most}: {leading.why}", unseen)
    if leading.replicas < least:
        return keep(Code.LIMIT, f"At the least it must have, {least}: {leading.why}", unseen)
    blind = [opinion for opinion in opinions if opinion.blind]
    if blind:
        return keep(Code.MISSING, f"Kept as it was: {' '.join(opinion.why for opinion in blind)}", unseen)
    return keep(Code.SETTLED, leading.why, unseen)


def managed_range(rules: ServiceRules, observed: Observed) -> tuple[int, int]:
    """What the rules and the service's labels both allow; the first is larger than the second if that is nothing."""
    least = rules.minimum if observed.minimum is None else max(rules.minimum, observed.minimum)
    most = rules.maximum if observed.maximum is None else min(rules.maximum, observed.maximum)
    return least, most


def _opinion(now: float, metric: Metric, rules: ServiceRules, observed: Observed) -> Opinion:
    current = observed.replicas
    reading = observed.readings.get(metric.name, Missing("nobody read it"))
    if isinstance(reading, Reading) and not math.isfinite(reading.total):
        reading = Missing(f"the reading is {reading.total}")
    if isinstance(reading, Reading) and abs(now - reading.at) > rules.stale:
        # A reading of tomorrow is as bad as one of yesterday: whose clock is wrong may have died since.
        age = now - reading.at
        where = f"{age:.0f} s old" if age > 0 else f"{-age:.0f} s ahead of this host's clock"
        reading = Missing(f"the reading is {where}, more than {rules.stale:g} s")
    if isinstance(reading, Missing):
        return Opinion(metric.name, current, f"{metric.name} is missing: {reading.why}.", blind=True)
    if current == 0:
        return Opinion(metric.name, 0, f"{metric.name} is {reading.total:g} {metric.unit}.")
    each = reading.total / current
    needed = math.ceil(reading.total / metric.target - TOLERANCE)
    is_now = f"{metric.name} is {each:.4g} {metric.unit} for each of {current}"
    if each >= metric.up:
        wanted, why = (
            max(needed, current),
            f"{is_now}, from {metric.up:g} on it is too much; {needed} would have {metric.target:g}.",
        )
    elif each <= metric.down:
        wanted, why = (
            min(needed, current),
            f"{is_now}, up to {metric.down:g} it is little; {needed} would have {metric.target:g}.",
        )
    else:
        wanted, why = current, f"{is_now}, between {metric.down:g} and {metric.up:g}."
    if reading.partial and wanted <= current:
        return Opinion(metric.name, current, f"{metric.name} is incomplete: {reading.partial}.", each, blind=True)
    return Opinion(metric.name, wanted, why, each)


@dataclass(frozen=True)
class _Choice:
    """What all ends of one decision have in common."""

    now: float
    rules: ServiceRules
    current: int
    opinions: tuple[Opinion, ...]

    def keep(self, code: Code, reason: str, after: State, action: Action = Action.KEEP) -> Decision:
        return Decision(self.rules.service, action, self.current, self.current, code, reason, after, self.opinions)

    def change(self, to: int, code: Code, reason: str, state: State) -> Decision:
        if to > self.current:
            action, after = Action.UP, replace(state, last_up=self.now)
        else:
            action, after = Action.DOWN, replace(state, last_down=self.now)
        return Decision(self.rules.service, action, self.current, to, code, reason, after, self.opinions)

    def up(self, state: State, wanted: int, why: str) -> Decision:
        left = _left(self.now, self.rules.cooldown_up, state.last_up)
        if left > 0:
            reason = f"{wanted} are wanted, in {math.ceil(left)} s when the cooldown is over: {why}"
            return self.keep(Code.COOLDOWN, reason, state)
        return self.change(min(wanted, self.current + self.rules.step_up), Code.LOAD, why, state)

    def down(self, state: State, wanted: int, why: str) -> Decision:
        # Also after more were started: those that came last would be the first to go.
        cooling = max(_left(self.now, self.rules.cooldown_down, at) for at in (state.last_up, state.last_down))
        quiet = _left(self.now, self.rules.stabilization, state.low_since)
        if max(cooling, quiet) > 0:
            code, what = (
                (Code.COOLDOWN, "the cooldown is over")
                if cooling >= quiet
                else (Code.STABILIZING, "it has been so for long enough")
            )
            reason = f"{wanted} would do, in {math.ceil(max(cooling, quiet))} s when {what}: {why}"
            return self.keep(code, reason, state)
        return self.change(max(wanted, self.current - self.rules.step_down), Code.LOAD, why, state)


def _left(now: float, seconds: float, since: float | None) -> float:
    return 0 if since is None else since + seconds - now
