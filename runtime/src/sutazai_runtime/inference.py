"""What is asked of an agent, what answers it, and that one task has one answer."""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, ConfigDict, Field

from sutazai_runtime.settings import CannotStart, InferenceSettings
from sutazai_runtime.state import State, agent_state, task_answer

# PostgreSQL's INT, which agent_data has for tenants; their partitions begin at 1.
LARGEST_TENANT = 2**31 - 1
NAME = r"^[A-Za-z0-9._:-]+$"


class TaskRequest(BaseModel):
    """The body of /v1/tasks, and what is put into a queue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant_id: int = Field(ge=1, le=LARGEST_TENANT, strict=True)
    agent_id: str = Field(min_length=1, max_length=128, pattern=NAME)
    prompt: str = Field(min_length=1)
    task_id: uuid.UUID | None = Field(None, description="chosen by a client that may have to repeat its request")

    def digest(self) -> str:
        """Tells two requests with the same task id apart."""
        parts = (str(self.tenant_id), self.agent_id, self.prompt)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


class Unavailable(Exception):
    """No answer now; another attempt may have one."""


class Refused(Exception):
    """No answer, now or later."""


class Backend(Protocol):
    @property
    def name(self) -> str: ...

    def generate(self, request: TaskRequest) -> str: ...


class EchoBackend:
    """Answers the prompt after a fixed time: simulated inference, for tests and measurements. Its answers say so."""

    name = "echo"

    def __init__(self, service_seconds: float = 0) -> None:
        self.service_seconds = service_seconds

    def generate(self, request: TaskRequest) -> str:
        time.sleep(self.service_seconds)
        return request.prompt


class HttpBackend:
    """A model server that speaks Ollama's API."""

    name = "http"

    def __init__(self, url: str, model: str, timeout_seconds: float) -> None:
        self.model = model
        self._api = httpx.Client(base_url=url, timeout=httpx.Timeout(timeout_seconds, connect=5), trust_env=False)

    def generate(self, request: TaskRequest) -> str:
        body = {"model": self.model, "prompt": request.prompt, "stream": False}
        try:
            answer = self._api.post("/api/generate", json=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"the model server at {self._api.base_url} doesn't answer: {error!r}") from error
        if answer.status_code == 429 or answer.status_code >= 500:
            raise Unavailable(f"the model server says {answer.status_code}: {answer.text[:200]}")
        if answer.status_code != 200:
            raise Refused(f"the model server says {answer.status_code}: {answer.text[:200]}")
        try:
            return str(answer.json()["response"])
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"the model server's answer isn't what its API says: {answer.text[:200]}") from error


def backend_of(settings: InferenceSettings) -> Backend:
    if settings.backend == "echo":
        return EchoBackend(settings.service_seconds)
    if not settings.model:
        raise CannotStart(
            "SUTAZAI_INFERENCE_MODEL isn't set: name the model that the model server has, or set the backend echo"
        )
    return HttpBackend(settings.url, settings.model, settings.timeout_seconds)


# One task, one answer ----------------------------------------------------------------------------


def answer_once(state: State, backend: Backend, task_id: str, request: TaskRequest) -> dict[str, Any]:
    """The task's answer: made now, or long ago. A queue may deliver a task twice, at the same time even; the first answer stays."""
    key = task_answer(task_id)
    found = state.first_of(key)
    if found is not None:
        return found
    output = backend.generate(request)
    made = {
        "status": "done",
        "output": output,
        "backend": backend.name,
        "answered_at": time.time(),
        "request": request.digest(),
    }
    answer = state.first(key, made)
    state.update(agent_state(request.agent_id), lambda value: {**value, "last_task": task_id})
    return answer


def fail_once(state: State, task_id: str, request: TaskRequest, reason: str) -> dict[str, Any]:
    """That there is no answer is one too: a task that is delivered once more after it failed stays failed."""
    return state.first(task_answer(task_id), {"status": "failed", "reason": reason, "request": request.digest()})
