"""The agent by gRPC: the standard health service, and Tasks (tasks.proto)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from sutazai_runtime.agent import tasks_pb2, tasks_pb2_grpc
from sutazai_runtime.agent.handling import Outcome, Problem, find, parsed, submit
from sutazai_runtime.agent.service import Service
from sutazai_runtime.agent.settings import AgentSettings
from sutazai_runtime.settings import CannotStart

SERVICE = "sutazai.agent.v1.Tasks"
CODES = {
    HTTPStatus.UNPROCESSABLE_ENTITY: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.CONFLICT: grpc.StatusCode.ALREADY_EXISTS,
    HTTPStatus.NOT_IMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}


def answer_of(outcome: Outcome) -> tasks_pb2.Answer:
    body = outcome.body()
    known = {field.name for field in tasks_pb2.Answer.DESCRIPTOR.fields}
    return tasks_pb2.Answer(**{key: str(value) for key, value in body.items() if key in known})


class Tasks(tasks_pb2_grpc.TasksServicer):
    def __init__(self, settings: AgentSettings, service: Service) -> None:
        self._settings, self._service = settings, service

    async def Submit(self, request: Any, context: Any) -> tasks_pb2.Answer:
        body = {"tenant_id": request.tenant_id, "agent_id": request.agent_id, "prompt": request.prompt}
        longest = self._settings.wait_seconds
        wait = min(request.wait_seconds, longest) if request.HasField("wait_seconds") else longest
        try:
            task = parsed({**body, "task_id": request.task_id or None})
            return answer_of(await submit(self._service, task, wait))
        except Problem as problem:
            return await refuse(context, problem)

    async def Get(self, request: Any, context: Any) -> tasks_pb2.Answer:
        try:
            return answer_of(await find(self._service, request.task_id))
        except Problem as problem:
            return await refuse(context, problem)


async def refuse(context: Any, problem: Problem) -> tasks_pb2.Answer:
    # Does not return: grpc ends the call by an exception.
    await context.abort(CODES.get(problem.status, grpc.StatusCode.UNKNOWN), problem.detail)
    raise AssertionError("unreachable")


class Rpc:
    """The server, and its health, which says that it doesn't serve before it stops."""

    def __init__(self, settings: AgentSettings, service: Service) -> None:
        # What a client may send is limited as it is by HTTP.
        # Without so_reuseport a second agent on the same port would take half of the calls, unnoticed.
        self.server = grpc.aio.server(
            options=[("grpc.max_receive_message_length", settings.max_body_bytes), ("grpc.so_reuseport", 0)]
        )
        self.health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        tasks_pb2_grpc.add_TasksServicer_to_server(Tasks(settings, service), self.server)  # type: ignore[no-untyped-call]  # generated without types
        address = f"{settings.host}:{settings.grpc_port}"
        try:
            self.server.add_insecure_port(address)
        except RuntimeError as error:
            raise CannotStart(f"it can't listen on {address} (SUTAZAI_AGENT_GRPC_PORT): {error}") from error

    async def start(self) -> None:
        await self.server.start()
        for name in ("", SERVICE):
            await self.health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        await self.health.enter_graceful_shutdown()

    async def stop(self, seconds: float) -> None:
        await self.server.stop(seconds)
