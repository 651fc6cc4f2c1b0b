"""The agent by HTTP: /v1/tasks, /health, /metrics. Errors are application/problem+json."""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sutazai_runtime import __version__
from sutazai_runtime.agent.handling import Outcome, Problem, find, parsed, submit
from sutazai_runtime.agent.service import Service
from sutazai_runtime.agent.settings import AgentSettings

PROBLEM = "application/problem+json"
# An agent that is about to go, or overloaded, is one of many: another one may answer at once.
RETRY_AFTER_SECONDS = "1"
EDGE_REQUEST_ID = "x-edge-request-id"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

log = logging.getLogger(__name__)


class Health:
    """Whether the agent wants new requests. What it depends on isn't asked: if the broker is away, no other agent has a better one."""

    def __init__(self) -> None:
        self.draining = False


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "sutazai_agent_requests",
            "Requests that were answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "sutazai_agent_request_seconds",
            "How long they took",
            ["method", "route"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.in_flight = Gauge(
            "sutazai_agent_requests_in_flight", "Requests that aren't answered yet", registry=self.registry
        )
        self.draining = Gauge("sutazai_agent_draining", "1 after SIGTERM", registry=self.registry)


class Measure:
    """ASGI middleware. The route, not the path, is a label: paths have ids in them, and there would be no end of series."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.monotonic(), 499  # the client went before the answer

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, noting)
        finally:
            self.metrics.in_flight.dec()
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(scope["method"], route, status).inc()
            self.metrics.seconds.labels(scope["method"], route).observe(time.monotonic() - began)


async def body_of(request: Request, most: int) -> Any:
    """JSON whatever the content type says: curl's default says that it is a form."""
    too_large = Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {most} bytes")
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise too_large
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise Problem(HTTPStatus.BAD_REQUEST, f"the body isn't JSON: {reason}") from error


def repeated_id_of(request: Request) -> uuid.UUID | None:
    """The edge's id of the request (set there, never a client's own): the same when a gateway sends it to a second agent."""
    try:
        return uuid.UUID(request.headers.get(EDGE_REQUEST_ID, ""))
    except ValueError:
        return None


def wait_of(request: Request, longest: float) -> float:
    """RFC 7240: `Prefer: respond-async` doesn't wait, `Prefer: wait=5` not longer than that."""
    prefer = request.headers.get("prefer", "")
    if re.search(r"(?:^|[,;\s])respond-async(?:$|[,;\s])", prefer):
        return 0
    wanted = re.search(r"(?:^|[,;\s])wait=(\d{1,6})(?:$|[,;\s])", prefer)
    return min(float(wanted[1]), longest) if wanted else longest


def problem_response(problem: Problem) -> Response:
    headers = {"Retry-After": RETRY_AFTER_SECONDS} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else None
    return JSONResponse(problem.body(), int(problem.status), headers, PROBLEM)


def outcome_response(outcome: Outcome, pending: HTTPStatus) -> Response:
    """Of a submitted task. One that failed is the server's failure: the client did nothing wrong."""
    where = f"/v1/tasks/{outcome.task_id}"
    if outcome.answer is None:
        return JSONResponse(
            {**outcome.body(), "url": where}, int(pending), {"Location": where, "Retry-After": RETRY_AFTER_SECONDS}
        )
    return JSONResponse(outcome.body())


def create_http(settings: AgentSettings, service: Service, health: Health, backend: str) -> FastAPI:
    metrics = Metrics()
    app = FastAPI(title="SutazAI agent", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Measure, metrics=metrics)

    @app.exception_handler(Problem)
    async def problem(_request: Request, error: Problem) -> Response:
        return problem_response(error)

    @app.exception_handler(HTTPException)
    async def no_such_path(request: Request, error: HTTPException) -> Response:
        answer = problem_response(
            Problem(HTTPStatus(error.status_code), f"{request.method} {request.url.path}: {error.detail}")
        )
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def bug(_request: Request, _error: Exception) -> Response:
        # uvicorn logs it with its traceback, which is nobody's business outside.
        return problem_response(
            Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the agent met an error of its own; its log has it")
        )

    @app.get("/health")
    async def get_health() -> Response:
        body = {"status": "draining" if health.draining else "ok", "execution": service.name, "backend": backend}
        return JSONResponse(body, 503 if health.draining else 200)

    @app.get("/metrics")
    async def get_metrics() -> Response:
        metrics.draining.set(health.draining)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/v1/tasks")
    async def post_task(request: Request) -> Response:
        body = await body_of(request, settings.max_body_bytes)
        task = parsed(body)
        if task.task_id is None:
            task = task.model_copy(update={"task_id": repeated_id_of(request)})
        outcome = await submit(service, task, wait_of(request, settings.wait_seconds))
        if outcome.answer is not None and outcome.answer["status"] == "failed":
            raise Problem(
                HTTPStatus.BAD_GATEWAY, f"the task failed: {outcome.answer.get('reason', '')}", task_id=outcome.task_id
            )
        return outcome_response(outcome, HTTPStatus.ACCEPTED)

    @app.get("/v1/tasks/{task_id}")
    async def get_task(task_id: str) -> Response:
        return outcome_response(await find(service, task_id), HTTPStatus.OK)

    return app
