"""The design's rules under a load that comes and goes: which replicas, when, against the cooldowns."""

from __future__ import annotations

from dataclasses import replace

from sutazai_runtime.autoscaler.decision import Action
from sutazai_runtime.autoscaler.rules import parse_rules
from sutazai_runtime.autoscaler.simulation import Load, changes, simulate, table

RULES = parse_rules(
    {
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
)["ai-agent"]
QUEUE = RULES.metrics[1].name
IDLE = {"cpu": 30.0, QUEUE: 0.0}


def test_a_queue_that_fills_and_is_emptied():
    """2000 messages want 20 replicas: 3 to 13 at once, 20 a minute later; then five fewer every five minutes, and back at 3."""
    load = Load(((0, IDLE), (120, {"cpu": 1000.0, QUEUE: 3000.0}), (600, IDLE)))
    made = simulate(RULES, load, 3000)
    print(table(made))
    assert changes(made) == [(0, 3), (120, 13), (180, 23), (660, 18), (960, 13), (1260, 8), (1560, 3)]


def test_processors_at_their_limit_show_no_more_than_their_limit():
    """35 processors' worth of work: three replicas look full, not tenfold full. So it takes seven steps."""
    load = Load(((0, IDLE), (60, {"cpu": 3500.0, QUEUE: 0.0})))
    made = simulate(RULES, load, 900)
    print(table(made))
    assert changes(made) == [(0, 3), (60, 5), (120, 8), (180, 12), (240, 18), (300, 26), (360, 36), (420, 46)]


def test_against_the_cooldowns():
    load = Load(((0, IDLE), (60, {"cpu": 3500.0, QUEUE: 5000.0}), (1200, IDLE)))
    made = simulate(RULES, load, 6000)
    print(table(made))
    ups = [second for second, decision in made if decision.action == Action.UP]
    downs = [second for second, decision in made if decision.action == Action.DOWN]
    assert [later - earlier for earlier, later in zip(ups, ups[1:], strict=False)] == [RULES.cooldown_up] * (
        len(ups) - 1
    )
    assert [later - earlier for earlier, later in zip(downs, downs[1:], strict=False)] == [RULES.cooldown_down] * (
        len(downs) - 1
    )
    assert downs[0] - 1200 == RULES.stabilization
    assert made[-1][1].replicas == RULES.minimum


def test_without_bounds_of_steps_the_target_is_reached_at_once():
    rules = replace(RULES, step_up=50, step_down=50)
    load = Load(((0, IDLE), (60, {"cpu": 1000.0, QUEUE: 3000.0}), (600, IDLE)))
    assert changes(simulate(rules, load, 1200)) == [(0, 3), (60, 30), (660, 3)]


def test_a_load_that_swings_faster_than_the_cooldowns_keeps_what_it_got():
    steps = [(second, {"cpu": 1500.0, QUEUE: 0.0} if second % 120 == 0 else IDLE) for second in range(0, 3600, 60)]
    made = simulate(RULES, Load(tuple(steps)), 3540)
    assert not [decision for _, decision in made if decision.action == Action.DOWN]


def test_the_table_is_for_people():
    load = Load(((0, IDLE), (60, {"cpu": 1000.0, QUEUE: 700.0})))
    lines = table(simulate(RULES, load, 120)).splitlines()
    assert lines[0].startswith("     0 s     3   limit       At the least it must have, 3: cpu is 10 %")
    assert lines[1].startswith("    60 s     7 ▲ load        queue_length(ai-agent) is 233.3 messages for each of 3")
