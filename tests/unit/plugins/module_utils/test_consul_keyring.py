"""The order in which a cluster gets another gossip key."""

from types import SimpleNamespace

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.consul_api import Refused
from ansible_collections.sutazai.platform.plugins.module_utils.consul_keyring import (
    METHODS,
    Step,
    absent_problem,
    agents_of,
    next_step,
)
from ansible_collections.sutazai.platform.plugins.modules import consul_keyring


class Agents:
    """Keyrings of agents that do what they are told, some of them later."""

    def __init__(self, count, key):
        self.keys = [[key] for _ in range(count)]

    def rings(self):
        known, primary = {}, {}
        for keys in self.keys:
            primary[keys[0]] = primary.get(keys[0], 0) + 1
            for key in keys:
                known[key] = known.get(key, 0) + 1
        return [{"WAN": False, "NumNodes": len(self.keys), "Keys": known, "PrimaryKeys": primary}]

    def apply(self, step, only=None):
        for index, keys in enumerate(self.keys):
            if only is not None and index not in only:
                continue
            if step.verb == "install" and step.key not in keys:
                keys.append(step.key)
            elif step.verb == "use":
                assert step.key in keys, "an agent is told to use a key that it doesn't know"
                keys.remove(step.key)
                keys.insert(0, step.key)
            elif step.verb == "remove":
                assert keys[0] != step.key, "an agent is told to forget the key that it uses"
                keys[:] = [key for key in keys if key != step.key]
        everybody = {key for keys in self.keys for key in keys[:1]}
        assert all(everybody <= set(keys) for keys in self.keys), "an agent doesn't know a key that another one uses"


def verbs(agents, key, retire_others=True):
    taken = []
    while step := next_step(agents.rings(), key, retire_others):
        taken.append(step.verb)
        agents.apply(step)
    return taken


def test_known_to_all_then_used_by_all_then_the_former_removed():
    agents = Agents(3, "old")
    assert verbs(agents, "new") == ["install", "use", "remove"]
    assert agents.keys == [["new"]] * 3
    assert verbs(agents, "new") == []


def test_the_former_key_can_be_kept():
    agents = Agents(3, "old")
    assert verbs(agents, "new", retire_others=False) == ["install", "use"]
    assert agents.keys == [["new", "old"]] * 3
    assert verbs(agents, "new") == ["remove"]


def test_a_step_that_has_reached_some_is_repeated():
    agents = Agents(3, "old")
    agents.apply(next_step(agents.rings(), "new", True), only=[1])
    assert next_step(agents.rings(), "new", True).verb == "install"
    agents.apply(next_step(agents.rings(), "new", True))
    agents.apply(next_step(agents.rings(), "new", True), only=[0])
    assert next_step(agents.rings(), "new", True).verb == "use"
    assert verbs(agents, "new") == ["use", "remove"]


def test_every_former_key_goes():
    agents = Agents(2, "new")
    agents.keys = [["new", "a"], ["new", "a", "b"]]
    rings = agents.rings()
    assert next_step(rings, "new", True).verb == "remove"
    assert next_step(rings, "new", False) is None


def test_no_text_names_a_key():
    assert "old" not in next_step(Agents(3, "old").rings(), "secret", True).text
    assert "secret" not in next_step(Agents(3, "old").rings(), "secret", True).text


def test_agents_of_joined_datacenters_are_counted_once():
    assert agents_of([{"WAN": True, "NumNodes": 3}, {"WAN": False, "NumNodes": 16}]) == 16
    assert agents_of([]) == 0


def test_an_agent_that_is_away_is_named_with_the_way_out():
    assert absent_problem([]) == ""
    problem = absent_problem(["redis-2", "redis-1"])
    assert "redis-1, redis-2" in problem
    assert "force-leave" in problem


class Lossy:
    """Consul's API of agents that gossip about keys; the first time each thing is asked for, one agent doesn't hear or isn't heard."""

    url = "http://consul.example"

    def __init__(self, agents, text="1 error occurred: lab (LAN) error: 2/3 nodes reported success"):
        self.agents = agents
        self.answer = SimpleNamespace(ok=False, status=500, text=text)
        self.asked = []

    def get(self, path):
        if path != consul_keyring.PATH:
            return SimpleNamespace(ok=True, data=[])
        # Every other time.
        self.asked.append("list")
        return self.answer if self.asked.count("list") % 2 else SimpleNamespace(ok=True, data=self.agents.rings())

    def request(self, method, _path, body):
        verb = next(verb for verb, of in METHODS.items() if of == method)
        self.asked.append(verb)
        first = self.asked.count(verb) == 1
        self.agents.apply(Step(verb, body["Key"], ""), only=(0, 1) if first else None)
        return self.answer if first else SimpleNamespace(ok=True)


WANTED = {"gossip_key": "new", "retire_others": True, "settle_seconds": 30}


def test_what_gossip_has_lost_is_asked_for_and_told_again(monkeypatch):
    monkeypatch.setattr(consul_keyring, "POLL_SECONDS", 0)
    agents, changes = Agents(3, "old"), []
    api = Lossy(agents)
    assert consul_keyring.bring(api, WANTED, True, changes) == 3
    assert agents.keys == [["new"]] * 3
    assert len(changes) == 3
    assert [verb for verb in api.asked if verb != "list"] == ["install", "install", "use", "use", "remove", "remove"]


def test_another_refusal_ends_it_at_once():
    with pytest.raises(Refused, match="Permission denied"):
        consul_keyring.bring(Lossy(Agents(3, "old"), "Permission denied"), WANTED, True, [])


def test_an_agent_that_never_answers_ends_it_in_time(monkeypatch):
    monkeypatch.setattr(consul_keyring, "POLL_SECONDS", 0)
    api = Lossy(Agents(3, "old"))
    api.get = lambda path: api.answer
    with pytest.raises(Refused, match="2/3 nodes"):
        consul_keyring.bring(api, {**WANTED, "settle_seconds": 0}, True, [])
