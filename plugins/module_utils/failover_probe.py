# Apache License 2.0 (see LICENSE)
"""Writes numbered records at a constant rate, whatever becomes of the earlier ones, and writes down each attempt.

What is written to is a Target (failover_targets). Each attempt is made once and has a deadline; who fails connects anew.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable
from typing import IO, Any, Protocol

GRACE_SECONDS = 5.0  # beyond the deadline, for a library to notice that its connection was cut
WATCH_SECONDS = 0.05


class Session(Protocol):
    """A connection of one writer."""

    def write(self, series: str, number: int) -> None:
        """Returns when the record is acknowledged; raises otherwise."""

    def cut(self) -> None:
        """Called by another thread when the deadline is over: let `write` end at once."""

    def close(self) -> None: ...


class Log:
    """The records' file. Each line is out before the next thing happens, so that a probe that is killed loses none."""

    def __init__(self, file: IO[str]) -> None:
        self.file = file
        self.lock = threading.Lock()
        self.wall = time.time()
        self.start = time.monotonic()

    @property
    def now(self) -> float:
        return time.monotonic() - self.start

    def put(self, kind: str, **entry: Any) -> None:
        line = json.dumps({"kind": kind, **entry})
        with self.lock:
            self.file.write(line + "\n")
            self.file.flush()

    def begin(self, component: str, series: list[dict[str, Any]], rate: float, deadline: float) -> None:
        load = [round(value, 2) for value in os.getloadavg()]
        self.put("begin", component=component, wall=self.wall, series=series, rate=rate, deadline=deadline, load=load)

    def write(self, series: str, number: int, began: float, ended: float, error: str = "") -> None:
        self.put(
            "write",
            series=series,
            number=number,
            began=round(began, 4),
            ended=round(ended, 4),
            acknowledged=not error,
            error=error,
        )

    def read(self, series: str, number: int) -> None:
        self.put("read", series=series, number=number, at=round(self.now, 4))

    def end(self) -> None:
        self.put("end", at=round(self.now, 4), load=[round(value, 2) for value in os.getloadavg()])


def sentence(error: BaseException) -> str:
    """An error in one short line, without what differs from one attempt to the next."""
    text = " ".join(str(error).split())[:160]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class Writer(threading.Thread):
    """Makes the attempts that it is given, one after the other, on a connection of its own."""

    def __init__(
        self, connect: Callable[[], Session], log: Log, deadline: float, free: Callable[[Writer], None]
    ) -> None:
        super().__init__(daemon=True)
        self.connect, self.log, self.deadline, self.free = connect, log, deadline, free
        self.inbox: queue.SimpleQueue[tuple[str, int] | None] = queue.SimpleQueue()
        self.session: Session | None = None
        self.until: float | None = None  # when the attempt that is being made has to be over
        self.late = False

    def run(self) -> None:
        while (task := self.inbox.get()) is not None:
            self.attempt(*task)
            self.free(self)
        self.drop()

    def attempt(self, series: str, number: int) -> None:
        began, error = self.log.now, ""
        self.late, self.until = False, began + self.deadline
        try:
            if self.session is None:
                self.session = self.connect()
                if self.late:
                    raise TimeoutError
            self.session.write(series, number)
        except Exception as failure:  # pylint: disable=broad-except
            # Whatever a library raises, the attempt failed; why is written down.
            error = f"no answer within {self.deadline:g} s" if self.late else sentence(failure)
        self.until = None
        self.log.write(series, number, began, self.log.now, error)
        if error:
            self.drop()

    def watch(self, now: float) -> None:
        """Called again and again by the driver."""
        until = self.until
        if until is not None and now > until and not self.late:
            self.late = True
            if self.session is not None:
                self.session.cut()

    def drop(self) -> None:
        session, self.session = self.session, None
        if session is not None:
            try:
                session.close()
            except Exception as failure:  # pylint: disable=broad-except
                # It is given up either way; that closing failed too says nothing about the cluster.
                del failure


class Driver:
    """Hands out attempts at a constant rate to as many writers as are needed, at most `writers`."""

    def __init__(
        self,
        connect: Callable[[], Session],
        series: list[str],
        log: Log,
        rate: float,
        deadline: float,
        writers: int = 0,
    ) -> None:
        self.connect, self.series, self.log, self.rate, self.deadline = connect, series, log, rate, deadline
        self.limit = writers or int(rate * (deadline + 1) * len(series)) + 2
        self.idle: list[Writer] = []  # the one that worked last comes first: it has a connection
        self.writers: list[Writer] = []
        self.lock = threading.Lock()

    def _free(self, writer: Writer) -> None:
        with self.lock:
            self.idle.append(writer)

    def _writer(self) -> Writer | None:
        with self.lock:
            if self.idle:
                return self.idle.pop()
        if len(self.writers) >= self.limit:
            return None
        writer = Writer(self.connect, self.log, self.deadline, self._free)
        self.writers.append(writer)
        writer.start()
        return writer

    def _wait(self, until: float) -> None:
        while True:
            for writer in self.writers:
                writer.watch(self.log.now)
            left = until - self.log.now
            if left <= 0:
                return
            time.sleep(min(left, WATCH_SECONDS))

    def run(self, stop: Callable[[], bool], max_seconds: float) -> None:
        """Write until `stop()` says so or the time is over, then wait for the attempts that are on their way."""
        number = 0
        while not stop() and number / self.rate < max_seconds:
            self._wait(number / self.rate)
            for series in self.series:
                writer = self._writer()
                if writer is None:
                    now = self.log.now
                    self.log.write(series, number, now, now, f"all {self.limit} connections wait for an answer")
                else:
                    writer.inbox.put((series, number))
            number += 1
        for writer in self.writers:
            writer.inbox.put(None)
        over = self.log.now + self.deadline + GRACE_SECONDS
        while any(writer.is_alive() for writer in self.writers) and self.log.now < over:
            self._wait(self.log.now + WATCH_SECONDS)
