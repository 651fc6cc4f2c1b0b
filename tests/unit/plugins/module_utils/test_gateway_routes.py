"""The gateway's table: what is read, what is refused and with which words, and which route answers."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_model as model
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_routes as reader
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=60, deadline=None)


def sound():
    """Two versions of a service behind three routes, with everything that can be said."""
    return {
        "upstreams": [
            {
                "name": "agents-blue",
                "hosts": [
                    {"address": "10.20.0.81", "port": 9999},
                    {"address": "10.20.0.82", "port": 9999, "weight": 2},
                ],
            },
            {"name": "agents-green", "hosts": [{"address": "10.20.0.83", "port": 9999}]},
            {"name": "admin", "hosts": [{"address": "admin.service.consul", "port": 8443}]},
        ],
        "services": [
            {
                "name": "agents",
                "upstreams": [{"name": "agents-blue", "weight": 90}, {"name": "agents-green", "weight": 10}],
                "balance": "least_requests",
                "connect_timeout_seconds": 1.5,
                "idle_timeout_seconds": 120,
                "retries": 1,
                "active_check": {"path": "/health", "interval_seconds": 5, "timeout_seconds": 2},
                "passive_check": {"failures": 5, "ejection_seconds": 30},
            },
            {
                "name": "admin",
                "upstreams": [{"name": "admin"}],
                "protocol": "https",
                "tls": {"server_name": "admin.service.consul"},
            },
        ],
        "routes": [
            {
                "name": "tasks",
                "service": "agents",
                "path": "/v1/tasks",
                "methods": ["POST"],
                "rate_limit": {"requests": 100, "per": "second", "by": "header", "header": "X-API-Key"},
            },
            {"name": "agents", "service": "agents", "path": "/v1", "rate_limit": {"requests": 5000}},
            {"name": "admin", "service": "admin", "hosts": ["admin.example.org"], "strip_path": True, "path": "/admin"},
        ],
    }


def part(table, path):
    """The mapping or list at `services.0.upstreams`."""
    for key in path.split("."):
        table = table[int(key) if key.isdigit() else key]
    return table


def changed(path, value):
    table = sound()
    above, _, key = path.rpartition(".")
    holder = part(table, above) if above else table
    holder[int(key) if key.isdigit() else key] = value
    return table


def problems(table):
    return [str(problem) for problem in reader.examine(table)[1]]


def test_a_sound_table_is_read():
    table = reader.read(sound())
    assert list(table.upstreams) == ["agents-blue", "agents-green", "admin"]
    assert table.upstreams["agents-blue"].hosts[1] == model.Host("10.20.0.82", 9999, 2)
    agents = table.services["agents"]
    assert agents.shares == (model.Share("agents-blue", 90), model.Share("agents-green", 10))
    assert (agents.balance, agents.connect_timeout_seconds, agents.retries) == ("least_requests", 1.5, 1)
    assert agents.active_check == model.ActiveCheck("/health")
    assert agents.passive_check == model.PassiveCheck()
    assert table.services["admin"].tls == model.Tls("admin.service.consul", True)
    assert table.routes[0].rate_limit == model.RateLimit(100, "second", "header", "X-API-Key")
    assert table.routes[2].hosts == ("admin.example.org",)


def test_what_is_left_out_has_its_default():
    table = reader.read(
        {
            "upstreams": [{"name": "web", "hosts": [{"address": "::1", "port": 80}]}],
            "services": [{"name": "web", "upstreams": [{"name": "web"}]}],
            "routes": [{"name": "all", "service": "web"}],
        }
    )
    assert table.services["web"] == model.Service("web", (model.Share("web", 100),))
    assert table.routes == (model.Route("all", "web"),)
    assert table.upstreams["web"].hosts[0].target == "[::1]:80"


def test_numbers_from_the_command_line_are_text():
    assert reader.read(changed("services.0.upstreams.0.weight", "0")).services["agents"].shares[0].weight == 0


# (place, value, what, where, what would be right)
WRONG = {
    "a route to an unknown service": (
        "routes.0.service",
        "agnts",
        "The route tasks leads to the service agnts, which isn't declared.",
        "gateway_routes.routes[tasks].service",
        "Did you mean agents?",
    ),
    "a route to an unknown upstream": (
        "services.0.upstreams.1.name",
        "agents-gren",
        "The service agents, and so the route tasks, agents, leads to the upstream agents-gren, which isn't declared.",
        "gateway_routes.services[agents].upstreams",
        "Did you mean agents-green?",
    ),
    "an upstream that is nothing like one": (
        "services.1.upstreams.0.name",
        "zzz",
        "leads to the upstream zzz",
        "gateway_routes.services[admin].upstreams",
        "Declare it, or name one of: admin, agents-blue, agents-green.",
    ),
    "weights all zero": (
        "services.0.upstreams",
        [{"name": "agents-blue", "weight": 0}, {"name": "agents-green", "weight": 0}],
        "All weights of the service agents are zero: no upstream would get its requests.",
        "gateway_routes.services[agents].upstreams",
        "Give at least one of its upstreams a weight above 0.",
    ),
    "hosts whose weights are all zero": (
        "upstreams.1.hosts.0.weight",
        0,
        "sends requests to the upstream agents-green, whose hosts all have the weight zero.",
        "gateway_routes.upstreams[agents-green].hosts",
        "or agents-green the weight 0 in agents.",
    ),
    "an upstream without hosts": (
        "upstreams.1.hosts",
        [],
        "sends requests to the upstream agents-green, which has no hosts.",
        "gateway_routes.upstreams[agents-green].hosts",
        "Give the upstream a host",
    ),
    "a negative weight": (
        "services.0.upstreams.0.weight",
        -1,
        "weight is -1.",
        "gateway_routes.services[agents].upstreams[0].weight",
        "Give a whole number from 0 to 65535.",
    ),
    "a weight that is a boolean": (
        "services.0.upstreams.0.weight",
        True,
        "weight is True.",
        "gateway_routes.services[agents].upstreams[0].weight",
        "Give a whole number from 0 to 65535.",
    ),
    "a fraction of a weight": (
        "upstreams.0.hosts.1.weight",
        1.5,
        "weight is 1.5.",
        "gateway_routes.upstreams[agents-blue].hosts[1].weight",
        "Give a whole number from 0 to 65535.",
    ),
    "two routes with the same match": (
        "routes.1",
        {"name": "again", "service": "agents", "path": "/v1/tasks", "methods": ["GET", "POST"]},
        "The routes tasks and again have the same match: POST, any host, the path /v1/tasks and below.",
        "gateway_routes.routes",
        "Remove one, or give them different hosts, paths or methods",
    ),
    "a rate limit of 0": (
        "routes.0.rate_limit.requests",
        0,
        "A rate limit of 0 would refuse every request.",
        "gateway_routes.routes[tasks].rate_limit.requests",
        "remove rate_limit (no limit) or the route (no requests).",
    ),
    "a rate limit of less": (
        "routes.0.rate_limit.requests",
        -5,
        "requests is -5.",
        "gateway_routes.routes[tasks].rate_limit.requests",
        "Give a whole number from 1",
    ),
    "a rate limit without a number": (
        "routes.0.rate_limit",
        {"per": "second"},
        "requests is missing.",
        "gateway_routes.routes[tasks].rate_limit",
        "Set requests.",
    ),
    "a period that is none": (
        "routes.0.rate_limit.per",
        "fortnight",
        "per is 'fortnight'.",
        "gateway_routes.routes[tasks].rate_limit.per",
        "Use one of second, minute, hour, day.",
    ),
    "a rate limit by no header": (
        "routes.0.rate_limit.header",
        None,
        "Requests are to be counted by a header, but none is named.",
        "gateway_routes.routes[tasks].rate_limit.header",
        "such as X-API-Key",
    ),
    "a header that isn't counted by": (
        "routes.0.rate_limit.by",
        "client",
        "A header is named, but requests are counted by client: it would be ignored.",
        "gateway_routes.routes[tasks].rate_limit.header",
        "Set by to header, or remove header.",
    ),
    "an unknown key of the table": (
        "route",
        [],
        "The key route is unknown and would be ignored.",
        "(gateway_routes)",
        "Did you mean routes?",
    ),
    "an unknown key of a route": (
        "routes.0.pathe",
        "/",
        "The key pathe is unknown and would be ignored.",
        "(gateway_routes.routes[tasks])",
        "Did you mean path?",
    ),
    "an unknown key of a check": (
        "services.0.active_check.wobble",
        1,
        "The key wobble is unknown",
        "(gateway_routes.services[agents].active_check)",
        "Known are path, interval_seconds, timeout_seconds",
    ),
    "a duration with a unit": (
        "services.0.idle_timeout_seconds",
        "60s",
        "idle_timeout_seconds is '60s', which is no duration in seconds.",
        "gateway_routes.services[agents].idle_timeout_seconds",
        "Give a number above 0 and up to 65535 without a unit, such as 60.",
    ),
    "a duration of nothing": (
        "services.0.connect_timeout_seconds",
        0,
        "connect_timeout_seconds is 0, which is no duration",
        "gateway_routes.services[agents].connect_timeout_seconds",
        "Give a number above 0",
    ),
    "a duration that is not a number": (
        "services.0.active_check.interval_seconds",
        float("nan"),
        "interval_seconds is nan, which is no duration",
        "gateway_routes.services[agents].active_check.interval_seconds",
        "Give a number above 0",
    ),
    "a check that takes longer than its interval": (
        "services.0.active_check.timeout_seconds",
        6,
        "A check may take 6 s, but the next one is due after 5 s.",
        "gateway_routes.services[agents].active_check.timeout_seconds",
        "Set timeout_seconds to interval_seconds or less.",
    ),
    "a status that is none": (
        "services.0.active_check.statuses",
        [200, 42],
        "statuses is 42.",
        "gateway_routes.services[agents].active_check.statuses[1]",
        "Give a whole number from 100 to 599.",
    ),
    "no status that is healthy": (
        "services.0.active_check.statuses",
        [],
        "No status counts as healthy.",
        "gateway_routes.services[agents].active_check.statuses",
        "Name at least one",
    ),
    "passive checks that nothing takes back": (
        "services.0.active_check",
        None,
        "nothing would take them in again.",
        "gateway_routes.services[agents].passive_check",
        "Declare an active_check too",
    ),
    "TLS settings of a service in plain text": (
        "services.0.tls",
        {"verify": False},
        "TLS settings are given for a service that is talked to in plain text",
        "gateway_routes.services[agents].tls",
        "Set protocol to https, or remove tls.",
    ),
    "certificates that may have any name": (
        "services.1.tls",
        {},
        "nothing says which name they must have.",
        "gateway_routes.services[admin].tls",
        "Set tls.server_name, or tls.verify to false",
    ),
    "https without TLS settings": (
        "services.1.tls",
        None,
        "nothing says which name they must have.",
        "gateway_routes.services[admin].tls",
        "Set tls.server_name",
    ),
    "a certificate's name that is none": (
        "services.1.tls.server_name",
        "10.20.0.9",
        "server_name is '10.20.0.9', which is no host name.",
        "gateway_routes.services[admin].tls.server_name",
        "Give a name that the hosts' certificates have",
    ),
    "a verification that is neither yes nor no": (
        "services.1.tls.verify",
        "sometimes",
        "verify is 'sometimes'.",
        "gateway_routes.services[admin].tls.verify",
        "Use true or false.",
    ),
    "a protocol that isn't spoken": (
        "services.0.protocol",
        "ftp",
        "protocol is 'ftp'.",
        "gateway_routes.services[agents].protocol",
        "Use one of http, https.",
    ),
    "a path without a slash": (
        "routes.0.path",
        "v1/tasks",
        "'v1/tasks' is no path that is taken literally.",
        "gateway_routes.routes[tasks].path",
        "Begin with a slash",
    ),
    "a path that is a pattern": (
        "routes.0.path",
        "/v1/.*",
        "'/v1/.*' is no path that is taken literally.",
        "gateway_routes.routes[tasks].path",
        "Begin with a slash",
    ),
    "a path that goes up": (
        "routes.0.path",
        "/v1/..",
        "'/v1/..' is no path",
        "gateway_routes.routes[tasks].path",
        "Begin with a slash",
    ),
    "a prefix with a slash at its end": (
        "routes.1.path",
        "/v1/",
        "The prefix /v1/ ends with a slash.",
        "gateway_routes.routes[agents].path",
        "Write /v1, which takes /v1 and everything below it.",
    ),
    "a method in lower case": (
        "routes.0.methods",
        ["post"],
        "The method 'post' is unknown.",
        "gateway_routes.routes[tasks].methods[0]",
        "Write POST.",
    ),
    "a host that is none": (
        "routes.2.hosts",
        ["admin.example.org:8443"],
        "'admin.example.org:8443' is no host that requests could be for.",
        "gateway_routes.routes[admin].hosts[0]",
        "Give a host name, or *. and a domain",
    ),
    "a wildcard beside a name": (
        "routes.2.hosts",
        ["admin.example.org", "*.example.org"],
        "A route has a wildcard beside other hosts.",
        "gateway_routes.routes[admin].hosts",
        "Make a route of its own for each wildcard",
    ),
    "an address with a port": (
        "upstreams.0.hosts.0.address",
        "10.20.0.81:9999",
        "'10.20.0.81:9999' is neither an IP address nor a host name.",
        "gateway_routes.upstreams[agents-blue].hosts[0].address",
        "the port has its own key",
    ),
    "an address that is no longer one": (
        "upstreams.0.hosts.0.address",
        "10.20.0.281",
        "'10.20.0.281' is neither an IP address nor a host name.",
        "gateway_routes.upstreams[agents-blue].hosts[0].address",
        "Give the address alone",
    ),
    "a port that is none": (
        "upstreams.0.hosts.0.port",
        99999,
        "port is 99999.",
        "gateway_routes.upstreams[agents-blue].hosts[0].port",
        "Give a whole number from 1 to 65535.",
    ),
    "a host without port": (
        "upstreams.0.hosts.0",
        {"address": "10.20.0.81"},
        "port is missing.",
        "gateway_routes.upstreams[agents-blue].hosts[0]",
        "Set port.",
    ),
    "a host twice": (
        "upstreams.0.hosts.1.address",
        "10.20.0.81",
        "The host 10.20.0.81:9999 is listed twice.",
        "gateway_routes.upstreams[agents-blue].hosts[1]",
        "weight gives it more requests",
    ),
    "an upstream twice in a service": (
        "services.0.upstreams.1.name",
        "agents-blue",
        "The upstream agents-blue is listed twice.",
        "gateway_routes.services[agents].upstreams[1]",
        "List it once, with its weight.",
    ),
    "a name twice": (
        "services.1.name",
        "agents",
        "agents is declared twice.",
        "gateway_routes.services[agents]",
        "Give each a name of its own, or remove one.",
    ),
    "a name that is none": (
        "upstreams.2.name",
        "Admin_1",
        "'Admin_1' is no name.",
        "gateway_routes.upstreams[Admin_1]",
        "lower-case letters",
    ),
    "a service without a name": (
        "services.0.name",
        None,
        "name is missing.",
        "gateway_routes.services[0]",
        "Set name.",
    ),
    "no routes": (
        "routes",
        [],
        "There are no routes: the gateway would answer nothing.",
        "gateway_routes.routes",
        "Declare at least one.",
    ),
    "routes that are no list": (
        "routes",
        {"tasks": {}},
        "routes is a mapping, which is no list.",
        "gateway_routes.routes",
        "Give a list.",
    ),
    "a route that is no mapping": (
        "routes.0",
        "tasks",
        "'tasks' is no mapping.",
        "gateway_routes.routes[0]",
        "Give a mapping of name, service, path",
    ),
}


@pytest.mark.parametrize("title", WRONG)
def test_what_is_wrong_is_said_with_its_place_and_what_would_be_right(title):
    place, value, what, where, remedy = WRONG[title]
    found = problems(changed(place, value))
    assert any(what in text and where in text and remedy in text for text in found), found


@pytest.mark.parametrize(
    "place",
    [
        "upstreams.2.name",
        "upstreams.0.hosts.0.address",
        "routes.0.path",
        "routes.2.hosts.0",
        "routes.0.rate_limit.header",
    ],
)
def test_a_line_feed_at_the_end_is_no_part_of_anything(place):
    """As YAML's block scalars have it, and as a regular expression's $ lets pass."""
    assert problems(changed(place, f"{part(sound(), place)}\n"))


def test_a_table_that_is_no_table():
    assert problems([]) == ["a list is no mapping. (gateway_routes) Give a mapping of upstreams, services, routes."]
    assert [text for text in problems({}) if "is missing" in text] == [
        "upstreams is missing. (gateway_routes) Set upstreams.",
        "services is missing. (gateway_routes) Set services.",
        "routes is missing. (gateway_routes) Set routes.",
    ]


def test_everything_is_said_at_once():
    table = sound()
    part(table, "routes.0")["service"] = "agnts"
    part(table, "routes.0.rate_limit")["requests"] = 0
    part(table, "services.0.upstreams.0")["weight"] = 0
    part(table, "services.0.upstreams.1")["weight"] = 0
    part(table, "upstreams.0.hosts.0")["port"] = 0
    with pytest.raises(reader.WrongTable) as raised:
        reader.read(table, "kong_routes")
    assert len(raised.value.problems) == 4
    assert str(raised.value).count("\n- ") == 4
    assert "kong_routes.routes[tasks].service" in str(raised.value)


def test_one_mistake_is_one_problem():
    """What refers to something that is there but wrong isn't told of, too."""
    assert len(problems(changed("upstreams.0.hosts.0.port", "http"))) == 1
    assert len(problems(changed("services.0.protocol", "ftp"))) == 1


def test_the_limit_is_shared_by_the_gateways():
    assert model.RateLimit(100).of_one(2) == 50
    assert model.RateLimit(5).of_one(2) == 3
    assert model.RateLimit(1).of_one(3) == 1


# Which route answers


def route(name, **more):
    return model.Route(name, "web", **more)


SAME = [
    ({}, {}, True),
    ({"path": "/a"}, {"path": "/b"}, False),
    ({"path": "/a"}, {"path": "/a/b"}, False),
    ({"path": "/a"}, {"path": "/a", "exact": True}, False),
    ({"methods": ("GET", "POST")}, {"methods": ("POST", "PUT")}, True),
    ({"methods": ("GET",)}, {"methods": ("POST",)}, False),
    ({"methods": ("GET",)}, {}, False),
    ({"hosts": ("a.org", "b.org")}, {"hosts": ("b.org",)}, True),
    ({"hosts": ("a.org",)}, {"hosts": ("b.org",)}, False),
    ({"hosts": ("a.org",)}, {}, False),
    ({"hosts": ("*.org",)}, {"hosts": ("a.org",)}, False),
    ({"hosts": ("*.org",)}, {"hosts": ("*.a.org",)}, False),
    ({"hosts": ("*.org",)}, {"hosts": ("*.org",)}, True),
]


@pytest.mark.parametrize(("one", "other", "same"), SAME)
def test_what_the_same_match_is(one, other, same):
    assert model.same_match(route("one", **one), route("other", **other)) is same
    assert model.same_match(route("other", **other), route("one", **one)) is same


CHOSEN = [
    ("POST", "any.org", "/v1/tasks", "tasks"),
    ("POST", "any.org", "/v1/tasks/7", "tasks"),
    ("GET", "any.org", "/v1/tasks", "agents"),
    ("POST", "any.org", "/v1/tasksets", "agents"),
    ("GET", "any.org", "/v10", None),
    ("GET", "admin.example.org", "/admin/users", "admin"),
    ("GET", "any.org", "/admin/users", None),
    ("POST", "admin.example.org", "/v1/tasks", "tasks"),
]


@pytest.mark.parametrize(("method", "host", "path", "name"), CHOSEN)
def test_which_route_answers(method, host, path, name):
    chosen = reader.read(sound()).choose(method, host, path)
    assert (chosen and chosen.name) == name


HOSTS = ("a.org", "x.a.org", "y.x.a.org", "b.org")
PATHS = ("/", "/v1", "/v1/tasks", "/v1/tasks/7", "/v10")
routes_of_a_table = st.lists(
    st.builds(
        model.Route,
        name=st.uuids().map(lambda uuid: f"r{uuid}"),
        service=st.just("web"),
        path=st.sampled_from(PATHS),
        exact=st.booleans(),
        hosts=st.one_of(
            st.just(()),
            st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2, unique=True).map(tuple),
            st.sampled_from(["*.org", "*.a.org", "*.x.a.org"]).map(lambda host: (host,)),
        ),
        methods=st.lists(st.sampled_from(["GET", "POST"]), max_size=2, unique=True).map(tuple),
    ),
    max_size=8,
)
requests = st.tuples(st.sampled_from(["GET", "POST", "PUT"]), st.sampled_from(HOSTS), st.sampled_from(PATHS))


@FEW
@given(routes_of_a_table, requests)
def test_without_two_of_the_same_match_the_order_says_who_answers(routes, request):
    """The refused overlaps are exactly those that the order can't decide."""
    allowed = []
    for each in routes:
        if not any(model.same_match(each, other) for other in allowed):
            allowed.append(each)
    orders = [each.order for each in allowed if each.takes(*request)]
    assert len(orders) == len(set(orders))
    # And the other way round: of two with the same match, both take some request, and none stands first.
    for one in routes:
        for other in routes:
            if one is not other and model.same_match(one, other):
                assert one.order == other.order


@FEW
@given(routes_of_a_table, requests, st.randoms(use_true_random=False))
def test_the_order_of_the_table_says_nothing(routes, request, random):
    allowed = []
    for each in routes:
        if not any(model.same_match(each, other) for other in allowed):
            allowed.append(each)
    shuffled = allowed[:]
    random.shuffle(shuffled)
    assert model.Table({}, {}, tuple(allowed)).choose(*request) == model.Table({}, {}, tuple(shuffled)).choose(*request)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
PLACES = (
    "upstreams",
    "upstreams.0",
    "upstreams.0.name",
    "upstreams.0.hosts",
    "upstreams.0.hosts.0",
    "services.0",
    "services.0.upstreams",
    "services.0.upstreams.0",
    "services.0.upstreams.0.name",
    "services.0.tls",
    "services.0.active_check",
    "services.0.active_check.statuses",
    "services.0.passive_check",
    "services.1.tls",
    "routes.0",
    "routes.0.service",
    "routes.0.hosts",
    "routes.0.methods",
    "routes.0.path",
    "routes.0.rate_limit",
    "routes.0.rate_limit.requests",
)


@FEW
@given(st.sampled_from(PLACES), junk)
def test_whatever_is_in_the_table_is_answered_with_sentences(place, value):
    table = changed(place, copy.deepcopy(value))
    for problem in reader.examine(table)[1]:
        assert problem.what.endswith((".", "?")) and problem.remedy.endswith((".", "?"))
        assert problem.where.startswith("gateway_routes")
