"""A round of the autoscaler among others: what it changes, what it leaves, what it remembers and what it says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sutazai_runtime.autoscaler.consul import Lock
from sutazai_runtime.autoscaler.engine import Changed, read_service
from sutazai_runtime.autoscaler.gauges import Gauges
from sutazai_runtime.autoscaler.http_api import Refused, Unreachable
from sutazai_runtime.autoscaler.rules import parse_rules
from sutazai_runtime.autoscaler.service import Autoscaler, DecisionLog
from sutazai_runtime.autoscaler.settings import Settings
from sutazai_runtime.autoscaler.usage import Report, Usage

RULES = {
    "min_replicas": 3,
    "max_replicas": 50,
    "metrics": [
        {"type": "cpu", "target": 70, "scale_up_threshold": 80, "scale_down_threshold": 30},
        {"type": "queue_length", "target": 100, "scale_up_threshold": 200, "scale_down_threshold": 50, "queues": ["q"]},
    ],
}
SETTINGS = Settings(parse_rules({"ai-agent": RULES}))


class Store:
    """Consul's keys and sessions, in memory; `broken` is what each request raises."""

    def __init__(self):
        self.keys = {}
        self.session = ""
        self.broken = None
        self.sessions = 0

    def _ask(self):
        if self.broken:
            raise self.broken

    def get(self, key):
        self._ask()
        return self.keys.get(key)

    def tree(self, prefix):
        self._ask()
        return {key.removeprefix(prefix): value for key, value in self.keys.items() if key.startswith(prefix)}

    def put_locked(self, key, value, lock, session):
        self._ask()
        if session == self.session:
            self.keys[key] = value
        return session == self.session

    def create_session(self, *_):
        self._ask()
        self.sessions += 1
        return f"session-{self.sessions}"

    def renew(self, session):
        self._ask()
        return True

    def holder(self, key):
        return self.session

    def acquire(self, key, session, value):
        self.session = self.session or session
        return self.session == session

    def release(self, key, session):
        self.session = ""

    def destroy(self, session):
        self._ask()


class Swarm:
    """The engine of a manager, in memory."""

    def __init__(self):
        self.documents = {}
        self.scaled = []
        self.fails = None

    def add(self, name="ai-agent", replicas=3, labels=None, state=""):
        spec = {"Name": name, "Labels": {"swarm.autoscaler": "true"} if labels is None else labels}
        self.documents[name] = {
            "ID": name,
            "Version": {"Index": 1},
            "Spec": spec | {"Mode": {"Replicated": {"Replicas": replicas}}},
            "ServiceStatus": {"RunningTasks": replicas},
            "UpdateStatus": {"State": state},
        }

    def services(self):
        if isinstance(self.fails, Unreachable):
            raise self.fails
        return {name: read_service(document) for name, document in self.documents.items()}

    def scale(self, service, replicas):
        if self.fails:
            raise self.fails
        self.scaled.append((service.name, replicas))
        document = self.documents[service.name]
        document["Spec"]["Mode"]["Replicated"]["Replicas"] = replicas
        document["ServiceStatus"]["RunningTasks"] = replicas


class Broker:
    def __init__(self):
        self.waiting = 300
        self.asked = 0

    def queues(self, virtual_host):
        self.asked += 1
        if self.waiting is None:
            raise Unreachable("https://mq-01:15671 doesn't answer: timed out")
        return [{"name": "q", "messages_ready": self.waiting}]


class World:
    def __init__(self, settings=SETTINGS):
        self.now = 10_000.0
        self.store, self.swarm, self.broker = Store(), Swarm(), Broker()
        self.swarm.add()
        self.lines = []
        self.start(settings)

    def start(self, settings=SETTINGS):
        """A new autoscaler in the same world."""
        lock = Lock(self.store, "autoscaler/lock", "here", clock=lambda: self.now)
        log = DecisionLog("")
        log.write = lambda line: self.lines.append(json.loads(line))
        self.gauges = Gauges()
        self.autoscaler = Autoscaler(
            settings, self.swarm, self.store, self.broker, lock, self.gauges, log, lambda: self.now
        )
        lock.keep()

    def round(self, seconds=15.0, cpu=50.0, waiting=300):
        """A round that many seconds later; the processors' load is one replica's."""
        for _ in range(int(seconds / 5)):
            self.now += 5
            self.autoscaler.lock.keep()
        self.broker.waiting = waiting
        for name, document in self.swarm.documents.items():
            running = document["ServiceStatus"]["RunningTasks"]
            report = Report("node", self.now, {name: Usage(running, cpu * running)})
            self.store.keys[f"autoscaler/usage/{name}"] = report.to_json()
        self.autoscaler.round()
        return self.lines[-1] if self.lines else None

    def state(self, name="ai-agent"):
        return json.loads(self.store.keys[f"autoscaler/state/{name}"])


@pytest.fixture
def world():
    return World()


def test_it_scales_and_says_why_and_remembers(world):
    line = world.round(waiting=2000)
    assert world.swarm.scaled == [("ai-agent", 13)]
    assert (line["action"], line["before"], line["replicas"], line["outcome"]) == ("up", 3, 13, "applied")
    assert line["reason"].startswith("queue_length(q) is 666.7 messages for each of 3")
    assert world.state()["last_up"] == world.now
    world.round(waiting=5000)
    assert world.swarm.scaled == [("ai-agent", 13)]
    world.round(45, waiting=5000)
    assert world.swarm.scaled[1:] == [("ai-agent", 23)]


def test_a_new_reason_for_doing_nothing_is_noted_once(world):
    for _ in range(4):
        world.round()
    for _ in range(3):
        world.round(waiting=None)
    assert [(line["action"], line["code"]) for line in world.lines] == [("keep", "settled"), ("keep", "missing")]
    assert "https://mq-01:15671 doesn't answer: timed out" in world.lines[-1]["reason"]


def test_the_next_one_resumes_the_cooldowns(world):
    world.round(waiting=2000)
    world.autoscaler.lock.release()
    world.start()
    line = world.round(30, waiting=5000)
    assert (line["code"], line["replicas"]) == ("cooldown", 13)
    assert "in 30 s when the cooldown is over" in line["reason"]
    world.round(30, waiting=5000)
    assert world.swarm.scaled[1:] == [("ai-agent", 23)]


def test_a_remembered_state_that_cannot_be_read_is_a_change_a_moment_ago(world, caplog):
    world.store.keys["autoscaler/state/ai-agent"] = "nonsense"
    assert world.round(waiting=5000)["code"] == "cooldown"
    assert "ai-agent: The remembered state can't be read" in caplog.text


def test_while_ansible_holds_it_nothing_is_done_and_that_is_said(world):
    world.store.keys["autoscaler/hold"] = '{"reason": "rolling upgrade by site.yml"}'
    line = world.round(waiting=5000)
    assert (line["action"], line["code"], line["reason"]) == ("hold", "held", "Held: rolling upgrade by site.yml")
    assert "sutazai_autoscaler_held 1.0" in world.gauges.render()
    del world.store.keys["autoscaler/hold"]
    assert world.round(waiting=5000)["action"] == "up"


def test_who_cannot_ask_whether_it_is_held_does_nothing(world, caplog):
    world.store.broken = Refused(500, "No cluster leader")
    world.round(waiting=5000)
    world.round(waiting=5000)
    assert world.swarm.scaled == []
    assert caplog.text.count("Nothing is decided: No cluster leader") == 1
    assert 'rounds_total{result="failed"} 2' in world.gauges.render()


def test_a_service_of_an_update_or_without_the_label_is_left_alone(world):
    world.swarm.add(state="updating")
    assert "an update is under way" in world.round(waiting=5000)["reason"]
    world.swarm.add(labels={})
    assert "no label swarm.autoscaler" in world.round(waiting=5000)["reason"]
    assert world.swarm.scaled == []


def test_what_ansible_set_is_only_the_start(world):
    world.round(waiting=2000)
    # Ansible runs again and changes the number; nothing is changed back, the load decides from there on.
    world.swarm.add(replicas=20)
    assert world.round(waiting=2000)["replicas"] == 20
    assert world.swarm.scaled == [("ai-agent", 13)]


def test_a_service_that_was_changed_meanwhile_has_no_cooldown_for_it(world):
    world.swarm.fails = Changed("ai-agent was changed by somebody else at the same time.")
    line = world.round(waiting=2000)
    assert (line["outcome"], line["problem"]) == ("failed", "ai-agent was changed by somebody else at the same time.")
    assert world.state()["last_up"] is None
    assert 'failed_changes_total{service="ai-agent"} 1' in world.gauges.render()
    world.swarm.fails = None
    assert world.round(waiting=2000)["outcome"] == "applied"


def test_a_change_that_may_have_been_made_has_its_cooldown(world):
    kept = world.swarm.services()
    world.swarm.services = lambda: kept
    world.swarm.fails = Unreachable("unix:///run/docker.sock doesn't answer: timed out")
    assert world.round(waiting=2000)["outcome"] == "failed"
    world.swarm.fails = None
    assert world.round(waiting=2000)["code"] == "cooldown"
    assert world.swarm.scaled == []


def test_without_the_lock_in_consuls_view_nothing_is_changed(world):
    world.autoscaler.lock.keep()
    world.store.session = "another one's"
    world.autoscaler.round()
    world.broker.waiting = 5000
    world.autoscaler.round()
    assert world.swarm.scaled == []
    assert not world.autoscaler.lock.held
    assert world.lines[-1]["problem"] == "This one doesn't decide any more."


def test_a_cooldown_that_cannot_be_written_down_forbids_the_change(world):
    def refuse(*_):
        raise Refused(403, "Permission denied")

    world.store.put_locked = refuse
    line = world.round(waiting=5000)
    assert line["problem"] == "The cooldown can't be written down: Permission denied"
    assert world.swarm.scaled == []


def test_between_two_services_the_lock_may_be_lost(world):
    settings = replace(SETTINGS, rules=parse_rules({"ai-agent": RULES, "other": RULES}))
    world = World(settings)
    world.swarm.add("other")
    scale = world.swarm.scale

    def slowly(service, replicas):
        scale(service, replicas)
        world.now += 20
        world.store.renew = lambda session: False

    world.swarm.scale = slowly
    world.round(waiting=5000)
    assert world.swarm.scaled == [("ai-agent", 13)]


def test_what_another_one_did_during_a_pause_of_this_host_is_not_overlooked(world):
    world.round()
    before = world.autoscaler.lock.session
    world.now += 100
    world.store.session = ""
    world.store.keys["autoscaler/state/ai-agent"] = json.dumps({"last_up": world.now - 10, "last_down": None})
    line = world.round(5, waiting=5000)
    assert world.autoscaler.lock.session not in ("", before), "it was lost and got again"
    assert line["code"] == "cooldown"
    assert world.swarm.scaled == []


def test_a_dry_run_changes_and_remembers_nothing():
    world = World(replace(SETTINGS, dry_run=True))
    world.start(replace(SETTINGS, dry_run=True))
    world.autoscaler.lock.keep()
    world.store.session = world.autoscaler.lock.session
    world.autoscaler.lock._mine, world.autoscaler.lock._renewed = True, world.now
    line = world.round(waiting=5000)
    assert (line["action"], line["replicas"], line["outcome"]) == ("up", 13, "dry_run")
    assert world.swarm.scaled == []
    assert "autoscaler/state/ai-agent" not in world.store.keys
    assert world.round(waiting=5000)["code"] == "cooldown", "it behaves as it would"
    assert "sutazai_autoscaler_dry_run 1.0" in world.gauges.render()


def test_a_service_that_is_not_there_is_said(world):
    world.swarm.documents.clear()
    line = world.round()
    assert (line["action"], line["code"], line["reason"]) == ("hold", "unknown", "The Swarm has no such service.")


def test_an_engine_that_is_away_fails_the_round_and_is_said_once(world, caplog):
    caplog.set_level("INFO")
    world.swarm.fails = Unreachable("unix:///run/docker.sock doesn't answer")
    world.round()
    world.round()
    assert caplog.text.count("Nothing is decided") == 1
    world.swarm.fails = None
    world.round()
    assert "Everything can be read again." in caplog.text


def test_one_whose_engine_stays_away_lets_another_one_try(world):
    world.swarm.fails = Unreachable("unix:///run/docker.sock doesn't answer")
    world.round()
    world.round()
    assert world.autoscaler.lock.held
    world.round()
    assert not world.autoscaler.lock.held
    assert world.store.session == "", "it is free at once"
    world.now += 15
    assert not world.autoscaler.lock.keep(), "others have the time to live to ask"
    world.now += 5
    assert world.autoscaler.lock.keep(), "there was no other one"


def test_a_round_asks_the_broker_once_however_many_services_want_to_know():
    world = World(replace(SETTINGS, rules=parse_rules({"ai-agent": RULES, "other": RULES})))
    world.swarm.add("other")
    world.round()
    assert world.broker.asked == 1


def test_what_it_knows_is_shown(world):
    world.round(cpu=50, waiting=300)
    shown = world.gauges.render()
    for line in (
        "sutazai_autoscaler_leader 1.0",
        'sutazai_autoscaler_replicas{service="ai-agent"} 3',
        'sutazai_autoscaler_max_replicas{service="ai-agent"} 50',
        'sutazai_autoscaler_metric_per_replica{metric="cpu",service="ai-agent"} 50.0',
        'sutazai_autoscaler_metric_missing{metric="queue_length(q)",service="ai-agent"} 0.0',
        'sutazai_autoscaler_decisions_total{action="keep",reason="settled",service="ai-agent"} 1',
    ):
        assert line in shown.splitlines()
    world.autoscaler.stand_by()
    assert "sutazai_autoscaler_leader 0.0" in world.gauges.render()
    assert 'replicas{service="ai-agent"}' not in world.gauges.render()


def test_a_decision_log_that_cannot_be_written_is_no_reason_to_stop(tmp_path, caplog):
    path = tmp_path / "decisions.jsonl"
    DecisionLog(str(path)).write("one")
    path.rename(tmp_path / "rotated")
    DecisionLog(str(path)).write("two")
    assert path.read_text() == "two\n"
    DecisionLog(str(tmp_path / "none" / "x")).write("three")
    assert "The decision log can't be written" in caplog.text
    assert "three" in caplog.text
