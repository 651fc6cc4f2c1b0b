"""Where the agent's tasks are done: by Celery's workers, or in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar, cast

from celery import Celery
from redis.exceptions import RedisError

from sutazai_runtime.inference import Backend, TaskRequest
from sutazai_runtime.state import State, task_answer
from sutazai_runtime.tasks.app import publish
from sutazai_runtime.tasks.work import IN_ORDER

T = TypeVar("T")
Answer = Mapping[str, Any]

# Threads that publish: each needs a connection of Celery's pool, which has ten.
PUBLISHERS = 8
# One for all who wait for an answer, the others for those who ask for one.
READERS = 4
# Answers that local execution remembers.
REMEMBERED = 10_000
LONGEST_PAUSE_SECONDS = 1.0
# Attempts to publish that are waited for.
PATIENCE = 3

log = logging.getLogger(__name__)


class NotTaken(Exception):
    """The task isn't known to be taken; the client may ask again."""


class Overloaded(NotTaken):
    """This agent has enough to do."""


class Service(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def keeps_tasks(self) -> bool:
        """Whether a task that was taken outlives this process."""

    async def submit(self, task_id: str, request: TaskRequest) -> None: ...

    async def wait(self, task_id: str, seconds: float) -> Answer | None: ...

    async def find(self, task_id: str) -> Answer | None: ...

    async def close(self) -> None: ...


class QueueService:
    """Publishes to the agent's partition, and looks for the answers in Redis, for all who wait at once."""

    name = "queue"
    keeps_tasks = True

    def __init__(self, app: Celery, connect: Callable[[], State], poll_seconds: float, publish_seconds: float) -> None:
        self._app, self._connect, self._poll_seconds, self._publish_seconds = (
            app,
            connect,
            poll_seconds,
            publish_seconds,
        )
        # Apart: while Redis is away, its threads wait, and those that publish don't.
        self._publishers = ThreadPoolExecutor(PUBLISHERS, "publish")
        self._readers = ThreadPoolExecutor(READERS, "answers")
        self._state: State | None = None
        self._lock = threading.Lock()
        self._waiting: dict[str, list[asyncio.Future[Answer]]] = {}
        self._poller: asyncio.Task[None] | None = None

    def state(self) -> State:
        """Connected when first needed: tasks are taken while Redis is away, too."""
        with self._lock:
            if self._state is None:
                self._state = self._connect()
            return self._state

    async def submit(self, task_id: str, request: TaskRequest) -> None:
        arguments = request.model_dump(exclude={"task_id"})
        call = self._run(
            self._publishers, lambda: publish(self._app, IN_ORDER, task_id, arguments, self._publish_seconds)
        )
        try:
            # A broker that hangs without closing its connections can hold a thread longer than it is worth waiting for.
            await asyncio.wait_for(call, PATIENCE * self._publish_seconds)
        except TimeoutError as error:
            raise NotTaken("the broker doesn't answer") from error
        # Celery, kombu, amqp and the sockets below have an exception each; what they mean to the client is the same.
        except Exception as error:
            log.warning("a task wasn't published: %r", error)
            raise NotTaken(f"the task couldn't be put into the queue: {error}") from error

    async def find(self, task_id: str) -> Answer | None:
        return await self._run(self._readers, lambda: self.state().first_of(task_answer(task_id)))

    async def wait(self, task_id: str, seconds: float) -> Answer | None:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(task_id, []).append(future)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())
        try:
            return await asyncio.wait_for(future, seconds)
        except TimeoutError:
            return None
        finally:
            # Who goes is looked for no more.
            others = self._waiting.get(task_id, [])
            if future in others:
                others.remove(future)
            if not others:
                self._waiting.pop(task_id, None)

    async def _poll(self) -> None:
        pause = self._poll_seconds
        while self._waiting:
            await asyncio.sleep(pause)
            tasks = list(self._waiting)
            try:
                answers = await self._run(self._readers, lambda tasks=tasks: self._read(tasks))  # type: ignore[misc]  # mypy can't infer a lambda's default
                pause = self._poll_seconds
            except (RedisError, OSError) as error:
                log.warning("answers can't be read: %r", error)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                continue
            for task_id, answer in answers.items():
                for future in self._waiting.pop(task_id, []):
                    if not future.done():
                        future.set_result(answer)

    def _read(self, tasks: list[str]) -> Mapping[str, Answer]:
        return self.state().first_of_all({task: task_answer(task) for task in tasks})

    async def _run(self, threads: ThreadPoolExecutor, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, call)

    async def close(self) -> None:
        if self._poller:
            self._poller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._poller
        self._publishers.shutdown()
        self._readers.shutdown()
        self._app.close()
        if self._state:
            self._state.client.close()


class LocalService:
    """Does tasks itself, so many at a time and in the order in which they came. What it has is lost with it."""

    name = "local"
    keeps_tasks = False

    def __init__(self, backend: Backend, concurrency: int, max_waiting: int) -> None:
        self._backend, self._most = backend, concurrency + max_waiting
        self._threads = ThreadPoolExecutor(concurrency, "inference")
        self._tasks: OrderedDict[str, asyncio.Future[Answer]] = OrderedDict()
        self._unfinished = 0

    async def submit(self, task_id: str, request: TaskRequest) -> None:
        if task_id in self._tasks:
            return
        if self._unfinished >= self._most:
            raise Overloaded(f"this agent has {self._unfinished} tasks, as many as it takes")
        self._unfinished += 1
        self._tasks[task_id] = asyncio.ensure_future(self._work(request))
        while len(self._tasks) > REMEMBERED and next(iter(self._tasks.values())).done():
            self._tasks.popitem(last=False)

    async def _work(self, request: TaskRequest) -> Answer:
        loop, digest = asyncio.get_running_loop(), request.digest()
        try:
            output = await loop.run_in_executor(self._threads, self._backend.generate, request)
            return {"status": "done", "output": output, "backend": self._backend.name, "request": digest}
        # Whatever a backend raises is this task's failure and nobody else's.
        except Exception as error:
            log.warning("a task failed: %r", error)
            return {"status": "failed", "reason": f"{type(error).__name__}: {error}", "request": digest}
        finally:
            self._unfinished -= 1

    async def wait(self, task_id: str, seconds: float) -> Answer | None:
        task = self._tasks.get(task_id)
        if task is None:
            return None
        try:
            # The task goes on when who waits for it goes.
            return await asyncio.wait_for(asyncio.shield(cast("Awaitable[Answer]", task)), seconds)
        except TimeoutError:
            return None

    async def find(self, task_id: str) -> Answer | None:
        task = self._tasks.get(task_id)
        return task.result() if task is not None and task.done() else None

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
