"""Requests, backends, and one answer for one task."""

from __future__ import annotations

import http.server
import json
import threading
import time
import uuid

import pytest
from pydantic import ValidationError

from sutazai_runtime import inference as model
from sutazai_runtime.settings import CannotStart, InferenceSettings
from sutazai_runtime.state import State, agent_state, connect, task_answer

REQUEST = model.TaskRequest(tenant_id=42, agent_id="agent-1", prompt="Why?")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"tenant_id": 0}, "tenant_id"),
        ({"tenant_id": -1}, "tenant_id"),
        ({"tenant_id": 2**31}, "tenant_id"),
        ({"tenant_id": "42"}, "tenant_id"),
        ({"tenant_id": True}, "tenant_id"),
        ({"agent_id": ""}, "agent_id"),
        ({"agent_id": "a{b}"}, "agent_id"),
        ({"agent_id": "x" * 129}, "agent_id"),
        ({"prompt": ""}, "prompt"),
        ({"promt": "Why?"}, "promt"),
        ({"task_id": "seven"}, "task_id"),
    ],
)
def test_requests_that_make_no_sense_are_refused(changes, field):
    with pytest.raises(ValidationError, match=field):
        model.TaskRequest.model_validate({**REQUEST.model_dump(), **changes})


def test_requests_with_other_contents_have_other_digests():
    assert REQUEST.digest() == REQUEST.model_copy(update={"task_id": uuid.uuid4()}).digest()
    for change in ({"tenant_id": 4}, {"agent_id": "agent-12"}, {"prompt": "Why"}):
        assert REQUEST.digest() != REQUEST.model_copy(update=change).digest()


def test_the_echo_takes_the_time_that_it_is_told():
    began = time.monotonic()
    assert model.EchoBackend(0.05).generate(REQUEST) == "Why?"
    assert time.monotonic() - began >= 0.05


@pytest.fixture
def model_server():
    """Answers with what a test put into `answers`."""
    answers: list[tuple[int, str]] = []
    asked: list[dict] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, text = answers.pop(0)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    backend = model.HttpBackend(f"http://127.0.0.1:{server.server_port}", "llama3", 5)
    yield backend, answers, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_server_is_asked_as_its_api_says(model_server):
    backend, answers, asked = model_server
    answers.append((200, '{"response": "Because.", "done": true}'))
    assert backend.generate(REQUEST) == "Because."
    assert asked == [{"model": "llama3", "prompt": "Why?", "stream": False}]


@pytest.mark.parametrize(
    ("status", "text", "kind"),
    [
        (503, "loading", model.Unavailable),
        (429, "slowly", model.Unavailable),
        (404, "no such model", model.Refused),
        (200, "<html>", model.Refused),
        (200, "{}", model.Refused),
    ],
)
def test_what_may_get_better_is_told_from_what_may_not(model_server, status, text, kind):
    backend, answers, _asked = model_server
    answers.append((status, text))
    with pytest.raises(kind, match=r"the model server"):
        backend.generate(REQUEST)


def test_a_model_server_that_is_away_may_come_back():
    with pytest.raises(model.Unavailable, match="doesn't answer"):
        model.HttpBackend("http://127.0.0.1:9", "llama3", 1).generate(REQUEST)


def test_a_backend_is_chosen_by_name():
    assert model.backend_of(InferenceSettings(backend="echo")).name == "echo"
    assert model.backend_of(InferenceSettings(backend="http", model="m")).name == "http"
    with pytest.raises(CannotStart, match="SUTAZAI_INFERENCE_MODEL isn't set"):
        model.backend_of(InferenceSettings(backend="http"))


class Counting:
    """Each of its answers is another one."""

    name = "counting"

    def __init__(self):
        self.calls = 0
        self.together = threading.Barrier(2)

    def generate(self, request):
        self.calls += 1
        if request.prompt == "together":
            self.together.wait(10)
        return f"answer {uuid.uuid4()}"


def test_a_task_that_is_delivered_twice_has_one_answer(redis_settings):
    client = connect(redis_settings)
    state, backend, task_id = State(client), Counting(), str(uuid.uuid4())
    first = model.answer_once(state, backend, task_id, REQUEST)
    assert model.answer_once(state, backend, task_id, REQUEST) == first
    assert backend.calls == 1
    assert model.fail_once(state, task_id, REQUEST, "too late") == first
    assert state.read(agent_state("agent-1")).value["last_task"] == task_id
    assert state.first_of(task_answer(task_id)) == first
    client.close()


def test_a_task_that_is_worked_on_twice_at_the_same_time_has_one_answer(redis_settings):
    client = connect(redis_settings)
    state, backend, task_id, answers = State(client), Counting(), str(uuid.uuid4()), []
    request = REQUEST.model_copy(update={"prompt": "together"})

    def work():
        answers.append(model.answer_once(state, backend, task_id, request))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.calls == 2
    assert len(answers) == 2 and answers[0] == answers[1]
    client.close()


def test_a_task_that_failed_stays_failed(redis_settings):
    client = connect(redis_settings)
    state, backend, task_id = State(client), Counting(), str(uuid.uuid4())
    failed = model.fail_once(state, task_id, REQUEST, "the model is gone")
    assert failed["status"] == "failed"
    assert model.answer_once(state, backend, task_id, REQUEST) == failed
    assert backend.calls == 0
    client.close()
