"""The Celery app: quorum queues that others declare, confirmed publishing, late acknowledgements, retries, dead letters."""

from __future__ import annotations

import random
import socket
import ssl
import urllib.parse
from collections.abc import Mapping
from typing import Any

from amqp.exceptions import ChannelError
from celery import Celery
from kombu.entity import Exchange, Queue

from sutazai_runtime.settings import BrokerSettings, CannotStart, host_and_port, read_secret
from sutazai_runtime.tasks import transport
from sutazai_runtime.tasks.routing import EXCHANGE, TaskSettings, checked, destination, unrouted

# Between the warning, which a task can answer, and the end of its process.
GRACE_SECONDS = 15
# A host without power says nothing: what was sent there and isn't acknowledged, or a silent connection, is given up after 8 s, not after a
# quarter of an hour.
SOCKET_SETTINGS = {
    socket.TCP_USER_TIMEOUT: 8000,
    socket.TCP_KEEPIDLE: 4,
    socket.TCP_KEEPINTVL: 2,
    socket.TCP_KEEPCNT: 2,
}
CONNECT_SECONDS = 2


class CannotPublish(Exception):
    """The broker has no queue for the task. It was not taken."""


def broker_urls(settings: BrokerSettings) -> list[str]:
    """One for each node: when one is gone, the next is tried. Without the password (transport.py)."""
    user, vhost = (urllib.parse.quote(text, safe="") for text in (settings.username, settings.vhost))
    addresses = [host_and_port(node, "SUTAZAI_RABBITMQ_NODES") for node in settings.nodes]
    return [f"amqp://{user}@{host}:{port}/{vhost}" for host, port in addresses]


def configuration(settings: TaskSettings) -> dict[str, Any]:
    """Celery's settings, without the broker. Raises CannotStart for routes that lead nowhere."""
    queues = checked(settings)
    exchange = Exchange(EXCHANGE, type="topic", durable=True, no_declare=True)  # type: ignore[no-untyped-call]  # kombu has no types

    def route(
        name: str, _args: object, kwargs: Mapping[str, object], _options: object, **_more: object
    ) -> dict[str, Any]:
        found = destination(name, kwargs, settings, queues)
        return {"queue": found.queue, "priority": found.priority}

    return {
        # Queues. Celery sees that they are quorum queues by the argument alone: then it doesn't ask for a global prefetch limit, which
        # they don't have, and sends what is due later through queues of its own (celery_delayed_…) instead of holding it in a worker.
        "task_queues": [
            Queue(  # type: ignore[no-untyped-call]  # kombu has no types
                name,
                exchange,
                queue.routing_key,
                durable=True,
                no_declare=True,
                queue_arguments={"x-queue-type": "quorum"},
            )
            for name, queue in queues.items()
        ],
        "task_create_missing_queues": False,
        "task_default_queue": next(iter(queues)),
        "task_default_exchange": EXCHANGE,
        "task_default_exchange_type": "topic",
        "task_default_queue_type": "quorum",
        "task_routes": (route,),
        "worker_detect_quorum_queues": True,
        "broker_native_delayed_delivery_queue_type": "quorum",
        "worker_consumer": "sutazai_runtime.tasks.consumer:Consumer",
        # Publishing. A task counts as taken when the queue's majority has it.
        "broker_transport_options": {"confirm_publish": True, "socket_settings": SOCKET_SETTINGS},
        "broker_connection_timeout": CONNECT_SECONDS,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # In turn, so that one round reaches each node. "shuffle" draws anew every time: it may draw a dead one until the time is up.
        "broker_failover_strategy": "round-robin",
        "broker_heartbeat": 10,
        "task_publish_retry": True,
        "task_publish_retry_policy": {"max_retries": 3, "interval_start": 0.1, "interval_step": 0.5, "interval_max": 1},
        # Working. What a worker has when it dies is delivered again; what failed for good goes to the dead letters.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "task_acks_on_failure_or_timeout": False,
        "worker_prefetch_multiplier": 1,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "task_time_limit": settings.time_limit_seconds + GRACE_SECONDS,
        "task_soft_time_limit": settings.time_limit_seconds,
        # Answers are in Redis by the task's id (inference.answer_once), not in a result backend, which doesn't know Redis Cluster.
        "task_ignore_result": True,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_track_started": False,
        "worker_send_task_events": True,
        "enable_utc": True,
    }


def create_app(settings: TaskSettings, broker: BrokerSettings) -> Celery:
    read_secret(broker.password_file, "SUTAZAI_RABBITMQ_PASSWORD_FILE")  # said now rather than by the first connection
    transport.use()
    app = Celery("sutazai", set_as_current=False, include=settings.include)
    app.conf.update(configuration(settings))
    urls = broker_urls(broker)
    # Each process starts at another node: not all connections lie with the first.
    app.conf.broker_url = random.sample(urls, len(urls))
    app.conf.broker_transport_options = {
        **app.conf.broker_transport_options,
        transport.OPTION: str(broker.password_file),
    }
    if broker.tls:
        app.conf.broker_use_ssl = {
            "ca_certs": str(broker.ca_file),
            "cert_reqs": ssl.CERT_REQUIRED,
            "server_hostname": broker.server_name,
        }
    return app


def check_tasks(app: Celery, settings: TaskSettings) -> None:
    """All of the app's tasks have a route; for a worker, which knows them all."""
    missing = unrouted(sorted(app.tasks), settings, checked(settings))
    if missing:
        raise CannotStart("; ".join(missing))


def publish(app: Celery, task: str, task_id: str, arguments: Mapping[str, object], timeout_seconds: float) -> None:
    """Returns when the broker has the task. An id may be published again: it has one answer (inference.answer_once)."""
    try:
        # A connection of the pool that is left by an exception is thrown away: the confirmation of a task that was returned may still be
        # on its way there, and mustn't be taken for the next one's.
        with app.pool.acquire(block=True) as connection:
            producer = app.amqp.Producer(connection, auto_declare=False)
            app.send_task(
                task,
                kwargs=dict(arguments),
                task_id=task_id,
                producer=producer,
                mandatory=True,
                confirm_timeout=timeout_seconds,
            )
    except ChannelError as error:
        raise CannotPublish(
            f"the broker didn't take the task {task}: {error}. Is rabbitmq_topology applied (playbooks/messaging.yml)?"
        ) from error
