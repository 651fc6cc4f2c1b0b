# Apache License 2.0 (see LICENSE)
"""A failover probe's publisher with confirms, and its consumer, on one loop. Numbers go through a quorum queue of their own."""

from __future__ import annotations

import ssl
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.failover_probe import Log, sentence
from ansible_collections.sutazai.platform.plugins.module_utils.failover_targets import Settings

try:
    import pika

    PIKA_ERROR = None
except ImportError:
    pika = None
    PIKA_ERROR = traceback.format_exc()

CONNECT_SECONDS = 1.5  # a host that is gone doesn't refuse, it says nothing: then the next address is tried
RECONNECT_SECONDS = 0.2
HEARTBEAT_SECONDS = 5
DRAIN_SECONDS = 60
IDLE_SECONDS = 2.0  # so long nothing came and the queue says that it is empty
PREFETCH = 100


def parameters(settings: Settings) -> Any:
    tls = None
    if settings.ca_file:
        tls = pika.SSLOptions(ssl.create_default_context(cafile=settings.ca_file), settings.host)
    return pika.ConnectionParameters(
        settings.host,
        settings.port,
        "/",
        pika.PlainCredentials(settings.user, settings.password),
        ssl_options=tls,
        socket_timeout=CONNECT_SECONDS,
        # TCP, TLS and AMQP together, for as many addresses as the name has.
        stack_timeout=None,
        heartbeat=HEARTBEAT_SECONDS,
        blocked_connection_timeout=settings.deadline,
        connection_attempts=1,
    )


class Link:
    """A connection with one channel that is made again when it breaks. What an earlier connection still says isn't heard."""

    def __init__(self, loop: Any, wanted: Any, ready: Callable[[Any], None], broken: Callable[[str], None]) -> None:
        self.loop, self.wanted, self.ready, self.broken = loop, wanted, ready, broken
        self.generation = 0
        self.channel: Any = None
        self.connection: Any = None
        self.closing = False
        self.why = "not connected yet"

    def connect(self) -> None:
        if self.closing:
            return
        self.generation += 1
        mine = self.generation

        def opened(connection: Any) -> None:
            if mine == self.generation:
                self.connection = connection
                connection.channel(on_open_callback=channel_opened)

        def channel_opened(channel: Any) -> None:
            if mine == self.generation:
                channel.add_on_close_callback(lambda _channel, reason: gone(None, reason))
                self.channel = channel
                self.ready(channel)

        def gone(_connection: Any, reason: Any) -> None:
            if mine == self.generation:
                self.give_up(sentence(reason) if isinstance(reason, BaseException) else str(reason))

        pika.SelectConnection(self.wanted, opened, gone, gone, custom_ioloop=self.loop)

    def give_up(self, why: str) -> None:
        """Leave this connection to its fate and make another. If it hangs, its heartbeat ends it."""
        self.generation += 1
        self.channel, self.why = None, why
        connection, self.connection = self.connection, None
        if connection is not None and connection.is_open:
            connection.close()
        self.broken(why)
        self.loop.call_later(RECONNECT_SECONDS, self.connect)

    def close(self) -> None:
        self.closing = True
        self.generation += 1
        if self.connection is not None and self.connection.is_open:
            self.connection.close()


class Publisher:
    """Publishes each number once, as soon as there is a channel; a confirm in time acknowledges it."""

    def __init__(self, loop: Any, wanted: Any, queue: str, series: str, log: Log, deadline: float) -> None:
        self.queue, self.series, self.log, self.deadline = queue, series, log, deadline
        self.link = Link(loop, wanted, self._ready, self._broken)
        self.waiting: deque[tuple[int, float]] = deque()  # until there is a channel
        self.sent: dict[int, tuple[int, float]] = {}  # delivery tag -> number, begun
        self.returned: set[int] = set()
        self.tag = 0

    def _ready(self, channel: Any) -> None:
        self.tag = 0
        channel.add_on_return_callback(lambda _channel, _method, _properties, body: self.returned.add(int(body)))
        channel.confirm_delivery(self._confirmed)
        while self.waiting and self.link.channel is channel:
            self._send(*self.waiting.popleft())

    def _send(self, number: int, began: float) -> None:
        self.tag += 1
        self.sent[self.tag] = (number, began)
        properties = pika.BasicProperties(delivery_mode=2)
        try:
            self.link.channel.basic_publish("", self.queue, str(number).encode(), properties, mandatory=True)
        except pika.exceptions.AMQPError as error:
            self.link.give_up(sentence(error))

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        tags = [
            tag for tag in self.sent if tag == method.delivery_tag or (method.multiple and tag < method.delivery_tag)
        ]
        for tag in sorted(tags):
            number, began = self.sent.pop(tag)
            error = "" if isinstance(method, pika.spec.Basic.Ack) else "nack: the broker didn't take it"
            if number in self.returned:
                error = "returned: no queue took it"
            self.log.write(self.series, number, began, self.log.now, error)

    def _broken(self, why: str) -> None:
        for number, began in self.sent.values():
            self.log.write(self.series, number, began, self.log.now, why)
        self.sent.clear()

    def publish(self, number: int) -> None:
        if self.link.channel is not None and self.link.channel.is_open:
            self._send(number, self.log.now)
        else:
            self.waiting.append((number, self.log.now))

    def watch(self) -> None:
        """Fail what took too long. A confirm that doesn't come says that the connection leads nowhere."""
        now = self.log.now
        while self.waiting and now - self.waiting[0][1] > self.deadline:
            number, began = self.waiting.popleft()
            self.log.write(
                self.series, number, began, now, f"no connection within {self.deadline:g} s: {self.link.why}"
            )
        if any(now - began > self.deadline for _number, began in self.sent.values()):
            self.link.give_up(f"no confirm within {self.deadline:g} s")

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.sent)


class Consumer:
    """Takes every number from the queue, also those that come twice."""

    def __init__(self, loop: Any, wanted: Any, queue: str, series: str, log: Log) -> None:
        self.queue, self.series, self.log = queue, series, log
        self.link = Link(loop, wanted, self._ready, lambda _why: None)
        self.numbers: list[int] = []
        self.last = 0.0
        self.empty = False

    def _ready(self, channel: Any) -> None:
        channel.basic_qos(prefetch_count=PREFETCH)
        channel.basic_consume(self.queue, self._take)

    def _take(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        number = int(body)
        self.last, self.empty = self.log.now, False
        self.numbers.append(number)
        self.log.read(self.series, number)
        channel.basic_ack(method.delivery_tag)

    def ask(self) -> None:
        """Ask the queue whether it is empty; the answer comes later."""

        def told(frame: Any) -> None:
            self.empty = frame.method.message_count == 0

        if self.link.channel is not None and self.link.channel.is_open:
            self.link.channel.queue_declare(self.queue, passive=True, callback=told)

    @property
    def done(self) -> bool:
        return self.empty and self.log.now - self.last > IDLE_SECONDS


class Rabbitmq:
    """The target. Unlike the others it drives itself, because confirms and deliveries come when they come."""

    series = ({"name": "publish", "may_lose": False},)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.queue = f"failover-{settings.run}"
        self.numbers: list[int] | None = None

    def prepare(self) -> None:
        with pika.BlockingConnection(parameters(self.settings)) as connection:
            channel = connection.channel()
            channel.queue_declare(self.queue, durable=True, arguments={"x-queue-type": "quorum"})

    def remove(self) -> None:
        with pika.BlockingConnection(parameters(self.settings)) as connection:
            connection.channel().queue_delete(self.queue)

    def found(self) -> dict[str, list[int]]:
        if self.numbers is None:
            raise TimeoutError(f"the queue {self.queue} wasn't empty after {DRAIN_SECONDS} s")
        return {"publish": self.numbers}

    def drive(
        self, log: Log, rate: float, stop: Callable[[], bool], max_seconds: float, stopped: Callable[[], None]
    ) -> None:
        loop = pika.adapters.select_connection.IOLoop()
        wanted = parameters(self.settings)
        publisher = Publisher(loop, wanted, self.queue, "publish", log, self.settings.deadline)
        consumer = Consumer(loop, wanted, self.queue, "publish", log)
        state = {"number": 0, "stopped": 0.0, "asked": 0.0}

        def tick() -> None:
            publisher.watch()
            number = int(state["number"])
            if state["stopped"]:
                finish()
            elif stop() or number / rate >= max_seconds:
                state["stopped"] = log.now
                finish()
            else:
                if log.now >= number / rate:
                    publisher.publish(number)
                    state["number"] = number = number + 1
                loop.call_later(max(0.0, min(number / rate - log.now, 0.05)), tick)

        def finish() -> None:
            over = log.now - state["stopped"] > DRAIN_SECONDS
            if not publisher.busy and not publisher.link.closing:
                stopped()
                publisher.link.close()
            if (publisher.link.closing and consumer.done) or over:
                consumer.link.close()
                self.numbers = consumer.numbers if consumer.done else None
                loop.call_later(0.5, loop.stop)
                return
            if publisher.link.closing and log.now - state["asked"] > 1:
                state["asked"] = log.now
                consumer.ask()
            loop.call_later(0.05, tick)

        publisher.link.connect()
        consumer.link.connect()
        loop.call_later(0, tick)
        loop.start()
