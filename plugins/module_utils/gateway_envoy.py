# Apache License 2.0 (see LICENSE)
"""The gateway's table as Envoy's bootstrap and as the files that Envoy watches. Pure functions.

What may change while Envoy runs is in files of one resource kind each: listeners (`lds.json`), routes with their weights (`rds.json`),
clusters (`cds.json`) and the hosts of each cluster (`eds-<cluster>.json`). Envoy reads them again whenever a file is moved into their
directory. Each has the digest of its content as its version, by which it is seen whether Envoy took it.

Each upstream of each service is a cluster, because checks and timeouts are the service's.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.gateway_model import (
    IDEMPOTENT,
    PERIOD_SECONDS,
    ActiveCheck,
    PassiveCheck,
    RateLimit,
    Route,
    Service,
    Table,
    Tls,
    Upstream,
    within,
)

TYPES = "type.googleapis.com/"
LISTENER = f"{TYPES}envoy.config.listener.v3.Listener"
CLUSTER = f"{TYPES}envoy.config.cluster.v3.Cluster"
ROUTES = f"{TYPES}envoy.config.route.v3.RouteConfiguration"
HOSTS = f"{TYPES}envoy.config.endpoint.v3.ClusterLoadAssignment"
CONNECTION_MANAGER = f"{TYPES}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = f"{TYPES}envoy.extensions.filters.http.router.v3.Router"
LOCAL_RATE_LIMIT = f"{TYPES}envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
PROTOCOL_OPTIONS = f"{TYPES}envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
DOWNSTREAM_TLS = f"{TYPES}envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
UPSTREAM_TLS = f"{TYPES}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
SECRET = f"{TYPES}envoy.extensions.transport_sockets.tls.v3.Secret"
STDOUT = f"{TYPES}envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
OPENTELEMETRY = f"{TYPES}envoy.config.trace.v3.OpenTelemetryConfig"
PREVIOUS_HOSTS = f"{TYPES}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
DOWNSTREAM_CONNECTIONS = (
    f"{TYPES}envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
)

ROUTE_TABLE = "gateway"
ADMIN_CLUSTER, TRACING_CLUSTER, CERTIFICATE = "envoy_admin", "opentelemetry", "gateway_certificate"
#: A connection that failed before the request was on its way is tried again for any method.
SAFE_RETRIES = "connect-failure,refused-stream,reset-before-request"
BALANCE = {"round_robin": "ROUND_ROBIN", "least_requests": "LEAST_REQUEST"}
#: How many of an upstream's hosts may be out because requests failed; what is out because of active checks isn't counted.
MOST_EJECTED_PERCENT = 50
#: Each file, by what it holds, in the order in which additions are safe.
LISTENERS_FILE, ROUTES_FILE, CLUSTERS_FILE, CERTIFICATE_FILE = "lds.json", "rds.json", "cds.json", "sds.json"


@dataclass(frozen=True)
class Settings:
    """What a gateway has of its own, beside the table."""

    name: str = "gateway"
    address: str = "0.0.0.0"  # noqa: S104 a gateway is reached from outside; the role gives the host's address
    port: int = 8000
    admin_port: int = 9901
    status_address: str = ""
    status_port: int = 0
    directory: str = "/etc/envoy-gateway/xds"
    gateways: int = 1
    trusted_hops: int = 0
    clients_maximum: int = 10000
    connections_maximum: int = 20000
    keepalive_seconds: float = 4
    drain_seconds: int = 30
    tls_cert_file: str = ""
    tls_key_file: str = ""
    upstream_ca_file: str = ""
    traces_host: str = ""
    traces_port: int = 4318
    service_name: str = "gateway"


def render(table: Table, settings: Settings) -> dict[str, dict[str, Any]]:
    """All watched files, by name."""
    files = {
        LISTENERS_FILE: resources([listener(table, settings)]),
        ROUTES_FILE: resources([route_configuration(table)]),
        CLUSTERS_FILE: resources(clusters(table, settings)),
    }
    for service, upstream in pairs(table):
        if not by_name(upstream):
            name = cluster_name(service.name, upstream.name)
            files[hosts_file(name)] = resources([load_assignment(name, upstream)])
    if settings.tls_cert_file:
        files[CERTIFICATE_FILE] = resources([certificate(settings)])
    return files


def text_of(document: Any) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def resources(entries: list[dict[str, Any]]) -> dict[str, Any]:
    digest = hashlib.sha256(text_of(entries).encode()).hexdigest()[:16]
    return {"version_info": digest, "resources": entries}


def cluster_name(service: str, upstream: str) -> str:
    """Names have no underscores, so it can be taken apart."""
    return f"{service}_{upstream}"


def hosts_file(cluster: str) -> str:
    return f"eds-{cluster}.json"


def pairs(table: Table) -> list[tuple[Service, Upstream]]:
    """Each service with each of its upstreams, those without requests too: their hosts are to be checked before they get any."""
    return sorted(
        ((service, table.upstreams[share.upstream]) for service in table.services.values() for share in service.shares),
        key=lambda pair: cluster_name(pair[0].name, pair[1].name),
    )


def by_name(upstream: Upstream) -> bool:
    """Host names are resolved by the cluster itself; what comes by EDS has to be addresses."""
    return any(host.is_name for host in upstream.hosts)


def duration(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def from_directory(directory: str, file: str) -> dict[str, Any]:
    return {
        "resource_api_version": "V3",
        "path_config_source": {"path": f"{directory}/{file}", "watched_directory": {"path": directory}},
    }


def socket(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}


def as_one(files: dict[str, dict[str, Any]], settings: Settings) -> dict[str, Any]:
    """Bootstrap and watched files as one static configuration, for `envoy --mode validate`, which doesn't read watched files."""
    document = json.loads(json.dumps(bootstrap(settings)))
    del document["dynamic_resources"]
    static = document["static_resources"]

    def copies(file: str) -> list[dict[str, Any]]:
        entries = json.loads(json.dumps(files[file]["resources"]))
        return [{key: value for key, value in entry.items() if key != "@type"} for entry in entries]

    static["listeners"] = [*static.get("listeners", []), *copies(LISTENERS_FILE)]
    static["clusters"] = [*static.get("clusters", []), *copies(CLUSTERS_FILE)]
    for each in static["listeners"]:
        for chain in each["filter_chains"]:
            manager = chain["filters"][0]["typed_config"]
            if manager.pop("rds", None):
                manager["route_config"] = copies(ROUTES_FILE)[0]
            if "transport_socket" in chain:
                tls = chain["transport_socket"]["typed_config"]["common_tls_context"]
                del tls["tls_certificate_sds_secret_configs"]
                tls["tls_certificates"] = [copies(CERTIFICATE_FILE)[0]["tls_certificate"]]
    for each in static["clusters"]:
        if each.pop("eds_cluster_config", None):
            each.update(type="STATIC", load_assignment=copies(hosts_file(each["name"]))[0])
    return document


# Bootstrap ---------------------------------------------------------------------------------------


def bootstrap(settings: Settings) -> dict[str, Any]:
    """What needs a restart to change: where the watched files are, the administration on loopback, and the way to its harmless part."""
    static: dict[str, Any] = {}
    if settings.status_port:
        static = {"listeners": [status_listener(settings)], "clusters": [admin_cluster(settings)]}
    return {
        "node": {"id": settings.name, "cluster": "gateway"},
        "admin": {"address": socket("127.0.0.1", settings.admin_port)},
        "dynamic_resources": {
            "lds_config": from_directory(settings.directory, LISTENERS_FILE),
            "cds_config": from_directory(settings.directory, CLUSTERS_FILE),
        },
        "static_resources": static,
        "overload_manager": {
            "resource_monitors": [
                {
                    "name": "envoy.resource_monitors.global_downstream_max_connections",
                    "typed_config": {
                        "@type": DOWNSTREAM_CONNECTIONS,
                        "max_active_downstream_connections": settings.connections_maximum,
                    },
                }
            ]
        },
    }


def status_listener(settings: Settings) -> dict[str, Any]:
    """Whether it is ready, and its metrics, for others to ask. The administration itself can stop Envoy, so it stays on loopback."""
    routes = [
        {
            "match": {"path": path, "headers": [method_header(("GET", "HEAD"))]},
            "route": {"cluster": ADMIN_CLUSTER, "prefix_rewrite": rewritten},
        }
        for path, rewritten in (("/status/ready", "/ready"), ("/metrics", "/stats/prometheus"))
    ]
    manager = {
        "@type": CONNECTION_MANAGER,
        "stat_prefix": "status",
        "route_config": {
            "name": "status",
            "virtual_hosts": [{"name": "status", "domains": ["*"], "routes": routes}],
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
    }
    return {
        "name": "status",
        "address": socket(settings.status_address or settings.address, settings.status_port),
        # Whoever asks whether the gateway is ready must be answered when it has all the connections that it may have.
        "ignore_global_conn_limit": True,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def admin_cluster(settings: Settings) -> dict[str, Any]:
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": ADMIN_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket("127.0.0.1", settings.admin_port)}}]}],
        },
    }


# Listeners ---------------------------------------------------------------------------------------


def listener(table: Table, settings: Settings) -> dict[str, Any]:
    chain: dict[str, Any] = {
        "filters": [
            {
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": connection_manager(table, settings),
            }
        ]
    }
    if settings.tls_cert_file:
        chain["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": DOWNSTREAM_TLS,
                "common_tls_context": {
                    "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
                    "alpn_protocols": ["h2", "http/1.1"],
                    "tls_certificate_sds_secret_configs": [
                        {"name": CERTIFICATE, "sds_config": from_directory(settings.directory, CERTIFICATE_FILE)}
                    ],
                },
            },
        }
    return {
        "@type": LISTENER,
        "name": "gateway",
        "address": socket(settings.address, settings.port),
        "per_connection_buffer_limit_bytes": 1048576,
        "filter_chains": [chain],
    }


def certificate(settings: Settings) -> dict[str, Any]:
    """Renewed certificates are moved into their directory, and then read again."""
    return {
        "@type": SECRET,
        "name": CERTIFICATE,
        "tls_certificate": {
            "certificate_chain": {"filename": settings.tls_cert_file},
            "private_key": {"filename": settings.tls_key_file},
            "watched_directory": {"path": settings.tls_cert_file.rpartition("/")[0]},
        },
    }


def connection_manager(table: Table, settings: Settings) -> dict[str, Any]:
    filters = []
    if any(route.rate_limit for route in table.routes):
        filters.append({"name": "envoy.filters.http.local_ratelimit", "typed_config": rate_limits(table, settings)})
    filters.append({"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}})
    manager: dict[str, Any] = {
        "@type": CONNECTION_MANAGER,
        "stat_prefix": "gateway",
        "rds": {
            "route_config_name": ROUTE_TABLE,
            "config_source": from_directory(settings.directory, ROUTES_FILE),
        },
        "http_filters": filters,
        # The client is who the last proxy that is trusted names.
        "use_remote_address": True,
        # Nobody in front is one of us, wherever he comes from: headers that steer Envoy itself aren't taken.
        "internal_address_config": {},
        "xff_num_trusted_hops": settings.trusted_hops,
        # One id from the edge on: what is there is kept, and the client gets to know it.
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "normalize_path": True,
        "merge_slashes": True,
        "common_http_protocol_options": {
            "idle_timeout": "3600s",
            # Servers take an underscore for a hyphen, and so a header for one that the gateway has set.
            "headers_with_underscores_action": "DROP_HEADER",
        },
        "request_headers_timeout": "10s",
        "http2_protocol_options": {"max_concurrent_streams": 100},
        "drain_timeout": duration(settings.drain_seconds),
        "access_log": [access_log()],
        "server_header_transformation": "PASS_THROUGH",
    }
    if settings.traces_host:
        manager["tracing"] = tracing(settings)
    return manager


def access_log() -> dict[str, Any]:
    fields = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "trace_id": "%TRACE_ID%",
        "client": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
        "method": "%REQ(:METHOD)%",
        "host": "%REQ(:AUTHORITY)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "protocol": "%PROTOCOL%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "route": "%ROUTE_NAME%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "upstream": "%UPSTREAM_HOST%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "duration_ms": "%DURATION%",
        "bytes_in": "%BYTES_RECEIVED%",
        "bytes_out": "%BYTES_SENT%",
    }
    return {
        "name": "envoy.access_loggers.stdout",
        "typed_config": {"@type": STDOUT, "log_format": {"json_format": fields}},
    }


def tracing(settings: Settings) -> dict[str, Any]:
    return {
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": OPENTELEMETRY,
                "service_name": settings.service_name,
                "http_service": {
                    "http_uri": {
                        "uri": f"http://{settings.traces_host}:{settings.traces_port}/v1/traces",
                        "cluster": TRACING_CLUSTER,
                        "timeout": "1s",
                    }
                },
            },
        },
        "spawn_upstream_span": True,
    }


# Rate limits -------------------------------------------------------------------------------------

#: Where a route says its name to the filter, which belongs to the listener.
METADATA = "sutazai.gateway"


def rate_limits(table: Table, settings: Settings) -> dict[str, Any]:
    """Limits are the listener's, one bucket for what a route counts by, so that a route has the same one under each of its hosts."""
    limits = {route.name: route.rate_limit for route in table.in_order() if route.rate_limit}
    descriptors = []
    for name, limit in limits.items():
        requests = limit.of_one(settings.gateways)
        bucket = {
            "max_tokens": requests,
            "tokens_per_fill": requests,
            "fill_interval": duration(PERIOD_SECONDS[limit.per]),
        }
        for more in counted_by(limit):
            descriptors.append({"entries": [{"key": "route", "value": name}, *more], "token_bucket": bucket})
    headers = dict.fromkeys(limit.header for limit in limits.values() if limit.header)
    return {
        "@type": LOCAL_RATE_LIMIT,
        "stat_prefix": "gateway",
        "filter_enabled": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        "filter_enforced": {"default_value": {"numerator": 100, "denominator": "HUNDRED"}},
        "rate_limits": [{"actions": [route_action(), *more]} for more in actions(list(headers))],
        "descriptors": descriptors,
        # Clients that are remembered per limit; beyond, who hasn't come for the longest time begins anew.
        "max_dynamic_descriptors": settings.clients_maximum,
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
    }


def counted_by(limit: RateLimit) -> list[list[dict[str, Any]]]:
    """What is added to the route's name to count by. An entry without a value has a bucket for each value that comes.

    Without the header it is the client that is counted, so that leaving the header out is no way around.
    """
    client = {"key": "remote_address"}  # what Envoy calls it
    if limit.by == "route":
        return [[]]
    if limit.by == "client":
        return [[client]]
    return [[{"key": header_key(limit.header)}], [{"key": no_header_key(limit.header), "value": "yes"}, client]]


def header_key(header: str) -> str:
    return f"header {header.lower()}"


def no_header_key(header: str) -> str:
    return f"no header {header.lower()}"


def route_action() -> dict[str, Any]:
    return {
        "metadata": {
            "descriptor_key": "route",
            "metadata_key": {"key": METADATA, "path": [{"key": "route"}]},
            "source": "ROUTE_ENTRY",
        }
    }


def actions(headers: list[str]) -> list[list[dict[str, Any]]]:
    """All that any route counts by; what no descriptor is about costs nothing."""
    client: dict[str, Any] = {"remote_address": {}}
    made: list[list[dict[str, Any]]] = [[], [client]]
    for header in headers:
        missing = {
            "header_value_match": {
                "descriptor_key": no_header_key(header),
                "descriptor_value": "yes",
                "expect_match": False,
                "headers": [{"name": header, "present_match": True}],
            }
        }
        made.append([{"request_headers": {"header_name": header, "descriptor_key": header_key(header)}}])
        made.append([missing, client])
    return made


# Routes ------------------------------------------------------------------------------------------


def route_configuration(table: Table) -> dict[str, Any]:
    """Envoy looks for the host first and then only among its routes. So each host has the routes of the wildcards that it is within and
    of any host, too, in the table's order; hosts with the same routes are together."""
    ordered = table.in_order()
    hosts = {host for route in ordered for host in route.hosts}
    alike: dict[tuple[str, ...], list[str]] = {}
    for host in [*sorted(hosts), "*"]:
        names = tuple(route.name for route in ordered if not route.hosts or _for_host(host, route.hosts))
        alike.setdefault(names, []).append(host)
    routes = {route.name: route for route in table.routes}
    return {
        "@type": ROUTES,
        "name": ROUTE_TABLE,
        "ignore_port_in_host_matching": True,
        "virtual_hosts": [
            {
                "name": domains[0],
                "domains": domains,
                "routes": [route_entry(routes[name], table.services[routes[name].service]) for name in names],
            }
            for names, domains in alike.items()
        ],
    }


def _for_host(host: str, patterns: tuple[str, ...]) -> bool:
    """Whether every request for `host`, which may be a wildcard, is one for these."""
    return host != "*" and any(within(host, pattern) for pattern in patterns)


def method_header(methods: tuple[str, ...]) -> dict[str, Any]:
    return {"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(methods)}}}


def route_entry(route: Route, service: Service) -> dict[str, Any]:
    match: dict[str, Any]
    if route.exact:
        match = {"path": route.path}
    elif route.path == "/":
        match = {"prefix": "/"}
    else:
        match = {"path_separated_prefix": route.path}
    if route.methods:
        match["headers"] = [method_header(route.methods)]
    action: dict[str, Any] = {
        "weighted_clusters": {
            "clusters": [
                {"name": cluster_name(service.name, share.upstream), "weight": share.weight}
                for share in sorted(service.shares, key=lambda share: share.upstream)
            ]
        },
        # Of the whole answer there is no limit, because models answer for minutes; of the silence within there is one.
        "timeout": "0s",
        "idle_timeout": duration(service.idle_timeout_seconds),
    }
    if service.retries:
        action["retry_policy"] = retry_policy(route, service)
    if service.tls and service.tls.server_name:
        action["host_rewrite_literal"] = service.tls.server_name
    if route.strip_path and route.path != "/":
        stripped = f"^{re.escape(route.path)}" + ("$" if route.exact else "/*")
        action["regex_rewrite"] = {"pattern": {"regex": stripped}, "substitution": "/"}
    entry = {"name": route.name, "match": match, "route": action}
    if route.rate_limit:
        entry["metadata"] = {"filter_metadata": {METADATA: {"route": route.name}}}
    return entry


def retry_policy(route: Route, service: Service) -> dict[str, Any]:
    again = bool(route.methods) and set(route.methods) <= set(IDEMPOTENT)
    conditions = SAFE_RETRIES
    if route.repeatable:
        conditions = f"{SAFE_RETRIES},reset,gateway-error"
    elif again:
        conditions = f"{SAFE_RETRIES},reset"
    return {
        "retry_on": conditions,
        "num_retries": service.retries,
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": PREVIOUS_HOSTS}}
        ],
        "host_selection_retry_max_attempts": 3,
    }


# Clusters and hosts ------------------------------------------------------------------------------


def clusters(table: Table, settings: Settings) -> list[dict[str, Any]]:
    made = [cluster(service, upstream, settings) for service, upstream in pairs(table)]
    if settings.traces_host:
        made.append(tracing_cluster(settings))
    return made


def cluster(service: Service, upstream: Upstream, settings: Settings) -> dict[str, Any]:
    name = cluster_name(service.name, upstream.name)
    made: dict[str, Any] = {
        "@type": CLUSTER,
        "name": name,
        "connect_timeout": duration(service.connect_timeout_seconds),
        "lb_policy": BALANCE[service.balance],
        # With all hosts out, the answer is 503 at once, as Kong's is; requests to hosts that fail would only wait.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        # A host without power says nothing, and has requests that it will never answer: after 5 s without a word from its kernel they
        # end, and those that may be repeated go elsewhere. A server that is only slow isn't meant: its kernel answers.
        "upstream_connection_options": {
            "tcp_keepalive": {"keepalive_time": 2, "keepalive_interval": 1, "keepalive_probes": 3}
        },
        "upstream_bind_config": {
            "socket_options": [
                {"description": "TCP_USER_TIMEOUT", "level": 6, "name": 18, "int_value": 5000, "state": "STATE_PREBIND"}
            ]
        },
        # A host that is taken out of the table gets nothing more, healthy or not.
        "ignore_health_on_host_removal": True,
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 10000, "max_pending_requests": 10000, "max_requests": 10000, "max_retries": 100}
            ]
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": PROTOCOL_OPTIONS,
                # Shorter than servers keep theirs, or a request meets a connection that is just being closed.
                "common_http_protocol_options": {"idle_timeout": duration(settings.keepalive_seconds)},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }
    if by_name(upstream):
        made.update(type="STRICT_DNS", dns_lookup_family="V4_PREFERRED")
        made["load_assignment"] = {
            key: value for key, value in load_assignment(name, upstream).items() if key != "@type"
        }
    else:
        made["type"] = "EDS"
        made["eds_cluster_config"] = {"eds_config": from_directory(settings.directory, hosts_file(name))}
    if service.active_check:
        made["health_checks"] = [health_check(service, service.active_check)]
    if service.passive_check:
        made["outlier_detection"] = outlier_detection(service.passive_check)
    if service.tls:
        made["transport_socket"] = upstream_tls(service.tls, settings)
    return made


def health_check(service: Service, check: ActiveCheck) -> dict[str, Any]:
    request: dict[str, Any] = {
        "path": check.path,
        "expected_statuses": [{"start": status, "end": status + 1} for status in sorted(set(check.statuses))],
    }
    if service.tls and service.tls.server_name:
        request["host"] = service.tls.server_name
    return {
        "timeout": duration(check.timeout_seconds),
        "interval": duration(check.interval_seconds),
        # Otherwise it would be a minute for what gets no requests, such as the version that is to get them next.
        "no_traffic_interval": duration(check.interval_seconds),
        "healthy_threshold": check.healthy_after,
        "unhealthy_threshold": check.unhealthy_after,
        "http_health_check": request,
    }


def outlier_detection(check: PassiveCheck) -> dict[str, Any]:
    """What Kong counts too: connections that fail, and 502, 503, 504. A program that answers 500 is there."""
    return {
        "consecutive_gateway_failure": check.failures,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
        "base_ejection_time": duration(check.ejection_seconds),
        "max_ejection_percent": MOST_EJECTED_PERCENT,
    }


def upstream_tls(tls: Tls, settings: Settings) -> dict[str, Any]:
    common: dict[str, Any] = {"tls_params": {"tls_minimum_protocol_version": "TLSv1_2"}}
    if tls.verify:
        common["validation_context"] = {
            "trusted_ca": {
                "filename": settings.upstream_ca_file,
                "watched_directory": {"path": settings.upstream_ca_file.rpartition("/")[0]},
            },
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": tls.server_name}}],
        }
    context: dict[str, Any] = {"@type": UPSTREAM_TLS, "common_tls_context": common}
    if tls.server_name:
        context["sni"] = tls.server_name
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def load_assignment(name: str, upstream: Upstream) -> dict[str, Any]:
    """A host with the weight 0 is one that is being drained: it gets no new requests and is checked on."""
    hosts = []
    for host in sorted(upstream.hosts, key=lambda host: (host.address, host.port)):
        entry: dict[str, Any] = {"endpoint": {"address": socket(host.address, host.port)}}
        if host.weight:
            entry["load_balancing_weight"] = host.weight
        else:
            entry["health_status"] = "DRAINING"
        hosts.append(entry)
    return {"@type": HOSTS, "cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}


def tracing_cluster(settings: Settings) -> dict[str, Any]:
    return {
        "@type": CLUSTER,
        "name": TRACING_CLUSTER,
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": TRACING_CLUSTER,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": socket(settings.traces_host, settings.traces_port)}}]}
            ],
        },
    }
