# Apache License 2.0 (see LICENSE)
"""Talks to PostgreSQL, through psycopg or psycopg2, and never lets others wait long for a lock.

Who waits for a strong lock makes everybody wait that comes after, so waiting is cut off (lock_timeout) and tried again; and who has one
gives it up when the work takes too long (statement_timeout over what is left of the time).
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_partition import Step
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_ranges import qualified

DRIVER_ERROR = None
try:
    import psycopg as driver
except ImportError:
    try:
        import psycopg2 as driver
    except ImportError:
        driver = None
        DRIVER_ERROR = traceback.format_exc()

LOCK_NOT_AVAILABLE, DEADLOCK, CANCELED = "55P03", "40P01", "57014"
TRY_AGAIN = (LOCK_NOT_AVAILABLE, DEADLOCK, CANCELED)
OVERRUNS = 5  # so often may the work under a lock take too long


class DatabaseError(Exception):
    """PostgreSQL refused something, or isn't there."""


@dataclass(frozen=True)
class Limits:
    """How long others may be kept waiting, and how long we try."""

    lock_timeout_ms: int = 200
    max_lock_ms: int = 500
    lock_wait_seconds: float = 300.0


def code_of(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or "")


class Session:
    """One connection; every statement is its own transaction unless within `transaction`."""

    def __init__(self, **parameters: Any) -> None:
        try:
            self.connection = driver.connect(
                **{name: value for name, value in parameters.items() if value not in (None, "")}
            )
        except driver.Error as error:
            where = parameters.get("host") or "the local socket"
            raise DatabaseError(
                f"Can't connect to the database {parameters.get('dbname')} on {where}, port {parameters.get('port')}: {str(error).strip()}"
            ) from error
        self.connection.autocommit = True
        if hasattr(self.connection, "prepare_threshold"):
            self.connection.prepare_threshold = None
        # Statements quote names and literals by the standard's rules.
        self.run("SET standard_conforming_strings = on")

    def close(self) -> None:
        self.connection.close()

    def run(self, statement: str) -> int:
        """Run one statement, return how many rows it was about."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.rowcount

    def rows(self, query: str, parameters: Sequence[Any] | None = None) -> list[tuple]:
        with self.connection.cursor() as cursor:
            cursor.execute(query, parameters)
            return [tuple(row) for row in cursor.fetchall()]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        # Read committed, whatever the database's default is: after a wait for a lock, the latest is to be seen.
        self.run("BEGIN ISOLATION LEVEL READ COMMITTED")
        try:
            yield
            self.run("COMMIT")
        except BaseException:
            if not self.connection.closed:
                self.run("ROLLBACK")
            raise

    def replica(self) -> bool:
        return bool(self.rows("SELECT pg_is_in_recovery()")[0][0])

    def alone(self, schema: str, table: str, seconds: float) -> bool:
        """Keep others like us from the table until the end of the session. One that was killed may take a moment to go."""
        until = time.monotonic() + seconds
        while True:
            key = f"sutazai.platform.postgresql_partition {qualified(schema, table)}"
            if self.rows("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (key,))[0][0]:
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(0.2)

    def once(self, step: Step, limits: Limits) -> int:
        """One attempt at a step. Returns for how many milliseconds its locks were held, at most."""
        if not step.transaction:
            return self._outside_transaction(step, limits)
        began = None
        with self.transaction():
            self.run(f"SET LOCAL lock_timeout = {int(limits.lock_timeout_ms)}")
            for index, statement in enumerate(step.statements):
                if index >= step.free:
                    began = began or time.monotonic()
                    # The first lock may also be waited for.
                    allowed = limits.max_lock_ms + limits.lock_timeout_ms
                    left = allowed - (time.monotonic() - began) * 1000
                    self.run(f"SET LOCAL statement_timeout = {max(int(left), 1)}")
                self.run(statement)
            # A commit waits for the synchronous replica, and must not be told to stop doing so.
            self.run("SET LOCAL statement_timeout = 0")
        return round((time.monotonic() - (began or time.monotonic())) * 1000)

    def _outside_transaction(self, step: Step, limits: Limits) -> int:
        for statement in step.statements:
            # To detach concurrently means to wait for all who use the partition; nobody waits for that, and half of it can be resumed.
            wait = 0 if statement.endswith(" CONCURRENTLY") else int(limits.lock_timeout_ms)
            self.run(f"SET lock_timeout = {wait}")
            self.run(f"SET statement_timeout = {int(limits.lock_wait_seconds * 1000) if not wait else 0}")
            try:
                self.run(statement)
            finally:
                self.run("RESET lock_timeout")
                self.run("RESET statement_timeout")
        return 0

    def repeat(self, step: Step, limits: Limits, schema: str, table: str, between: Any = None) -> int:
        """Attempts at a step until one succeeds, with `between` before each further one. Raises DatabaseError when none does."""
        until = time.monotonic() + limits.lock_wait_seconds
        overruns, pause = 0, 0.1
        while True:
            try:
                return self.once(step, limits)
            except driver.Error as error:
                code = code_of(error)
                overruns += code == CANCELED
                if code not in TRY_AGAIN:
                    raise DatabaseError(f"PostgreSQL refused to {step.says}: {str(error).strip()}") from error
                if overruns >= OVERRUNS:
                    raise DatabaseError(
                        f"It takes longer than max_lock_ms ({limits.max_lock_ms}) to {step.says}, while others wait for {step.lock}; "
                        "nothing was changed by it. Raise max_lock_ms, and run it when they can wait"
                    ) from error
                if time.monotonic() >= until:
                    raise DatabaseError(
                        f"To {step.says}, {step.lock} is needed, which wasn't to be had within {limits.lock_wait_seconds:.0f} s"
                        f"{self._holders(schema, table)}. End those transactions, or raise lock_wait_seconds; what is done so far is kept"
                    ) from error
            time.sleep(pause)
            pause = min(pause * 2, 2.0)
            if between:
                between()

    def _holders(self, schema: str, table: str) -> str:
        found = self.rows(
            """
            SELECT DISTINCT activity.pid, activity.usename::text, activity.application_name,
                   extract(epoch FROM clock_timestamp() - activity.xact_start)::int
            FROM pg_locks AS locks JOIN pg_stat_activity AS activity USING (pid)
            WHERE locks.granted AND activity.pid <> pg_backend_pid() AND activity.xact_start IS NOT NULL
              AND locks.relation IN (SELECT to_regclass(%s)::oid UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(%s))
            ORDER BY 4 DESC LIMIT 3
            """,
            (qualified(schema, table), qualified(schema, table)),
        )
        told = [
            f"process {pid} (user {user}, {name or 'no application name'}, for {age} s)"
            for pid, user, name, age in found
        ]
        return f"; transactions that hold locks on it: {', '.join(told)}" if told else ""
