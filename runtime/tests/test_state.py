"""Keys alone, and documents on a real cluster."""

from __future__ import annotations

import threading
import uuid
from types import SimpleNamespace

import pytest
from redis.crc import key_slot
from redis.exceptions import NoPermissionError

from sutazai_runtime import state as model


@pytest.fixture(scope="module")
def state(redis_settings):
    client = model.connect(redis_settings)
    yield model.State(client)
    client.close()


@pytest.fixture
def key():
    return model.agent_state(f"test-{uuid.uuid4()}")


def test_keys_are_the_seeds_and_share_a_slot_by_their_tag():
    assert model.agent_state("42") == "agent:{42}:state"
    assert model.session_data("s") == "session:{s}:data"
    assert model.model_cache("llama3:8b") == "model:{llama3:8b}:weights"
    assert model.metrics("ai-agent", "queue_length") == "metrics:{ai-agent}:queue_length"
    assert key_slot(model.agent_state("42").encode()) == key_slot(b"agent:{42}:anything") == key_slot(b"42")


@pytest.mark.parametrize("name", ["", "a{b", "a}", "a b", "a\n"])
def test_names_that_would_move_a_key_to_another_slot_are_refused(name):
    with pytest.raises(ValueError, match="can't be the name of a agent"):
        model.agent_state(name)


def test_a_master_without_slots_is_looked_up_again():
    looked, called = [], []
    client = SimpleNamespace(nodes_manager=SimpleNamespace(initialize=lambda: looked.append(1)))

    def call():
        called.append(1)
        if len(called) == 1:
            raise AttributeError("'NoneType' object has no attribute 'redis_connection'")
        return "answer"

    assert model.again_after_a_move(client, call) == "answer"
    assert (len(looked), len(called)) == (1, 2)
    with pytest.raises(AttributeError, match="other"):
        model.again_after_a_move(client, lambda: SimpleNamespace().other)


def test_a_document_is_read_as_it_was_written(state, key):
    assert state.read(key) is None
    assert state.put(key, {"step": 1}, based_on=0) == model.Document(1, {"step": 1})
    assert state.update(key, lambda value: {**value, "more": "ü"}) == model.Document(2, {"step": 1, "more": "ü"})
    assert state.read(key) == model.Document(2, {"step": 1, "more": "ü"})
    assert state.client.ttl(key) == -1
    assert state.delete(key)
    assert state.read(key) is None


def test_an_update_that_is_based_on_an_older_version_is_refused(state, key):
    state.put(key, {"by": "a"}, based_on=0)
    assert state.put(key, {"by": "b"}, based_on=0) is None
    assert state.read(key).value == {"by": "a"}


def test_a_command_that_is_repeated_changes_nothing_more(state, key, monkeypatch):
    monkeypatch.setattr(model.uuid, "uuid4", lambda: uuid.UUID(int=1))
    first = state.put(key, {"n": 1}, based_on=0)
    assert state.put(key, {"n": 1}, based_on=0) == first
    assert state.read(key).version == 1


def test_updates_of_several_clients_are_all_kept(state, redis_settings, key):
    def count():
        client = model.connect(redis_settings)
        for _ in range(20):
            model.State(client).update(key, lambda value: {"n": value.get("n", 0) + 1})
        client.close()

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert state.read(key) == model.Document(60, {"n": 60})


def test_too_many_conflicts_are_said(state, key, monkeypatch):
    monkeypatch.setattr(state, "put", lambda *_arguments: None)
    with pytest.raises(model.Conflict, match="too many write it at once"):
        state.update(key, lambda value: value)


def test_sessions_are_forgotten_after_a_day_and_what_is_told(state):
    name = model.session_data(f"test-{uuid.uuid4()}")
    state.update(name, lambda _value: {"a": 1})
    assert 86_300 < state.client.ttl(name) <= 86_400
    state.update(name, lambda _value: {"a": 2}, ttl_seconds=60)
    assert 0 < state.client.ttl(name) <= 60


def test_the_first_answer_stays(state):
    name = model.task_answer(str(uuid.uuid4()))
    assert state.first_of(name) is None
    assert state.first(name, {"answer": 1}) == {"answer": 1}
    assert state.first(name, {"answer": 2}) == {"answer": 1}
    assert state.first_of(name) == {"answer": 1}
    assert 0 < state.client.ttl(name) <= 86_400


def test_who_follows_a_document_sees_it_and_then_its_updates(state, redis_settings, key):
    state.put(key, {"n": 0}, based_on=0)
    seen, here = [], threading.Event()

    def follow():
        client = model.connect(redis_settings)
        # Without the word of an update, nothing would be read again before the time is up.
        for document in model.State(client).follow(key, seconds=20, poll_seconds=20):
            seen.append(document)
            here.set()
            if document.value["n"] == 2:
                break
        client.close()

    thread = threading.Thread(target=follow)
    thread.start()
    assert here.wait(15)
    here.clear()
    state.update(key, lambda _value: {"n": 1})
    assert here.wait(15)
    state.update(key, lambda _value: {"n": 2})
    thread.join(15)
    assert not thread.is_alive()
    assert [document.value["n"] for document in seen] == [0, 1, 2]


def test_the_application_may_not_administer(state):
    with pytest.raises(NoPermissionError):
        state.client.execute_command("CONFIG", "GET", "dir", target_nodes="random")
