"""A gateway, whichever its engine: TLS in front, administration on loopback, and readiness for load balancers to see."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

pytestmark = [pytest.mark.hosts("gateways"), pytest.mark.unit("kong", "envoy-gateway")]

PORT, STATUS_PORT = 8443, 8100


@dataclass(frozen=True)
class Engine:
    unit: str
    program: str
    admin_port: int
    configuration: str


ENGINES = {
    "kong": Engine("kong", "nginx", 8001, "/etc/kong"),
    "envoy_gateway": Engine("envoy-gateway", "envoy-gateway", 9901, "/etc/envoy-gateway"),
}


@pytest.fixture
def engine(node) -> Engine:
    return ENGINES[node.variables.get("gateway_engine", "kong")]


def status(node, path: str) -> str:
    return node.run(f"curl -s -o /dev/null -w '%{{http_code}}' http://{node.address}:{STATUS_PORT}{path}").strip()


def test_it_runs_and_starts_with_the_host(node, engine):
    service = node.host.service(engine.unit)
    assert service.is_running
    assert service.is_enabled


def test_only_clients_and_status_are_exposed(node, engine):
    assert node.exposed(engine.program) == {PORT, STATUS_PORT}
    assert node.loopback(engine.program) == {engine.admin_port}


def test_it_shows_the_hosts_certificate(node):
    assert "Verification: OK" in node.certificate_for(PORT, node.name)


def test_load_balancers_see_that_it_is_ready_and_no_administration(node):
    assert status(node, "/status/ready") == "200"
    assert status(node, "/config_dump") == "404"  # Envoy's
    assert status(node, "/services") == "404"  # Kong's


def test_a_request_gets_an_id_and_an_answer_by_the_gateway(node):
    url = f"https://{node.name}:{PORT}/no/such/route"
    answer = node.run(f"curl -si --cacert /etc/sutazai/pki/ca.crt --resolve {node.name}:{PORT}:{node.address} {url}")
    assert "x-request-id" in answer.lower()


def test_what_no_route_is_for_is_answered_by_the_gateway(node):
    if any(route.get("path", "/") == "/" for route in node.variables["gateway_routes"]["routes"]):
        pytest.skip("this table has a route for everything")
    url = f"https://{node.name}:{PORT}/no/such/route"
    answer = node.run(f"curl -si --cacert /etc/sutazai/pki/ca.crt --resolve {node.name}:{PORT}:{node.address} {url}")
    assert " 404" in answer.splitlines()[0]


def test_its_files_are_not_readable_to_others(node, engine):
    assert node.run(f"find {engine.configuration} -type f -perm /007 ! -name '*.default'").strip() == ""
