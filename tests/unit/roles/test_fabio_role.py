"""What the role fabio writes, rendered as Ansible does it from its defaults and an inventory's variables."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import pytest
import yaml
from ansible.template import trust_as_template
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_routes

from tests.unit.roles.rendering import Role, by_path, complaints

ROOT = pathlib.Path(__file__).resolve().parents[3]
INVENTORY = {
    "inventory_hostname": "fabio-1",
    "ansible_facts": {"architecture": "x86_64"},
    "groups": {
        "all": ["consul-1", "fabio-1", "fabio-2"],
        "consul_servers": ["consul-1"],
        "fabio": ["fabio-1", "fabio-2"],
    },
    "hostvars": {
        "fabio-1": {"platform_address": "10.20.0.61"},
        "fabio-2": {"platform_address": "10.20.0.62"},
    },
    "platform_address": "10.20.0.61",
    "platform_consul_management_token": "the-management-token",
    "fabio_artifact_sha256": "0" * 64,
    "__fabio_token": {"tokens": {"fabio/fabio-1": {"secret_id": "of-consul"}}},
}


def role(**variables) -> Role:
    return Role("fabio", {**INVENTORY, **variables})


def files(**variables) -> dict:
    return by_path(role(**variables).value("__fabio_files"))


def test_the_releases_own_binary_is_asked_for():
    assert role().value("fabio_artifact_url").endswith("/v1.7.3/fabio-1.7.3-linux_amd64")
    assert role().value("fabio_artifact_member") == ""
    assert role(fabio_artifact_file="fabio_1.5.15_linux_amd64.zip").value("fabio_artifact_member") == "fabio"
    assert role(ansible_facts={"architecture": "aarch64"}).value("fabio_artifact_file").endswith("-linux_arm64")


def test_the_token_is_in_one_file_only():
    written = files()
    assert [path for path, entry in written.items() if "of-consul" in entry.get("content", "")] == [
        "/etc/fabio/consul.env"
    ]
    entry = written["/etc/fabio/consul.env"]
    assert (entry["mode"], entry["content"]) == ("0600", "CONSUL_HTTP_TOKEN=of-consul")
    assert not any("the-management-token" in entry.get("content", "") for entry in written.values())


def test_addresses_of_the_sixth_version_are_in_brackets():
    written = files(platform_address="fd00::61")["/etc/fabio/fabio.properties"]["content"]
    assert "proxy.addr = [fd00::61]:9999;cs=host;tlsmin=tls12" in written
    assert json.loads(files(platform_address="fd00::61")["/etc/fabio/turn.json"]["content"])["address"] == "fd00::61"


def test_each_host_has_its_own_keys():
    settings = json.loads(files()["/etc/fabio/turn.json"]["content"])
    assert settings["key"] == "fabio/hosts/fabio-1/routes/health"
    assert 'key_prefix "fabio/hosts/fabio-1/" { policy = "write" }' in role().value("__fabio_policy")["rules"]


def test_the_defaults_pass():
    assert role().passes()


@pytest.mark.parametrize(
    "wrong", [{"fabio_shutdown_seconds": 0}, {"fabio_ui_port": 9999}, {"fabio_consul_servers": []}]
)
def test_what_cannot_work_is_refused(wrong):
    assert not role(**wrong).passes()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_understands_the_unit(tmp_path):
    unit = files(fabio_memory_max_bytes=1, fabio_port=443)["/etc/systemd/system/fabio.service"]["content"]
    for program in ("/usr/local/bin/fabio", "/usr/local/lib/sutazai/fabio-turn"):
        unit = unit.replace(f"{program} ", "/usr/bin/env ")
    assert complaints(tmp_path, {"fabio.service": unit}, ["fabio.service"]) == ""


def test_the_documented_routes_are_a_table():
    """With the group's hosts, and time enough for gateways to notice that one of them goes."""
    text = (ROOT / "docs/fabio.md").read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "gateway_routes" in block)
    documented = yaml.safe_load(block)["gateway_routes"]
    rendered = role()
    documented["upstreams"][0]["hosts"] = rendered.templar.template(
        trust_as_template(documented["upstreams"][0]["hosts"])
    )
    table = gateway_routes.read(documented)
    (upstream,), (service,) = table.upstreams.values(), table.services.values()
    assert [(host.address, host.port) for host in upstream.hosts] == [("10.20.0.61", 9999), ("10.20.0.62", 9999)]
    check = service.active_check
    assert (check.interval_seconds + check.timeout_seconds) * check.unhealthy_after <= rendered.value(
        "fabio_drain_seconds"
    )
    assert service.idle_timeout_seconds <= rendered.value("fabio_answer_timeout_seconds")
    assert table.choose("POST", "x", "/v1/tasks") == table.routes[0]
