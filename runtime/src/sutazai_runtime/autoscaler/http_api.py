"""JSON over HTTP: to an address, with or without TLS, or to a Unix socket.

The standard library does all that is needed; a request is a connection of its own, so nothing is left over from one that failed.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Less than a third of the lock's time to live: one that hangs doesn't cost the lock.
TIMEOUT_SECONDS = 4.0


class Unreachable(Exception):
    """Nothing answers, or not in time."""


class Refused(Exception):
    """An answer, but not the one that was asked for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def data(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Refused(self.status, f"The answer is no JSON: {self.text[:200]}") from error

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace").strip()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


@dataclass(frozen=True)
class Tls:
    """Files; those of a certificate only where the server asks for one."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""

    def context(self) -> ssl.SSLContext:
        for path in (self.ca_file, self.cert_file, self.key_file):
            if path:
                # OpenSSL's own complaint doesn't say which file.
                Path(path).open("rb").close()
        context = ssl.create_default_context(cafile=self.ca_file or None)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file or None)
        return context


class Api:
    """What is served at `http://…`, `https://…` or `unix:///…`. The files are read anew each time: they may be renewed."""

    def __init__(
        self,
        url: str,
        tls: Tls | None = None,
        headers: Callable[[], Mapping[str, str]] = dict,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self.url = url.rstrip("/")
        self.tls = tls or Tls()
        self.headers = headers
        self.timeout = timeout

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "unix":
            return _UnixConnection(parts.path, self.timeout)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=self.timeout, context=self.tls.context()
            )
        return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self.timeout)

    def request(self, method: str, path: str, body: bytes | None = None) -> Answer:
        headers = {"Accept": "application/json", "Connection": "close", **self.headers()}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection = self._connection()
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                return Answer(response.status, response.read())
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.url} doesn't answer: {str(error) or type(error).__name__}") from error


def read_secret(path: str) -> str:
    """What a file holds, without the line's end. Read for each use, so that a rotated one needs no restart."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Unreachable(f"{path} can't be read: {error.strerror}") from error
