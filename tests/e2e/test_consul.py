"""Consul: three servers that agree, a client on every host, ACLs that deny, names that resolve."""

from __future__ import annotations

import json

import pytest

API = "http://127.0.0.1:8500/v1"
pytestmark = [pytest.mark.hosts("all"), pytest.mark.unit("consul")]


def api(node, path: str, check: bool = True):
    token = node.platform.secret("platform_consul_management_token")
    text = node.run(
        f"curl --silent --show-error --fail --config - {API}{path}", f'header = "X-Consul-Token: {token}"\n', check
    )
    return json.loads(text) if text else None


def test_the_agent_runs_and_starts_with_the_host(node):
    service = node.host.service("consul")
    assert service.is_running
    assert service.is_enabled


def test_plain_ports_are_on_loopback_only(node):
    assert {8500, 8502, 8600} <= node.loopback("consul")
    server = "consul_servers" in node.groups
    assert node.exposed("consul") == {8301, 8501, 8503} | ({8300} if server else set())


def test_https_shows_a_certificate_that_verifies(node):
    assert "Verification: OK" in node.certificate_for(8501, node.name)


def test_secrets_are_not_readable_to_others(node):
    listing = node.run("find /etc/consul.d -type f -perm /007")
    assert listing.strip() == ""
    assert node.host.file("/etc/consul.d").mode == 0o750


def test_nothing_is_allowed_without_a_token(node):
    assert node.run(f"curl --silent --output /dev/null --write-out '%{{http_code}}' {API}/kv/anything") in (
        "403",
        "404",
    )
    assert json.loads(node.run(f"curl --silent {API}/catalog/nodes")) == []


@pytest.mark.hosts("consul_servers")
def test_every_server_sees_all_servers_healthy(node, platform):
    health = api(node, "/operator/autopilot/health")
    servers = platform.groups["consul_servers"]
    assert health["Healthy"]
    assert sorted(server["Name"] for server in health["Servers"] if server["Voter"]) == sorted(servers)
    assert health["FailureTolerance"] == (len(servers) - 1) // 2
    assert sum(server["Leader"] for server in health["Servers"]) == 1


@pytest.mark.hosts("consul_servers")
def test_every_host_is_a_member_that_lives(member, platform):
    members = {entry["Name"]: entry["Status"] for entry in api(member, "/agent/members")}
    assert members == dict.fromkeys(members, 1)
    assert set(members) >= {
        name for name, node in platform.nodes.items() if ("consul", "127.0.0.1", 8500) in node.listeners
    }


@pytest.mark.hosts("consul_servers")
def test_no_check_is_critical(member):
    critical = [(check["Node"], check["Name"], check["Output"]) for check in api(member, "/health/state/critical")]
    # A replica isn't the leader: these two services pass on the hosts that are what they name.
    assert [
        check for check in critical if "postgresql" not in check[1].lower() and "patroni" not in check[1].lower()
    ] == []


def test_gossip_is_encrypted(node):
    assert api(node, "/agent/self")["Stats"]["serf_lan"]["encrypted"] == "true"


def test_names_of_consul_resolve_through_the_hosts_resolver(node, platform):
    found = set(node.run("getent ahostsv4 consul.service.consul | cut -d' ' -f1").split())
    assert found == {server.address for server in platform.group("consul_servers")}


def test_other_names_still_resolve(node):
    assert node.run("getent hosts localhost").strip()


@pytest.mark.hosts("consul_servers")
def test_a_backup_is_taken_and_nobody_else_reads_it(node):
    timer = node.host.service("consul-snapshot.timer")
    assert timer.is_running
    assert timer.is_enabled
    node.run("systemctl start consul-snapshot.service")
    newest = node.run("ls -1 /var/lib/consul-snapshots/*.snap | tail -n 1").strip()
    assert node.host.file("/var/lib/consul-snapshots").mode == 0o700
    assert node.host.file(newest).mode == 0o600
    about = json.loads(node.run(f"cat {newest}.about"))
    assert about["index"] > 0
    assert about["token_count"] > 0
