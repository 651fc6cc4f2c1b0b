from __future__ import annotations

import io
import threading

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.failover_probe import Driver, Log, sentence
from ansible_collections.sutazai.platform.plugins.module_utils.failover_records import Events, judge, parse


class Store:
    """What sessions write to. From record `silent[0]` on it takes records without an answer, up to `silent[1]`."""

    def __init__(self, silent=(0, 0), refused=()):
        self.silent, self.refused = silent, refused
        self.kept: list[int] = []
        self.sessions = 0
        self.closed = 0
        self.lock = threading.Lock()

    def connect(self):
        with self.lock:
            self.sessions += 1
        return StoreSession(self)


class StoreSession:
    def __init__(self, store):
        self.store = store
        self.severed = threading.Event()

    def write(self, _series, number):
        if number in self.store.refused:
            raise ConnectionRefusedError("nobody\n  there")
        if self.store.silent[0] <= number < self.store.silent[1]:
            self.severed.wait(30)
            raise EOFError
        with self.store.lock:
            self.store.kept.append(number)

    def cut(self):
        self.severed.set()

    def close(self):
        with self.store.lock:
            self.store.closed += 1


def run(store, rate=50.0, seconds=1.0, deadline=0.2, series=("one",), stop=lambda: False, **more):
    file = io.StringIO()
    log = Log(file)
    log.begin("test", [{"name": name} for name in series], rate, deadline)
    Driver(store.connect, list(series), log, rate, deadline, **more).run(stop, seconds)
    log.end()
    return parse(file.getvalue().splitlines())


def test_every_record_is_attempted_once_at_its_time():
    store = Store()
    known = run(store)
    writes = sorted(known.series[0].writes, key=lambda write: write.number)
    assert [write.number for write in writes] == list(range(50)) == sorted(store.kept)
    assert all(write.acknowledged for write in writes)
    # Due times don't drift: a busy machine makes single ones late, but not all of the last ten.
    late = [write.began - write.number / 50 for write in writes]
    assert min(late) > -0.001  # what is written down is rounded
    assert min(late[-10:]) < 0.1
    # A connection is used again, but for what a busy machine has held up.
    assert store.sessions < len(writes) / 2


def test_a_silent_store_does_not_slow_the_writer_down():
    """Open loop: while ten attempts wait, the next ones are made when they are due, on other connections."""
    store = Store(silent=(10, 20))
    known = run(store)
    writes = {write.number: write for write in known.series[0].writes}
    assert len(writes) == 50 and {number for number, write in writes.items() if not write.acknowledged} == set(
        range(10, 20)
    )
    assert all(writes[number].error == "no answer within 0.2 s" for number in range(10, 20))
    assert all(0.2 <= writes[number].ended - writes[number].began < 0.5 for number in range(10, 20))
    assert writes[20].began == pytest.approx(0.4, abs=0.15)
    gap = judge(known, Events())["longest_gap_seconds"]
    assert gap < 0.4, "answers came again before the silent ones were given up"
    assert store.closed == store.sessions


def test_without_a_free_connection_an_attempt_fails_at_once():
    known = run(Store(silent=(0, 50)), writers=2)
    errors = [write.error for write in known.series[0].writes]
    assert len(errors) == 50 and "all 2 connections wait for an answer" in errors


def test_a_refused_writer_connects_anew():
    store = Store(refused={3, 4, 5})
    known = run(store)
    failed = [write for write in known.series[0].writes if not write.acknowledged]
    assert [write.number for write in failed] == [3, 4, 5]
    assert {write.error for write in failed} == {"ConnectionRefusedError: nobody there"}
    assert store.sessions >= 4


def test_each_series_gets_every_number():
    known = run(Store(), series=("wait", "plain"))
    assert [sorted(write.number for write in one.writes) for one in known.series] == [list(range(50))] * 2


def test_it_stops_when_told():
    store = Store()
    known = run(store, seconds=60, stop=lambda: len(store.kept) >= 5)
    assert 5 <= len(known.series[0].writes) < 50 and known.ended < 5


def test_an_error_in_one_line():
    assert sentence(OSError("a\n b")) == "OSError: a b"
    assert sentence(EOFError()) == "EOFError"
    assert len(sentence(OSError("x" * 999))) < 200
