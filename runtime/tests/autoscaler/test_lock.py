"""One of several decides: locks of a real Consul, with TLS and a token that may do no more than it must."""

from __future__ import annotations

import time
import uuid

import pytest

from sutazai_runtime.autoscaler.consul import Consul, Lock
from sutazai_runtime.autoscaler.http_api import Api, Refused, Tls, Unreachable, read_secret

NOWHERE = Consul(Api("https://127.0.0.1:1"))


@pytest.fixture
def consul(agent):
    return Consul(Api(agent.url, Tls(agent.ca_file), lambda: {"X-Consul-Token": read_secret(str(agent.token_file))}))


@pytest.fixture
def key():
    """A lock that no other test knows: a delay outlives its test."""
    return f"autoscaler/{uuid.uuid4()}"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def until(what, seconds=20.0):
    """Ask again and again; how long it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds, "it doesn't happen"
        time.sleep(0.05)
    return time.monotonic() - began


def asking(lock, clock):
    """Ask for the lock as if it were always time for it."""

    def ask():
        clock.now += lock.ttl_seconds / 3
        return lock.keep()

    return ask


def test_one_has_it_and_gives_it_back_without_a_delay(consul, key):
    first, second = (Lock(consul, key, name, 10, 15) for name in ("first", "second"))
    assert first.keep()
    assert consul.get(key) == "first"
    assert not second.keep()
    assert first.held and not second.held
    first.release()
    assert not first.held
    # It asked a moment ago; a new one asks at once.
    third = Lock(consul, key, "third", 10, 15)
    assert third.keep()
    third.release()


def test_what_nobody_renews_goes_to_another_one_after_the_delay(consul, key):
    clock = Clock()
    silent, other = Lock(consul, key, "silent", 1, 4), Lock(consul, key, "other", 10, 4, clock)
    assert silent.keep()
    assert not other.keep()
    # It isn't asked for while the session ends: Consul keeps no delay for a request that was on its way then.
    assert until(lambda: not consul.holder(key)) > 0.9, "before the time to live was over"
    began = time.monotonic()
    assert not asking(other, clock)()
    until(asking(other, clock))
    assert time.monotonic() - began > 2, "before the delay was over"
    assert not silent.held, "the time to live is over"
    assert not silent.keep(), "the other one has it"
    other.release()


def test_a_session_that_was_ended_is_noticed_and_keeps_others_waiting_for_the_delay(consul, key):
    clocks = Clock(), Clock()
    first, second = (
        Lock(consul, key, name, 10, 1, clock) for name, clock in zip(("first", "second"), clocks, strict=True)
    )
    assert first.keep()
    began = time.monotonic()
    consul.destroy(first.session)
    clocks[0].now += 1
    assert first.keep(), "it can't know yet"
    clocks[0].now += 3
    assert not first.keep()
    until(asking(second, clocks[1]))
    assert time.monotonic() - began >= 1
    second.release()


def test_a_lock_whose_key_was_deleted_is_lost(consul, key):
    clock = Clock()
    lock = Lock(consul, key, "first", 10, 0, clock)
    assert lock.keep()
    consul.delete(key)
    clock.now += 4
    assert not lock.keep()
    assert until(asking(lock, clock)) < 20
    lock.release()


def test_without_consul_it_is_held_for_the_time_to_live_and_not_longer(consul, key, caplog):
    clock = Clock()
    lock = Lock(consul, key, "first", 12, 0, clock)
    assert lock.keep()
    lock.consul = NOWHERE
    clock.now += 4
    assert lock.keep()
    clock.now += 7.9
    assert lock.held
    clock.now += 0.2
    assert not lock.held
    assert not lock.keep()
    assert "can't be renewed: https://127.0.0.1:1 doesn't answer" in caplog.text
    assert "it couldn't be renewed in time" in caplog.text
    lock.consul = consul
    # The session of before still has it in Consul's view; only its end makes it free.
    clock.now += 4
    assert not lock.keep()
    lock.release()


def test_renewing_prolongs_it(consul, key):
    clock = Clock()
    lock = Lock(consul, key, "first", 12, 0, clock)
    for _ in range(5):
        assert lock.keep()
        clock.now += 4
    assert lock.held
    lock.release()
    lock.release()


def test_only_who_has_the_lock_may_write(consul, key):
    lock = Lock(consul, key, "first", 10, 0)
    assert lock.keep()
    assert consul.put_locked(f"{key}/state", "Grüße", key, lock.session)
    session = lock.session
    lock.release()
    assert not consul.put_locked(f"{key}/state", "late", key, session)
    assert consul.get(f"{key}/state") == "Grüße"


def test_keys_and_values(consul, key):
    assert consul.get(key) is None
    assert consul.tree(f"{key}/") == {}
    for name, value in {"a b": "1", "ü": "", "deep/er": '{"x": 1}'}.items():
        consul.put(f"{key}/{name}", value)
    assert consul.tree(f"{key}/") == {"a b": "1", "ü": "", "deep/er": '{"x": 1}'}
    consul.delete(f"{key}/a b")
    assert consul.get(f"{key}/a b") is None


def test_what_is_not_allowed_or_not_trusted_says_so(agent, consul, tmp_path):
    with pytest.raises(Refused, match="Consul answers 403 to PUT /v1/kv/other"):
        consul.put("other", "x")
    untrusted = Consul(Api(agent.url))
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        untrusted.get("autoscaler/x")
    with pytest.raises(Unreachable, match=r"none\.pem"):
        Consul(Api(agent.url, Tls(str(tmp_path / "none.pem")))).get("autoscaler/x")


def test_a_node_that_reports_needs_its_own_key_only(agent):
    token = agent.make_token("reporter", 'key "autoscaler/usage/node-1" { policy = "write" }')
    consul = Consul(Api(agent.url, Tls(agent.ca_file), lambda: {"X-Consul-Token": read_secret(str(token))}))
    consul.put("autoscaler/usage/node-1", "{}")
    consul.delete("autoscaler/usage/node-1")
    for refused in (lambda: consul.put("autoscaler/usage/node-2", "{}"), lambda: consul.put("autoscaler/hold", "x")):
        with pytest.raises(Refused, match="403"):
            refused()


def test_a_lock_that_can_not_be_asked_for_is_not_held(caplog):
    lock = Lock(NOWHERE, "autoscaler/lock", "first")
    assert not lock.keep()
    assert "The lock autoscaler/lock can't be asked for" in caplog.text
    lock.release()
