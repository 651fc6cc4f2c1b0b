# Apache License 2.0 (see LICENSE)
"""Talk to a Consul agent's HTTP API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError

from ansible.module_utils.urls import open_url

# The options of the fragment sutazai.platform.consul.
CONNECTION_ARGUMENTS: dict[str, dict[str, Any]] = {
    "url": {"type": "str", "default": "http://127.0.0.1:8500"},
    "token": {"type": "str", "no_log": True},
    "ca_file": {"type": "path"},
    "client_cert": {"type": "path"},
    "client_key": {"type": "path"},
    "timeout_seconds": {"type": "int", "default": 10},
}


class Unreachable(Exception):
    """No agent answers at the address."""


class Refused(Exception):
    """The agent answered with an error that nothing here expects."""


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def missing(self) -> bool:
        """Whether what was asked for doesn't exist: 404, or 403 with the message that older agents give instead."""
        return self.status == 404 or (self.status == 403 and "ACL not found" in self.text)

    @property
    def retriable(self) -> bool:
        """Whether it says "not yet": no leader, the ACL system still starting, a follower that lags behind."""
        return self.status in (429, 500, 502, 503, 504)

    @property
    def data(self) -> Any:
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text


class ConsulApi:
    """One agent's API."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self.url = parameters["url"].rstrip("/")
        self.token = parameters.get("token")
        self.options = {
            "ca_path": parameters.get("ca_file"),
            "client_cert": parameters.get("client_cert"),
            "client_key": parameters.get("client_key"),
            "timeout": parameters.get("timeout_seconds") or 10,
        }

    def request(self, method: str, path: str, body: Any = None, anonymous: bool = False) -> Answer:
        """`body` is sent as JSON, bytes as they are."""
        headers = {"Content-Type": "application/json"}
        if self.token and not anonymous:
            headers["X-Consul-Token"] = self.token
        try:
            with open_url(
                f"{self.url}{path}",
                method=method,
                data=body if body is None or isinstance(body, bytes) else json.dumps(body).encode(),
                headers=headers,
                use_proxy=False,
                **self.options,
            ) as response:
                return Answer(response.status, response.read().decode())
        except HTTPError as error:
            return Answer(error.code, error.read().decode(errors="replace").strip())
        except (URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(f"No Consul agent answers at {self.url} ({reason})") from error

    def demand(self, answer: Answer, failure: str) -> Answer:
        """The answer if it is none of an error; `failure` says what the error means, as the beginning of a sentence."""
        if not answer.ok:
            raise Refused(f"{failure} at {self.url}: {answer.status} {answer.text}")
        return answer

    def get(self, path: str, anonymous: bool = False) -> Answer:
        return self.request("GET", path, anonymous=anonymous)

    def put(self, path: str, body: Any = None, anonymous: bool = False) -> Answer:
        return self.request("PUT", path, body, anonymous=anonymous)

    def delete(self, path: str) -> Answer:
        return self.request("DELETE", path)


def patiently(attempt: Callable[[], Any], seconds: float, pause: float = 0.5) -> Any:
    """Repeat an attempt that raises Unreachable, or returns a retriable answer, until the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            result = attempt()
            if not (isinstance(result, Answer) and result.retriable) or time.monotonic() >= deadline:
                return result
        except Unreachable:
            if time.monotonic() >= deadline:
                raise
        time.sleep(pause)
