"""Celery's consumer for a broker that is a cluster: what is declared is declared once, not at every node.

Celery sets up the queues for what is due later at each of its broker URLs, one after another, whenever it connects; a node that is dead
holds the worker up with time-outs and repetitions, and meanwhile it takes no task. With three nodes of which one had lost its power that was
more than 20 s. Here the first node that answers is enough: exchanges, queues and bindings are the cluster's.
"""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from celery.utils.quorum_queues import detect_quorum_queues
from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.consumer import Tasks
from kombu.transport.native_delayed_delivery import (
    bind_queue_to_native_delayed_delivery_exchange,
    declare_native_delayed_delivery_exchanges_and_queues,
)

STEP = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class DelayedDelivery(bootsteps.StartStopStep):  # type: ignore[misc]  # celery has no types
    """In place of Celery's step of the same name. An error is the connection's: Celery connects anew and starts again."""

    requires = (Tasks,)

    def include_if(self, c: Any) -> bool:
        return bool(detect_quorum_queues(c.app, c.app.connection_for_write().transport.driver_type)[0])

    def start(self, c: Any) -> None:
        # All nodes are tried in turn; one round of them.
        with c.app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=len(connection.alt or [1]), interval_start=0, interval_step=0)
            declare_native_delayed_delivery_exchanges_and_queues(
                connection, c.app.conf.broker_native_delayed_delivery_queue_type
            )
            for queue in c.app.amqp.queues.values():
                bind_queue_to_native_delayed_delivery_exchange(connection, queue)


class Consumer(CeleryConsumer):  # type: ignore[misc]  # celery has no types
    class Blueprint(CeleryConsumer.Blueprint):  # type: ignore[misc]  # celery has no types
        default_steps = [DelayedDelivery if step == STEP else step for step in CeleryConsumer.Blueprint.default_steps]
