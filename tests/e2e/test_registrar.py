"""The registrar: each node of the Swarm tells its Consul agent of its containers."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.hosts("swarm_managers", "agents"), pytest.mark.unit("sutazai-registrar")]

TOKEN_FILE = "/etc/sutazai/registrar/consul.token"
# By curl's standard input: an argument is to be seen by everybody.
HEADER = f"sed 's/^/X-Consul-Token: /' {TOKEN_FILE}"


def test_it_runs_and_starts_with_the_host(node):
    service = node.host.service("sutazai-registrar")
    assert service.is_running
    assert service.is_enabled


def test_its_token_is_its_own(node):
    file = node.host.file(TOKEN_FILE)
    assert (file.user, file.mode) == ("sutazai-registrar", 0o600)


def test_its_token_may_register_agents_and_nothing_else(node):
    def register(name: str) -> str:
        definition = json.dumps({"Name": name, "ID": "registrar-test", "Port": 1})
        command = (
            f"{HEADER} | curl -s -o /dev/null -w '%{{http_code}}' -H @- -X PUT "
            f"-d '{definition}' http://127.0.0.1:8500/v1/agent/service/register"
        )
        return node.run(command)

    assert register("redis") == "403"
    assert register("ai-agent") == "200"
    # It is the registrar's own: without its mark nobody but this test takes it away.
    node.run(f"{HEADER} | curl -sf -H @- -X PUT http://127.0.0.1:8500/v1/agent/service/deregister/registrar-test")
