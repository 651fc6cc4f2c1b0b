# Apache License 2.0 (see LICENSE)
"""Talks to Patroni's REST API. An answer is a pair: the parsed body (None when there is none) and what went wrong ("" if nothing)."""

from __future__ import annotations

import json
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.urls import open_url
from ansible_collections.sutazai.platform.plugins.module_utils.patroni import describe, judge, replication_states

# The options of the fragment sutazai.platform.patroni, and those of sutazai.platform.patroni.client.
REST_OPTIONS: dict[str, dict] = {
    "members": {"type": "dict", "required": True},
    "port": {"type": "int", "default": 8008},
    "ca_file": {"type": "path"},
    "timeout_seconds": {"type": "int", "default": 5},
}
CLIENT_OPTIONS: dict[str, dict] = {
    "cert_file": {"type": "path"},
    "key_file": {"type": "path"},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
}


class Rest:
    def __init__(self, params: dict, username: str | None = None, password: str | None = None) -> None:
        self.members: dict[str, str] = {str(name): str(address) for name, address in params["members"].items()}
        self.port = params["port"]
        self.ca_file = params.get("ca_file")
        self.client = {"client_cert": params.get("cert_file"), "client_key": params.get("key_file")}
        self.timeout = params["timeout_seconds"]
        self.credentials = (
            {"url_username": username, "url_password": password, "force_basic_auth": True} if username else {}
        )

    def url(self, name: str, path: str) -> str:
        return f"{'https' if self.ca_file else 'http'}://{self.members[name]}:{self.port}{path}"

    def ask(
        self, name: str, path: str, method: str = "GET", body: Any = None, timeout: float | None = None
    ) -> tuple[Any, str]:
        try:
            response = open_url(
                self.url(name, path),
                method=method,
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
                timeout=timeout or self.timeout,
                ca_path=self.ca_file,
                use_proxy=False,
                **(self.credentials | self.client if method != "GET" else {}),
            )
            content = to_text(response.read())
        except Exception as error:  # pylint: disable=broad-except
            # Whatever keeps a member from answering is a finding about the member, not a crash of ours.
            content = to_text(error.read()) if hasattr(error, "read") and getattr(error, "fp", None) else ""
            if method == "GET" and content.startswith("{"):
                return json.loads(content), ""
            if isinstance(error, ssl.SSLError):
                return None, f"TLS: {error}"
            return None, f"{getattr(error, 'reason', error)}{': ' + content.strip() if content.strip() else ''}"
        try:
            return (json.loads(content) if content[:1] in ("{", "[") else content), ""
        except ValueError:
            return None, f"not JSON: {content[:80]}"

    def look(self, **limits: Any) -> dict[str, Any]:
        """The whole cluster, judged."""
        with ThreadPoolExecutor(max_workers=max(1, min(16, len(self.members)))) as pool:
            answers = dict(zip(self.members, pool.map(lambda name: self.ask(name, "/patroni"), self.members)))
        cluster: dict | None = None
        for name, (status, _error) in answers.items():
            if isinstance(status, dict):
                listing, problem = self.ask(name, "/cluster")
                if not problem and isinstance(listing, dict):
                    cluster = listing
                    break
        listed = {str(member.get("name")): member for member in (cluster or {}).get("members") or []}
        statuses = {name: status if isinstance(status, dict) else None for name, (status, _error) in answers.items()}
        streaming = replication_states(statuses)
        members = [
            describe(name, address, statuses[name], answers[name][1], listed.get(name), streaming.get(name, ""))
            for name, address in self.members.items()
        ]
        return judge(members, cluster, **limits)

    def wait(self, seconds: float, done: Any, **limits: Any) -> dict[str, Any]:
        """Look until `done(result)` or the time is over; the last result."""
        deadline = time.monotonic() + seconds
        while True:
            result = self.look(**limits)
            if done(result) or time.monotonic() >= deadline:
                return result
            time.sleep(1)
