"""Routes and the app's settings, without a broker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from celery.utils.quorum_queues import detect_quorum_queues
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sutazai_runtime.partitioning import routing_key_of
from sutazai_runtime.settings import BrokerSettings, CannotStart
from sutazai_runtime.tasks import app as tasks
from sutazai_runtime.tasks import routing as model

ROLE = Path(__file__).resolve().parents[2] / "roles" / "rabbitmq"
SOURCE = Path(__file__).resolve().parents[1] / "src"


def queue(name="inference", routing_key="ai.inference", priority=10):
    return {"name": name, "routing_key": routing_key, "priority": priority}


def test_queues_are_those_of_the_collections_topology():
    """Who changes the role's default changes the app's, or tasks go where no queue is."""
    topology = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))["rabbitmq_topology"]
    assert {"name": model.EXCHANGE, "type": "topic"} in topology["exchanges"]
    declared = [
        queue(entry["name"], binding["routing_key"], entry["priority"])
        for entry in topology["queues"]
        for binding in entry["bindings"]
        if binding["exchange"] == model.EXCHANGE
    ]
    assert [entry.model_dump() for entry in model.QUEUES] == declared


@pytest.mark.parametrize(
    ("task", "name", "priority"),
    [
        ("ai.inference.generate", "inference", 10),
        ("ai.training.fine_tune", "training", 3),
        ("data.processing.import", "processing", 5),
        ("system.health.check", "health", 8),
    ],
)
def test_tasks_go_where_the_seed_says(task, name, priority):
    wanted = model.TaskSettings()
    found = model.destination(task, {}, wanted, model.checked(wanted))
    assert (found.queue, found.priority) == (name, priority)


@given(st.text("abcdef0123456789-", min_size=1, max_size=40))
@settings(max_examples=40)
def test_tasks_of_an_agent_go_to_its_partition(agent_id):
    wanted = model.TaskSettings()
    found = model.destination("ai.tasks.infer", {"agent_id": agent_id}, wanted, model.checked(wanted))
    assert found.queue == found.routing_key == routing_key_of(agent_id)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"routes": {"ai.inference.*": "inferense"}},
            "tasks ai.inference.* are routed to the queue inferense, which isn't",
        ),
        ({"queues": ()}, "SUTAZAI_TASKS_QUEUES has none"),
        (
            {"queues": [queue(priority=11)], "routes": {}},
            "the queue inference has the priority 11: it goes from 0 to 10",
        ),
        ({"queues": [queue(priority=-1)], "routes": {}}, "the priority -1"),
        ({"queues": [queue(), queue()], "routes": {}}, "the queue inference is declared twice"),
        ({"queues": [queue("ai.tasks.3")], "routes": {}}, "the queue ai.tasks.3 is declared twice"),
    ],
)
def test_routes_that_lead_nowhere_are_refused_when_the_app_is_made(changes, said):
    with pytest.raises(CannotStart) as refused:
        tasks.configuration(model.TaskSettings(**changes))
    assert said in str(refused.value)
    assert "to what rabbitmq_topology declares" in str(refused.value)


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(CannotStart) as refused:
        model.checked(model.TaskSettings(queues=[queue(priority=99)], routes={"a.*": "b", "c.*": "d"}))
    assert str(refused.value).count(";") == 2


@pytest.mark.parametrize(
    ("task", "arguments", "said"),
    [
        ("reports.monthly", {}, "no route matches the task reports.monthly"),
        ("ai.tasks.infer", {}, "has no agent_id"),
        ("ai.tasks.infer", {"agent_id": 7}, "has no agent_id"),
    ],
)
def test_a_task_without_a_way_is_refused(task, arguments, said):
    wanted = model.TaskSettings()
    with pytest.raises(model.CannotRoute, match=said):
        model.destination(task, arguments, wanted, model.checked(wanted))


@pytest.fixture
def broker_settings(tmp_path):
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text("p@ss/word\n")
    return BrokerSettings(nodes=["a:5671", "b:5671"], password_file=password)


def test_the_app_declares_nothing_and_knows_that_queues_are_quorum_queues(broker_settings):
    app = tasks.create_app(model.TaskSettings(), broker_settings)
    queues = app.amqp.queues
    assert set(queues) == {"inference", "health", "processing", "training", *(f"ai.tasks.{n}" for n in range(10))}
    assert all(each.no_declare and each.exchange.no_declare for each in queues.values())
    assert {each.exchange.type for each in queues.values()} == {"topic"}, (
        "a direct exchange would hold delayed tasks in workers"
    )
    assert detect_quorum_queues(app, "amqp")[0]
    assert "other" not in queues
    with pytest.raises(KeyError):
        queues["other"]
    assert sorted(app.conf.broker_url) == [f"amqp://application@{host}:5671/%2F" for host in "ab"]
    assert app.conf.broker_transport_options["password_file"] == str(broker_settings.password_file)
    assert app.conf.broker_use_ssl["server_hostname"] == "rabbitmq.service.consul"


def test_a_task_that_no_route_matches_is_refused_when_a_worker_starts(broker_settings):
    app = tasks.create_app(model.TaskSettings(), broker_settings)

    def report():
        raise NotImplementedError

    app.task(report, name="reports.monthly", shared=False)
    with pytest.raises(CannotStart, match=r"no route matches the task reports\.monthly"):
        tasks.check_tasks(app, model.TaskSettings())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"SUTAZAI_TASKS_ROUTES": '{"ai.inference.*": "nowhere"}'}, "the queue nowhere, which isn't declared"),
        ({"SUTAZAI_INFERENCE_BACKEND": "http"}, "SUTAZAI_INFERENCE_MODEL isn't set"),
        ({"SUTAZAI_INFERENCE_BACKEND": "magic"}, "backend"),
        ({"SUTAZAI_RABBITMQ_PASSWORD_FILE": "/nonexistent"}, "can't be read"),
    ],
)
def test_a_worker_that_cannot_work_does_not_start(broker_settings, more, said):
    environment = {
        **os.environ,
        "PYTHONPATH": str(SOURCE),
        "SUTAZAI_INFERENCE_BACKEND": "echo",
        "SUTAZAI_RABBITMQ_PASSWORD_FILE": str(broker_settings.password_file),
        **more,
    }
    command = [sys.executable, "-m", "celery", "-A", "sutazai_runtime.tasks.worker", "worker"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "The worker can't start: " in done.stderr
    assert said in done.stderr


def test_settings_of_queues_are_json(monkeypatch):
    monkeypatch.setenv("SUTAZAI_TASKS_QUEUES", '[{"name": "a", "routing_key": "b", "priority": "high"}]')
    with pytest.raises(ValidationError, match="priority"):
        model.TaskSettings.load()
