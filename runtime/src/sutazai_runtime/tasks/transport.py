"""How Celery logs in at RabbitMQ: the password is read whenever it connects.

So a new password needs no restart. A user of RabbitMQ has one password: while it is being changed the file has the new one in its first line and the
one before it in the next, and whoever is refused with the one tries the other. A worker that couldn't connect would lose a task that is to be
repeated: Celery gives it up when it can't publish it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from amqp.exceptions import AccessRefused
from kombu.transport import TRANSPORT_ALIASES, pyamqp

from sutazai_runtime.settings import read_secrets

OPTION = "password_file"


class Transport(pyamqp.Transport):
    """As kombu's, which it is for connections without the option."""

    client: Any

    def establish_connection(self) -> Any:
        file = self.client.transport_options.get(OPTION)
        passwords = read_secrets(Path(file), "SUTAZAI_RABBITMQ_PASSWORD_FILE") if file else [self.client.password]
        for password in passwords[:-1]:
            with contextlib.suppress(AccessRefused):
                return self._establish(password)
        return self._establish(passwords[-1])

    def _establish(self, password: str) -> Any:
        # Celery's pools know connections by their password, among others: it stays as it was.
        known_by, self.client.password = self.client.password, password
        try:
            return super().establish_connection()  # type: ignore[no-untyped-call]  # kombu has no types
        finally:
            self.client.password = known_by


def use() -> None:
    """In place of kombu's under its name, by which Celery and Flower know a broker that is RabbitMQ."""
    TRANSPORT_ALIASES["amqp"] = f"{__name__}:{Transport.__name__}"
