"""New tokens for what asks Consul by itself on the agents' and Fabio's hosts, in force before the former ones end. With a real Consul, and a
systemctl that only notes. CONSUL_BIN names the binary."""

from __future__ import annotations

import hashlib
import os
import time

import pytest

from tests.integration.agents_host import HOST, Host, managed
from tests.integration.consul_server import BINARY

pytestmark = [
    pytest.mark.skipif(not BINARY, reason="no Consul binary: set CONSUL_BIN to the path of one"),
    pytest.mark.skipif(os.getuid() != 0, reason="the roles' files are root's"),
]
FILES = {"fabio": "fabio/consul.env", "registrar": "registrar/consul.token", "autoscaler": "autoscaler/consul.token"}


@pytest.fixture(scope="module")
def consul(tmp_path_factory):
    with managed(tmp_path_factory.mktemp("consul")) as url:
        yield url


@pytest.fixture
def host(consul, tmp_path):
    host = Host(tmp_path, consul)
    host.units("fabio", "sutazai-registrar", "sutazai-autoscaler-report")
    return host


@pytest.mark.parametrize(
    ("role", "restarted"), [("fabio", {"restart fabio.service"}), ("registrar", set()), ("autoscaler", set())]
)
def test_both_tokens_are_valid_until_the_former_one_is_retired(host, role, restarted):
    file = host.file(FILES[role])

    def used() -> str:
        return file.read_text().strip().removeprefix("CONSUL_HTTP_TOKEN=")

    host.run("rotate_token", role)
    former = used()
    assert host.tokens(role) == [former]
    host.log.write_text("")
    time.sleep(1)
    new = {"platform_consul_reissue_tokens_before": int(time.time())}

    assert "changed=0" not in host.run("rotate_token", role, check=True, **new)
    assert (host.tokens(role), used(), host.told()) == ([former], former, set())

    host.run("rotate_token", role, **new)
    assert set(host.tokens(role)) == {former, used()}
    assert used() != former
    assert host.told() == restarted
    host.log.write_text("")
    assert "changed=0" in host.run("rotate_token", role, **new)

    host.run("rotate_token", role, platform_consul_retire_former_tokens=True, **new)
    assert host.tokens(role) == [used()]
    assert host.told() == set()


def test_a_fabio_that_was_not_restarted_any_more_is_when_it_is_repeated(host):
    host.run("cluster", "fabio")
    host.file(FILES["fabio"]).write_text(f"CONSUL_HTTP_TOKEN={host.tokens('fabio')[0]}")
    host.run("rotate_token", "fabio")
    assert host.told() == {"restart fabio.service"}


def test_the_former_token_is_kept_while_the_registrar_registers_by_it(host):
    file = host.file(FILES["registrar"])
    host.run("rotate_token", "registrar")
    mark = hashlib.sha256(file.read_bytes().strip()).hexdigest()[:16]
    host.register("agent-1234", HOST, token=mark)
    host.register("web", "somebody")
    host.run("rotate_token", "registrar")
    host.register("agent-5678", HOST)
    soon = {"registrar_wait_seconds": 1, "registrar_interval_seconds": 1}
    done = host.play("rotate_token", "registrar", **soon)
    assert done.returncode != 0
    assert "doesn't register by its new token agent-5678. The former one" in " ".join(done.stdout.split())


@pytest.mark.parametrize("role", FILES)
def test_what_has_not_been_set_up_gets_none(host, role):
    had = host.tokens()
    assert "changed=0" in host.run("rotate_token", role)
    assert host.tokens() == had
