"""The registrar at work: the engine's events say when to look, and every look compares all there is."""

from __future__ import annotations

import json
import logging
import ssl
import threading
from typing import Any
from urllib.parse import quote

import httpx

from sutazai_runtime.registrar.registrations import PREFIX, change, wanted
from sutazai_runtime.registrar.settings import RegistrarSettings
from sutazai_runtime.settings import CannotStart, ConsulSettings, read_secret

log = logging.getLogger(__name__)

# Docker 20.10 speaks it, and newer ones too.
ENGINE = "http://engine/v1.41"
EVENTS = ("start", "die", "health_status")
PAUSE_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0


class Failed(Exception):
    """Docker or Consul didn't do what was asked. The message is for people."""


class Registrar:
    def __init__(self, settings: RegistrarSettings, consul: ConsulSettings) -> None:
        self.settings, self.consul_settings = settings, consul
        self.engine = self._engine(TIMEOUT_SECONDS)
        verify = ssl.create_default_context(cafile=consul.ca_file) if consul.ca_file else True
        self.consul = httpx.Client(base_url=consul.url, timeout=TIMEOUT_SECONDS, verify=verify, trust_env=False)
        self.look, self.ended = threading.Event(), threading.Event()
        self._complaint = ""
        self._wrong: set[str] = set()

    def _engine(self, timeout: float | None) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=str(self.settings.docker_socket))
        return httpx.Client(base_url=ENGINE, transport=transport, timeout=timeout)

    def run(self) -> None:
        """Until `end`. What is registered stays: the host's containers go on without a registrar."""
        threading.Thread(target=self._follow, name="events", daemon=True).start()
        while not self.ended.is_set():
            self.look.clear()
            try:
                self.once()
                self._say("")
                pause = self.settings.interval_seconds
            except Failed as error:
                self._say(str(error))
                pause = PAUSE_SECONDS
            self.look.wait(pause)

    def end(self) -> None:
        self.ended.set()
        self.look.set()

    def _say(self, complaint: str) -> None:
        """Once, not every second."""
        if complaint and complaint != self._complaint:
            log.warning("%s; trying again", complaint)
        elif self._complaint and not complaint:
            log.info("it works again")
        self._complaint = complaint

    def once(self) -> None:
        """Bring Consul in step. Raises Failed."""
        node, token = self.settings.node, self._token()
        want, wrong = wanted(self._containers(), self.settings.address, node, token)
        for each in {str(each) for each in wrong} - self._wrong:
            log.warning("%s", each)
        self._wrong = {str(each) for each in wrong}
        difference = change(want, self._known(token), node)
        for key in difference.deregister:
            self._consul(token, "PUT", f"/v1/agent/service/deregister/{quote(key)}")
            log.info("%s is gone", key)
        for made in difference.register:
            self._consul(token, "PUT", "/v1/agent/service/register?replace-existing-checks", made)
            log.info("%s is at %s:%d", made["ID"], made["Address"], made["Port"])

    def _containers(self) -> list[dict[str, Any]]:
        filters = json.dumps({"status": ["running"]})
        try:
            answer = self.engine.get("/containers/json", params={"filters": filters})
            answer.raise_for_status()
            found: list[dict[str, Any]] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Failed(f"Docker doesn't answer at {self.settings.docker_socket}: {error}") from error
        return [each for each in found if any(label.startswith(PREFIX) for label in each.get("Labels") or {})]

    def _token(self) -> str:
        """Read each time, so that a replaced one needs no restart."""
        file = self.consul_settings.token_file
        try:
            return read_secret(file, "SUTAZAI_CONSUL_TOKEN_FILE") if file else ""
        except CannotStart as error:
            raise Failed(str(error)) from error

    def _known(self, token: str) -> dict[str, dict[str, Any]]:
        known: dict[str, dict[str, Any]] = self._consul(token, "GET", "/v1/agent/services").json()
        return known

    def _consul(self, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
        headers = {"X-Consul-Token": token} if token else {}
        try:
            answer = self.consul.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Failed(f"Consul doesn't answer at {self.consul_settings.url}: {error}") from error
        if answer.status_code == httpx.codes.NOT_FOUND and "/deregister/" in path:
            return answer  # Consul was quicker: it had been critical for long enough
        if not answer.is_success:
            raise Failed(f"Consul answers {answer.status_code} to {method} {path}: {answer.text.strip()[:200]}")
        return answer

    def _follow(self) -> None:
        """Look as soon as something has happened."""
        filters = json.dumps({"type": ["container"], "event": list(EVENTS)})
        while not self.ended.is_set():
            try:
                with (
                    self._engine(None) as engine,
                    engine.stream("GET", "/events", params={"filters": filters}) as events,
                ):
                    self.look.set()  # what happened before
                    for _line in events.iter_lines():
                        self.look.set()
            except httpx.HTTPError:
                pass  # the next look says so
            self.ended.wait(PAUSE_SECONDS)
