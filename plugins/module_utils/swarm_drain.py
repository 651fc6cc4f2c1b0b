# Apache License 2.0 (see LICENSE)
"""Waiting until drained nodes of a Swarm have nothing left to do."""

from __future__ import annotations

import time

from ansible_collections.sutazai.platform.plugins.module_utils.docker_engine import Engine
from ansible_collections.sutazai.platform.plugins.module_utils.swarm_removal import services_on, unsettled
from ansible_collections.sutazai.platform.plugins.module_utils.swarm_state import Node


class NotSettled(Exception):
    """What ran on drained nodes doesn't run elsewhere in time."""


def running_on(engine: Engine, nodes: list[Node]) -> set[str]:
    """To be asked before the nodes are drained: afterwards nobody knows what ran there."""
    return services_on(nodes, engine.get("/tasks")) if nodes else set()


def settle(engine: Engine, nodes: list[Node], watched: set[str], seconds: int) -> None:
    """Wait until nothing runs on these nodes and the watched services are whole without them."""
    deadline = time.monotonic() + seconds
    while problems := unsettled(nodes, engine.get("/tasks"), engine.get("/services?status=true"), watched):
        if time.monotonic() >= deadline:
            raise NotSettled(
                f"after {seconds} s the nodes that were drained aren't done ({'; '.join(problems)}). They stay drained, so "
                "nothing new comes to them: see `docker service ps` for what keeps it from running elsewhere (room, constraints, "
                "an image that is missing), then run this again"
            )
        time.sleep(1)
