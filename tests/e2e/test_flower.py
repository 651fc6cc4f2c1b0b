"""Flower: over TLS, with a password that is nowhere to be seen, and connected to the broker with its own user."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.hosts("flower"), pytest.mark.unit("flower")]


def ask(node, path: str, password: str = "") -> str:
    """Status and body; the password isn't among curl's arguments."""
    user = f'user = "{node.variables.get("flower_user", "operator")}:{password}"\n' if password else ""
    url = f"https://{node.address}:5555{path}"
    return node.run(f"curl -sS -K - -w '\\n%{{http_code}}' --cacert /etc/sutazai/pki/ca.crt {url}", stdin=user)


def test_it_runs_and_starts_with_the_host(node):
    service = node.host.service("flower")
    assert service.is_running
    assert service.is_enabled


def test_it_shows_the_hosts_certificate(node):
    assert "Verification: OK" in node.certificate_for(5555, "flower.service.consul")


def test_only_who_has_the_password_sees_its_pages(node):
    for path in ("/", "/tasks", "/api/workers"):
        assert ask(node, path).endswith("401")
        assert ask(node, path, "not-the-password").endswith("401")
    assert ask(node, "/tasks", node.variables["flower_password"]).endswith("200")


def test_it_only_shows(node):
    answer = node.run(
        f"curl -sS -K - -X POST -o /dev/null -w '%{{http_code}}' --cacert /etc/sutazai/pki/ca.crt "
        f"https://{node.address}:5555/api/worker/shutdown/any",
        stdin=f'user = "operator:{node.variables["flower_password"]}"\n',
    )
    assert answer == "403"


def test_the_broker_lets_it_listen(node):
    """It has a queue of its own for what workers say, which the permissions have to allow."""
    if "rabbitmq" not in node.groups:
        pytest.skip("only where the broker is on the same host can it be asked here")
    queues = json.loads(node.run("rabbitmqctl list_queues --formatter json name consumers"))
    assert [queue["consumers"] for queue in queues if queue["name"].startswith("celeryev")] == [1]


def test_no_secret_is_in_its_arguments_or_log(node):
    for secret in ("flower_password", "flower_rabbitmq_password"):
        seen = "{ ps -eo args; journalctl -u flower -o cat; systemctl show flower; }"
        found = node.run(
            f"cat > /run/secret; {seen} | grep -c -F -f /run/secret; rm /run/secret", node.variables[secret], False
        )
        assert found.strip() == "0"
