"""Where the metrics come from. A round asks each source once, however many services want to know."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from sutazai_runtime.autoscaler.consul import Consul
from sutazai_runtime.autoscaler.decision import Missing, Reading
from sutazai_runtime.autoscaler.engine import Service
from sutazai_runtime.autoscaler.http_api import Refused, Unreachable
from sutazai_runtime.autoscaler.rabbitmq import RabbitMQ, queue_length
from sutazai_runtime.autoscaler.rules import Metric, ServiceRules
from sutazai_runtime.autoscaler.usage import Report, cpu_reading, read_report

Source = Callable[["Round", Metric, ServiceRules, Service], Reading | Missing]


class Round:
    """The readings of one moment."""

    def __init__(self, now: float, consul: Consul, usage_prefix: str, rabbitmq: RabbitMQ | None) -> None:
        self.now = now
        self.consul = consul
        self.usage_prefix = usage_prefix
        self.rabbitmq = rabbitmq
        self.reports = functools.cache(self._reports)
        self.queues = functools.cache(self._queues)

    def _reports(self) -> list[Report] | str:
        try:
            tree = self.consul.tree(self.usage_prefix)
        except (Unreachable, Refused) as error:
            return str(error)
        reports = [read_report(node, text) for node, text in tree.items()]
        return [report for report in reports if report]

    def _queues(self, virtual_host: str) -> Any:
        if self.rabbitmq is None:
            return "no RabbitMQ is named in the settings"
        try:
            return self.rabbitmq.queues(virtual_host)
        except (Unreachable, Refused) as error:
            return str(error)

    def read(self, rules: ServiceRules, service: Service) -> Mapping[str, Reading | Missing]:
        """Whatever fails is a metric that is missing, not a round that fails."""
        return {metric.name: SOURCES[metric.kind](self, metric, rules, service) for metric in rules.metrics}


def _cpu(round_: Round, _metric: Metric, rules: ServiceRules, service: Service) -> Reading | Missing:
    reports = round_.reports()
    if isinstance(reports, str):
        return Missing(reports)
    return cpu_reading(rules.service, reports, service.running, round_.now, rules.stale)


def _queue_length(round_: Round, metric: Metric, _rules: ServiceRules, _service: Service) -> Reading | Missing:
    queues = round_.queues(metric.virtual_host)
    return Missing(queues) if isinstance(queues, str) else queue_length(queues, metric.queues, round_.now)


#: By the kinds that rules may name.
SOURCES: dict[str, Source] = {"cpu": _cpu, "queue_length": _queue_length}
