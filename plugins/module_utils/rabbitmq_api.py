# Apache License 2.0 (see LICENSE)
"""Talking to RabbitMQ: its management API over HTTPS, and its command line where the API can't help."""

from __future__ import annotations

import json
import shutil
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from ansible.module_utils.urls import open_url

# The options of the fragment sutazai.platform.rabbitmq.
CONNECTION_ARGUMENTS = {
    "url": {"type": "str"},
    "other_urls": {"type": "list", "elements": "str", "default": []},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "ca_file": {"type": "path"},
    "timeout_seconds": {"type": "int", "default": 15},
}

# All queues with their members and how many messages they hold, without collecting statistics.
QUEUES = "/api/queues?disable_stats=true&enable_queue_totals=true"


class ApiUnreachable(Exception):
    """Nothing, or no RabbitMQ, answers at the address."""


class ApiRefused(Exception):
    """RabbitMQ answers, but not with what was asked for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def path(*segments: str) -> str:
    """An API path; what is in a segment can't leave it: the virtual host / is %2F."""
    return "/api/" + "/".join(quote(segment, safe="") for segment in segments)


class Api:
    """The management API of one node. What it reads and changes is the cluster's.

    A node in maintenance mode closes its API too; so there may be other nodes to ask.
    """

    def __init__(
        self, urls: list[str], username: str, password: str, ca_file: str | None = None, timeout: int = 15
    ) -> None:
        self.urls = [url.rstrip("/") for url in urls]
        self.answers: str | None = None
        self.username = username
        self.password = password
        self.ca_file = ca_file
        self.timeout = timeout

    @classmethod
    def of_module(cls, parameters: dict[str, Any]) -> Api:
        urls = [parameters["url"], *(url for url in parameters["other_urls"] if url != parameters["url"])]
        return cls(
            urls, parameters["username"], parameters["password"], parameters["ca_file"], parameters["timeout_seconds"]
        )

    def request(self, method: str, api_path: str, body: Any = None) -> Any:
        """Ask the first node that answers, and stay with it."""
        failures = []
        for url in self.urls if self.answers is None else [self.answers]:
            try:
                answer = self._request(url, method, api_path, body)
            except ApiUnreachable as failure:
                failures.append(str(failure))
            except ApiRefused:
                self.answers = url
                raise
            else:
                self.answers = url
                return answer
        raise ApiUnreachable("; ".join(failures))

    def _request(self, url: str, method: str, api_path: str, body: Any) -> Any:
        try:
            response = open_url(
                url + api_path,
                method=method,
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
                url_username=self.username,
                url_password=self.password,
                force_basic_auth=True,
                ca_path=self.ca_file,
                timeout=self.timeout,
                http_agent="sutazai.platform",
                use_proxy=False,
            )
            text = response.read()
        except HTTPError as error:
            raise ApiRefused(error.code, f"{method} {api_path}: {error.code} {_reason(error)}") from None
        except (URLError, OSError) as error:
            raise ApiUnreachable(f"{url}: {getattr(error, 'reason', error)}") from None
        return json.loads(text) if text else None

    def get(self, api_path: str) -> Any:
        return self.request("GET", api_path)

    def is_administrator(self) -> bool:
        """Whether the credentials are those of an administrator; False when they are refused."""
        try:
            tags = self.get("/api/whoami").get("tags", [])
        except ApiRefused as refused:
            if refused.status in (401, 403):
                return False
            raise
        return "administrator" in (tags.split(",") if isinstance(tags, str) else tags)


def _reason(error: HTTPError) -> str:
    try:
        answer = json.loads(error.read())
        return str(answer.get("reason") or answer.get("error") or "")
    except (ValueError, AttributeError, OSError):
        return ""


class CommandFailed(Exception):
    """A command of RabbitMQ's own command line failed."""


class CommandLine:
    """RabbitMQ's tools on this host; they reach every node whose Erlang cookie is this host's."""

    def __init__(self, module: Any, tool: str = "rabbitmqctl") -> None:
        self.module = module
        self.tool = tool

    @staticmethod
    def installed() -> bool:
        return shutil.which("rabbitmqctl", path="/usr/sbin:/usr/bin:/sbin:/bin") is not None

    def run(self, *arguments: str, node: str | None = None, timeout: int = 60) -> str:
        """Run the tool. Every user of the host can read its arguments: no secret may be among them."""
        command = [f"/usr/sbin/{self.tool}", "--quiet", "--timeout", str(timeout)]
        if node:
            command += ["--node", node]
        rc, out, err = self.module.run_command([*command, *arguments])
        if rc != 0:
            lines = [line.strip() for line in (err.strip() or out.strip()).splitlines() if line.strip()]
            raise CommandFailed(
                f"{self.tool} {arguments[0]}{f' on {node}' if node else ''}: {' '.join(lines[:3]) or f'exit code {rc}'}"
            )
        return out

    def read(self, *arguments: str, node: str | None = None, timeout: int = 60) -> Any:
        out = self.run(*arguments, "--formatter", "json", node=node, timeout=timeout)
        # Warnings may precede the document.
        start = min((position for position in (out.find("{"), out.find("[")) if position >= 0), default=-1)
        if start < 0:
            raise CommandFailed(f"{self.tool} {arguments[0]} printed no JSON: {out[:200]}")
        return json.loads(out[start:])
