"""The table as Kong's declarative configuration, held against the fields that Kong 3.9 has for it."""

from __future__ import annotations

import copy
import itertools
import json
import re

import jsonschema
import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_kong as kong
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_model as model
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_routes as reader
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plugins.module_utils.test_gateway_routes import requests, routes_of_a_table, sound

FEW = settings(max_examples=60, deadline=None)

# What Kong 3.9 documents (developer.konghq.com: entities service, route, upstream, target; plugins rate-limiting, correlation-id,
# prometheus, opentelemetry), as far as it is used here: unknown fields are refused by Kong, and so here.


def record(required=(), **fields):
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def several(items, **more):
    return {"type": "array", "items": items, **more}


def between(lowest, highest, kind="integer"):
    return {"type": kind, "minimum": lowest, "maximum": highest}


TEXT, YES_OR_NO = {"type": "string", "minLength": 1}, {"type": "boolean"}
NAME = {"type": "string", "pattern": r"^[\w.~-]+$"}
MILLISECONDS = between(1, 2**31 - 2)
SECONDS = between(0, 65535, "number")
COUNT = between(0, 255)
STATUSES = several(between(100, 999))
HEADER = {"type": "string", "pattern": "^[A-Za-z0-9-]+$"}
PROTOCOL = {"enum": ["http", "https"]}
PROPAGATION = {"enum": ["w3c", "b3", "b3-single", "jaeger", "ot", "aws", "gcp", "datadog", "instana"]}
LIMIT = {"type": "number", "exclusiveMinimum": 0}
PERIODS = ("second", "minute", "hour", "day", "month", "year")

CONFIGURATIONS = {
    "rate-limiting": {
        **record(
            **dict.fromkeys(PERIODS, LIMIT),
            limit_by={"enum": ["consumer", "credential", "ip", "service", "header", "path"]},
            header_name=HEADER,
            path={"type": "string", "pattern": "^/"},
            policy={"enum": ["local", "redis"]},  # "cluster" isn't there without a database
            fault_tolerant=YES_OR_NO,
            hide_client_headers=YES_OR_NO,
            error_code=LIMIT,
            error_message=TEXT,
            sync_rate={"type": "number"},
        ),
        "anyOf": [{"required": [period]} for period in PERIODS],
        "if": {"properties": {"limit_by": {"const": "header"}}, "required": ["limit_by"]},
        "then": {"required": ["header_name"]},
    },
    "correlation-id": record(
        header_name=TEXT, generator={"enum": ["uuid", "uuid#counter", "tracker"]}, echo_downstream=YES_OR_NO
    ),
    "prometheus": record(
        **dict.fromkeys(
            (
                "per_consumer",
                "status_code_metrics",
                "ai_metrics",
                "latency_metrics",
                "bandwidth_metrics",
                "upstream_health_metrics",
            ),
            YES_OR_NO,
        )
    ),
    "opentelemetry": {
        **record(
            traces_endpoint={"type": "string", "pattern": "^https?://"},
            logs_endpoint={"type": "string", "pattern": "^https?://"},
            headers={"type": "object"},
            resource_attributes={"type": "object", "additionalProperties": TEXT},
            connect_timeout=between(0, 2**31 - 2),
            send_timeout=between(0, 2**31 - 2),
            read_timeout=between(0, 2**31 - 2),
            http_response_header_for_traceid=TEXT,
            sampling_rate=between(0, 1, "number"),
            propagation=record(
                extract=several(PROPAGATION),
                inject=several({"enum": [*PROPAGATION["enum"], "preserve"]}),
                clear=several(TEXT),
                default_format=PROPAGATION,
            ),
        ),
        "anyOf": [{"required": ["traces_endpoint"]}, {"required": ["logs_endpoint"]}],
    },
}
PLUGIN = {
    "oneOf": [
        record(
            ("name",),
            name={"const": name},
            config=configuration,
            enabled=YES_OR_NO,
            protocols=several(PROTOCOL),
            instance_name=TEXT,
            tags=several(TEXT),
        )
        for name, configuration in CONFIGURATIONS.items()
    ]
}
ROUTE = record(
    ("name", "paths"),
    name=NAME,
    protocols=several(PROTOCOL, minItems=1, uniqueItems=True),
    methods=several({"type": "string", "pattern": "^[A-Z]+$"}, uniqueItems=True),
    hosts=several({"type": "string", "pattern": r"^(\*\.)?[^*:]+$|^[^*:]+\.\*$"}),
    # A fixed path, or after ~ an expression; no empty segments.
    paths=several({"type": "string", "pattern": "^~?/(?!.*//)"}),
    headers={"type": "object"},
    https_redirect_status_code={"enum": [426, 301, 302, 307, 308]},
    regex_priority={"type": "integer"},
    strip_path=YES_OR_NO,
    path_handling={"enum": ["v0", "v1"]},
    preserve_host=YES_OR_NO,
    request_buffering=YES_OR_NO,
    response_buffering=YES_OR_NO,
    tags=several(TEXT),
    plugins=several(PLUGIN),
)
SERVICE = {
    **record(
        ("name", "host"),
        name=NAME,
        protocol=PROTOCOL,
        host={"type": "string", "pattern": r"^[a-z0-9.-]+$"},
        port=between(0, 65535),
        path={"type": "string", "pattern": "^/"},
        retries=between(0, 32767),
        connect_timeout=MILLISECONDS,
        write_timeout=MILLISECONDS,
        read_timeout=MILLISECONDS,
        tls_verify=YES_OR_NO,
        tls_verify_depth=between(0, 64),
        enabled=YES_OR_NO,
        tags=several(TEXT),
        routes=several(ROUTE),
        plugins=several(PLUGIN),
    ),
    # These are only taken of services with TLS.
    "if": {"properties": {"protocol": {"const": "http"}}},
    "then": {"not": {"anyOf": [{"required": ["tls_verify"]}, {"required": ["tls_verify_depth"]}]}},
}
CHECK_TYPE = {"enum": ["tcp", "http", "https", "grpc", "grpcs"]}
UPSTREAM = record(
    ("name",),
    name={"type": "string", "pattern": r"^(?![0-9.]+$)[a-z0-9.-]+$"},
    algorithm={"enum": ["consistent-hashing", "least-connections", "round-robin", "latency"]},
    hash_on={"enum": ["none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture"]},
    slots=between(10, 2**16),
    host_header={"type": "string", "pattern": r"^[A-Za-z0-9.-]+(:\d+)?$"},
    use_srv_name=YES_OR_NO,
    tags=several(TEXT),
    healthchecks=record(
        threshold=between(0, 100, "number"),
        active=record(
            type=CHECK_TYPE,
            timeout=SECONDS,
            concurrency=between(1, 2**31),
            http_path={"type": "string", "pattern": "^/"},
            https_sni={"type": "string", "pattern": r"^(?![0-9.]+$)[A-Za-z0-9.-]+$"},
            https_verify_certificate=YES_OR_NO,
            headers={"type": "object"},
            healthy=record(interval=SECONDS, http_statuses=STATUSES, successes=COUNT),
            unhealthy=record(
                interval=SECONDS, http_statuses=STATUSES, tcp_failures=COUNT, timeouts=COUNT, http_failures=COUNT
            ),
        ),
        passive=record(
            type=CHECK_TYPE,
            healthy=record(http_statuses=STATUSES, successes=COUNT),
            unhealthy=record(http_statuses=STATUSES, tcp_failures=COUNT, timeouts=COUNT, http_failures=COUNT),
        ),
    ),
    targets=several(
        record(
            ("target",),
            target={"type": "string", "pattern": r"^\S+:\d+$"},
            weight=between(0, 65535),
            tags=several(TEXT),
        )
    ),
)
DOCUMENTED = record(
    ("_format_version",),
    _format_version={"enum": ["1.1", "2.1", "3.0"]},
    _transform=YES_OR_NO,
    services=several(SERVICE),
    upstreams=several(UPSTREAM),
    plugins=several(PLUGIN),
)


def rendered(table=None, **more):
    """As it is in the file: nothing but JSON's types."""
    return json.loads(json.dumps(kong.render(reader.read(table or sound()), **more)))


def named(entries, name):
    return next(entry for entry in entries if entry["name"] == name)


def refused(configuration):
    return [error.message for error in jsonschema.Draft202012Validator(DOCUMENTED).iter_errors(configuration)]


def test_it_has_the_fields_that_kong_documents():
    assert refused(rendered(gateways=2, traces_url="http://127.0.0.1:4318/v1/traces")) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda made: made.update(_format_version="4.0"),
        lambda made: made["services"][0].update(timeout=5),
        lambda made: made["services"][1].update(connect_timeout=0),
        lambda made: named(made["services"], "agents").update(tls_verify=True),
        lambda made: made["services"][0]["routes"][0]["paths"].append("v1"),
        lambda made: made["upstreams"][0].update(algorithm="round_robin"),
        lambda made: made["upstreams"][0]["targets"][0].update(weight=65536),
        lambda made: made["upstreams"][0]["healthchecks"].update(interval=5),
        lambda made: named(made["services"], "agents")["routes"][0]["plugins"][0]["config"].pop("header_name"),
        lambda made: named(made["services"], "agents")["routes"][0]["plugins"][0]["config"].update(policy="cluster"),
        lambda made: named(made["plugins"], "opentelemetry")["config"].pop("traces_endpoint"),
        lambda made: made["plugins"].append({"name": "unheard-of"}),
    ],
)
def test_the_documented_fields_refuse_what_kong_would(spoil):
    made = rendered(traces_url="http://127.0.0.1:4318/v1/traces")
    spoil(made)
    assert refused(made)


def test_a_service():
    made = rendered()
    agents, admin = named(made["services"], "agents"), named(made["services"], "admin")
    assert (agents["protocol"], agents["host"], agents["retries"]) == ("http", "agents", 1)
    assert (agents["connect_timeout"], agents["read_timeout"], agents["write_timeout"]) == (1500, 120000, 120000)
    assert "tls_verify" not in agents
    assert admin["tls_verify"] is True
    assert named(made["upstreams"], "admin")["host_header"] == "admin.service.consul"
    assert admin["routes"][0]["preserve_host"] is False
    assert agents["routes"][0]["preserve_host"] is True
    assert [service["name"] for service in made["services"]] == ["admin", "agents"]


def test_health_checks():
    made = rendered()
    checks = named(made["upstreams"], "agents")["healthchecks"]
    assert checks["active"]["healthy"] == {"interval": 5, "successes": 2, "http_statuses": [200]}
    assert checks["active"]["http_path"] == "/health"
    assert isinstance(checks["active"]["timeout"], int) and isinstance(checks["active"]["healthy"]["interval"], int)
    unhealthy = checks["active"]["unhealthy"]
    assert (unhealthy["http_failures"], unhealthy["tcp_failures"], unhealthy["timeouts"]) == (3, 3, 3)
    assert 200 not in unhealthy["http_statuses"] and {201, 404, 500, 599} <= set(unhealthy["http_statuses"])
    assert checks["passive"]["unhealthy"]["http_failures"] == 5
    # Not asked for: switched off.
    off = named(made["upstreams"], "admin")["healthchecks"]
    assert "active" not in off
    assert off["passive"]["unhealthy"] == {
        "http_failures": 0,
        "tcp_failures": 0,
        "timeouts": 0,
        "http_statuses": [502, 503, 504],
    }


def test_a_rate_limit_is_divided_and_counted_as_asked():
    made = rendered(gateways=2)
    tasks, agents = (named(named(made["services"], "agents")["routes"], name) for name in ("tasks", "agents"))
    assert tasks["plugins"][0]["config"]["second"] == 50
    assert tasks["plugins"][0]["config"]["header_name"] == "X-API-Key"
    assert agents["plugins"][0]["config"]["limit_by"] == "ip"
    table = sound()
    table["routes"][1]["rate_limit"] = {"requests": 7, "per": "minute", "by": "route"}
    config = named(named(rendered(table)["services"], "agents")["routes"], "agents")["plugins"][0]["config"]
    assert (config["minute"], config["limit_by"]) == (7, "service")


def test_plugins_of_every_request():
    assert [plugin["name"] for plugin in rendered()["plugins"]] == ["correlation-id", "prometheus"]
    made = rendered(traces_url="http://127.0.0.1:4318/v1/traces", service_name="gateway")
    assert named(made["plugins"], "correlation-id")["config"]["header_name"] == "X-Request-ID"
    tracing = named(made["plugins"], "opentelemetry")["config"]
    assert tracing["traces_endpoint"] == "http://127.0.0.1:4318/v1/traces"
    assert tracing["resource_attributes"] == {"service.name": "gateway"}


# Weights


def weights(blue, green, **more):
    table = sound()
    table["services"][0]["upstreams"] = [
        {"name": "agents-blue", "weight": blue},
        {"name": "agents-green", "weight": green},
    ]
    table["upstreams"][0]["hosts"] = more.get("hosts") or table["upstreams"][0]["hosts"]
    targets = named(rendered(table)["upstreams"], "agents")["targets"]
    return {target["target"].split(":")[0][-2:]: target["weight"] for target in targets}


def test_weights_give_each_upstream_its_share_and_each_host_its_own():
    assert weights(90, 10) == {"81": 3, "82": 6, "83": 1}  # blue's 9 of 10 are divided 1 to 2
    assert weights(50, 50) == {"81": 1, "82": 2, "83": 3}
    assert weights(100, 0) == {"81": 1, "82": 2, "83": 0}
    assert weights(0, 100) == {"81": 0, "82": 0, "83": 1}


def test_a_host_that_is_out_stays_in_the_table():
    hosts = [{"address": "10.20.0.81", "port": 9999, "weight": 0}, {"address": "10.20.0.82", "port": 9999}]
    assert weights(50, 50, hosts=hosts) == {"81": 0, "82": 1, "83": 1}


def test_a_host_of_two_upstreams_is_one_target():
    hosts = [{"address": "10.20.0.83", "port": 9999}]
    assert weights(50, 50, hosts=hosts) == {"83": 1}


host_weights = st.lists(st.integers(0, 65535), min_size=1, max_size=5).filter(any)


@FEW
@given(
    st.lists(st.tuples(st.integers(0, 65535), host_weights), min_size=1, max_size=3).filter(
        lambda s: any(w for w, _ in s)
    )
)
def test_the_shares_are_right_and_nobody_is_rounded_away(shares):
    upstreams, numbers = {}, itertools.count(1)
    for number, (_weight, hosts) in enumerate(shares):
        made = tuple(model.Host(f"10.0.0.{next(numbers)}", 80, weight) for weight in hosts)
        upstreams[f"u{number}"] = model.Upstream(f"u{number}", made)
    service = model.Service("s", tuple(model.Share(f"u{number}", share[0]) for number, share in enumerate(shares)))
    made = kong.targets(service, model.Table(upstreams, {"s": service}, ()))
    assert max(made.values()) <= model.HIGHEST_WEIGHT
    total, wanted_total = sum(made.values()), sum(weight for weight, _hosts in shares)
    for share, upstream in zip(service.shares, upstreams.values()):
        for host in upstream.hosts:
            wanted = share.weight / wanted_total * host.weight / sum(other.weight for other in upstream.hosts)
            assert (made[host.target] > 0) == (wanted > 0)
            assert made[host.target] / total == pytest.approx(wanted, abs=0.001)


# Which route answers


def kongs_choice(routes, method, host, path):
    """How Kong's router chooses (traditional_compatible): more kinds of conditions first, then names of hosts before wildcards, then
    expressions before prefixes, then regex_priority."""

    def matches(route):
        expression = route["paths"][0].removeprefix("~")
        hosts = route.get("hosts")
        return (
            method in route["methods"]
            and re.match(expression, path)
            and (not hosts or any(host == each or (each[0] == "*" and host.endswith(each[1:])) for each in hosts))
        )

    def weight(route):
        hosts = route.get("hosts") or []
        plain = bool(hosts) and not any("*" in each for each in hosts)
        return bool(hosts) + bool(route["methods"]) + 1, plain, True, route["regex_priority"]

    found = sorted(filter(matches, routes), key=weight, reverse=True)
    assert len(found) < 2 or weight(found[0]) != weight(found[1])
    return found[0]["name"] if found else None


@FEW
@given(routes_of_a_table, requests)
def test_kong_chooses_the_tables_route(routes, request):
    allowed = []
    for each in routes:
        if not any(model.same_match(each, other) for other in allowed):
            allowed.append(each)
    service = model.Service("web", (model.Share("web", 1),))
    upstream = model.Upstream("web", (model.Host("10.0.0.1", 80),))
    table = model.Table({"web": upstream}, {"web": service}, tuple(allowed))
    made = kong.render(table)["services"][0]["routes"]
    chosen = table.choose(*request)
    if request[0] in model.METHODS:
        assert kongs_choice(made, *request) == (chosen.name if chosen else None)


@pytest.mark.parametrize(
    ("path", "exact", "takes", "refuses"),
    [
        ("/", False, ["/", "/a", "/a/b"], []),
        ("/", True, ["/"], ["/a"]),
        ("/v1.0/a-b", False, ["/v1.0/a-b", "/v1.0/a-b/", "/v1.0/a-b/c"], ["/v1x0/a-b", "/v1.0/a-bc", "/x/v1.0/a-b"]),
        ("/v1~x", True, ["/v1~x"], ["/v1~x/", "/v1~xy"]),
    ],
)
def test_paths_as_expressions(path, exact, takes, refuses):
    made = kong.path_of(model.Route("r", "s", path, exact))
    assert made.startswith("~/")
    for each in takes:
        assert re.match(made[1:], each), (made, each)
    for each in refuses:
        assert not re.match(made[1:], each), (made, each)
    # Rust's expressions, which Kong uses, refuse a backslash before what means nothing to them.
    assert not re.search(r"\\[^.^$*+?()\[\]{}|\\-]", made)


def test_rendering_changes_nothing_of_the_table():
    table = sound()
    before = copy.deepcopy(table)
    rendered(table)
    assert table == before
