# Apache License 2.0 (see LICENSE)
"""The gateway's table as Kong's declarative configuration (3.x, without a database). Pure functions.

Kong splits requests between the targets of one upstream only. So each service becomes one upstream, which has the hosts of all upstreams
of the service as targets, with weights that give each upstream its share.
"""

from __future__ import annotations

import math
import re
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.gateway_model import (
    HIGHEST_WEIGHT,
    METHODS,
    RateLimit,
    Route,
    Service,
    Table,
)

FORMAT_VERSION = "3.0"
REQUEST_ID = "X-Request-ID"
ALGORITHMS = {"round_robin": "round-robin", "least_requests": "least-connections"}
PORTS = {"http": 80, "https": 443}
#: What a host that fails answers, or a proxy in front of it. Not 500: that is the answer of a program that works.
FAILURES = [502, 503, 504]


def render(table: Table, gateways: int = 1, traces_url: str = "", service_name: str = "kong") -> dict[str, Any]:
    """The configuration. `gateways`: how many share the rate limits; `traces_url`: OTLP over HTTP, empty for none."""
    ordered = table.in_order()
    ranks = {route.name: rank for rank, route in enumerate(reversed(ordered))}
    services = sorted(table.services.values(), key=lambda service: service.name)
    return {
        "_format_version": FORMAT_VERSION,
        "services": [
            {
                **service_of(service),
                "routes": [
                    route_of(route, service, ranks[route.name], gateways)
                    for route in ordered
                    if route.service == service.name
                ],
            }
            for service in services
        ],
        "upstreams": [upstream_of(service, table) for service in services],
        "plugins": plugins(traces_url, service_name),
    }


def milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def plain(seconds: float) -> float:
    """Whole seconds as such: tools around Kong take nothing else for a check's times, though Kong does."""
    return int(seconds) if seconds == int(seconds) else seconds


def service_of(service: Service) -> dict[str, Any]:
    entry = {
        "name": service.name,
        "protocol": service.protocol,
        "host": service.name,  # the upstream's name
        "port": PORTS[service.protocol],  # of no account: targets have their own
        "retries": service.retries,
        "connect_timeout": milliseconds(service.connect_timeout_seconds),
        "write_timeout": milliseconds(service.idle_timeout_seconds),
        "read_timeout": milliseconds(service.idle_timeout_seconds),
    }
    if service.tls:
        # Against lua_ssl_trusted_certificate of kong.conf, because certificates in here would have to be given in full.
        entry["tls_verify"] = service.tls.verify
    return entry


def route_of(route: Route, service: Service, rank: int, gateways: int) -> dict[str, Any]:
    """Every route has methods and its path as an expression: only then is it regex_priority alone that decides between the routes of
    a kind of host (names before wildcards before any, as in the table). Otherwise a route with methods stands before a longer path.
    """
    entry: dict[str, Any] = {
        "name": route.name,
        "protocols": ["http", "https"],
        "methods": list(route.methods or METHODS),
        "paths": [path_of(route)],
        "regex_priority": rank,
        "strip_path": route.strip_path,
        # The name that is verified is the one that is asked for, and then it can't be the client's.
        "preserve_host": not (service.tls and service.tls.server_name),
        "response_buffering": False,  # answers of models come in pieces, over minutes
    }
    if route.hosts:
        entry["hosts"] = list(route.hosts)
    if route.rate_limit:
        entry["plugins"] = [rate_limiting(route.rate_limit, gateways)]
    return entry


def path_of(route: Route) -> str:
    path = re.escape(route.path).replace(r"\-", "-").replace(r"\~", "~").replace(r"\/", "/")
    if route.exact:
        return f"~{path}$"
    return "~/" if route.path == "/" else f"~{path}(?:/|$)"


def rate_limiting(limit: RateLimit, gateways: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        limit.per: limit.of_one(gateways),
        "limit_by": {"client": "ip", "route": "service", "header": "header"}[limit.by],
        # Without a database the other policy is one Redis server: Kong follows neither a cluster's redirections nor sentinels.
        "policy": "local",
        "fault_tolerant": True,
        "hide_client_headers": False,
        "error_code": 429,
    }
    if limit.by == "header":
        config["header_name"] = limit.header
    return {"name": "rate-limiting", "config": config}


def upstream_of(service: Service, table: Table) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": service.name,
        "algorithm": ALGORITHMS[service.balance],
        "hash_on": "none",
        "healthchecks": health_checks(service),
        "targets": [{"target": target, "weight": weight} for target, weight in targets(service, table).items()],
    }
    if service.tls and service.tls.server_name:
        entry["host_header"] = service.tls.server_name
    return entry


def targets(service: Service, table: Table) -> dict[str, int]:
    """Weight of each host, so that each upstream gets its share and its hosts theirs of that.

    A host's weight says how much of its upstream's requests it gets, so the upstreams are brought to one sum first. Small numbers: Kong
    makes a wheel with as many places as the weights' sum. A host that is to get requests gets some, whatever is rounded.
    """
    sums = {
        share.upstream: sum(host.weight for host in table.upstreams[share.upstream].hosts) for share in service.shares
    }
    common = math.lcm(*(total for total in sums.values() if total))
    weights: dict[str, int] = {}
    for share in service.shares:
        for host in table.upstreams[share.upstream].hosts:
            part = share.weight * host.weight * (common // (sums[share.upstream] or 1))
            weights[host.target] = weights.get(host.target, 0) + part
    divisor = math.gcd(*weights.values()) or 1
    weights = {target: weight // divisor for target, weight in weights.items()}
    most = max(weights.values(), default=0)
    if most <= HIGHEST_WEIGHT:
        return weights
    return {target: max(1, weight * HIGHEST_WEIGHT // most) if weight else 0 for target, weight in weights.items()}


def health_checks(service: Service) -> dict[str, Any]:
    """Of zero failures Kong makes "not checked"."""
    active, passive = service.active_check, service.passive_check
    failures = passive.failures if passive else 0
    checks: dict[str, Any] = {
        "passive": {
            "type": service.protocol,
            "healthy": {"successes": 0},
            "unhealthy": {
                "http_failures": failures,
                "tcp_failures": failures,
                "timeouts": failures,
                "http_statuses": FAILURES,
            },
        }
    }
    if active:
        statuses = sorted(set(active.statuses))
        checks["active"] = {
            "type": service.protocol,
            "http_path": active.path,
            "timeout": plain(active.timeout_seconds),
            "healthy": {
                "interval": plain(active.interval_seconds),
                "successes": active.healthy_after,
                "http_statuses": statuses,
            },
            "unhealthy": {
                "interval": plain(active.interval_seconds),
                "http_failures": active.unhealthy_after,
                "tcp_failures": active.unhealthy_after,
                "timeouts": active.unhealthy_after,
                # Every other status: one that is in neither list would say nothing.
                "http_statuses": [status for status in range(200, 600) if status not in statuses],
            },
        }
        if service.tls:
            checks["active"]["https_verify_certificate"] = service.tls.verify
            if service.tls.server_name:
                checks["active"]["https_sni"] = service.tls.server_name
    return checks


def plugins(traces_url: str, service_name: str) -> list[dict[str, Any]]:
    """Of every request."""
    made: list[dict[str, Any]] = [
        {
            "name": "correlation-id",
            "config": {"header_name": REQUEST_ID, "generator": "uuid", "echo_downstream": True},
        },
        {
            "name": "prometheus",
            "config": {
                "per_consumer": False,
                "status_code_metrics": True,
                "latency_metrics": True,
                "bandwidth_metrics": True,
                "upstream_health_metrics": True,
            },
        },
    ]
    if traces_url:
        made.append(
            {
                "name": "opentelemetry",
                "config": {
                    "traces_endpoint": traces_url,
                    "resource_attributes": {"service.name": service_name},
                    # Whoever traced before the gateway goes on being the parent; otherwise the trace begins here.
                    "propagation": {"default_format": "w3c", "extract": ["w3c"], "inject": ["w3c"]},
                },
            }
        )
    return made
