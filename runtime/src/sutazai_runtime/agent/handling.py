"""What HTTP and gRPC have in common: from what a client sent to what it is told."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import ValidationError

from sutazai_runtime.agent.service import Answer, NotTaken, Overloaded, Service
from sutazai_runtime.inference import TaskRequest


class Problem(Exception):
    """An error as RFC 9457 describes it. The detail is for people, `more` for programs."""

    def __init__(self, status: HTTPStatus, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.more = status, detail, more

    def body(self) -> dict[str, Any]:
        named = {"type": "about:blank", "title": self.status.phrase, "status": int(self.status), "detail": self.detail}
        return {**named, **self.more}


@dataclass(frozen=True)
class Outcome:
    """The answer, or that it is still to come."""

    task_id: str
    answer: Answer | None = field(default=None)

    def body(self) -> dict[str, Any]:
        if self.answer is None:
            return {"task_id": self.task_id, "status": "pending"}
        return {"task_id": self.task_id, **{key: value for key, value in self.answer.items() if key != "request"}}


def parsed(body: Mapping[str, Any]) -> TaskRequest:
    try:
        return TaskRequest.model_validate(body)
    except ValidationError as error:
        errors = [
            {"field": ".".join(map(str, each["loc"])) or "body", "message": each["msg"]}
            for each in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        said = "; ".join(f"{each['field']}: {each['message']}" for each in errors)
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"the task isn't taken: {said}", errors=errors) from error


def parsed_id(task_id: str) -> str:
    try:
        return str(uuid.UUID(task_id))
    except ValueError:
        raise Problem(HTTPStatus.NOT_FOUND, f"{task_id[:64]!r} is no task's id: those are UUIDs") from None


async def submit(service: Service, request: TaskRequest, wait_seconds: float) -> Outcome:
    """Take the task, wait for its answer. Nothing is taken when this raises a Problem with a status below 500."""
    task_id = str(request.task_id or uuid.uuid4())
    if wait_seconds <= 0 and not service.keeps_tasks:
        raise Problem(
            HTTPStatus.NOT_IMPLEMENTED,
            "this agent does tasks itself and would lose one that nobody waits for: wait for the answer",
        )
    try:
        await service.submit(task_id, request)
    except Overloaded as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}: ask again", task_id=task_id) from error
    except NotTaken as error:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"{error}. Ask again with this task_id: it will have one answer",
            task_id=task_id,
        ) from error
    answer = await service.wait(task_id, wait_seconds) if wait_seconds > 0 else None
    if answer is None and wait_seconds > 0 and not service.keeps_tasks:
        raise Problem(HTTPStatus.GATEWAY_TIMEOUT, f"no answer within {wait_seconds:g} s", task_id=task_id)
    if answer is not None and answer.get("request") not in (None, request.digest()):
        raise Problem(
            HTTPStatus.CONFLICT,
            "another request had this task_id first, and its answer stays: choose another one",
            task_id=task_id,
        )
    return Outcome(task_id, answer)


async def find(service: Service, task_id: str) -> Outcome:
    known = parsed_id(task_id)
    try:
        return Outcome(known, await service.find(known))
    # Redis and what is below it; to the client they are alike.
    except Exception as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"answers can't be read now: {error}", task_id=known) from error
