"""The autoscaler at work: it waits for its turn, looks, decides, changes, and writes down why."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from sutazai_runtime.autoscaler.consul import Consul, Lock
from sutazai_runtime.autoscaler.decision import Action, Code, Decision, Observed, State, decide, managed_range
from sutazai_runtime.autoscaler.engine import Changed, Engine, Service
from sutazai_runtime.autoscaler.gauges import Gauges, Labels
from sutazai_runtime.autoscaler.http_api import Refused, Unreachable
from sutazai_runtime.autoscaler.notes import decision_line, hold_reason, read_state, state_text
from sutazai_runtime.autoscaler.rabbitmq import RabbitMQ
from sutazai_runtime.autoscaler.rules import ServiceRules
from sutazai_runtime.autoscaler.settings import Settings
from sutazai_runtime.autoscaler.sources import Round

log = logging.getLogger(__name__)
#: So many in a row, and another host may do better.
FAILED_ROUNDS = 3
Numbers = dict[tuple[str, Labels], float]


class DecisionLog:
    """JSON lines, in a file or on the standard output. The file is opened for each line, so that it can be rotated at any time."""

    def __init__(self, path: str) -> None:
        self.path = path

    def write(self, line: str) -> None:
        if not self.path:
            print(line, file=sys.stdout, flush=True)
            return
        try:
            with Path(self.path).open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
        except OSError as error:
            # Not a reason to stop scaling, and not a reason to lose the line.
            log.error("The decision log can't be written (%s): %s", error, line)


class Autoscaler:
    """One of several; the one that has the lock decides."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        consul: Consul,
        rabbitmq: RabbitMQ | None,
        lock: Lock,
        gauges: Gauges,
        decisions: DecisionLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.engine = engine
        self.consul = consul
        self.rabbitmq = rabbitmq
        self.lock = lock
        self.gauges = gauges
        self.decisions = decisions
        self.clock = clock
        self.prefix = settings.consul.prefix
        #: Of the services, as long as this one has the lock through the same session.
        self.states: dict[str, State] = {}
        self._session = ""
        self._said: dict[str, tuple[Action, str]] = {}
        self._failure = ""
        self._failed_rounds = 0

    # ------------------------------------------------------------------------------------------------------------- the loop

    def run(self, stop: threading.Event) -> None:
        """Until told to stop; then the lock is given back."""
        due = 0.0
        # Often enough to renew the lock in its time, and to ask for it soon after it has become free.
        pause = min(self.settings.consul.lock_ttl_seconds / 3, self.settings.interval_seconds, 5.0)
        try:
            while not stop.is_set():
                if not self.lock.keep():
                    self.stand_by()
                    due = 0.0
                elif time.monotonic() >= due:
                    due = time.monotonic() + self.settings.interval_seconds
                    self.round(stop)
                stop.wait(min(pause, max(0.05, due - time.monotonic())) if due else pause)
        finally:
            self.lock.release()
            self.stand_by()

    def stand_by(self) -> None:
        """Whoever has the lock changes things: what is remembered here is out of date."""
        self.states.clear()
        self._said.clear()
        self.gauges.show(self._own_numbers(leader=False))

    def _own_numbers(self, leader: bool) -> Numbers:
        return {
            ("sutazai_autoscaler_leader", ()): float(leader),
            ("sutazai_autoscaler_dry_run", ()): float(self.settings.dry_run),
        }

    # ------------------------------------------------------------------------------------------------------------- a round

    def round(self, stop: threading.Event | None = None) -> None:
        """Look at every service once."""
        try:
            numbers = self._round(stop)
        except (Unreachable, Refused) as error:
            # The same failure again and again is one line.
            if str(error) != self._failure:
                log.error("Nothing is decided: %s", error)
            self._failure = str(error)
            self._failed_rounds += 1
            self.gauges.count("sutazai_autoscaler_rounds_total", result="failed")
            if self._failed_rounds >= FAILED_ROUNDS and self.lock.held:
                # This host's engine may be cut off from a Swarm that works, while Consul isn't cut off.
                log.error("Another one shall try: %d rounds in a row have failed.", self._failed_rounds)
                self.lock.stand_aside()
            self.gauges.show(self._own_numbers(self.lock.held))
            return
        self._failed_rounds = 0
        if self._failure:
            log.info("Everything can be read again.")
            self._failure = ""
        self.gauges.count("sutazai_autoscaler_rounds_total", result="done")
        numbers["sutazai_autoscaler_last_round_timestamp_seconds", ()] = self.clock()
        self.gauges.show(numbers)

    def _round(self, stop: threading.Event | None) -> Numbers:
        # Who can't ask whether it is held doesn't know; that raises, and nothing is decided.
        key = f"{self.prefix}/hold"
        hold = hold_reason(self.consul.get(key), key, self.clock())
        services = self.engine.services()
        looked = Round(self.clock(), self.consul, f"{self.prefix}/usage/", self.rabbitmq)
        numbers = self._own_numbers(leader=True) | {("sutazai_autoscaler_held", ()): float(bool(hold))}
        for name, rules in self.settings.rules.items():
            if (stop and stop.is_set()) or not self.lock.keep():
                break
            if name not in services:
                self._say(
                    Decision(name, Action.HOLD, 0, 0, Code.UNKNOWN, "The Swarm has no such service.", State()),
                    "nothing",
                )
                continue
            numbers |= self._service(rules, services[name], hold, looked)
        return numbers

    def _service(self, rules: ServiceRules, service: Service, hold: str, looked: Round) -> Numbers:
        observed = Observed(
            service.replicas, looked.read(rules, service), hold or service.hold, service.minimum, service.maximum
        )
        # Reading takes time, of the lock too; and the decision is about now.
        self.lock.keep()
        state = self._state(rules.service)
        decision = decide(self.clock(), rules, observed, state)
        self.gauges.count(
            "sutazai_autoscaler_decisions_total", service=service.name, action=decision.action, reason=decision.code
        )
        self._carry_out(decision, service, state)
        return _numbers(rules, service, observed, decision)

    def _state(self, name: str) -> State:
        """What is remembered of a service; after this one got the lock, what the one before it has written down."""
        if self._session != self.lock.session:
            # Lost and got again between two looks at it, after a pause of the whole host, say: another one may have decided meanwhile.
            self.states.clear()
            self._session = self.lock.session
        if name not in self.states:
            state, problem = read_state(self.consul.get(self._state_key(name)), self.clock())
            if problem:
                log.warning("%s: %s", name, problem)
            self.states[name] = state
        return self.states[name]

    def _state_key(self, name: str) -> str:
        return f"{self.prefix}/state/{name}"

    # ------------------------------------------------------------------------------------------------------------- changes

    def _carry_out(self, decision: Decision, service: Service, before: State) -> None:
        if not decision.changes or self.settings.dry_run:
            self.states[service.name] = decision.state
            self._say(decision, "dry_run" if decision.changes else "nothing")
            return
        # First what is to be remembered: a cooldown without a change does no harm, a change without a cooldown does. It is written
        # only if the lock is still this one's, in Consul's own view.
        try:
            mine = self.lock.held and self._remember(service.name, decision)
        except (Unreachable, Refused) as error:
            self._failed(decision, f"The cooldown can't be written down: {error}")
            return
        if not mine:
            self.lock.lose("Consul doesn't know it as this one's")
            self._failed(decision, "This one doesn't decide any more.")
            return
        try:
            self.engine.scale(service, decision.replicas)
        except (Changed, Refused) as error:
            self._failed(decision, str(error))
            # It surely wasn't done, so it needs no cooldown. If that can't be written down, it has one, which does no harm.
            with contextlib.suppress(Unreachable, Refused):
                self._remember(service.name, replace(decision, state=before, replicas=decision.before))
        except Unreachable as error:
            # It may have been done.
            self.states[service.name] = decision.state
            self._failed(decision, str(error))
        else:
            self.states[service.name] = decision.state
            self._say(decision, "applied")

    def _remember(self, name: str, decision: Decision) -> bool:
        return self.consul.put_locked(self._state_key(name), state_text(decision), self.lock.key, self.lock.session)

    def _failed(self, decision: Decision, problem: str) -> None:
        self.gauges.count("sutazai_autoscaler_failed_changes_total", service=decision.service)
        self._say(decision, "failed", problem)

    def _say(self, decision: Decision, outcome: str, problem: str = "") -> None:
        """Every change, and every new reason for none. The same reason with other numbers isn't a new one."""
        now = decision.action, decision.reason if decision.action == Action.HOLD else str(decision.code)
        if decision.changes or problem or self._said.get(decision.service) != now:
            self.decisions.write(decision_line(self.clock(), decision, outcome, problem))
        self._said[decision.service] = now


def _numbers(rules: ServiceRules, service: Service, observed: Observed, decision: Decision) -> Numbers:
    least, most = managed_range(rules, observed)
    of_service: Mapping[str, float] = {
        "replicas": decision.replicas,
        "running_replicas": service.running,
        "min_replicas": least,
        "max_replicas": most,
    }
    numbers: Numbers = {
        (f"sutazai_autoscaler_{name}", (("service", service.name),)): value for name, value in of_service.items()
    }
    for opinion in decision.opinions:
        labels = (("metric", opinion.metric), ("service", service.name))
        numbers["sutazai_autoscaler_wanted_replicas", labels] = opinion.replicas
        numbers["sutazai_autoscaler_metric_missing", labels] = float(opinion.blind)
        if opinion.per_replica is not None:
            numbers["sutazai_autoscaler_metric_per_replica", labels] = opinion.per_replica
    return numbers
