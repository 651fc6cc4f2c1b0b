"""The table as what Envoy reads, and the steps from one table to another. A real Envoy is in tests/integration."""

from __future__ import annotations

import copy
import json
import re

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_apply as steps
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_envoy as envoy
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_model as model
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_routes as reader
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plugins.module_utils.test_gateway_routes import requests, routes_of_a_table, sound

FEW = settings(max_examples=60, deadline=None)
SETTINGS = envoy.Settings(directory="/x/xds", upstream_ca_file="/pki/ca.crt", gateways=2)


def files(table=None, **more):
    return envoy.render(reader.read(table or sound()), envoy.Settings(**{**vars(SETTINGS), **more}))


def texts(table=None):
    return {name: envoy.text_of(document) for name, document in files(table).items()}


def resource(made, file, number=0):
    return made[file]["resources"][number]


def named(entries, name):
    return next(entry for entry in entries if entry["name"] == name)


def cluster(made, name):
    return named(made["cds.json"]["resources"], name)


def manager(made):
    return resource(made, "lds.json")["filter_chains"][0]["filters"][0]["typed_config"]


def route(made, name):
    hosts = resource(made, "rds.json")["virtual_hosts"]
    return next(entry for host in hosts for entry in host["routes"] if entry["name"] == name)


def test_files_and_who_reads_them():
    made = files()
    assert sorted(made) == [
        "cds.json",
        "eds-agents_agents-blue.json",
        "eds-agents_agents-green.json",
        "lds.json",
        "rds.json",
    ]
    dynamic = envoy.bootstrap(SETTINGS)["dynamic_resources"]
    assert dynamic["lds_config"]["path_config_source"] == {
        "path": "/x/xds/lds.json",
        "watched_directory": {"path": "/x/xds"},
    }
    assert manager(made)["rds"]["config_source"]["path_config_source"]["path"] == "/x/xds/rds.json"
    hosts = cluster(made, "agents_agents-blue")["eds_cluster_config"]["eds_config"]
    assert hosts["path_config_source"]["path"] == "/x/xds/eds-agents_agents-blue.json"
    # Names are resolved, not watched.
    admin = cluster(made, "admin_admin")
    assert (admin["type"], admin["load_assignment"]["cluster_name"]) == ("STRICT_DNS", "admin_admin")
    assert "@type" not in admin["load_assignment"]


def test_the_administration_is_on_loopback_only():
    assert envoy.bootstrap(SETTINGS)["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    assert envoy.bootstrap(SETTINGS)["static_resources"] == {}
    static = envoy.bootstrap(envoy.Settings(address="10.20.0.71", status_port=8100))["static_resources"]
    assert static["listeners"][0]["address"]["socket_address"] == {"address": "10.20.0.71", "port_value": 8100}
    routes = static["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]
    assert {
        entry["match"]["path"]: entry["route"]["prefix_rewrite"] for entry in routes["virtual_hosts"][0]["routes"]
    } == {
        "/status/ready": "/ready",
        "/metrics": "/stats/prometheus",
    }


def test_a_version_is_that_of_the_content():
    one, same, other = files(), files(), copy.deepcopy(sound())
    other["services"][0]["upstreams"][0]["weight"] = 80
    assert one == same
    changed = files(other)
    assert {name for name in one if one[name] != changed[name]} == {"rds.json"}
    assert one["rds.json"]["version_info"] != changed["rds.json"]["version_info"]


def test_hosts_are_in_their_own_file_and_weights_in_the_routes():
    table = sound()
    table["upstreams"][0]["hosts"].append({"address": "10.20.0.84", "port": 9999})
    before, after = files(), files(table)
    assert {name for name in before if before[name] != after[name]} == {"eds-agents_agents-blue.json"}


def test_the_order_of_the_table_is_of_no_account():
    table = sound()
    for part in table.values():
        part.reverse()
    table["services"][1]["upstreams"].reverse()
    table["upstreams"][2]["hosts"].reverse()
    assert files(table) == files()


def test_a_cluster():
    agents = cluster(files(), "agents_agents-blue")
    assert (agents["connect_timeout"], agents["lb_policy"]) == ("1.5s", "LEAST_REQUEST")
    check = agents["health_checks"][0]
    assert (check["interval"], check["no_traffic_interval"], check["timeout"]) == ("5s", "5s", "2s")
    assert check["http_health_check"] == {"path": "/health", "expected_statuses": [{"start": 200, "end": 201}]}
    assert agents["outlier_detection"]["consecutive_gateway_failure"] == 5
    assert "transport_socket" not in agents
    admin = cluster(files(), "admin_admin")
    assert "health_checks" not in admin and "outlier_detection" not in admin
    tls = admin["transport_socket"]["typed_config"]
    assert tls["sni"] == "admin.service.consul"
    validation = tls["common_tls_context"]["validation_context"]
    assert validation["trusted_ca"] == {"filename": "/pki/ca.crt", "watched_directory": {"path": "/pki"}}
    assert validation["match_typed_subject_alt_names"] == [
        {"san_type": "DNS", "matcher": {"exact": "admin.service.consul"}}
    ]


def test_certificates_are_only_left_unverified_when_that_is_said():
    table = sound()
    table["services"][1]["tls"] = {"verify": False}
    tls = cluster(files(table), "admin_admin")["transport_socket"]["typed_config"]
    assert "validation_context" not in tls["common_tls_context"]
    assert "sni" not in tls


def test_hosts_and_their_weights():
    table = sound()
    table["upstreams"][0]["hosts"][0]["weight"] = 0
    hosts = resource(files(table), "eds-agents_agents-blue.json")["endpoints"][0]["lb_endpoints"]
    assert [host["endpoint"]["address"]["socket_address"]["address"] for host in hosts] == ["10.20.0.81", "10.20.0.82"]
    # Envoy has no weight 0: such a host is checked and gets nothing.
    assert hosts[0]["health_status"] == "DRAINING" and "load_balancing_weight" not in hosts[0]
    assert hosts[1]["load_balancing_weight"] == 2 and "health_status" not in hosts[1]


def test_a_route():
    made = files()
    tasks, agents, admin = (route(made, name) for name in ("tasks", "agents", "admin"))
    assert tasks["match"]["path_separated_prefix"] == "/v1/tasks"
    assert tasks["match"]["headers"][0]["string_match"]["safe_regex"]["regex"] == "POST"
    assert tasks["route"]["weighted_clusters"]["clusters"] == [
        {"name": "agents_agents-blue", "weight": 90},
        {"name": "agents_agents-green", "weight": 10},
    ]
    assert (tasks["route"]["timeout"], tasks["route"]["idle_timeout"]) == ("0s", "120s")
    assert agents["route"]["retry_policy"]["num_retries"] == 1
    assert admin["route"]["host_rewrite_literal"] == "admin.service.consul"
    pattern = admin["route"]["regex_rewrite"]["pattern"]["regex"]
    assert [re.sub(pattern, "/", path) for path in ("/admin", "/admin/", "/admin/users")] == ["/", "/", "/users"]


def test_only_what_may_be_repeated_is_sent_again_after_it_was_sent():
    table = sound()
    assert "reset," not in f"{route(files(table), 'agents')['route']['retry_policy']['retry_on']},"
    table["routes"][1]["methods"] = ["GET", "HEAD"]
    assert route(files(table), "agents")["route"]["retry_policy"]["retry_on"].endswith(",reset")
    table["routes"][1].update(methods=["POST"], repeatable=True)
    assert route(files(table), "agents")["route"]["retry_policy"]["retry_on"].endswith(",reset,gateway-error")
    table["services"][0]["retries"] = 0
    assert "retry_policy" not in route(files(table), "agents")["route"]


def test_rate_limits():
    made = files()
    limits = named(manager(made)["http_filters"], "envoy.filters.http.local_ratelimit")["typed_config"]
    assert [
        ([(entry["key"], entry.get("value")) for entry in each["entries"]], each["token_bucket"]["max_tokens"])
        for each in limits["descriptors"]
    ] == [
        ([("route", "tasks"), ("header x-api-key", None)], 50),
        ([("route", "tasks"), ("no header x-api-key", "yes"), ("remote_address", None)], 50),
        ([("route", "agents"), ("remote_address", None)], 2500),
    ]
    assert limits["descriptors"][0]["token_bucket"]["fill_interval"] == "1s"
    assert limits["filter_enforced"]["default_value"]["numerator"] == 100  # otherwise nothing is refused
    assert route(made, "tasks")["metadata"]["filter_metadata"] == {"sutazai.gateway": {"route": "tasks"}}
    assert "metadata" not in route(made, "admin")
    # Every descriptor can come of some rate limit.
    keys = [[action_key(action) for action in each["actions"]] for each in limits["rate_limits"]]
    assert all([entry["key"] for entry in each["entries"]] in keys for each in limits["descriptors"])


def action_key(action):
    ((kind, value),) = action.items()
    return "remote_address" if kind == "remote_address" else value["descriptor_key"]


def test_without_limits_there_is_no_filter_for_them():
    table = sound()
    for each in table["routes"]:
        each.pop("rate_limit", None)
    assert [each["name"] for each in manager(files(table))["http_filters"]] == ["envoy.filters.http.router"]


def test_ids_logs_and_traces():
    plain, traced = manager(files()), manager(files(traces_host="collector.example.org", service_name="edge"))
    for each in (plain, traced):
        assert each["preserve_external_request_id"] and each["always_set_request_id_in_response"]
        assert each["access_log"][0]["typed_config"]["log_format"]["json_format"]["request_id"] == "%REQ(X-REQUEST-ID)%"
    assert "tracing" not in plain
    provider = traced["tracing"]["provider"]["typed_config"]
    assert provider["service_name"] == "edge"
    assert provider["http_service"]["http_uri"]["uri"] == "http://collector.example.org:4318/v1/traces"
    assert cluster(files(traces_host="collector.example.org"), "opentelemetry")["type"] == "STRICT_DNS"


def test_tls_of_the_listener_is_renewed_with_its_files():
    assert "transport_socket" not in resource(files(), "lds.json")["filter_chains"][0]
    made = files(tls_cert_file="/pki/host.crt", tls_key_file="/pki/host.key")
    context = resource(made, "lds.json")["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["tls_certificate_sds_secret_configs"][0]["name"] == resource(made, "sds.json")["name"]
    assert resource(made, "sds.json")["tls_certificate"]["watched_directory"] == {"path": "/pki"}


def test_one_document_to_be_validated_has_all_of_it():
    made = files(tls_cert_file="/pki/host.crt", tls_key_file="/pki/host.key")
    before = copy.deepcopy(made)
    document = envoy.as_one(made, SETTINGS)
    assert made == before
    assert "dynamic_resources" not in document
    text = json.dumps(document)
    assert "path_config_source" not in text
    for part in ("agents_agents-blue", "10.20.0.83", "/pki/host.key", "X-API-Key", '"tasks"'):
        assert part in text


# Which route answers


def envoys_choice(configuration, method, host, path):
    """How Envoy chooses: the name of the host, else the longest wildcard, else any; then the first route that matches."""
    domains = {domain: each for each in configuration["virtual_hosts"] for domain in each["domains"]}
    wildcards = sorted((domain for domain in domains if domain.startswith("*.")), key=len, reverse=True)
    found = next((each for each in [host, *wildcards] if each in domains and model.within(host, each)), "*")
    for entry in domains[found]["routes"]:
        match = entry["match"]
        takes = (
            path == match["path"]
            if "path" in match
            else path.startswith(match["prefix"])
            if "prefix" in match
            else path == match["path_separated_prefix"] or path.startswith(match["path_separated_prefix"] + "/")
        )
        methods = match.get("headers")
        if takes and (not methods or re.fullmatch(methods[0]["string_match"]["safe_regex"]["regex"], method)):
            return entry["name"]
    return None


@FEW
@given(routes_of_a_table, requests)
def test_envoy_chooses_the_tables_route(routes, request):
    allowed = []
    for each in routes:
        if not any(model.same_match(each, other) for other in allowed):
            allowed.append(each)
    service = model.Service("web", (model.Share("web", 1),))
    table = model.Table({}, {"web": service}, tuple(allowed))
    configuration = envoy.route_configuration(table)
    domains = [domain for each in configuration["virtual_hosts"] for domain in each["domains"]]
    assert len(domains) == len(set(domains))  # Envoy refuses one domain twice
    names = [each["name"] for each in configuration["virtual_hosts"]]
    assert len(names) == len(set(names))
    chosen = table.choose(*request)
    assert envoys_choice(configuration, *request) == (chosen.name if chosen else None)


# Steps


def other_table():
    table = sound()
    table["upstreams"][1]["name"] = "agents-red"
    table["services"][0]["upstreams"] = [{"name": "agents-blue", "weight": 50}, {"name": "agents-red", "weight": 50}]
    table["routes"][1]["rate_limit"] = {"requests": 7}
    return table


def names(stage):
    return list(stage.write), list(stage.remove)


def test_nothing_to_do_has_no_steps():
    assert steps.plan(texts(), texts()) == []


def test_at_first_all_is_written():
    written = [name for stage in steps.plan({}, texts()) for name in stage.write]
    assert sorted(written) == sorted(texts())


def test_weights_are_one_step_of_one_file():
    table = sound()
    table["services"][0]["upstreams"][0]["weight"] = 0
    (stage,) = steps.plan(texts(), texts(table))
    assert names(stage) == (["rds.json"], [])


def test_what_is_new_comes_first_and_what_is_old_goes_last():
    before, after = texts(), texts(other_table())
    first, second, third = steps.plan(before, after)
    assert names(first) == (["eds-agents_agents-red.json", "cds.json"], [])
    assert names(second) == (["rds.json", "lds.json"], [])
    assert names(third) == (["cds.json"], ["eds-agents_agents-green.json"])
    both = [each["name"] for each in json.loads(first.write["cds.json"])["resources"]]
    assert {"agents_agents-green", "agents_agents-red"} <= set(both)
    assert json.loads(first.write["cds.json"])["version_info"] != json.loads(after["cds.json"])["version_info"]
    assert third.write["cds.json"] == after["cds.json"]


SHARES = st.lists(st.sampled_from(["agents-blue", "agents-green", "agents-red", "admin"]), min_size=1, unique=True)


def table_of(shares):
    table = sound()
    table["upstreams"].append({"name": "agents-red", "hosts": [{"address": "10.20.0.85", "port": 9999}]})
    table["services"][0]["upstreams"] = [{"name": name} for name in shares]
    return table


@FEW
@given(SHARES, SHARES, st.integers(0, 20))
def test_no_route_ever_leads_to_a_cluster_that_is_not_there(before, after, killed_after):
    """After each single file, and when the run is killed at any point and repeated."""
    wanted, disk = texts(table_of(after)), texts(table_of(before))

    def check():
        clusters = {each["name"]: each for each in json.loads(disk["cds.json"])["resources"]}
        for each in re.findall(r'"name": "(\w+_[\w-]+)",\s*"weight"', disk["rds.json"]):
            assert each in clusters
        for each in clusters.values():
            if each["type"] == "EDS":
                assert f"eds-{each['name']}.json" in disk

    def run(limit):
        for stage in steps.plan(dict(disk), wanted):
            for name, text in stage.write.items():
                if limit == 0:
                    return
                limit -= 1
                disk[name] = text
                check()
            for name in stage.remove:
                if limit == 0:
                    return
                limit -= 1
                del disk[name]
                check()

    run(killed_after)
    run(-1)
    assert disk == wanted


def test_files_of_others_are_left_alone():
    before = {**texts(), "notes.json": "{}", "eds-gone_gone.json": "{}"}
    (stage,) = steps.plan(before, texts())
    assert names(stage) == ([], ["eds-gone_gone.json"])


@pytest.mark.parametrize("former", [None, "", "{", "{}", '{"resources": []}'])
def test_what_is_no_file_of_clusters_has_none(former):
    wanted = texts()["cds.json"]
    assert steps.with_former(former, wanted) == wanted


def test_envoy_has_taken_a_step_when_it_reports_its_versions():
    before, after = texts(), texts(other_table())
    first, second, _third = steps.plan(before, after)
    versions = steps.expected(first, before)
    assert list(versions) == ["eds-agents_agents-red.json", "cds.json"]
    answer = {
        "stats": [{"name": "cluster_manager.cds.version_text", "value": versions["cds.json"]}, {"histograms": {}}]
    }
    assert steps.not_taken(versions, answer) == ["eds-agents_agents-red.json"]
    answer["stats"].append(
        {"name": "cluster.agents_agents-red.version_text", "value": versions["eds-agents_agents-red.json"]}
    )
    assert steps.not_taken(versions, answer) == []
    assert set(steps.expected(second, before)) == {"rds.json", "lds.json"}
    assert steps.not_taken({"rds.json": "1"}, {"stats": []}) == ["rds.json"]


def test_a_cluster_is_warming_until_its_hosts_are_checked():
    assert steps.is_warming({"stats": [{"name": "cluster_manager.warming_clusters", "value": 1}]})
    assert not steps.is_warming(
        {"stats": [{"name": "cluster_manager.warming_clusters", "value": 0}, {"histograms": {}}]}
    )


def test_hosts_of_no_cluster_are_not_waited_for():
    """They are written, but nobody reads them."""
    stage = steps.Stage({"eds-gone_gone.json": json.dumps({"version_info": "1"})})
    assert steps.expected(stage, texts()) == {}
