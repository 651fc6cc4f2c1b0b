"""What the role celery writes, read by the runtime package itself: it starts from these settings, and refuses what the planner refuses."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from ansible.errors import AnsibleError

from tests.tools import runtime
from tests.unit.roles.rendering import by_path
from tests.unit.roles.test_celery_role import role

SHOW = """
import json, sutazai_runtime.tasks.worker as worker
from sutazai_runtime.settings import BrokerSettings, RedisSettings
from sutazai_runtime.tasks.routing import TaskSettings
settings = TaskSettings.load()
print(json.dumps({
    "queues": [queue.name for queue in worker.app.conf.task_queues],
    "limit": worker.app.conf.task_time_limit,
    "broker": BrokerSettings.load().nodes,
    "redis": RedisSettings.load().tls,
    "routes": list(settings.routes),
    "tasks": sorted(name for name in worker.app.tasks if not name.startswith("celery.")),
}))
"""


@pytest.fixture(scope="module", autouse=True)
def environment():
    runtime.venv()


def start(directory, **variables) -> subprocess.CompletedProcess:
    """A worker's program with the role's settings, up to where it would connect."""
    text = by_path(role(__celery_configuration=str(directory), **variables).value("__celery_files"))[
        f"{directory}/settings.env"
    ]["content"]
    (directory / "settings.env").write_text(text)
    for name in ("rabbitmq", "redis"):
        (directory / f"{name}.password").write_text("secret\n")
        (directory / f"{name}.password").chmod(0o600)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SUTAZAI_")}
    return subprocess.run(
        [str(runtime.PYTHON), "-c", SHOW],
        env={
            **kept,
            "SUTAZAI_SETTINGS_FILE": str(directory / "settings.env"),
            "PYTHONPATH": str(runtime.RUNTIME / "src"),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_worker_starts_with_the_rendered_settings(tmp_path):

    done = start(tmp_path, celery_time_limit_seconds=600, celery_tls_enabled=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["queues"][:4] == ["inference", "health", "processing", "training"]
    assert seen["queues"][4:] == [f"ai.tasks.{number}" for number in range(10)]
    assert (seen["limit"], seen["redis"]) == (615, False)
    assert seen["broker"] == ["10.20.0.21:5671", "10.20.0.22:5671"]
    assert seen["routes"] == list(role().value("celery_routes"))  # in this order: the first that matches counts
    assert "ai.tasks.infer" in seen["tasks"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"celery_routes": {"ai.inference.*": "inferense", "system.health.*": "health"}},
        {"celery_partition_priority": 11},
        {
            "celery_queues": [{"name": "health", "routing_key": "x", "priority": 12}],
            "celery_routes": {"system.*": "health"},
        },
    ],
)
def test_what_the_package_refuses_the_role_refuses_before(tmp_path, wrong):
    done = start(tmp_path, **wrong)
    assert done.returncode != 0 and "the tasks' routes can't work" in done.stderr
    with pytest.raises(AnsibleError, match=r"isn't declared|out of range"):
        role(**wrong).value("__celery_workers")
