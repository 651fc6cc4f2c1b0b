"""Docker: a Swarm's services on a manager, and a node's own containers.

A client of our own instead of Docker's Python package: that one puts a changed service together from the fields that it knows, and
drops those that a newer engine has added. Here the service goes back as it came, with another number in one place.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from sutazai_runtime.autoscaler.http_api import Answer, Api, Refused

#: `services?status` and `stats?one-shot` came with it (Docker 20.10).
OLDEST_VERSION = (1, 41)

LABEL = "swarm.autoscaler"
MINIMUM_LABEL = "swarm.autoscaler.minimum"
MAXIMUM_LABEL = "swarm.autoscaler.maximum"
SERVICE_LABEL = "com.docker.swarm.service.name"

#: Each change of a service makes what was before it what an update is rolled back to. A change of the number in the midst of an update
#: would make the new, perhaps broken image the one to go back to.
BUSY = {
    "updating": "an update is under way",
    "paused": "an update is paused; finish it or roll it back",
    "rollback_started": "an update is being rolled back",
    "rollback_paused": "a rollback is paused; finish it",
}


class Changed(Exception):
    """Somebody else has changed the service meanwhile."""


@dataclass(frozen=True)
class Service:
    """A service that can have more or fewer replicas."""

    id: str
    name: str
    version: int
    replicas: int
    running: int
    spec: Mapping[str, Any]
    #: Why it may not be touched now, or at all; empty if it may.
    hold: str = ""
    minimum: int | None = None
    maximum: int | None = None


def read_service(document: Mapping[str, Any]) -> Service:
    """A service as the engine describes it, with its managed range."""
    spec = document["Spec"]
    name = spec["Name"]
    labels = spec.get("Labels") or {}
    mode = spec.get("Mode") or {}
    replicas = (mode.get("Replicated") or {}).get("Replicas")
    state = (document.get("UpdateStatus") or {}).get("State", "")
    hold = ""
    limits: dict[str, int | None] = {}
    for label in (MINIMUM_LABEL, MAXIMUM_LABEL):
        value = labels.get(label)
        limits[label] = int(value) if value and value.isascii() and value.isdigit() else None
        if value is not None and limits[label] is None:
            hold = f'the service\'s label {label} is "{value}"; it must be a whole number.'
    if replicas is None:
        hold = f"the service's mode is {', '.join(mode) or 'unknown'}; only replicated ones have a number."
    elif labels.get(LABEL) != "true":
        hold = f'the service has no label {LABEL} with the value "true"; set it to have the service managed.'
    elif state in BUSY:
        hold = f"{BUSY[state]} ({(document['UpdateStatus'].get('Message') or state)})."
    return Service(
        document["ID"],
        name,
        document["Version"]["Index"],
        replicas or 0,
        (document.get("ServiceStatus") or {}).get("RunningTasks", 0),
        spec,
        hold,
        limits[MINIMUM_LABEL],
        limits[MAXIMUM_LABEL],
    )


def with_replicas(spec: Mapping[str, Any], replicas: int) -> dict[str, Any]:
    """The same service with another number."""
    changed = copy.deepcopy(dict(spec))
    changed["Mode"]["Replicated"]["Replicas"] = replicas
    return changed


class Engine:
    """This host's engine."""

    def __init__(self, socket_path: str, timeout: float = 4.0) -> None:
        self.api = Api(f"unix://{socket_path}", timeout=timeout)
        self._version = ""

    def version(self) -> str:
        """The newest version that the engine speaks. An older one would hide fields, which then got lost."""
        if not self._version:
            newest = self._checked(self.api.request("GET", "/version"), "/version").data["ApiVersion"]
            if tuple(int(part) for part in newest.split(".")) < OLDEST_VERSION:
                raise Refused(400, f"The engine's API is {newest}, too old; Docker 20.10 is the oldest that will do.")
            self._version = newest
        return self._version

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        data = None if body is None else json.dumps(body).encode()
        return self._checked(self.api.request(method, f"/v{self.version()}{path}", data), path)

    @staticmethod
    def _checked(answer: Answer, path: str) -> Answer:
        if answer.ok:
            return answer
        try:
            message = answer.data["message"]
        except (Refused, KeyError, TypeError):
            message = answer.text
        raise Refused(answer.status, f"The engine answers {answer.status} to {path.partition('?')[0]}: {message[:300]}")

    def services(self) -> dict[str, Service]:
        """All services by name; only a manager knows them."""
        documents = self.request("GET", "/services?status=true").data
        return {document["Spec"]["Name"]: read_service(document) for document in documents}

    def scale(self, service: Service, replicas: int) -> None:
        """Change the number of the service as it was read; nothing is changed if it has been changed since."""
        path = f"/services/{service.id}/update?{urlencode({'version': service.version})}"
        try:
            self.request("POST", path, with_replicas(service.spec, replicas))
        except Refused as refused:
            if "out of sequence" in str(refused):
                raise Changed(f"{service.name} was changed by somebody else at the same time.") from refused
            raise

    def containers(self) -> list[tuple[str, str]]:
        """(id, service) of the containers of Swarm services that run on this host."""
        filters = json.dumps({"label": [SERVICE_LABEL], "status": ["running"]})
        found = self.request("GET", f"/containers/json?{urlencode({'filters': filters})}").data
        return [(container["Id"], container["Labels"][SERVICE_LABEL]) for container in found]

    def cpu_limit(self, container: str) -> float:
        """How many processors a container may use; 0 is no limit."""
        return cpu_limit(self.request("GET", f"/containers/{container}/json").data)

    def cpu_seconds(self, container: str) -> float:
        """How much processor time a container has used so far."""
        stats = self.request("GET", f"/containers/{container}/stats?stream=false&one-shot=true").data
        return float(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def cpu_limit(document: Mapping[str, Any]) -> float:
    host = document["HostConfig"]
    if host.get("NanoCpus"):
        return float(host["NanoCpus"]) / 1e9
    if (host.get("CpuQuota") or 0) > 0:
        return float(host["CpuQuota"]) / (host.get("CpuPeriod") or 100_000)
    return 0.0
