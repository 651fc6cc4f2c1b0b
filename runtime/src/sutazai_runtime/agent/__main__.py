"""`sutazai-agent`: the agent's program. Settings are in the environment; the options are for measurements.

On SIGTERM or SIGINT: /health and gRPC's health service say that no new requests are wanted, which balancers notice within
SUTAZAI_AGENT_LAME_DUCK_SECONDS; until then everything is answered as before. Then connections are refused, and requests that were begun
have SUTAZAI_AGENT_DRAIN_SECONDS. A second signal ends the first wait.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Sequence

import uvicorn
from pydantic import ValidationError

from sutazai_runtime.agent.http import Health, create_http
from sutazai_runtime.agent.rpc import Rpc
from sutazai_runtime.agent.service import LocalService, QueueService, Service
from sutazai_runtime.agent.settings import AgentSettings
from sutazai_runtime.inference import backend_of
from sutazai_runtime.settings import BrokerSettings, CannotStart, InferenceSettings, RedisSettings
from sutazai_runtime.state import State, connect
from sutazai_runtime.tasks.app import create_app
from sutazai_runtime.tasks.routing import TaskSettings

log = logging.getLogger("sutazai_runtime.agent")


class Server(uvicorn.Server):
    """Without signal handlers of its own: it would stop listening at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="sutazai-agent", description="Take tasks by HTTP and gRPC.")
    parser.add_argument(
        "--execution", choices=("queue", "local"), help="where tasks are done (SUTAZAI_AGENT_EXECUTION)"
    )
    parser.add_argument("--backend", choices=("echo", "http"), help="of local execution (SUTAZAI_INFERENCE_BACKEND)")
    parser.add_argument(
        "--service-seconds",
        type=float,
        help="of the echo backend, simulated inference (SUTAZAI_INFERENCE_SERVICE_SECONDS)",
    )
    parser.add_argument("--port", type=int, help="of HTTP (SUTAZAI_AGENT_PORT)")
    parser.add_argument("--grpc-port", type=int, help="0: no gRPC (SUTAZAI_AGENT_GRPC_PORT)")
    return parser.parse_args(arguments)


def with_options(settings: AgentSettings, given: argparse.Namespace) -> AgentSettings:
    named = {name: getattr(given, name) for name in ("execution", "port", "grpc_port")}
    return AgentSettings.model_validate(
        {**settings.model_dump(), **{name: value for name, value in named.items() if value is not None}}
    )


def service_of(settings: AgentSettings, given: argparse.Namespace) -> tuple[Service, str]:
    """The service, and what answers, for /health."""
    if settings.execution == "queue":
        if given.backend or given.service_seconds is not None:
            raise CannotStart(
                "--backend and --service-seconds are of local execution: with a queue, the workers' settings count"
            )
        tasks, redis = TaskSettings.load(), RedisSettings.load()
        app = create_app(tasks, BrokerSettings.load())
        # The agent looks for answers again and again, and who asks for one is better told that there is none now.
        impatient = redis.model_copy(update={"retries": min(redis.retries, 2)})
        service = QueueService(
            app, lambda: State(connect(impatient)), settings.poll_seconds, tasks.publish_timeout_seconds
        )
        return service, "workers"
    named = {"backend": given.backend, "service_seconds": given.service_seconds}
    backend = backend_of(InferenceSettings.load(**{name: value for name, value in named.items() if value is not None}))
    return LocalService(backend, settings.concurrency, settings.max_waiting), backend.name


def listening(settings: AgentSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        where = f"{settings.host}:{settings.port} (SUTAZAI_AGENT_HOST, SUTAZAI_AGENT_PORT)"
        raise CannotStart(f"it can't listen on {where}: {error}") from error


async def serve(settings: AgentSettings, service: Service, backend: str) -> None:
    loop, health = asyncio.get_running_loop(), Health()
    asked, hurried = asyncio.Event(), asyncio.Event()

    def stop() -> None:
        (hurried if asked.is_set() else asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    http = Server(
        uvicorn.Config(
            create_http(settings, service, health, backend),
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=settings.drain_seconds,
            # Balancers keep their connections; closing one that is about to be used costs a request.
            timeout_keep_alive=75,
        )
    )
    listener = listening(settings)
    rpc = Rpc(settings, service) if settings.grpc_port else None
    if rpc:
        await rpc.start()
    serving = asyncio.create_task(http.serve([listener]))
    await asked.wait()
    log.info(
        "draining: no new requests in %g s, %d s for the others", settings.lame_duck_seconds, settings.drain_seconds
    )
    health.draining = True
    if rpc:
        await rpc.drain()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(hurried.wait(), settings.lame_duck_seconds)
    http.should_exit = True
    await asyncio.gather(serving, *([rpc.stop(settings.drain_seconds)] if rpc else []))
    await service.close()


def main(arguments: Sequence[str] | None = None) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    given = options(sys.argv[1:] if arguments is None else arguments)
    try:
        settings = with_options(AgentSettings.load(), given)
        service, backend = service_of(settings, given)
        asyncio.run(serve(settings, service, backend))
    except (CannotStart, ValidationError) as error:
        sys.exit(f"The agent can't start: {error}")


if __name__ == "__main__":
    main()
