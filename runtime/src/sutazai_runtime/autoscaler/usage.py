"""How much processor time containers use, in percent of what they may.

A manager's engine knows only its own host's containers. So each node reports those that it runs to Consul's KV, and the autoscaler that
decides adds the reports up.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

from sutazai_runtime.autoscaler.consul import Consul
from sutazai_runtime.autoscaler.decision import Missing, Reading
from sutazai_runtime.autoscaler.engine import Engine
from sutazai_runtime.autoscaler.http_api import Refused

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """What a container has used until a moment of this host's own, steady clock."""

    service: str
    seconds: float
    limit: float
    at: float


@dataclass(frozen=True)
class Usage:
    """Of one service's containers on one node."""

    containers: int = 0
    #: The sum over the containers, each at most 100.
    percent: float = 0.0
    #: How many have no limit, so that there is nothing to be a percentage of.
    unlimited: int = 0


@dataclass(frozen=True)
class Report:
    node: str
    at: float
    services: Mapping[str, Usage]

    def to_json(self) -> str:
        return json.dumps({"at": self.at, "services": {name: asdict(usage) for name, usage in self.services.items()}})


def read_report(node: str, text: str) -> Report | None:
    """A node's report, None if it is none."""
    try:
        document = json.loads(text)
        services = {name: Usage(**usage) for name, usage in document["services"].items()}
        report = Report(node, float(document["at"]), services)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    numbers = [report.at, *(value for usage in services.values() for value in asdict(usage).values())]
    return report if all(isinstance(value, (int, float)) and math.isfinite(value) for value in numbers) else None


def usages(before: Mapping[str, Sample], after: Mapping[str, Sample]) -> dict[str, Usage]:
    """What was used between two samples. Of a container that is new there is only one; it is counted the next time."""
    found: dict[str, Usage] = {}
    for container, sample in after.items():
        usage = found.get(sample.service, Usage())
        earlier = before.get(container)
        if sample.limit <= 0:
            usage = Usage(usage.containers, usage.percent, usage.unlimited + 1)
        elif earlier and sample.at > earlier.at and sample.seconds >= earlier.seconds:
            share = (sample.seconds - earlier.seconds) / (sample.at - earlier.at) / sample.limit * 100
            # The limit is kept by the kernel in slices of time: a little more than all can be measured.
            usage = Usage(usage.containers + 1, usage.percent + min(share, 100.0), usage.unlimited)
        found[sample.service] = usage
    return found


def cpu_reading(service: str, reports: Iterable[Report], running: int, now: float, stale: float) -> Reading | Missing:
    """The load of a service that has so many running tasks, from all reports that are fresh."""
    told = [report for report in reports if service in report.services]
    fresh = [report for report in told if abs(now - report.at) <= stale]
    parts = [report.services[service] for report in fresh]
    unlimited = sum(part.unlimited for part in parts)
    if unlimited:
        return Missing(f"{unlimited} containers have no limit of processors; set resources.limits.cpus of the service")
    counted = sum(part.containers for part in parts)
    if counted == 0:
        late = ", ".join(sorted(report.node for report in told if report not in fresh)[:5])
        return Missing(f"no node reports a container{f'; the last reports of {late} are old' if late else ''}")
    partial = f"{counted} of {running} containers are reported" if counted < running else ""
    return Reading(sum(part.percent for part in parts), min(report.at for report in fresh), partial)


class Reporter:
    """Reports one node's containers."""

    def __init__(
        self,
        engine: Engine,
        consul: Consul,
        key: str,
        node: str,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.consul = consul
        self.key = key
        self.node = node
        self.clock = clock
        self.steady = steady
        self.samples: dict[str, Sample] = {}

    def sample(self) -> dict[str, Sample]:
        found = {}
        for container, service in self.engine.containers():
            known = self.samples.get(container)
            try:
                # A container's limit is as old as the container; Swarm changes neither.
                limit = known.limit if known else self.engine.cpu_limit(container)
                found[container] = Sample(service, self.engine.cpu_seconds(container), limit, self.steady())
            except Refused as refused:
                if refused.status != 404:
                    raise
                log.info("The container %s of %s is gone.", container[:12], service)
        return found

    def report(self) -> Report:
        after = self.sample()
        report = Report(self.node, self.clock(), usages(self.samples, after))
        self.samples = after
        self.consul.put(self.key, report.to_json())
        return report

    def retract(self) -> None:
        """What isn't reported any more isn't there any more."""
        self.consul.delete(self.key)
