"""The Celery app with a real broker, a real Redis Cluster, and workers as processes."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from amqp.exceptions import AccessRefused
from servers_here import environment, messages_in, wait_for, worker

from sutazai_runtime.partitioning import partition_names, routing_key_of
from sutazai_runtime.state import State, connect, task_answer
from sutazai_runtime.tasks.app import CannotPublish, create_app, publish
from sutazai_runtime.tasks.routing import TaskSettings
from sutazai_runtime.tasks.work import HEALTH, IN_ORDER, UNORDERED

DECLARED = {"inference", "health", "processing", "training", "dead-letters", *partition_names()}


@pytest.fixture(scope="module")
def app(topology, broker_settings):
    app = create_app(TaskSettings(), broker_settings)
    yield app
    app.close()


@pytest.fixture(scope="module")
def state(redis_settings) -> Iterator[State]:
    client = connect(redis_settings)
    yield State(client)
    client.close()


@pytest.fixture
def waiting(topology, broker_settings) -> Callable[[str], int]:
    """How many messages wait in a queue; those that earlier tests left are thrown away first."""
    for name in DECLARED:
        assert topology.delete(f"/queues/%2F/{name}/contents").is_success
    return lambda queue: messages_in(broker_settings, queue)


def request(agent_id: str = "agent-1", prompt: str = "Why?") -> dict[str, object]:
    return {"tenant_id": 42, "agent_id": agent_id, "prompt": prompt}


def send(app, task: str = IN_ORDER, **changes: str) -> str:
    task_id = str(uuid.uuid4())
    publish(app, task, task_id, request(**changes), 10)
    return task_id


def answered(state: State, *tasks: str) -> list[dict]:
    wait_for(lambda: all(state.first_of(task_answer(task)) for task in tasks), f"no answer to one of {tasks}")
    return [state.first_of(task_answer(task)) for task in tasks]


def test_a_published_task_waits_in_its_agents_partition(app, waiting):
    send(app, agent_id="agent-1")
    send(app, agent_id="agent-3")
    assert (routing_key_of("agent-1"), routing_key_of("agent-3")) == ("ai.tasks.9", "ai.tasks.7")
    assert (waiting("ai.tasks.9"), waiting("ai.tasks.7")) == (1, 1)


def test_a_node_that_is_down_is_passed_over(broker_settings, waiting):
    nodes = ["127.0.0.1:9", *broker_settings.nodes]
    other = create_app(TaskSettings(), broker_settings.model_copy(update={"nodes": nodes}))
    for _ in range(3):
        send(other)
    assert waiting(routing_key_of("agent-1")) == 3
    other.close()


def test_the_broker_is_known_by_the_name_in_its_certificate(topology, tls_broker_settings, waiting):
    """The nodes are reached by their addresses; their certificates name the service."""
    other = create_app(TaskSettings(), tls_broker_settings)
    send(other)
    assert waiting(routing_key_of("agent-1")) == 1
    other.close()
    # Not by `send`: Celery's pools tell connections apart by address and user, not by what TLS is set to.
    stranger = create_app(
        TaskSettings(), tls_broker_settings.model_copy(update={"server_name": "other.service.consul"})
    )
    with (
        stranger.connection_for_write() as connection,
        pytest.raises(ssl.SSLCertVerificationError, match="other.service"),
    ):
        connection.connect()
    stranger.close()


class Rotated:
    """A user of the broker's with a password file of its own."""

    def __init__(self, topology, broker_settings, directory) -> None:
        self.topology, self.user, self.file = topology, f"rotated-{uuid.uuid4()}", directory / "its-password"
        self.file.touch(0o600)
        self.file.write_text("former\n")
        self.in_force("former")
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        assert topology.put(f"/permissions/%2F/{self.user}", json=rights).is_success
        self.settings = broker_settings.model_copy(update={"username": self.user, "password_file": self.file})

    def in_force(self, password: str) -> None:
        assert self.topology.put(f"/users/{self.user}", json={"password": password, "tags": ""}).is_success

    def connections(self) -> set[str]:
        return {each["name"] for each in self.topology.get("/connections").json() if each["user"] == self.user}

    def disconnect(self) -> None:
        wait_for(self.connections, "nobody is connected")
        for name in self.connections():
            self.topology.delete(f"/connections/{quote(name, safe='')}")


@pytest.fixture
def rotated(topology, broker_settings, tmp_path) -> Iterator[Rotated]:
    made = Rotated(topology, broker_settings, tmp_path)
    yield made
    assert topology.delete(f"/users/{made.user}").is_success


def test_a_password_that_is_changed_keeps_nobody_out_meanwhile(rotated):
    """First the file has both, then the broker has the new one, then the file it alone. Every connection is a new one, the app is not."""
    other = create_app(TaskSettings(), rotated.settings)

    def connects() -> bool:
        with other.connection_for_write() as connection:
            return bool(connection.connect().connected)

    assert connects()
    rotated.file.write_text("new\nformer\n")
    assert connects()
    rotated.in_force("new")
    assert connects()
    rotated.file.write_text("new\n")
    assert connects()
    rotated.file.write_text("former\nolder\n")
    with pytest.raises(AccessRefused):
        connects()
    other.close()


def test_a_worker_that_loses_its_connection_while_the_password_is_changed_goes_on(
    app, state, rotated, redis_settings, tmp_path
):
    variables = environment(rotated.settings, redis_settings, SUTAZAI_INFERENCE_BACKEND="echo")
    with worker(tmp_path, variables, "inference") as process:
        answered(state, send(app, UNORDERED))
        for step in (
            lambda: rotated.file.write_text("new\nformer\n"),
            lambda: rotated.in_force("new"),
            lambda: rotated.file.write_text("new\n"),
        ):
            step()
            rotated.disconnect()
            answered(state, send(app, UNORDERED))
        assert process.poll() is None


def test_a_task_whose_queue_is_missing_at_the_broker_is_not_taken(broker_settings, app, waiting):
    """The topology wasn't applied: the exchange is there, the queue isn't. RabbitMQ would confirm the task and forget it."""
    queues = [{"name": "lost", "routing_key": "nobody.listens", "priority": 1}]
    other = create_app(TaskSettings(queues=queues, routes={"ai.inference.*": "lost"}), broker_settings)
    for _ in range(2):
        with pytest.raises(CannotPublish, match="Is rabbitmq_topology applied"):
            publish(other, UNORDERED, str(uuid.uuid4()), request(), 10)
    # Confirmations stay with the tasks that they are for.
    publish(other, IN_ORDER, str(uuid.uuid4()), request(), 10)
    assert waiting(routing_key_of("agent-1")) == 1
    other.close()


def test_tasks_are_answered_once_and_nothing_else_is_declared(
    app, state, waiting, topology, broker_settings, redis_settings, tmp_path
):
    variables = environment(broker_settings, redis_settings, SUTAZAI_INFERENCE_BACKEND="echo")
    tasks = [send(app, agent_id=f"agent-{number}", prompt=f"{number}") for number in range(12)]
    with worker(tmp_path, variables, *partition_names(), "inference", "health"):
        tasks += [send(app, UNORDERED, prompt="unordered")]
        publish(app, HEALTH, str(uuid.uuid4()), {}, 10)
        answers = answered(state, *tasks)
        # The same id once more, with another prompt: the first answer stays.
        publish(app, IN_ORDER, tasks[0], request("agent-0", "other"), 10)
        answered(state, send(app, agent_id="agent-0"))
        assert answered(state, tasks[0]) == answers[:1]
        names = {queue["name"] for queue in topology.get("/queues/%2F").json()}
    assert [answer["output"] for answer in answers] == [*map(str, range(12)), "unordered"]
    assert {answer["backend"] for answer in answers} == {"echo"}
    others = {name for name in names - DECLARED if not name.startswith("celery_delayed_")}
    assert all("pidbox" in name or name.startswith("celeryev") for name in others), others
    assert waiting("dead-letters") == 0


def test_what_a_killed_worker_had_is_done_by_another(app, state, waiting, broker_settings, redis_settings, tmp_path):
    slow = environment(
        broker_settings, redis_settings, SUTAZAI_INFERENCE_BACKEND="echo", SUTAZAI_INFERENCE_SERVICE_SECONDS="60"
    )
    task = send(app, UNORDERED)
    with worker(tmp_path, slow, "inference") as process:
        wait_for(lambda: waiting("inference") == 0, "the worker doesn't take the task")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    wait_for(lambda: waiting("inference") == 1, "the task isn't in the queue again")
    assert state.first_of(task_answer(task)) is None
    quick = environment(broker_settings, redis_settings, SUTAZAI_INFERENCE_BACKEND="echo")
    with worker(tmp_path, quick, "inference"):
        assert answered(state, task)[0]["status"] == "done"


def test_a_node_that_says_nothing_holds_a_worker_up_for_seconds_only(
    app, state, waiting, broker_settings, redis_settings, tmp_path
):
    """As one without power: whoever connects waits until its own time is up. Celery alone tried it again and again, for 24 s."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        nodes = [f"127.0.0.1:{silent.getsockname()[1]}", *broker_settings.nodes]
        settings = broker_settings.model_copy(update={"nodes": nodes})
        variables = environment(settings, redis_settings, SUTAZAI_INFERENCE_BACKEND="echo")
        began = time.monotonic()
        task = send(app, UNORDERED)
        with worker(tmp_path, variables, "inference"):
            assert answered(state, task)[0]["status"] == "done"
        assert time.monotonic() - began < 20


class ModelServer:
    """Answers with `statuses` in turn, then with 200; after it was asked, when it may."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.asked, self.may_answer = threading.Event(), threading.Event()
        self.may_answer.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked.set()
                outer.may_answer.wait(60)
                self.send_response(outer.statuses.pop(0) if outer.statuses else 200)
                self.end_headers()
                self.wfile.write(b'{"response": "Because."}')

            def log_message(self, *_arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.variables = {
            "SUTAZAI_INFERENCE_BACKEND": "http",
            "SUTAZAI_INFERENCE_URL": f"http://127.0.0.1:{self.server.server_port}",
            "SUTAZAI_INFERENCE_MODEL": "m",
        }


@pytest.fixture
def model_server() -> Iterator[ModelServer]:
    model = ModelServer()
    thread = threading.Thread(target=model.server.serve_forever)
    thread.start()
    yield model
    model.may_answer.set()
    model.server.shutdown()
    thread.join()
    model.server.server_close()


def test_a_worker_that_is_told_to_stop_finishes_its_task(
    app, state, model_server, broker_settings, redis_settings, tmp_path, waiting
):
    model_server.may_answer.clear()
    task = send(app, UNORDERED)
    with worker(
        tmp_path, environment(broker_settings, redis_settings, **model_server.variables), "inference"
    ) as process:
        assert model_server.asked.wait(30)
        process.terminate()
        later = send(app, UNORDERED)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        model_server.may_answer.set()
        assert process.wait(60) == 0
    assert state.first_of(task_answer(task))["status"] == "done"
    assert state.first_of(task_answer(later)) is None
    wait_for(lambda: waiting("inference") == 1, "the task that came later is lost")


def test_attempts_are_repeated_and_what_fails_for_good_is_a_dead_letter(
    app, state, waiting, model_server, broker_settings, redis_settings, tmp_path
):
    """The pauses are the broker's (celery_delayed_…): the worker has one process and takes other tasks meanwhile."""
    statuses = model_server.statuses
    limits = {"SUTAZAI_TASKS_LONGEST_PAUSE_SECONDS": "2", "SUTAZAI_TASKS_RETRIES": "3"}
    variables = environment(broker_settings, redis_settings, **model_server.variables, **limits)
    with worker(tmp_path, variables, *partition_names(), "inference"):
        statuses[:] = [503, 503]
        assert answered(state, send(app))[0]["output"] == "Because."
        statuses[:] = [503, 503]
        assert answered(state, send(app, UNORDERED))[0]["output"] == "Because."
        assert waiting("dead-letters") == 0
        statuses[:] = [404]
        (refused,) = answered(state, send(app))
        assert refused["status"] == "failed" and "the model server says 404" in refused["reason"]
        statuses[:] = [503] * 4
        (failed,) = answered(state, send(app))
        assert failed["status"] == "failed" and "503" in failed["reason"]
        wait_for(lambda: waiting("dead-letters") == 2, "failed tasks are no dead letters")
