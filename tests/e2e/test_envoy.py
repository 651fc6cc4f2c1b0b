"""The mesh on the wire: only sidecars with a certificate of Consul's get through, and only where an intention allows it."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.hosts("converge")]
FIRST_PORT, FIRST_ADMIN_PORT = 21000, 19000


def sidecars(node):
    return node.variables["envoy_sidecars"]


@pytest.fixture(autouse=True)
def _mesh(platform):
    """The services are the scenario's."""
    if not platform.group("mesh"):
        pytest.skip("no mesh in this inventory")


@pytest.fixture
def api(platform):
    """The host whose service `api` the others call."""
    return next(node for node in platform.group("converge") if sidecars(node)[0]["service"] == "api")


@pytest.fixture
def calling(platform):
    return next(node for node in platform.group("converge") if sidecars(node)[0]["service"] == "caller")


def test_each_service_has_a_sidecar_that_starts_with_the_host(node):
    for sidecar in sidecars(node):
        service = node.host.service(f"envoy@{sidecar['service']}")
        assert service.is_running
        assert service.is_enabled


def test_only_the_mesh_is_exposed(node):
    count = len(sidecars(node))
    assert node.exposed("envoy") == {FIRST_PORT + number for number in range(count)}
    assert {FIRST_ADMIN_PORT + number for number in range(count)} <= node.loopback("envoy")


def test_tokens_are_for_the_sidecar_alone(node):
    assert node.run("find /etc/envoy -name '*.token' -perm /077").strip() == ""
    assert node.run("find /run/envoy-* -type f -perm /077").strip() == ""
    assert node.run("ps -eo args | grep -c '[C]ONSUL_HTTP_TOKEN=\\|[-]token=' || true").strip() == "0"


def test_a_service_with_an_intention_is_answered(calling):
    # Consul's agents learn of a new host and of an intention within seconds.
    answer = calling.run(
        "curl -s --retry 20 --retry-delay 1 --retry-all-errors -f http://127.0.0.1:9191/v1/status/leader"
    )
    assert ":8300" in answer


def test_a_service_without_one_is_refused(calling):
    answer = calling.run("curl -s -w ' %{http_code}' http://127.0.0.1:9192/v1/status/leader", check=False)
    assert answer.endswith(" 403"), answer
    assert "RBAC" in answer


def test_plain_text_is_refused(calling, api):
    command = f"curl -sS -m 5 http://{api.address}:{FIRST_PORT}/v1/status/leader 2>&1; echo; echo rc=$?"
    assert ":8300" not in calling.run(command)


def test_a_client_without_a_certificate_is_refused(calling, api):
    """TLS alone isn't enough: the sidecar asks for a certificate, and shows one that names its service."""
    address = f"{api.address}:{FIRST_PORT}"
    shown = calling.run(f"openssl s_client -connect {address} -showcerts </dev/null 2>/dev/null", check=False)
    names = calling.run("openssl x509 -noout -ext subjectAltName", stdin=shown)
    assert "URI:spiffe://" in names
    assert names.strip().endswith("/svc/api"), names
    # It sends nothing and waits: who sends may be told of the closed connection before he has read why.
    said = calling.run(f"timeout 5 openssl s_client -connect {address} -ign_eof </dev/null 2>&1", check=False)
    assert "alert certificate required" in said, said
    assert ":8300" not in calling.run(f"curl -skS -m 5 https://{address}/v1/status/leader 2>&1", check=False)


def test_what_passes_between_two_hosts_is_encrypted_both_ways(api):
    """Envoy counts the handshakes in which the other side showed a certificate."""
    stats = api.run(f"curl -s http://127.0.0.1:{FIRST_ADMIN_PORT}/stats?filter=_{FIRST_PORT}.ssl.handshake")
    assert sum(int(line.rpartition(" ")[2]) for line in stats.splitlines()) > 0, stats
