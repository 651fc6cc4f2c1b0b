"""What the agents' roles leave behind on a host that left their group: nothing that runs, no secret, nothing in Consul. With a real Consul, and a
systemctl that only notes. CONSUL_BIN names the binary."""

from __future__ import annotations

import pytest

from tests.integration.agents_host import HOST, Host, managed
from tests.integration.consul_server import BINARY

pytestmark = pytest.mark.skipif(not BINARY, reason="no Consul binary: set CONSUL_BIN to the path of one")


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with managed(tmp_path_factory.mktemp("consul")) as url:
        yield url


@pytest.fixture
def host(consul, tmp_path):
    return Host(tmp_path, consul)


def stopped(*units: str) -> set[str]:
    return {f"{verb} {unit}.service" for unit in units for verb in ("stop", "disable")}


@pytest.mark.parametrize(
    ("role", "units"),
    [
        ("fabio", ["fabio"]),
        ("registrar", ["sutazai-registrar"]),
        ("autoscaler", ["sutazai-autoscaler", "sutazai-autoscaler-report"]),
    ],
)
def test_it_ends_and_its_token_and_policy_with_it(host, role, units):
    host.units(*units)
    host.run("cluster", role)
    assert (len(host.tokens()), host.policies()) == (1, {f"{role}-{HOST}"})
    secret = host.file({"fabio": "fabio/consul.env"}.get(role, f"{role}/consul.token"))
    host.run("retire", role)
    assert host.told() == stopped(*units)
    assert not secret.exists()
    assert (host.tokens(), host.policies()) == ([], set())
    assert "changed=0" in host.run("retire", role)


def test_what_the_registrar_has_left_goes_and_what_others_registered_stays(host):
    host.units("sutazai-registrar")
    host.register("agent-1234", HOST)
    host.register("web", "")
    host.run("retire", "registrar")
    assert set(host.ask("GET", "/v1/agent/services")) == {"web"}


def test_services_that_the_host_announced_are_taken_out(host):
    host.units("flower", "fabio")
    passwords = [host.file("flower/rabbitmq.password"), host.file("flower/flowerconfig.py")]
    definitions = [host.file(f"consul.d/service-{name}.json") for name in ("flower", "fabio")]
    host.run("retire", "flower", "fabio")
    assert stopped("flower", "fabio") <= host.told()
    assert not any(path.exists() for path in (*passwords, *definitions))


def test_all_workers_end(host):
    host.units("celery-worker@inference", "celery-worker@partition-3")
    for name in ("inference", "partition-3"):
        host.file(f"units/celery-worker@{name}.service.d/pool.conf")
    passwords = [host.file(f"celery/{name}.password") for name in ("rabbitmq", "redis")]
    host.run("retire", "celery")
    assert host.told() == stopped("celery-worker@inference", "celery-worker@partition-3")
    assert not any(path.exists() for path in passwords)
    assert list((host.directory / "units").iterdir()) == []
    assert "changed=0" in host.run("retire", "celery")


def test_a_host_that_never_had_any_is_left_alone(host):
    assert "changed=0" in host.run("retire", "celery", "flower", "autoscaler", "registrar", "fabio")
    assert host.told() == set()
