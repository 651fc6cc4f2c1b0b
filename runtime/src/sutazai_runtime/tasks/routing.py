"""Which task goes to which queue: the seed's routes and priorities. Pure functions.

The queues are declared by the collection's rabbitmq_topology; a route to one that isn't there would lose tasks, so it is refused when the
app is made. Priorities tell RabbitMQ 4 which of a queue's messages come first; that training never holds up inference comes from the
queues and from workers of their own for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from sutazai_runtime import partitioning
from sutazai_runtime.settings import CannotStart, Settings

EXCHANGE = "tasks"
# Tasks with this prefix go to the partition of their argument `agent_id`.
PARTITIONED = "ai.tasks."
HIGHEST_PRIORITY = 10


class QueueSettings(BaseModel):
    """A queue of rabbitmq_topology.queues that is bound to the exchange `tasks`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    routing_key: str
    priority: int


QUEUES = (
    QueueSettings(name="inference", routing_key="ai.inference", priority=10),
    QueueSettings(name="health", routing_key="system.health", priority=8),
    QueueSettings(name="processing", routing_key="data.proc", priority=5),
    QueueSettings(name="training", routing_key="ai.training", priority=3),
)
ROUTES = {
    "ai.inference.*": "inference",
    "ai.training.*": "training",
    "data.processing.*": "processing",
    "system.health.*": "health",
}


class TaskSettings(Settings):
    """Lists and mappings are JSON."""

    model_config = SettingsConfigDict(env_prefix="SUTAZAI_TASKS_")

    queues: tuple[QueueSettings, ...] = QUEUES
    routes: dict[str, str] = Field(ROUTES, description="pattern of tasks' names: queue")
    partitions: int = Field(partitioning.PARTITIONS, ge=0, description="0: none are declared")
    partition_pattern: str = partitioning.ROUTING_KEY_PATTERN
    partition_priority: int = HIGHEST_PRIORITY
    include: tuple[str, ...] = Field((), description="modules that define more tasks")
    time_limit_seconds: int = Field(300, gt=0, description="after which a worker's process is killed")
    publish_timeout_seconds: float = Field(
        8,
        gt=0,
        description="for the broker's confirmation, which takes some seconds while a queue's leader is elected; then another node",
    )
    retries: int = Field(5, ge=0)
    longest_pause_seconds: int = Field(60, gt=0, description="between two attempts")


@dataclass(frozen=True)
class Destination:
    queue: str
    routing_key: str
    priority: int


class CannotRoute(Exception):
    """The task goes nowhere."""


def checked(settings: TaskSettings) -> dict[str, Destination]:
    """The declared queues by name. Everything that is wrong is said at once."""
    problems: list[str] = []
    found: dict[str, Destination] = {}
    names = partitioning.partition_names(settings.partitions, settings.partition_pattern) if settings.partitions else []
    wanted = [Destination(queue.name, queue.routing_key, queue.priority) for queue in settings.queues]
    wanted += [Destination(name, name, settings.partition_priority) for name in names]
    for queue in wanted:
        if queue.queue in found:
            problems.append(f"the queue {queue.queue} is declared twice")
        if not 0 <= queue.priority <= HIGHEST_PRIORITY:
            problems.append(
                f"the queue {queue.queue} has the priority {queue.priority}: it goes from 0 to {HIGHEST_PRIORITY}"
            )
        found[queue.queue] = queue
    for pattern, name in settings.routes.items():
        if name not in found:
            problems.append(
                f"tasks {pattern} are routed to the queue {name}, which isn't declared: "
                f"SUTAZAI_TASKS_QUEUES has {', '.join(sorted(queue.name for queue in settings.queues)) or 'none'}"
            )
    if problems:
        raise CannotStart(
            f"the tasks' routes can't work: {'; '.join(problems)}. Set SUTAZAI_TASKS_ROUTES and SUTAZAI_TASKS_QUEUES to what "
            "rabbitmq_topology declares"
        )
    return found


def destination(
    task: str, arguments: Mapping[str, object], settings: TaskSettings, queues: Mapping[str, Destination]
) -> Destination:
    """Of one task. The routes' first pattern that matches counts."""
    if task.startswith(PARTITIONED):
        agent_id = arguments.get("agent_id")
        if not isinstance(agent_id, str) or not agent_id:
            raise CannotRoute(f"the task {task} has no agent_id among its keyword arguments: its partition isn't known")
        if not settings.partitions:
            raise CannotRoute(f"the task {task} goes to a partition, but SUTAZAI_TASKS_PARTITIONS is 0")
        return queues[partitioning.routing_key_of(agent_id, settings.partitions, settings.partition_pattern)]
    for pattern, name in settings.routes.items():
        if fnmatchcase(task, pattern):
            return queues[name]
    raise CannotRoute(
        f"no route matches the task {task}: give it a name such as {next(iter(settings.routes), 'ai.inference.*')}, or add its "
        "pattern to SUTAZAI_TASKS_ROUTES"
    )


def unrouted(tasks: Sequence[str], settings: TaskSettings, queues: Mapping[str, Destination]) -> list[str]:
    """Tasks of the app that could never be published. Celery's own are not sent by this platform."""
    missing = []
    for task in tasks:
        if task.startswith("celery."):
            continue
        try:
            destination(task, {"agent_id": "any"}, settings, queues)
        except CannotRoute as problem:
            missing.append(str(problem))
    return missing
