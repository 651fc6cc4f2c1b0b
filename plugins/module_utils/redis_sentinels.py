# Apache License 2.0 (see LICENSE)
"""Talking to the Redis servers of one master and to the sentinels beside them."""

from __future__ import annotations

import time
from collections.abc import Callable

from ansible_collections.sutazai.platform.plugins.module_utils import redis_nodes
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import Node
from ansible_collections.sutazai.platform.plugins.module_utils.redis_nodes import NodeError
from ansible_collections.sutazai.platform.plugins.module_utils.redis_sentinel_state import (
    CHANGING,
    MASTER,
    REPLICA,
    Sentinel,
    Server,
    World,
    elected,
    handed_over,
    pairs,
    sentinel,
    sentinel_of,
    server,
)

POLL_SECONDS = 0.3
# From the sentinel's order to the replica's promotion. Meanwhile writes wait; a sentinel gives up later than that.
PAUSE_SECONDS = 3.0
QUICK_SECONDS = 0.05
SYNC_SECONDS = 1.0


def argument_spec(**more: dict) -> dict:
    """The options of the fragments sutazai.platform.redis and sutazai.platform.redis_sentinel, and a module's own."""
    return redis_nodes.argument_spec(
        removed_nodes={"type": "list", "elements": "dict", "default": [], "options": redis_nodes.NODE_OPTIONS},
        sentinel_port={"type": "int", "default": 26379},
        master_name={"type": "str", "default": "redis"},
        **more,
    )


class HandoverFailed(Exception):
    """No replica took over; the text says why, and who is master."""


class Connections(redis_nodes.Connections):
    """One client per server and per sentinel. Sentinels are called as sentinel_of() does."""

    def __init__(self, parameters: dict) -> None:
        super().__init__(parameters)
        self.master_name, self.port = parameters["master_name"], parameters["sentinel_port"]
        self.servers = dict(self.by_name)
        for node in self.servers.values():
            self.by_name[sentinel_of(node.name)] = Node(sentinel_of(node.name), node.host, self.port)

    def look(self) -> World:
        """What all servers and sentinels say."""
        names = list(self.servers)
        found = self.every(self._ask, [*names, *map(sentinel_of, names)])
        return World(
            servers=dict(zip(names, found[: len(names)], strict=True)),
            sentinels=dict(zip(names, found[len(names) :], strict=True)),
        )

    def _ask(self, name: str) -> Server | Sentinel:
        return self._server(name) if name in self.servers else self._sentinel(name)

    def _server(self, name: str) -> Server:
        node = self.by_name[name]
        try:
            info = str(self.call(name, "INFO"))
        except NodeError as error:
            return Server(name, node.address, error=str(error))
        if "cluster_enabled:1" in info:
            return Server(name, node.address, error=f"{name} ({node.address}) runs in cluster mode.")
        return server(node, info)

    def _sentinel(self, title: str) -> Sentinel:
        node = self.by_name[title]
        name = title.removeprefix(sentinel_of(""))
        try:
            masters = [pairs(one) for one in self.call(title, "SENTINEL", "MASTERS")]
            master = next((one for one in masters if one.get("name") == self.master_name), None)
            if master is None:
                return sentinel(name, node.address, None)
            sentinels, replicas = self.ask(
                title, [("SENTINEL", "SENTINELS", self.master_name), ("SENTINEL", "REPLICAS", self.master_name)]
            )
            return sentinel(name, node.address, master, sentinels, replicas)
        except NodeError as error:
            return Sentinel(name, node.address, error=str(error))

    # --------------------------------------------------------------------------------------------------------- handover

    def hand_over(self, old: str, timeout_seconds: float, began: Callable[[], None] = lambda: None) -> str:
        """Let a replica take over from the master `old`, without losing a write: its name. Or HandoverFailed.

        SENTINEL FAILOVER answers OK before anything happened, promotes a replica whatever the master still takes, and makes the old master a
        replica only seconds later. So writes are held while the replica gets the last ones and until it is master, and the old one is told
        at once whom to follow. `began` is called when the first order was given.
        """
        until = time.monotonic() + timeout_seconds
        why = ""
        while time.monotonic() < until:
            world = self.look()
            why = self._not_ready(world, old)
            if not why:
                new, why = self._try(world, old, began)
                if new:
                    self._finish(old, new, until)
                    return new
            time.sleep(POLL_SECONDS)
        raise HandoverFailed(f"{old} is still the master after {timeout_seconds:.0f} s: {why}")

    def _not_ready(self, world: World, old: str) -> str:
        members = [node.name for node in self.nodes]
        replicas = [one for one in world.servers.values() if one.role == REPLICA]
        if world.servers[old].error:
            return world.servers[old].error
        if not replicas:
            return "it has no replica that answers."
        late = [one.name for one in replicas if one.master != world.servers[old].address or not one.link_up]
        if late:
            return f"{', '.join(late)} isn't in sync with it."
        for name in members:
            beside = world.sentinels[name]
            if beside.error:
                continue
            if beside.master != elected(world) or beside.flags & CHANGING:
                return f"{sentinel_of(name)} is in the middle of a failover."
        return ""

    def _try(self, world: World, old: str, began: Callable[[], None]) -> tuple[str, str]:
        """One handover: (who took over, "") or ("", why nobody did)."""
        replicas = [one.name for one in world.servers.values() if one.role == REPLICA]
        helper = next((node.name for node in self.nodes if not world.sentinels[node.name].error), "")
        if not helper:
            return "", "no sentinel answers."
        period = world.sentinels[helper].options.get("down-after-milliseconds", "5000")
        pause = min(PAUSE_SECONDS, int(period) / 2000)
        stop = time.monotonic() + pause
        # Sentinels publish through the master, which counts as a write: longer, and they would take it for dead.
        self.call(old, "CLIENT", "PAUSE", round(pause * 1000), "WRITE")
        try:
            if not self._in_sync(old, replicas, min(stop, time.monotonic() + SYNC_SECONDS)):
                return "", "its replicas don't get the last writes."
            began()
            self.call(sentinel_of(helper), "SENTINEL", "FAILOVER", self.master_name)
            while True:
                new = next((one for one in replicas if self._server(one).role == MASTER), "")
                if new:
                    self._follow(old, new)
                    return new, ""
                if time.monotonic() > stop:
                    # As long as a promotion may still come, what the old master takes would be lost.
                    if not self._sentinel(sentinel_of(helper)).flags & CHANGING:
                        return "", "the sentinel gave up before a replica was promoted."
                    stop = time.monotonic() + pause
                    self.call(old, "CLIENT", "PAUSE", round(pause * 1000), "WRITE")
                time.sleep(QUICK_SECONDS)
        except NodeError as error:
            # INPROG, NOGOODSLAVE: the sentinel says it.
            return "", str(error)
        finally:
            self.call(old, "CLIENT", "UNPAUSE")

    def _in_sync(self, old: str, replicas: list[str], until: float) -> bool:
        """Whether all replicas have what the master has, now that it takes no more."""
        while time.monotonic() < until:
            offset = self._server(old).offset
            if all(one.link_up and one.offset >= offset for one in map(self._server, replicas)):
                return True
            time.sleep(QUICK_SECONDS)
        return False

    def _follow(self, old: str, new: str) -> None:
        """What a sentinel does to an old master, at once: clients have to connect anew, and find the new one."""
        node = self.by_name[new]
        self.ask(
            old,
            [
                ("REPLICAOF", node.host, node.port),
                ("CONFIG", "REWRITE"),
                ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
                ("CLIENT", "KILL", "TYPE", "pubsub"),
            ],
        )

    def _finish(self, old: str, new: str, until: float) -> None:
        while True:
            why = handed_over(self.look(), [node.name for node in self.nodes], old, new)
            if not why:
                return
            if time.monotonic() > until:
                raise HandoverFailed(f"{new} took over from {old}, but not everybody knows it in time: {why}")
            time.sleep(POLL_SECONDS)
