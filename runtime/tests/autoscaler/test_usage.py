"""Processor time: from a node's samples to a service's load."""

from __future__ import annotations

import json

import pytest

from sutazai_runtime.autoscaler.decision import Missing, Reading
from sutazai_runtime.autoscaler.http_api import Refused
from sutazai_runtime.autoscaler.usage import Report, Reporter, Sample, Usage, cpu_reading, read_report, usages

NOW = 1000.0


def sample(seconds, at, limit=2.0, service="ai-agent"):
    return Sample(service, seconds, limit, at)


def test_percent_of_the_limit_not_of_the_host():
    found = usages({"a": sample(10, 0), "b": sample(5, 0)}, {"a": sample(20, 10), "b": sample(10, 10)})
    assert found == {"ai-agent": Usage(2, 50.0 + 25.0, 0)}


def test_more_than_all_is_all():
    assert usages({"a": sample(0, 0)}, {"a": sample(20.4, 10)}) == {"ai-agent": Usage(1, 100.0, 0)}


def test_a_new_container_is_counted_the_next_time():
    assert usages({}, {"a": sample(3, 10)}) == {"ai-agent": Usage(0, 0.0, 0)}


def test_what_goes_backwards_is_another_container_of_the_same_name():
    assert usages({"a": sample(9, 0)}, {"a": sample(3, 10)}) == {"ai-agent": Usage(0, 0.0, 0)}


def test_without_a_limit_there_is_no_percentage():
    assert usages({"a": sample(0, 0, 0)}, {"a": sample(3, 10, 0)}) == {"ai-agent": Usage(0, 0.0, 1)}


def report(node, at=NOW, containers=2, percent=100.0, unlimited=0, service="ai-agent"):
    return Report(node, at, {service: Usage(containers, percent, unlimited)})


def test_the_reports_of_all_nodes_are_added_up():
    reports = [report("one"), report("two", NOW - 20, 3, 120.0), report("three", service="other")]
    assert cpu_reading("ai-agent", reports, 5, NOW, 60) == Reading(220.0, NOW - 20)


def test_containers_that_nobody_reports_make_it_incomplete():
    reading = cpu_reading("ai-agent", [report("one"), report("two", NOW - 61)], 5, NOW, 60)
    assert reading == Reading(100.0, NOW, "2 of 5 containers are reported")


@pytest.mark.parametrize("at", [NOW - 61, NOW + 61])
def test_old_reports_are_none(at):
    missing = cpu_reading("ai-agent", [report("one", at)], 2, NOW, 60)
    assert missing == Missing("no node reports a container; the last reports of one are old")


def test_nothing_reported_is_missing():
    assert cpu_reading("ai-agent", [], 2, NOW, 60) == Missing("no node reports a container")
    assert isinstance(cpu_reading("ai-agent", [report("one", containers=0)], 2, NOW, 60), Missing)


def test_a_service_without_a_limit_is_told_what_to_set():
    missing = cpu_reading("ai-agent", [report("one", unlimited=2)], 2, NOW, 60)
    assert missing == Missing("2 containers have no limit of processors; set resources.limits.cpus of the service")


def test_a_report_survives_its_way():
    sent = report("one", percent=12.5)
    assert read_report("one", sent.to_json()) == sent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "x",
        '{"at": "now", "services": {}}',
        '{"at": 1, "services": {"a": {"shoes": 3}}}',
        '{"at": 1, "services": {"a": {"percent": NaN}}}',
        '{"at": 1, "services": {"a": {"percent": "9"}}}',
        '{"at": 1, "services": {"a": 3}}',
        '{"at": 1, "services": [1]}',
    ],
)
def test_what_is_no_report_is_none(text):
    assert read_report("one", text) is None


class Engine:
    """Two containers, one of which vanishes between the list and the look at it."""

    def __init__(self):
        self.used = {"a": 0.0}
        self.limits_asked = []

    def containers(self):
        return [("a", "ai-agent"), ("gone", "ai-agent")]

    def cpu_limit(self, container):
        self.limits_asked.append(container)
        if container == "gone":
            raise Refused(404, "No such container: gone")
        return 2.0

    def cpu_seconds(self, container):
        return self.used[container]


class Store:
    def __init__(self):
        self.keys = {}

    def put(self, key, value):
        self.keys[key] = value

    def delete(self, key):
        del self.keys[key]


def test_a_node_reports_what_its_containers_use():
    engine, store, steady = Engine(), Store(), iter((0.0, 10.0, 20.0))
    reporter = Reporter(engine, store, "autoscaler/usage/one", "one", lambda: NOW, lambda: next(steady))
    assert reporter.report().services == {"ai-agent": Usage(0, 0.0, 0)}
    engine.used["a"] = 15.0
    assert reporter.report().services == {"ai-agent": Usage(1, 75.0, 0)}
    assert json.loads(store.keys["autoscaler/usage/one"])["services"]["ai-agent"]["percent"] == 75.0
    assert engine.limits_asked.count("a") == 1
    reporter.retract()
    assert store.keys == {}
