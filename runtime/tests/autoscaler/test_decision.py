"""How many replicas, and why: single decisions, and what holds for all of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai_runtime.autoscaler.decision import (
    Action,
    Code,
    Decision,
    Missing,
    Observed,
    Reading,
    State,
    decide,
    managed_range,
)
from sutazai_runtime.autoscaler.rules import Metric, ServiceRules

CPU = Metric("cpu", target=70, up=80, down=30)
QUEUE = Metric("queue_length", target=100, up=200, down=50, queues=("inference",))
RULES = ServiceRules("ai-agent", 3, 50, (CPU, QUEUE))
NOW = 10_000.0
LONG_AGO = State(last_up=0, last_down=0, low_since=0)


def seen(replicas, cpu=50.0, queue=100.0, at=NOW, **more) -> Observed:
    """Loads of one replica."""
    readings = {CPU.name: Reading(cpu * replicas, at), QUEUE.name: Reading(queue * replicas, at)}
    return Observed(replicas, readings, **more)


def without(observed: Observed, *metrics: Metric, why="nobody answers") -> Observed:
    return replace(observed, readings={**observed.readings, **{metric.name: Missing(why) for metric in metrics}})


def test_a_load_between_the_thresholds_changes_nothing():
    decision = decide(NOW, RULES, seen(5), LONG_AGO)
    assert (decision.action, decision.replicas, decision.code) == (Action.KEEP, 5, Code.SETTLED)
    assert decision.reason == "cpu is 50 % of the limit for each of 5, between 30 and 80."
    assert decision.state == replace(LONG_AGO, low_since=None)


def test_the_largest_of_the_rules_counts():
    decision = decide(NOW, RULES, seen(5, cpu=90, queue=260), LONG_AGO)
    assert [opinion.replicas for opinion in decision.opinions] == [7, 13]
    assert (decision.action, decision.replicas, decision.code) == (Action.UP, 13, Code.LOAD)
    assert (
        decision.reason
        == "queue_length(inference) is 260 messages for each of 5, from 200 on it is too much; 13 would have 100."
    )
    assert decision.state == State(last_up=NOW, last_down=0)


def test_thresholds_belong_to_the_side_that_acts():
    assert decide(NOW, RULES, seen(5, cpu=80), LONG_AGO).action == Action.UP
    assert decide(NOW, RULES, seen(5, cpu=79.99), LONG_AGO).action == Action.KEEP
    assert decide(NOW, RULES, seen(5, cpu=30, queue=50), LONG_AGO).action == Action.DOWN
    assert decide(NOW, RULES, seen(5, cpu=30.01, queue=50), LONG_AGO).action == Action.KEEP


def test_a_sum_of_fractions_asks_for_no_replica_more():
    each = 0.1 + 0.2  # 0.30000000000000004
    rules = replace(RULES, minimum=1, metrics=(Metric("cpu", target=0.1, up=0.2, down=0.05),))
    assert decide(NOW, rules, Observed(1, {"cpu": Reading(each, NOW)}), LONG_AGO).replicas == 3


def test_a_step_is_bounded_both_ways():
    assert decide(NOW, RULES, seen(5, queue=900), LONG_AGO).replicas == 15
    assert decide(NOW, RULES, seen(40, cpu=1, queue=0), LONG_AGO).replicas == 35


def test_no_more_are_started_before_the_cooldown_is_over():
    state = State(last_up=NOW - 45)
    decision = decide(NOW, RULES, seen(5, cpu=90), state)
    assert (decision.action, decision.code) == (Action.KEEP, Code.COOLDOWN)
    assert decision.reason.startswith("7 are wanted, in 15 s when the cooldown is over: cpu is 90 %")
    assert decide(NOW + 15, RULES, seen(5, cpu=90), state).action == Action.UP


def test_a_load_that_returns_needs_not_wait_for_the_cooldown_of_scaling_down():
    assert decide(NOW, RULES, seen(5, cpu=90), State(last_down=NOW - 1)).action == Action.UP


@pytest.mark.parametrize("last", [{"last_up": NOW - 290}, {"last_down": NOW - 290}])
def test_none_are_stopped_soon_after_any_change(last):
    quiet = seen(5, cpu=10, queue=10)
    decision = decide(NOW, RULES, quiet, State(low_since=0, **last))
    assert (decision.action, decision.code) == (Action.KEEP, Code.COOLDOWN)
    assert "in 10 s when the cooldown is over" in decision.reason
    assert decide(NOW + 10, RULES, quiet, State(low_since=0, **last)).action == Action.DOWN


def test_one_quiet_moment_is_not_idleness():
    quiet = seen(5, cpu=10, queue=10)
    first = decide(NOW, RULES, quiet, State())
    assert (first.action, first.code, first.state.low_since) == (Action.KEEP, Code.STABILIZING, NOW)
    assert "in 60 s when it has been so for long enough" in first.reason
    busy = decide(NOW + 30, RULES, seen(5), first.state)
    assert busy.state.low_since is None
    again = decide(NOW + 60, RULES, replace(quiet, readings=seen(5, 10, 10, NOW + 60).readings), busy.state)
    assert again.code == Code.STABILIZING
    assert decide(NOW + 60, RULES, quiet, first.state).replicas == 3


def test_a_missing_metric_keeps_what_there_is():
    quiet = seen(5, cpu=10, queue=10)
    decision = decide(NOW, RULES, without(quiet, QUEUE), LONG_AGO)
    assert (decision.action, decision.replicas, decision.code) == (Action.KEEP, 5, Code.MISSING)
    assert decision.reason == "Kept as it was: queue_length(inference) is missing: nobody answers."
    assert decision.state.low_since is None, "nobody knows whether it was quiet meanwhile"


def test_a_missing_metric_does_not_hinder_another_one_from_asking_for_more():
    assert decide(NOW, RULES, without(seen(5, cpu=90), QUEUE), LONG_AGO).replicas == 7


@pytest.mark.parametrize(("at", "age"), [(NOW - 61, "61 s old"), (NOW + 61, "61 s ahead of this host's clock")])
def test_a_stale_reading_is_none(at, age):
    decision = decide(NOW, RULES, seen(5, cpu=10, queue=10, at=at), LONG_AGO)
    assert decision.code == Code.MISSING
    assert f"cpu is missing: the reading is {age}, more than 60 s." in decision.reason
    assert decide(NOW, RULES, seen(5, cpu=99, at=at), LONG_AGO).action == Action.KEEP


def test_a_reading_that_nobody_made_is_missing():
    assert "nobody read it" in decide(NOW, RULES, Observed(5, {}), LONG_AGO).reason


def test_an_incomplete_reading_may_ask_for_more_but_not_for_fewer():
    def partly(load):
        readings = {CPU.name: Reading(load, NOW, "2 of 5 containers are reported"), QUEUE.name: Reading(0, NOW)}
        return decide(NOW, RULES, Observed(5, readings), LONG_AGO)

    assert partly(400).replicas == 6
    assert (partly(50).replicas, partly(50).code) == (5, Code.MISSING)
    assert "cpu is incomplete: 2 of 5 containers are reported." in partly(50).reason


def test_the_range_is_obeyed_at_once_and_without_metrics():
    blind = without(seen(60), CPU, QUEUE)
    decision = decide(NOW, RULES, blind, State(last_up=NOW, last_down=NOW))
    assert (decision.action, decision.replicas, decision.code) == (Action.DOWN, 50, Code.RANGE)
    decision = decide(NOW, RULES, replace(blind, replicas=1), State(last_up=NOW, last_down=NOW))
    assert (decision.action, decision.replicas) == (Action.UP, 3)
    assert decision.reason == "The service has 1, fewer than the 3 it must have."


def test_labels_narrow_the_range_and_never_widen_it():
    assert managed_range(RULES, seen(5, minimum=4, maximum=8)) == (4, 8)
    assert managed_range(RULES, seen(5, minimum=1, maximum=80)) == (3, 50)
    assert decide(NOW, RULES, seen(5, queue=900, minimum=4, maximum=8), LONG_AGO).replicas == 8
    decision = decide(NOW, RULES, seen(5, queue=900, minimum=60), LONG_AGO)
    assert (decision.action, decision.replicas, decision.code) == (Action.HOLD, 5, Code.NO_RANGE)
    assert "at least 60, at most 50" in decision.reason


def test_at_its_limit_it_says_so():
    assert decide(NOW, RULES, seen(50, cpu=99), LONG_AGO).reason.startswith("At the most it may have, 50: cpu is 99 %")
    assert decide(NOW, RULES, seen(3, cpu=1, queue=0), LONG_AGO).reason.startswith(
        "At the least it must have, 3: cpu is 1 %"
    )


def test_nothing_is_done_while_somebody_holds_it():
    decision = decide(NOW, RULES, seen(60, cpu=99, hold="rolling upgrade, by site.yml"), LONG_AGO)
    assert (decision.action, decision.replicas, decision.code) == (Action.HOLD, 60, Code.HELD)
    assert decision.reason == "Held: rolling upgrade, by site.yml"


def test_what_people_stopped_stays_stopped():
    decision = decide(NOW, RULES, Observed(0, {QUEUE.name: Reading(900, NOW)}), LONG_AGO)
    assert (decision.action, decision.replicas, decision.code) == (Action.HOLD, 0, Code.STOPPED)


def test_a_clock_that_was_set_back_does_not_prolong_a_cooldown():
    decision = decide(NOW, RULES, seen(5, cpu=90), State(last_up=NOW + 86_400))
    assert decision.code == Code.COOLDOWN
    assert decision.state.last_up == NOW
    assert decide(NOW + 60, RULES, seen(5, cpu=90), decision.state).action == Action.UP


# ----------------------------------------------------------------------------------------------- what holds for all decisions

finite = st.floats(0, 5000, allow_nan=False)
times = st.one_of(st.none(), st.floats(NOW - 900, NOW + 100))
states = st.builds(State, last_up=times, last_down=times, low_since=times)
maybe = st.one_of(st.none(), st.integers(1, 60))


@st.composite
def metrics(draw, kind="cpu"):
    down = draw(st.floats(0, 90))
    target = draw(st.floats(down + 1, 99))
    up = draw(st.floats(target, 100))
    return Metric(kind, target, up, down, () if kind == "cpu" else ("q",))


@st.composite
def rule_sets(draw):
    minimum = draw(st.integers(1, 20))
    return ServiceRules(
        "service",
        minimum,
        draw(st.integers(minimum, 60)),
        (draw(metrics()), draw(metrics("queue_length"))),
        cooldown_up=draw(st.sampled_from((0, 60))),
        cooldown_down=draw(st.sampled_from((0, 60, 300))),
        step_up=draw(st.integers(1, 20)),
        step_down=draw(st.integers(1, 20)),
        stabilization=draw(st.sampled_from((0, 60))),
    )


readings = st.one_of(
    st.builds(Reading, finite, st.floats(NOW - 120, NOW + 120), st.sampled_from(("", "some are unseen"))),
    st.builds(Reading, finite, st.just(NOW)),
    st.just(Missing("gone")),
)


@st.composite
def situations(draw):
    rules = draw(rule_sets())
    given_readings = {metric.name: draw(readings) for metric in rules.metrics}
    hold = draw(st.sampled_from(("", "", "", "held")))
    observed = Observed(draw(st.integers(0, 70)), given_readings, hold, draw(maybe), draw(maybe))
    return rules, observed, draw(states)


@settings(max_examples=300, deadline=None)
@given(situations())
def test_a_decision_is_in_the_range_or_changes_nothing(situation):
    rules, observed, state = situation
    decision = decide(NOW, rules, observed, state)
    least, most = managed_range(rules, observed)
    assert decision.before == observed.replicas
    if decision.action == Action.HOLD:
        assert not decision.changes
    else:
        assert rules.minimum <= least <= decision.replicas <= most <= rules.maximum
    assert decision.changes == (decision.action in (Action.UP, Action.DOWN))
    assert decision.reason


@settings(max_examples=300, deadline=None)
@given(situations())
def test_a_step_by_load_is_no_larger_than_told(situation):
    rules, observed, state = situation
    decision = decide(NOW, rules, observed, state)
    if decision.code == Code.LOAD:
        assert -rules.step_down <= decision.replicas - decision.before <= rules.step_up


@settings(max_examples=300, deadline=None)
@given(situations(), st.integers(0, 1))
def test_a_missing_metric_never_scales_down(situation, which):
    rules, observed, state = situation
    missing = without(observed, rules.metrics[which])
    decision = decide(NOW, rules, missing, state)
    if decision.action == Action.DOWN:
        assert decision.code == Code.RANGE


@settings(max_examples=300, deadline=None)
@given(situations(), st.integers(0, 1), finite)
def test_more_load_never_means_fewer_replicas(situation, which, more):
    rules, observed, state = situation
    name = rules.metrics[which].name
    reading = observed.readings[name]
    if isinstance(reading, Missing):
        return
    heavier = replace(observed, readings={**observed.readings, name: replace(reading, total=reading.total + more)})
    assert decide(NOW, rules, heavier, state).replicas >= decide(NOW, rules, observed, state).replicas


def follow(rules, loads, replicas, interval=15.0) -> list[tuple[float, Decision]]:
    """A service that does what is decided, under one pair of loads after another; None is a missing metric."""
    state, now, made = State(), NOW, []
    for pair in loads:
        known = {
            metric.name: Missing("gone") if load is None else Reading(load, now)
            for metric, load in zip(rules.metrics, pair, strict=True)
        }
        decision = decide(now, rules, Observed(replicas, known), state)
        made.append((now, decision))
        state, replicas, now = decision.state, decision.replicas, now + interval
    return made


maybe_load = st.one_of(finite, finite, finite, st.none())


@settings(max_examples=150, deadline=None)
@given(rule_sets(), st.lists(st.tuples(maybe_load, maybe_load), min_size=2, max_size=60), st.data())
def test_cooldowns_lie_between_changes(rules, loads, data):
    replicas = data.draw(st.integers(rules.minimum, rules.maximum))
    changed = [(at, decision) for at, decision in follow(rules, loads, replicas) if decision.changes]
    ups = [at for at, decision in changed if decision.action == Action.UP]
    assert all(later - earlier >= rules.cooldown_up for earlier, later in zip(ups, ups[1:], strict=False))
    for (earlier, _), (later, decision) in zip(changed, changed[1:], strict=False):
        if decision.action == Action.DOWN:
            assert later - earlier >= rules.cooldown_down


@settings(max_examples=100, deadline=None)
@given(rule_sets(), finite, finite, st.data())
def test_a_steady_load_settles_without_swinging(rules, one, other, data):
    replicas = data.draw(st.integers(rules.minimum, rules.maximum))
    # Enough rounds for the whole range in single steps, each with the longest cooldown.
    interval = 300.0
    made = [decision for _, decision in follow(rules, [(one, other)] * 80, replicas, interval)]
    directions = {decision.action for decision in made if decision.changes}
    assert len(directions) <= 1, "up and down under the same load"
    assert not any(decision.changes for decision in made[62:])
