"""The scaling rules as they are written, right and wrong."""

from __future__ import annotations

import copy

import pytest

from sutazai_runtime.autoscaler.rules import Metric, WrongRules, parse_rules

#: As the platform's design has them, to the letter.
SCALING_RULES = {
    "ai-agent": {
        "min_replicas": 3,
        "max_replicas": 50,
        "metrics": [
            {"type": "cpu", "target": 70, "scale_up_threshold": 80, "scale_down_threshold": 30},
            {"type": "queue_length", "target": 100, "scale_up_threshold": 200, "scale_down_threshold": 50},
        ],
        "cooldown": {"scale_up": 60, "scale_down": 300},
    }
}


def problems(change) -> tuple[str, ...]:
    document = copy.deepcopy(SCALING_RULES)
    change(document["ai-agent"])
    with pytest.raises(WrongRules) as refused:
        parse_rules(document)
    return refused.value.problems


def test_the_rules_of_the_design_are_taken_as_they_are():
    rules = parse_rules(SCALING_RULES)["ai-agent"]
    assert (rules.minimum, rules.maximum) == (3, 50)
    assert (rules.cooldown_up, rules.cooldown_down) == (60, 300)
    assert rules.metrics == (Metric("cpu", 70, 80, 30), Metric("queue_length", 100, 200, 50, ("ai-agent",)))
    assert [metric.name for metric in rules.metrics] == ["cpu", "queue_length(ai-agent)"]


def test_what_is_not_said_has_a_default_and_what_is_said_wins():
    document = copy.deepcopy(SCALING_RULES)
    del document["ai-agent"]["cooldown"]
    plain = parse_rules(document)["ai-agent"]
    assert (plain.cooldown_up, plain.cooldown_down, plain.step_up, plain.step_down) == (60, 300, 10, 5)
    document["ai-agent"] |= {
        "cooldown": {"scale_down": 0},
        "max_step": {"scale_up": 2, "scale_down": 1},
        "stabilization_seconds": 0,
        "stale_seconds": 30.5,
    }
    document["ai-agent"]["metrics"][1] |= {"queues": ["training", "inference"], "virtual_host": "agents"}
    told = parse_rules(document)["ai-agent"]
    assert (told.cooldown_up, told.cooldown_down, told.step_up, told.step_down) == (60, 0, 2, 1)
    assert (told.stabilization, told.stale) == (0, 30.5)
    assert told.metrics[1].name == "queue_length(agents: inference, training)"


def wrong(key, value):
    return lambda rules: rules.update({key: value})


def wrong_metric(index, **values):
    return lambda rules: rules["metrics"][index].update(values)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            wrong("min_replicas", 51),
            "rules.ai-agent.min_replicas is 51, more than max_replicas, which is 50; lower it.",
        ),
        (wrong("min_replicas", 0), "rules.ai-agent.min_replicas is 0; it must be at least 1."),
        (wrong("max_replicas", "50"), 'rules.ai-agent.max_replicas is the text "50"; it must be a whole number.'),
        (wrong("max_replicas", True), "rules.ai-agent.max_replicas is True; it must be a whole number."),
        (wrong("cooldown", {"scale_up": -1}), "rules.ai-agent.cooldown.scale_up is -1; it must be at least 0."),
        (wrong("cooldown", 60), "rules.ai-agent.cooldown is 60; it must be a mapping with scale_down, scale_up."),
        (wrong("cooldown", {"up": 6}), "rules.ai-agent.cooldown.up is unknown; known are scale_down, scale_up."),
        (wrong("max_step", {"scale_up": 0}), "rules.ai-agent.max_step.scale_up is 0; it must be at least 1."),
        (wrong("stale_seconds", None), "rules.ai-agent.stale_seconds is empty; it must be a number."),
        (wrong("metrics", []), "rules.ai-agent.metrics is []; it must list at least one rule."),
        (
            wrong_metric(0, scale_down_threshold=80),
            "rules.ai-agent.metrics[0].scale_down_threshold is 80, not below scale_up_threshold, which is 80: they overlap, "
            "and the service would never settle.",
        ),
        (
            wrong_metric(0, target=20),
            "rules.ai-agent.metrics[0].target is 20; it must be above scale_down_threshold (30) and at most scale_up_threshold (80).",
        ),
        (
            wrong_metric(1, target=201),
            "rules.ai-agent.metrics[1].target is 201; it must be above scale_down_threshold (50) and at most scale_up_threshold (200).",
        ),
        (
            wrong_metric(0, scale_up_threshold=150),
            "rules.ai-agent.metrics[0].scale_up_threshold is 150; it must be at most 100.",
        ),
        (
            wrong_metric(1, scale_up_threshold=float("nan")),
            "rules.ai-agent.metrics[1].scale_up_threshold is nan; it must be a number.",
        ),
        (
            wrong_metric(0, type="memory"),
            'rules.ai-agent.metrics[0].type is the text "memory"; known metrics are cpu, queue_length.',
        ),
        (
            wrong_metric(0, queues=["a"]),
            "rules.ai-agent.metrics[0].queues is unknown; known are scale_down_threshold, scale_up_threshold, target, type.",
        ),
        (
            wrong_metric(1, queues="a"),
            'rules.ai-agent.metrics[1].queues is the text "a"; it must list queues by name, or patterns such as tasks.*.',
        ),
        (
            wrong_metric(1, queues=["a", "a"]),
            'rules.ai-agent.metrics[1].queues names "a" twice; its messages would count twice.',
        ),
        (lambda rules: rules["metrics"][1].pop("target"), "rules.ai-agent.metrics[1].target is missing."),
        (lambda rules: rules.pop("max_replicas"), "rules.ai-agent.max_replicas is missing."),
        (
            lambda rules: rules["metrics"].append(dict(rules["metrics"][0])),
            "rules.ai-agent.metrics[2] is a duplicate of rules.ai-agent.metrics[0]: both are about cpu; keep one.",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_one_sentence(change, expected):
    assert problems(change) == (expected,)


def test_a_target_of_nothing_is_refused():
    found = problems(wrong_metric(0, target=0, scale_down_threshold=0))
    assert found[0].startswith("rules.ai-agent.metrics[0].target is 0; no number of replicas would be enough.")


def test_the_same_metric_of_other_queues_is_no_duplicate():
    document = copy.deepcopy(SCALING_RULES)
    document["ai-agent"]["metrics"].append(dict(document["ai-agent"]["metrics"][1], queues=["training"]))
    assert len(parse_rules(document)["ai-agent"].metrics) == 3


def test_everything_that_is_wrong_is_said_at_once():
    def change(rules):
        rules.update(min_replicas=60, cooldown={"scale_up": -5}, colour="red")
        rules["metrics"][0]["type"] = "memory"
        rules["metrics"][1]["scale_down_threshold"] = 900

    found = problems(change)
    assert len(found) == 5
    assert [
        what
        for what in ("min_replicas", "scale_up is -5", "colour", "memory", "overlap")
        if not any(what in p for p in found)
    ] == []


@pytest.mark.parametrize("document", [None, [], {}, "rules", {"ai-agent": None}, {7: SCALING_RULES["ai-agent"]}])
def test_no_rules_are_no_rules(document):
    with pytest.raises(WrongRules):
        parse_rules(document)
