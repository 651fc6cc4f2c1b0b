# Apache License 2.0 (see LICENSE)
"""Talking to this host's Docker engine through its socket. What is secret is in the request's body, never in an argument."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode

from ansible.module_utils.urls import open_url
from ansible_collections.sutazai.platform.plugins.module_utils.swarm_state import local_of, message_of

# The oldest engine here is Debian 12's (20.10), which speaks 1.41; newer ones speak it too.
API = "http://localhost/v1.41"
IPVS_PATHS = ("proc/net/ip_vs", "sys/module/ip_vs")
CONNECTION_ARGUMENTS = {"socket": {"type": "path", "default": "/run/docker.sock"}}


class EngineUnreachable(Exception):
    """Nothing answers at the socket."""


class EngineRefused(Exception):
    """The engine answers, but not with what was asked for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def has_ipvs(root: str = "/") -> bool:
    """Whether this host's kernel has IPVS, or a module for it: the engine loads that when a service first needs it."""
    if any(os.path.exists(os.path.join(root, path)) for path in IPVS_PATHS):
        return True
    try:
        with open(os.path.join(root, "lib/modules", os.uname().release, "modules.dep"), encoding="utf-8") as modules:
            return any("/ip_vs.ko" in line.split(":")[0] for line in modules)
    except OSError:
        return False


class Engine:
    def __init__(self, socket: str) -> None:
        self.socket = socket

    def there(self) -> bool:
        return os.path.exists(self.socket)

    def request(
        self, method: str, path: str, body: Any = None, timeout: int = 60, headers: Mapping[str, str] | None = None
    ) -> Any:
        data = None if body is None else json.dumps(body)
        try:
            answer = open_url(
                API + path,
                method=method,
                data=data,
                headers={"Content-Type": "application/json", **(headers or {})},
                unix_socket=self.socket,
                timeout=timeout,
                use_proxy=False,
            ).read()
        except HTTPError as error:
            raise EngineRefused(error.code, message_of(error.code, error.read().decode(errors="replace"))) from None
        except (URLError, OSError) as error:
            raise EngineUnreachable(
                f"no Docker engine answers at {self.socket} ({error}): does docker.service run? See `journalctl -u docker`"
            ) from None
        return json.loads(answer) if answer.strip() else None

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Any:
        return self.request("GET", path, headers=headers)


def _filters(**filters: list[str]) -> str:
    return urlencode({"filters": json.dumps(filters)})


def no_swarm_yet(engine: Engine) -> bool:
    """On a fresh host in check mode, what would have brought the engine and its Swarm has only said so."""
    return not engine.there() or local_of(engine.get("/info")).state == "inactive"


def find_service(engine: Engine, name: str) -> dict[str, Any] | None:
    """A Swarm's service. The engine finds names that begin so, too."""
    found = [each for each in engine.get(f"/services?{_filters(name=[name])}") or [] if each["Spec"]["Name"] == name]
    return found[0] if found else None


def tasks_of(engine: Engine, service_id: str) -> list[dict[str, Any]]:
    return list(engine.get(f"/tasks?{_filters(service=[service_id])}") or [])


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: int) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def load_image(engine: Engine, path: str, timeout: int) -> None:
    """Give the engine a file of `docker save`. It is sent piece by piece: images are larger than what a module should hold in memory."""
    connection = _Connection(engine.socket, timeout)
    try:
        with open(path, "rb") as file:
            headers = {"Content-Type": "application/x-tar", "Content-Length": str(os.fstat(file.fileno()).st_size)}
            connection.request("POST", "/v1.41/images/load?quiet=1", file, headers)
            response = connection.getresponse()
            _refuse_errors(response.status, response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnreachable(f"the engine at {engine.socket} doesn't take {path}: {error}") from error
    finally:
        connection.close()


def pull_image(engine: Engine, name: str, login: Mapping[str, str], timeout: int) -> None:
    """Have the engine get an image from a registry. The login is in a header, which no log has."""
    connection = _Connection(engine.socket, timeout)
    try:
        connection.request("POST", f"/v1.41/images/create?{urlencode({'fromImage': name})}", headers=dict(login))
        response = connection.getresponse()
        _refuse_errors(response.status, response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        raise EngineUnreachable(f"the engine at {engine.socket} doesn't get {name}: {error}") from error
    finally:
        connection.close()


def _refuse_errors(status: int, body: str) -> None:
    """What is begun with 200 may still fail: the answer is a line for each step."""
    if status != 200:
        raise EngineRefused(status, message_of(status, body))
    for line in body.splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("error"):
            raise EngineRefused(status, str(said["error"]))
