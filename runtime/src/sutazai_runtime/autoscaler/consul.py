"""Consul: keys with values, and the lock that makes one of several autoscalers the one that decides."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from sutazai_runtime.autoscaler.http_api import Answer, Api, Refused, Unreachable

log = logging.getLogger(__name__)


class Consul:
    """The parts of an agent's API that are needed here."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def _ask(self, method: str, path: str, body: Any = None, also: tuple[int, ...] = ()) -> Answer:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.api.request(method, path, data)
        if not answer.ok and answer.status not in also:
            raise Refused(
                answer.status,
                f"Consul answers {answer.status} to {method} {path.partition('?')[0]}: {answer.text[:200]}",
            )
        return answer

    # Reads are consistent: what another one wrote before it lost the lock has to be seen.

    def get(self, key: str) -> str | None:
        """A key's value, None if there is no such key."""
        answer = self._ask("GET", f"{_path(key)}?consistent=&raw=", also=(404,))
        return None if answer.status == 404 else answer.body.decode(errors="replace")

    def tree(self, prefix: str) -> dict[str, str]:
        """All keys that begin so, without that beginning."""
        answer = self._ask("GET", f"{_path(prefix)}?recurse=&consistent=", also=(404,))
        if answer.status == 404:
            return {}
        return {
            entry["Key"].removeprefix(prefix): base64.b64decode(entry["Value"] or "").decode(errors="replace")
            for entry in answer.data
        }

    def put(self, key: str, value: str) -> None:
        self._ask("PUT", _path(key), value.encode())

    def delete(self, key: str) -> None:
        self._ask("DELETE", _path(key))

    def create_session(self, name: str, ttl_seconds: int, lock_delay_seconds: int) -> str:
        # No health checks: a suspicion among the agents shall not cost the lock of one that works. The time to live is enough.
        session = {
            "Name": name,
            "TTL": f"{ttl_seconds}s",
            "LockDelay": f"{lock_delay_seconds}s",
            "Behavior": "release",
            "NodeChecks": [],
        }
        return str(self._ask("PUT", "/v1/session/create", session).data["ID"])

    def renew(self, session: str) -> bool:
        """Whether there is still such a session."""
        return self._ask("PUT", f"/v1/session/renew/{session}", also=(404,)).ok

    def destroy(self, session: str) -> None:
        self._ask("PUT", f"/v1/session/destroy/{session}")

    def acquire(self, key: str, session: str, value: str) -> bool:
        return self._ask("PUT", f"{_path(key)}?acquire={session}", value.encode()).data is True

    def release(self, key: str, session: str) -> None:
        self._ask("PUT", f"{_path(key)}?release={session}")

    def holder(self, key: str) -> str:
        """The session that has the lock; empty if none has."""
        answer = self._ask("GET", f"{_path(key)}?consistent=", also=(404,))
        return "" if answer.status == 404 else str(answer.data[0].get("Session", ""))

    def put_locked(self, key: str, value: str, lock: str, session: str) -> bool:
        """Write if, at that moment, the session has the lock; whether it was so."""
        operations = [
            {"KV": {"Verb": "check-session", "Key": lock, "Session": session}},
            {"KV": {"Verb": "set", "Key": key, "Value": base64.b64encode(value.encode()).decode()}},
        ]
        return self._ask("PUT", "/v1/txn", operations, also=(409,)).ok


def _path(key: str) -> str:
    return f"/v1/kv/{quote(key, safe='/')}"


class Lock:
    """The right to decide.

    It is mine for the session's time to live after the last renewal began, not longer, whether Consul can be asked or not; Consul gives
    it to nobody else before. Who works calls `keep` more often than that, and asks `held` before each change.

    The delay, for requests of one that has vanished, is none for another one that asked in the very moment when the session ended. So it
    isn't relied on: writes go through `put_locked`, and a service is changed as it was read or not at all.
    """

    def __init__(
        self,
        consul: Consul,
        key: str,
        who: str,
        ttl_seconds: int = 15,
        lock_delay_seconds: int = 15,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.consul = consul
        self.key = key
        self.who = who
        self.ttl_seconds = ttl_seconds
        self.lock_delay_seconds = lock_delay_seconds
        self.clock = clock
        self.session = ""
        self._mine = False
        self._renewed = self._tried = -float("inf")

    @property
    def held(self) -> bool:
        return self._mine and self.clock() < self._renewed + self.ttl_seconds

    def keep(self) -> bool:
        """Renew the lock or try to get it, if it is time for that; whether it is held."""
        now = self.clock()
        if self._mine and not self.held:
            self.lose("it couldn't be renewed in time")
        if now - self._tried >= self.ttl_seconds / 3:
            self._tried = now
            try:
                self._renew(now)
            except (Unreachable, Refused) as error:
                log.warning("The lock %s can't be %s: %s", self.key, "renewed" if self._mine else "asked for", error)
        return self.held

    def _renew(self, now: float) -> None:
        if self.session and not self.consul.renew(self.session):
            self.lose("its session is gone")
        if not self.session:
            self.session = self.consul.create_session("sutazai-autoscaler", self.ttl_seconds, self.lock_delay_seconds)
        if self._mine:
            # Somebody may have deleted the key: the session lives on then, and the lock is free.
            if self.consul.holder(self.key) != self.session:
                self.lose("another one has it, or its key was deleted")
                return
            self._renewed = now
        elif self.consul.acquire(self.key, self.session, self.who):
            self._mine = True
            self._renewed = now
            log.info("This one decides now: it has the lock %s.", self.key)

    def lose(self, why: str) -> None:
        """Stop having it. The session isn't used again: nobody knows what became of it."""
        if self._mine:
            log.warning("This one doesn't decide any more, the lock %s is lost: %s.", self.key, why)
        self._mine = False
        self.session = ""

    def stand_aside(self) -> None:
        """Give it to another one, if there is one, that asks within the time to live."""
        self.release()
        self._tried = self.clock() + self.ttl_seconds

    def release(self) -> None:
        """Give it to another one without the delay that protects from one that may still be at work."""
        session, mine = self.session, self._mine
        self._mine, self.session = False, ""
        if not session:
            return
        try:
            if mine:
                self.consul.release(self.key, session)
                log.info("The lock %s is given back.", self.key)
            self.consul.destroy(session)
        except (Unreachable, Refused) as error:
            log.warning("The lock %s can't be given back, it will be free when its session ends: %s", self.key, error)
