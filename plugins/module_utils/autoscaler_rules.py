# Apache License 2.0 (see LICENSE)
# The same as runtime/src/sutazai_runtime/autoscaler/rules.py, which it is copied from: a test compares them. Change that one.
"""The scaling rules: what a service may become, and when. Pure.

Every wrong value is found, not only the first: who corrects a file wants to correct it once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

#: What the rules say if they don't say otherwise.
COOLDOWN_UP_SECONDS = 60
COOLDOWN_DOWN_SECONDS = 300
STEP_UP = 10
STEP_DOWN = 5
STABILIZATION_SECONDS = 60
STALE_SECONDS = 60


class WrongRules(Exception):
    """The rules can't be followed; `problems` are sentences."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True)
class Kind:
    """A metric that rules may name. Another one is an entry here and a source in `sources`."""

    unit: str
    #: A threshold above it would never be reached.
    most: float = math.inf
    options: frozenset[str] = frozenset()


KINDS: dict[str, Kind] = {
    "cpu": Kind("% of the limit", most=100),
    "queue_length": Kind("messages", options=frozenset({"queues", "virtual_host"})),
}


@dataclass(frozen=True)
class Metric:
    """One rule: what is measured, for each replica, and what follows from it."""

    kind: str
    target: float
    up: float
    down: float
    queues: tuple[str, ...] = ()
    virtual_host: str = "/"

    @property
    def name(self) -> str:
        """Tells the metrics of a service apart."""
        if not self.queues:
            return self.kind
        where = "" if self.virtual_host == "/" else f"{self.virtual_host}: "
        return f"{self.kind}({where}{', '.join(self.queues)})"

    @property
    def unit(self) -> str:
        return KINDS[self.kind].unit


@dataclass(frozen=True)
class ServiceRules:
    service: str
    minimum: int
    maximum: int
    metrics: tuple[Metric, ...]
    cooldown_up: float = COOLDOWN_UP_SECONDS
    cooldown_down: float = COOLDOWN_DOWN_SECONDS
    step_up: int = STEP_UP
    step_down: int = STEP_DOWN
    #: So long the rules must have asked for fewer replicas without a break: one quiet moment between two bursts isn't idleness.
    stabilization: float = STABILIZATION_SECONDS
    #: A reading older than that is as good as none.
    stale: float = STALE_SECONDS


@dataclass
class Reader:
    """Takes values out of a document and notes what is wrong with them."""

    problems: list[str] = field(default_factory=list)

    def wrong(self, where: str, what: str) -> None:
        self.problems.append(f"{where or 'The file'} {what}")

    def mapping(
        self, value: Any, where: str, known: Collection[str], required: Collection[str] = ()
    ) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            self.wrong(where, f"is {_shown(value)}; it must be a mapping with {', '.join(sorted(known))}.")
            return {}
        for key in value:
            if key not in known:
                self.wrong(_place(where, key), f"is unknown; known are {', '.join(sorted(known))}.")
        for key in sorted(set(required) - set(value)):
            self.wrong(_place(where, key), "is missing.")
        return value

    def number(
        self,
        values: Mapping[str, Any],
        key: str,
        where: str,
        default: float = math.nan,
        least: float = 0,
        most: float = math.inf,
    ) -> float:
        """The value; its default if there is none or it is wrong. Not a number, the default of what is required, compares to nothing."""
        value = values.get(key, default)
        if key not in values:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            self.wrong(_place(where, key), f"is {_shown(value)}; it must be a number.")
            return default
        return value if self._within(value, _place(where, key), least, most) else default

    def whole(
        self,
        values: Mapping[str, Any],
        key: str,
        where: str,
        default: int = 0,
        least: int = 0,
        most: float = math.inf,
    ) -> int:
        """The same for whole numbers."""
        value = values.get(key, default)
        if key not in values:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(_place(where, key), f"is {_shown(value)}; it must be a whole number.")
            return default
        return value if self._within(value, _place(where, key), least, most) else default

    def _within(self, value: float, place: str, least: float, most: float) -> bool:
        if value < least:
            self.wrong(place, f"is {value}; it must be at least {least:g}.")
        elif value > most:
            self.wrong(place, f"is {value}; it must be at most {most:g}.")
        return least <= value <= most

    def text(self, values: Mapping[str, Any], key: str, where: str, default: str = "", needed: bool = False) -> str:
        """The value; its default if there is none or it is wrong. Empty is as good as absent where it may be absent."""
        value = values.get(key, default)
        if not isinstance(value, str) or (key in values and not value.strip() and (default or needed)):
            self.wrong(_place(where, key), f"is {_shown(value)}; it must be text.")
            return default
        return value


def _place(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else f"{key}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f'the text "{value}"'
    if value is None:
        return "empty"
    return f"{value}"


def parse_rules(document: Any, where: str = "rules") -> dict[str, ServiceRules]:
    """The rules of each service by its name; raises WrongRules with everything that is wrong."""
    reader = Reader()
    found = read_rules(reader, document, where)
    if reader.problems:
        raise WrongRules(reader.problems)
    return found


def read_rules(reader: Reader, document: Any, where: str = "rules") -> dict[str, ServiceRules]:
    if not isinstance(document, Mapping) or not document:
        reader.wrong(where, f"is {_shown(document)}; it must name at least one service.")
        return {}
    found = {}
    for service, value in document.items():
        if not isinstance(service, str) or not service.strip():
            reader.wrong(where, f"names a service {service!r}; a service's name is text.")
            continue
        before = len(reader.problems)
        read = _service(reader, service, value, f"{where}.{service}")
        if len(reader.problems) == before:
            found[service] = read
    return found


SERVICE_KEYS = {
    "min_replicas",
    "max_replicas",
    "metrics",
    "cooldown",
    "max_step",
    "stabilization_seconds",
    "stale_seconds",
}


def _service(reader: Reader, service: str, value: Any, where: str) -> ServiceRules:
    values = reader.mapping(value, where, SERVICE_KEYS, {"min_replicas", "max_replicas", "metrics"})
    minimum = reader.whole(values, "min_replicas", where, least=1)
    maximum = reader.whole(values, "max_replicas", where, least=1)
    if 0 < maximum < minimum:
        reader.wrong(f"{where}.min_replicas", f"is {minimum}, more than max_replicas, which is {maximum}; lower it.")
    cooldown = _directions(reader, values, "cooldown", where)
    step = _directions(reader, values, "max_step", where)
    return ServiceRules(
        service,
        minimum,
        maximum,
        _metrics(reader, service, values["metrics"], f"{where}.metrics") if "metrics" in values else (),
        reader.number(cooldown, "scale_up", f"{where}.cooldown", COOLDOWN_UP_SECONDS),
        reader.number(cooldown, "scale_down", f"{where}.cooldown", COOLDOWN_DOWN_SECONDS),
        reader.whole(step, "scale_up", f"{where}.max_step", STEP_UP, least=1),
        reader.whole(step, "scale_down", f"{where}.max_step", STEP_DOWN, least=1),
        reader.number(values, "stabilization_seconds", where, STABILIZATION_SECONDS),
        reader.number(values, "stale_seconds", where, STALE_SECONDS, least=5),
    )


def _directions(reader: Reader, values: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    return reader.mapping(values[key], f"{where}.{key}", {"scale_up", "scale_down"}) if key in values else {}


def _metrics(reader: Reader, service: str, value: Any, where: str) -> tuple[Metric, ...]:
    if not isinstance(value, list) or not value:
        reader.wrong(where, f"is {_shown(value)}; it must list at least one rule.")
        return ()
    found: dict[str, int] = {}
    metrics = []
    for index, entry in enumerate(value):
        metric = _metric(reader, service, entry, f"{where}[{index}]")
        if metric is None:
            continue
        if metric.name in found:
            reader.wrong(
                f"{where}[{index}]",
                f"is a duplicate of {where}[{found[metric.name]}]: both are about {metric.name}; keep one.",
            )
        found.setdefault(metric.name, index)
        metrics.append(metric)
    return tuple(metrics)


def _metric(reader: Reader, service: str, value: Any, where: str) -> Metric | None:
    before = len(reader.problems)
    named = value.get("type") if isinstance(value, Mapping) else None
    kind = KINDS.get(named) if isinstance(named, str) else None
    required = {"type", "target", "scale_up_threshold", "scale_down_threshold"}
    # Of an unknown kind it isn't known either which options it has; all are taken, so that there is one problem, not three.
    options = kind.options if kind else frozenset(option for known in KINDS.values() for option in known.options)
    values = reader.mapping(value, where, required | options, required)
    if "type" in values and kind is None:
        reader.wrong(f"{where}.type", f"is {_shown(named)}; known metrics are {', '.join(sorted(KINDS))}.")
    most = kind.most if kind else math.inf
    target = reader.number(values, "target", where, most=most)
    up = reader.number(values, "scale_up_threshold", where, most=most)
    down = reader.number(values, "scale_down_threshold", where, most=most)
    if target == 0:
        reader.wrong(
            f"{where}.target", "is 0; no number of replicas would be enough. Name a load that one replica carries well."
        )
    if down >= up:
        reader.wrong(
            f"{where}.scale_down_threshold",
            f"is {down:g}, not below scale_up_threshold, which is {up:g}: they overlap, and the service would never settle.",
        )
    elif (target <= down or target > up) and down < up:
        reader.wrong(
            f"{where}.target",
            f"is {target:g}; it must be above scale_down_threshold ({down:g}) and at most scale_up_threshold ({up:g}).",
        )
    if kind is None or "queues" not in kind.options:
        return Metric(named, target, up, down) if isinstance(named, str) and len(reader.problems) == before else None
    # A service whose queue is named as itself needs to say nothing.
    queues = _names(reader, values.get("queues", [service]), f"{where}.queues")
    virtual_host = reader.text(values, "virtual_host", where, "/")
    if len(reader.problems) > before:
        return None
    return Metric(str(named), target, up, down, queues, virtual_host)


def _names(reader: Reader, value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name.strip() for name in value):
        reader.wrong(where, f"is {_shown(value)}; it must list queues by name, or patterns such as tasks.*.")
        return ()
    for name in sorted({name for name in value if value.count(name) > 1}):
        reader.wrong(where, f'names "{name}" twice; its messages would count twice.')
    return tuple(sorted(value))
