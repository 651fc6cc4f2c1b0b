"""Fabio: what it shows, what it keeps to itself, and that it says so before it goes."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.hosts("fabio"), pytest.mark.unit("fabio")]
HEALTH = "curl -s -o /dev/null -w '%{{http_code}}' --cacert /etc/sutazai/pki/ca.crt https://{}:9999{}"


def test_it_runs_and_starts_with_the_host(node):
    service = node.host.service("fabio")
    assert service.is_running
    assert service.is_enabled


def test_only_the_port_for_requests_is_exposed(node):
    assert node.exposed("fabio") == {9999}


def test_it_shows_the_hosts_certificate(node):
    assert "Verification: OK" in node.certificate_for(9999, "fabio.service.consul")


def test_every_host_of_the_group_takes_requests(node):
    for other in node.platform.group("fabio"):
        assert node.run(HEALTH.format(other.address, "/health")) == "200"


def test_without_a_route_the_answer_is_to_try_again(node):
    assert node.run(HEALTH.format(node.address, "/nothing-is-registered-for-this")) == "503"


def test_it_is_found_in_consul(node):
    found = node.run("getent ahostsv4 fabio.service.consul | awk '{print $1}' | sort -u").split()
    assert sorted(found) == sorted(other.address for other in node.platform.group("fabio"))


def test_its_token_is_neither_logged_nor_shown(node):
    seen = "{ journalctl -u fabio -o cat; curl -s http://127.0.0.1:9998/api/config; ps -eo args; cat /etc/fabio/fabio.properties; }"
    assert node.run("stat -c '%U %a' /etc/fabio/consul.env").strip() == "root 600"
    count = f"cut -d= -f2 /etc/fabio/consul.env > /run/token; {seen} | grep -c -F -f /run/token; rm /run/token"
    assert node.run(count, check=False).strip() == "0"


def test_it_takes_no_requests_any_more_while_it_is_about_to_stop(node):
    """The unit is stopped as a host's shutdown does it, and started again."""
    check = HEALTH.format(node.address, "/health")
    node.run("systemctl stop --no-block fabio")
    node.run(f'for i in $(seq 50); do [ "$({check})" = 503 ] && exit 0; sleep 0.1; done; exit 1')
    assert node.host.service("fabio").is_running is False  # deactivating
    node.run("systemctl start fabio")
    assert node.run(check) == "200"
