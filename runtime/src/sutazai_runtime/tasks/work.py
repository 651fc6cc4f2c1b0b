"""The platform's own tasks, put into an app by `register`; into that one alone, which Celery calls not shared."""

from __future__ import annotations

import functools
from typing import Any

from celery import Celery, Task
from redis.exceptions import RedisError

from sutazai_runtime import state as shared
from sutazai_runtime.inference import Backend, TaskRequest, Unavailable, answer_once, backend_of, fail_once
from sutazai_runtime.settings import InferenceSettings, RedisSettings
from sutazai_runtime.tasks.routing import TaskSettings

# In the partition of the agent: one after another, if its workers have one process each.
IN_ORDER = "ai.tasks.infer"
# In the queue that all agents share.
UNORDERED = "ai.inference.generate"
HEALTH = "system.health.check"


class Tools:
    """What tasks work with. Made in the worker's process that uses it: connections don't survive a fork."""

    def __init__(self, redis: RedisSettings, inference: InferenceSettings) -> None:
        self._redis, self._inference = redis, inference

    @functools.cached_property
    def state(self) -> shared.State:
        return shared.State(shared.connect(self._redis))

    @functools.cached_property
    def backend(self) -> Backend:
        return backend_of(self._inference)


def register(app: Celery, settings: TaskSettings, tools: Tools) -> None:
    class Inference(Task):  # type: ignore[misc]  # Celery has no types
        """Repeated with growing pauses while something it needs is away."""

        autoretry_for = (Unavailable, RedisError, shared.Conflict)
        max_retries = settings.retries
        retry_backoff = 1
        retry_backoff_max = settings.longest_pause_seconds
        retry_jitter = True

        def on_failure(self, exc: Exception, task_id: str, args: object, kwargs: dict[str, Any], einfo: object) -> None:
            fail_once(tools.state, task_id, TaskRequest.model_validate(kwargs), f"{type(exc).__name__}: {exc}")

    def infer(task: Task, **request: Any) -> None:
        answer_once(tools.state, tools.backend, task.request.id, TaskRequest.model_validate(request))

    for name in (IN_ORDER, UNORDERED):
        app.task(infer, base=Inference, bind=True, name=name, shared=False)

    @app.task(name=HEALTH, shared=False)  # type: ignore[untyped-decorator]  # Celery has no types
    def check() -> None:
        """That a worker takes tasks of this queue and reaches Redis."""
        tools.state.client.ping()
