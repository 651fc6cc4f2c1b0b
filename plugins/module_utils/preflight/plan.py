"""What a host's roles need from it, worked out from the inventory before the host is looked at."""

from __future__ import annotations

from typing import Any

from .model import Host, Inventory
from .variables import mirroring_asked_by

#: Memory in MB that a role needs to be of use at all. A platform under load wants more; preflight_memory_needs_mb says so.
ROLE_MEMORY_MB = {
    "base": 128,
    "consul": 64,
    "rabbitmq": 512,
    "redis": 256,
    "patroni": 512,
    "pgbouncer": 32,
    "pgbackrest": 64,
    "haproxy": 128,
    "keepalived": 16,
    "kong": 1024,
    "envoy_gateway": 256,
    "docker": 256,
    "swarm": 64,
    "fabio": 64,
    "agent": 256,
    "celery": 256,
    "flower": 128,
    "registry": 128,
    "ollama": 4096,
    "chroma": 512,
    "qdrant": 512,
    "neo4j": 1024,
    "prometheus": 512,
    "alertmanager": 64,
    "grafana": 256,
    "jaeger": 256,
    "otel_collector": 128,
}
CONSUL_SERVER_MEMORY_MB = 256

#: PostgreSQL that a Debian release ships.
POSTGRESQL_OF_DEBIAN = {"12": "15", "13": "17"}


def ports_of(inventory: Inventory, host: Host) -> list[dict[str, Any]]:
    """Ports that the host's roles listen on, with the names of the daemons that may hold them."""
    ports: list[dict[str, Any]] = []

    def need(role: str, owners: list[str], *numbers: Any) -> None:
        for number in numbers:
            try:
                number = int(number)
            except (TypeError, ValueError):
                continue
            if number:
                ports.append({"port": number, "role": role, "owners": owners})

    if "consul" in host.roles:
        need("consul", ["consul"], 8301, 8500, 8501, 8502, 8503, 8600)
        if "consul_servers" in host.groups:
            need("consul", ["consul"], 8300, 8302)
    if "rabbitmq" in host.roles:
        owners = ["beam.smp", "rabbitmq-server", "erl_child_setup"]
        need("rabbitmq", owners, host.get("rabbitmq_port", 5671), host.get("rabbitmq_plain_port", 0), 25672)
        need(
            "rabbitmq", owners, host.get("rabbitmq_management_port", 15671), host.get("rabbitmq_prometheus_port", 15691)
        )
        need("rabbitmq", ["epmd", "systemd"], 4369)
    if "redis" in host.roles:
        port = host.get("redis_port", 6379)
        need("redis", ["redis-server", "redis-check-aof"], port)
        if host.get("redis_mode", "cluster") == "cluster":
            need("redis", ["redis-server", "redis-check-aof"], port + 10000 if isinstance(port, int) else 16379)
        else:
            need("redis", ["redis-server", "redis-sentinel"], host.get("redis_sentinel_port", 26379))
            need("redis", ["systemd"], host.get("redis_role_port", 6380))
    if "patroni" in host.roles:
        need("patroni", ["postgres"], host.first("patroni_postgresql_port", "patroni_port", default=5432))
        need("patroni", ["patroni"], host.first("patroni_rest_port", "patroni_restapi_port", default=8008))
    if "pgbouncer" in host.roles:
        need("pgbouncer", ["pgbouncer"], host.first("pgbouncer_port", "pgbouncer_listen_port", default=6432))
    if "pgbackrest" in host.roles:
        need("pgbackrest", ["pgbackrest"], host.get("pgbackrest_port", 8432))
    if "kong" in host.roles:
        need("kong", ["nginx"], host.get("kong_port", 8000), host.get("kong_status_port", 8100))
    if "envoy_gateway" in host.roles:
        owners = ["envoy-gateway"]
        need("envoy_gateway", owners, host.get("envoy_gateway_port", 8000), host.get("envoy_gateway_status_port", 8100))
        need("envoy_gateway", owners, host.get("envoy_gateway_admin_port", 9901))
    if "fabio" in host.roles:
        need("fabio", ["fabio"], host.get("fabio_port", 9999), host.get("fabio_ui_port", 9998))
    if "flower" in host.roles:
        need("flower", ["python3", "celery"], host.get("flower_port", 5555))
    if "registry" in host.roles:
        owners = ["docker-registry"]
        need("registry", owners, host.get("registry_port", 5000), host.get("registry_publish_port", 5001))
    accepted = {int(port) for port in inventory.setting("preflight_accept_ports") if str(port).isdigit()}
    return [port for port in ports if port["port"] not in accepted]


def memory_of(inventory: Inventory, host: Host) -> dict[str, int]:
    overrides = host.get("preflight_memory_needs_mb") or {}
    needs = {}
    for role in host.roles:
        amount = ROLE_MEMORY_MB.get(role, 0)
        if role == "consul" and "consul_servers" in host.groups:
            amount = CONSUL_SERVER_MEMORY_MB
        if role == "redis":
            amount = max(amount, _megabytes(host.get("redis_maxmemory_bytes")) * 5 // 4)  # copy-on-write and buffers
        if role == "rabbitmq":
            amount = max(amount, _megabytes(host.get("rabbitmq_memory_limit_bytes")))
        amount = overrides.get(role, amount) if isinstance(overrides, dict) else amount
        if amount:
            needs[role] = int(amount)
    return needs


def _megabytes(value: Any) -> int:
    try:
        return int(value) // (1024 * 1024)
    except (TypeError, ValueError):
        return 0


def _private(inventory: Inventory, role: str, name: str, default: str) -> str:
    """A path that a role keeps in its vars, where it is written out."""
    value = inventory.roles[role].variables.get(name) if role in inventory.roles else None
    return str(value) if isinstance(value, str) and "{{" not in value else default


def given_certificates(host: Host) -> dict[str, dict[str, str]]:
    """Those of the host's roles that the inventory names. The platform's own are renewed by `pki` before anybody reads them."""
    own = str(host.get("platform_tls_cert_file") or "")
    found = {}
    for name, value in host.values.items():
        if name.endswith("_tls_cert_file") and name.startswith(host.roles) and value and str(value) != own:
            # HAProxy finds the key beside the certificate.
            beside = str(value).rpartition(".")[0] + ".key"
            key = host.values.get(name.replace("_cert_file", "_key_file")) or beside
            found[name] = {"certificate": str(value), "key": str(key)}
    return found


def plan(inventory: Inventory, host: Host) -> dict[str, Any]:
    """Everything that the host is compared with; plain data."""
    look: dict[str, Any] = {"certificates": given_certificates(host)}
    expect: dict[str, Any] = {}
    if "keepalived" in host.roles and (address := host.get("keepalived_virtual_address") or host.get("platform_vip")):
        look["virtual_address"] = str(address)
    if "consul" in host.roles:
        look["consul"] = {
            "data": _private(inventory, "consul", "__consul_data", "/var/lib/consul"),
            "configuration": _private(inventory, "consul", "__consul_configuration", "/etc/consul.d"),
            "binary": _private(inventory, "consul", "__consul_binary", "/usr/local/bin/consul"),
        }
        expect["consul"] = {
            "version": str(host.get("consul_version") or ""),
            "datacenter": str(host.first("consul_datacenter", "platform_datacenter", default="")),
        }
    if "rabbitmq" in host.roles:
        look["rabbitmq"] = {"home": _private(inventory, "rabbitmq", "__rabbitmq_home", "/var/lib/rabbitmq")}
        expect["rabbitmq"] = {
            "version": str(host.get("rabbitmq_version") or ""),
            "node": f"rabbit@{short(host.name)}",
            "nodes": [f"rabbit@{short(other.name)}" for other in inventory.members("rabbitmq")],
            # Those that are to leave are known to the cluster until they have left.
            "leaving": [f"rabbit@{short(other.name)}" for other in inventory.members("rabbitmq_removed")],
            "mirroring": list(mirroring_asked_by(host).values()),
        }
    if "redis" in host.roles:
        look["redis"] = {"data": _private(inventory, "redis", "__redis_data_directory", "/var/lib/redis")}
        expect["redis"] = {
            "mode": str(host.get("redis_mode", "cluster")),
            "addresses": [other.address for other in inventory.members("redis")],
            "leaving": [other.address for other in inventory.members("redis_removed")],
        }
    if "patroni" in host.roles:
        look["postgresql"] = {
            "data": "/var/lib/postgresql",
            "configuration": _private(inventory, "patroni", "__patroni_configuration", "/etc/patroni"),
        }
        expect["postgresql"] = {
            "scope": str(host.get("patroni_scope", "postgresql")),
            "version": str(host.first("patroni_postgresql_version", "patroni_postgresql_major", default="")),
        }
    required = host.get("preflight_memory_required_mb")
    return {
        "look": look,
        "expect": expect,
        "ports": ports_of(inventory, host),
        "memory_mb": {"preflight_memory_required_mb": int(required)}
        if required is not None
        else memory_of(inventory, host),
        "disk_mb": int(host.get("preflight_disk_required_mb", inventory.setting("preflight_disk_required_mb"))),
        "accept_data": [str(name) for name in host.get("preflight_accept_existing_data") or []],
        "groups": [group for group in host.groups if group not in ("all", "ungrouped")],
    }


def short(name: str) -> str:
    return name.split(".", 1)[0]
