"""What is registered in Consul can be found on every host, by its name alone."""

from __future__ import annotations

import pytest

from tests.e2e.test_consul import api

SERVICES = {"rabbitmq": "rabbitmq", "redis": "redis", "postgresql": "postgresql"}


@pytest.mark.unit("consul")
def test_services_resolve_to_their_hosts(node, platform):
    if not platform.has_consul:
        pytest.skip("no Consul in this inventory")
    for group, service in SERVICES.items():
        expected = {member.address for member in platform.group(group)}
        if not expected or not registered(node, service):
            continue
        found = set(node.run(f"getent ahostsv4 {service}.service.consul | cut -d' ' -f1").split())
        assert found, f"{service}.service.consul doesn't resolve"
        assert found <= expected, f"{service}.service.consul"


def registered(node, service):
    """In the lab every group's service must be there; a scenario has only what it converges."""
    return node.platform.groups.get("clients") or api(
        node.platform.group("consul_servers")[0], f"/catalog/service/{service}"
    )


@pytest.mark.hosts("converge")
@pytest.mark.unit("consul")
def test_the_scenarios_service_passes_and_has_a_token_of_its_own(node, platform):
    entries = api(platform.group("consul_servers")[0], "/health/service/web?passing")
    assert [entry["Node"]["Node"] for entry in entries] == [node.name]
    assert entries[0]["Service"]["Tags"] == ["primary"]
    definition = node.host.file("/etc/consul.d/service-web.json")
    assert (definition.user, definition.group, definition.mode) == ("root", "consul", 0o640)
    assert platform.secret("platform_consul_management_token") not in definition.content_string
