# Apache License 2.0 (see LICENSE)
"""The gateway's upstreams, services and routes as objects, and which route answers a request. Pure functions.

Two engines are made from them, so they can say only what both do, and what both do alike:

- A route has one path and hosts of one kind, because Kong orders routes by the kind of all their hosts and the longest of their paths.
- Prefixes end at a slash: `/v1` takes `/v1` and `/v1/tasks`, not `/v10`.
- Which of several matching routes answers is said by `Route.order` and told to both engines; see `same_match` for what is refused.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
#: What may be sent again though it may have been carried out already.
IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE")
PERIOD_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
#: Kong's limit for the weight of a target.
HIGHEST_WEIGHT = 65535


@dataclass(frozen=True)
class Host:
    address: str
    port: int
    weight: int = 1

    @property
    def is_name(self) -> bool:
        return not is_address(self.address)

    @property
    def target(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True)
class Upstream:
    """Hosts that are taken in and out of service together, such as one version of a program."""

    name: str
    hosts: tuple[Host, ...]


@dataclass(frozen=True)
class Share:
    """How much of a service's requests an upstream gets, in proportion to the other weights of the service."""

    upstream: str
    weight: int


@dataclass(frozen=True)
class Tls:
    server_name: str = ""
    verify: bool = True


@dataclass(frozen=True)
class ActiveCheck:
    path: str
    interval_seconds: float = 5
    timeout_seconds: float = 2
    healthy_after: int = 2
    unhealthy_after: int = 3
    statuses: tuple[int, ...] = (200,)


@dataclass(frozen=True)
class PassiveCheck:
    failures: int = 5
    ejection_seconds: float = 30


@dataclass(frozen=True)
class Service:
    """What is behind routes, and how it is talked to."""

    name: str
    shares: tuple[Share, ...]
    protocol: str = "http"
    balance: str = "round_robin"
    connect_timeout_seconds: float = 2
    idle_timeout_seconds: float = 60
    retries: int = 2
    tls: Tls | None = None
    active_check: ActiveCheck | None = None
    passive_check: PassiveCheck | None = None


@dataclass(frozen=True)
class RateLimit:
    """Requests of all gateways together."""

    requests: int
    per: str = "second"
    by: str = "client"
    header: str = ""

    def of_one(self, gateways: int) -> int:
        """Each gateway counts for itself, and they get the requests in turn."""
        return -(-self.requests // max(1, gateways))


@dataclass(frozen=True)
class Route:
    name: str
    service: str
    path: str = "/"
    exact: bool = False
    hosts: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    strip_path: bool = False
    #: Requests may be sent again after they were sent, whatever their method: what is behind knows them by their id.
    repeatable: bool = False
    rate_limit: RateLimit | None = None

    @property
    def order(self) -> tuple[int, int, int, bool, bool]:
        """The highest of all matching routes answers: a host's name before a wildcard before any host, the longest wildcard and the
        longest path first, an exact path before the prefix of the same length, some methods before any method.

        Of nested prefixes the longer one is the narrower one, so lengths can stand for how narrow a route is.
        """
        wildcard = len(self.hosts[0]) if self.hosts and self.hosts[0].startswith("*") else 0
        kind = 0 if not self.hosts else 1 if wildcard else 2
        return kind, wildcard, len(self.path), self.exact, bool(self.methods)

    def takes_path(self, path: str) -> bool:
        return path == self.path or (not self.exact and (self.path == "/" or path.startswith(f"{self.path}/")))

    def takes_host(self, host: str) -> bool:
        return not self.hosts or any(within(host, pattern) for pattern in self.hosts)

    def takes(self, method: str, host: str, path: str) -> bool:
        return self.takes_path(path) and self.takes_host(host) and (not self.methods or method in self.methods)


@dataclass(frozen=True)
class Table:
    upstreams: dict[str, Upstream]
    services: dict[str, Service]
    routes: tuple[Route, ...]

    def in_order(self) -> list[Route]:
        """Routes as they are to be tried. Those that can't match one request are sorted by name, so that the order of the table, and of
        what is made from it, says nothing."""
        return sorted(self.routes, key=lambda route: (tuple(-int(part) for part in route.order), route.name))

    def choose(self, method: str, host: str, path: str) -> Route | None:
        return next((route for route in self.in_order() if route.takes(method, host, path)), None)


def within(host: str, pattern: str) -> bool:
    """Whether a host, or a wildcard, is what the pattern means. `*.a.b` takes `x.a.b` and `*.x.a.b`, and isn't within itself alone."""
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]) and len(host) > len(pattern[1:]))


def same_match(one: Route, other: Route) -> bool:
    """Whether nothing says which of the two answers a request that both take.

    That is so when they have a host in common (the same name, the same wildcard, or both any), the same path of the same kind, and a
    method in common (or both any). A route for some methods stands before one for any, and so do longer paths, exact paths and names of
    hosts: those overlaps are how a table is meant to be written.
    """
    hosts = bool(set(one.hosts) & set(other.hosts)) if one.hosts and other.hosts else one.hosts == other.hosts
    methods = (
        bool(set(one.methods) & set(other.methods))
        if one.methods and other.methods
        else bool(one.methods) == bool(other.methods)
    )
    return hosts and methods and (one.path, one.exact) == (other.path, other.exact)


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
