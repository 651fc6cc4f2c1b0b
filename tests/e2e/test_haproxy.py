"""A load balancer: what it shows, what it hides, and when it has had enough."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.hosts("load_balancers"), pytest.mark.unit("haproxy")]


def test_it_runs_and_starts_with_the_host(node):
    service = node.host.service("haproxy")
    assert service.is_running
    assert service.is_enabled


def test_only_clients_peers_and_status_are_exposed(node):
    assert node.exposed("haproxy") == {443, 80, 10000, 8404}


def test_it_shows_the_hosts_certificate(node):
    assert "Verification: OK" in node.certificate_for(443, node.name)


def test_it_speaks_http_2(node):
    shown = node.run(f"openssl s_client -connect {node.address}:443 -alpn h2 </dev/null 2>/dev/null", check=False)
    assert "ALPN protocol: h2" in shown


def test_plain_http_is_sent_to_https(node):
    answer = node.run(f"curl -s -o /dev/null -w '%{{http_code}} %{{redirect_url}}' http://{node.address}/v1/tasks")
    assert answer == f"308 https://{node.address}/v1/tasks"


def test_metrics_are_there(node):
    assert "haproxy_process_uptime_seconds" in node.run(f"curl -s http://{node.address}:8404/metrics")


def test_it_tells_keepalived_that_it_is_up(node):
    assert node.host.file("/run/sutazai-haproxy-down").content_string.strip() == "0"


def test_the_load_balancers_share_their_counts(node):
    others = [other for other in node.platform.group("load_balancers") if other.name != node.name]
    tables = node.run(
        "echo 'show peers' | python3 -c \"import socket, sys; s = socket.socket(socket.AF_UNIX); "
        "s.connect('/run/haproxy/admin.sock'); s.sendall(sys.stdin.buffer.read()); "
        'print(s.makefile().read())"'
    )
    for other in others:
        line = next(line for line in tables.splitlines() if f"id={other.name}(" in line)
        assert "last_status=ESTA" in line, line


@pytest.mark.hosts("converge")
def test_who_asks_too_often_is_told_so_in_json(node):
    """The scenario allows 20 requests a second, over ten seconds."""
    limit = 20 * 10
    if node.variables.get("haproxy_client_requests_per_second") != limit // 10:
        pytest.skip("only the scenario's limit is known here")
    answers = node.run(
        f"for i in $(seq {limit + 30}); do curl -sk -o /tmp/answer -w '%{{http_code}}\\n' https://{node.address}/; done; cat /tmp/answer"
    )
    assert answers.count("429") >= 20
    assert '"status":429' in answers.splitlines()[-1]
