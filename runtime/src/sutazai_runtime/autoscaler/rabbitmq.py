"""How many messages wait in RabbitMQ's queues, from its management API."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from sutazai_runtime.autoscaler.decision import Missing, Reading
from sutazai_runtime.autoscaler.http_api import Api, Refused, Tls, Unreachable, read_secret

#: Messages are counted without collecting the statistics of rates, which cost the broker much more.
TOTALS = "disable_stats=true&enable_queue_totals=true"
#: Three nodes that swallow all packets shall not cost the lock.
TIMEOUT_SECONDS = 3.0


class RabbitMQ:
    """A cluster: the first node that answers is asked, and the next time it is asked first."""

    def __init__(self, urls: Sequence[str], username: str, password_file: str, tls: Tls | None = None) -> None:
        def headers() -> Mapping[str, str]:
            pair = base64.b64encode(f"{username}:{read_secret(password_file)}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}

        self.nodes = [Api(url, tls, headers, TIMEOUT_SECONDS) for url in urls]

    def queues(self, virtual_host: str) -> Any:
        """The queues of a virtual host, as RabbitMQ describes them."""
        path = f"/api/queues/{quote(virtual_host, safe='')}?{TOTALS}"
        failures = []
        for node in list(self.nodes):
            try:
                answer = node.request("GET", path)
            except Unreachable as error:
                failures.append(str(error))
                continue
            if answer.ok:
                self.nodes.sort(key=lambda other: other is not node)
                return answer.data
            if answer.status in (401, 403):
                raise Refused(
                    answer.status,
                    f"{node.url} refuses the user ({answer.status}); it needs the tag management and "
                    f'permissions, be they for nothing ("^$"), in the virtual host "{virtual_host}".',
                )
            if answer.status == 404:
                raise Refused(404, f'{node.url} knows no virtual host "{virtual_host}".')
            # A node that starts or stops answers with an error; another one may do better.
            failures.append(f"{node.url} answers {answer.status}")
        raise Unreachable("; ".join(failures))


def queue_length(document: Any, wanted: Sequence[str], at: float) -> Reading | Missing:
    """The messages that wait for a consumer in all wanted queues together.

    A queue whose leader is away is described without numbers; then it isn't known how many wait, rather than none.
    """
    if not isinstance(document, list) or not all(isinstance(queue, dict) and "name" in queue for queue in document):
        return Missing("RabbitMQ's answer is no list of queues")
    found: dict[str, dict[str, Any]] = {}
    for pattern in wanted:
        matching = {queue["name"]: queue for queue in document if fnmatchcase(queue["name"], pattern)}
        if not matching:
            return Missing(f'RabbitMQ has no queue "{pattern}"')
        found |= matching
    silent = sorted(name for name, queue in found.items() if not _is_count(queue.get("messages_ready")))
    if silent:
        states = ", ".join(f"{name} ({found[name].get('state', 'in an unknown state')})" for name in silent[:5])
        return Missing(f"RabbitMQ doesn't say how many messages wait in {states}")
    return Reading(float(sum(queue["messages_ready"] for queue in found.values())), at)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
