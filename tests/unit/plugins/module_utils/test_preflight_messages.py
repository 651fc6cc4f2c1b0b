"""Every wrong inventory that preflight refuses, and what it says. `benchmarks/preflight/wrong_inputs.py` prints the same cases.

Each case is a sound inventory with one thing changed, written to files and read by Ansible itself, without any connection.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.sutazai.platform.plugins.action.preflight_inventory import Collector
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.inventory import check
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.model import message
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.roles import read_roles

ROOT = pathlib.Path(__file__).resolve().parents[4]
SECRET_NAMES = (
    "pki_ca_passphrase",
    "rabbitmq_erlang_cookie",
    "rabbitmq_admin_password",
    "rabbitmq_application_password",
    "redis_admin_password",
    "redis_replication_password",
    "redis_application_password",
    "pgbackrest_cipher_passphrase",
    "patroni_superuser_password",
    "patroni_replication_password",
    "patroni_rewind_password",
    "patroni_rest_password",
    "patroni_application_password",
    "pgbouncer_auth_password",
)


@dataclass
class Files:
    """An inventory as files, sound until a case changes it."""

    groups: dict[str, dict[str, dict]] = field(default_factory=dict)
    variables: dict = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    facts: dict = field(default_factory=dict)

    def write(self, directory: pathlib.Path) -> None:
        tree = {"all": {"children": {name: {"hosts": hosts} for name, hosts in self.groups.items()}}}
        (directory / "group_vars" / "all").mkdir(parents=True)
        (directory / "hosts.yml").write_text(yaml.safe_dump(tree, sort_keys=False))
        (directory / "group_vars" / "all" / "main.yml").write_text(yaml.safe_dump(self.variables, sort_keys=False))
        for name, text in self.extra.items():
            (directory / name).write_text(text)


def sound() -> Files:
    groups = {
        group: {f"{word}-{number}": {"platform_address": f"10.20.0.{base + number}"} for number in range(1, count + 1)}
        for group, word, base, count in (
            ("consul_servers", "consul", 10, 3),
            ("rabbitmq", "rabbitmq", 20, 3),
            ("redis", "redis", 30, 6),
            ("postgresql", "postgresql", 40, 3),
        )
    }
    variables = {
        "ansible_host": "{{ platform_address }}",
        "platform_name": "test",
        "platform_domain": "test.internal",
        "platform_datacenter": "test",
        "platform_subnet": "10.20.0.0/24",
        "platform_state_directory": "/srv/state",
        "platform_consul_management_token": "0f6d0c1c-52b5-4d6e-9f0a-6f3f2f3b8a11",
        "consul_gossip_key": "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA=",
        **{name: f"{number:02d}k7Qm2XvT9pLzR4bWc8Nf5HsYd3" for number, name in enumerate(SECRET_NAMES)},
    }
    return Files(groups, variables)


@functools.cache
def roles():
    loader = DataLoader()
    return read_roles(str(ROOT / "roles"), lambda path: loader.load_from_file(path, trusted_as_template=True))


def run(files: Files, directory: pathlib.Path):
    files.write(directory)
    return examine(directory, files.facts)


def examine(directory: pathlib.Path, facts: dict | None = None):
    """Problems and warnings, found the way the playbook finds them."""
    loader = DataLoader()
    manager = InventoryManager(loader=loader, sources=[str(directory)])
    variables = VariableManager(loader=loader, inventory=manager)
    for host, values in (facts or {}).items():
        variables.set_host_facts(host, values)
    task_vars = {
        "hostvars": HostVars(manager, variables, loader),
        "groups": manager.get_groups_dict(),
        "ansible_inventory_sources": [str(directory)],
    }
    collector = Collector(Templar(loader), loader, task_vars, roles())
    collector.here = str(directory)
    return check(collector.inventory())


@dataclass(frozen=True)
class Case:
    title: str
    change: Callable[[Files], None]
    phrases: tuple[str, ...]
    warning: bool = False


SENTINEL_MODE = {"redis_mode": "sentinel", "redis_sentinel_password": "ninth-password-of-redis-sentinels-7Qx"}


def put(**variables) -> Callable[[Files], None]:
    return lambda files: files.variables.update(variables)


def drop(variable: str) -> Callable[[Files], None]:
    return lambda files: files.variables.pop(variable)


def keep(group: str, count: int) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        files.groups[group] = dict(list(files.groups[group].items())[:count])

    return change


def add(group: str, **hosts: str) -> Callable[[Files], None]:
    return lambda files: files.groups.setdefault(group, {}).update(
        {name.replace("_", "-"): {"platform_address": address} for name, address in hosts.items()}
    )


def rename(group: str, other: str) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        files.groups[other] = files.groups.pop(group)

    return change


def domains(*names: str) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        for variables, name in zip(files.groups["redis"].values(), names, strict=True):
            variables["platform_failure_domain"] = name

    return change


def twice(files: Files) -> None:
    files.extra["more.yml"] = (
        "all:\n  children:\n    postgresql:\n      hosts:\n        redis-1: {platform_address: 10.20.0.77}\n"
    )


def one_machine(files: Files) -> None:
    for name in ("redis-1", "redis-2"):
        files.groups["redis"][name]["platform_address"] = "10.20.0.31"


def empty(group: str) -> Callable[[Files], None]:
    return lambda files: files.groups.update({group: {}})


ROUTES = {
    "upstreams": [{"name": "agents", "hosts": [{"address": "10.20.0.81", "port": 9999}]}],
    "services": [{"name": "web", "upstreams": [{"name": "agents"}]}],
    "routes": [{"name": "all", "service": "web"}],
}


def gateways(**variables) -> Callable[[Files], None]:
    """Two of them, with Envoy, which needs no package of one's own."""
    return both(
        add("gateways", **{"gateway-1": "10.20.0.71", "gateway-2": "10.20.0.72"}),
        put(**{"gateway_engine": "envoy_gateway", **variables}),
    )


def workers(**variables) -> Callable[[Files], None]:
    """Two hosts with Celery's workers."""
    given = {
        "celery_rabbitmq_password": "w1k7Qm2XvT9pLzR4bWc8Nf5HsYd3",
        "celery_redis_password": "{{ redis_application_password }}",
        "celery_inference_backend": "echo",
        "celery_rabbitmq_user": "application",
        "agent_image": "registry.example.org/ai-agent@sha256:" + "0" * 64,
        "runtime_artifact_sha256": "0" * 64,
        **variables,
    }
    return both(add("agents", **{"agent-1": "10.20.0.81", "agent-2": "10.20.0.82"}), put(**given))


def swarm(count: int = 3, **variables) -> Callable[[Files], None]:
    """So many managers, beside the workers' two agents."""
    hosts = {f"manager-{number}": f"10.20.0.{60 + number}" for number in range(1, count + 1)}
    return both(workers(**variables), add("swarm_managers", **hosts))


#: An image that differs from what the registry has by its tag.
OF_THE_REGISTRY = {
    "agent_image_source": "registry",
    "agent_image": "registry.service.consul:5000/sutazai/agent:0.1.1",
    "agent_registry_password": "{{ registry_password }}",
    "registry_password": "r1k7Qm2XvT9pLzR4bWc8Nf5HsYd3",
    "registry_images": [
        {"name": "sutazai/agent:0.1.0", "artifact_file": "sutazai-agent-0.1.0-amd64.tar", "artifact_sha256": "0" * 64}
    ],
}


def load_balancers(**variables) -> Callable[[Files], None]:
    """Two of them, before two gateways."""
    return both(
        gateways(gateway_routes=ROUTES),
        add("load_balancers", lb_1="10.20.0.75", lb_2="10.20.0.76"),
        put(**{"platform_vip": "10.20.0.70", **variables}),
    )


def lb_1(**variables) -> Callable[[Files], None]:
    return lambda files: files.groups["load_balancers"]["lb-1"].update(variables)


def also(group: str, *names: str) -> Callable[[Files], None]:
    """Hosts that are in this group, too."""
    return lambda files: files.groups.setdefault(group, {}).update(dict.fromkeys(names))


def both(*changes: Callable[[Files], None]) -> Callable[[Files], None]:
    def change(files: Files) -> None:
        for one in changes:
            one(files)

    return change


CASES = [
    Case(
        "4 Consul servers",
        add("consul_servers", consul_4="10.20.0.14"),
        ("There are 4 Consul servers", "group consul_servers", "3 or 5 hosts"),
    ),
    Case(
        "2 Consul servers",
        keep("consul_servers", 2),
        ("There are 2 Consul servers", "group consul_servers", "3 or 5 hosts"),
    ),
    Case("1 Consul server", keep("consul_servers", 1), ("There is 1 Consul server (consul-1)", "3 or 5 hosts")),
    Case(
        "2 RabbitMQ nodes",
        keep("rabbitmq", 2),
        ("There are 2 RabbitMQ nodes", "group rabbitmq", "Give the group 3 hosts"),
    ),
    Case(
        "5 Redis nodes in cluster mode",
        keep("redis", 5),
        ("There are 5 Redis nodes", "cluster mode", "group redis", "Give the group 6 hosts"),
    ),
    Case(
        "4 Redis hosts in sentinel mode",
        lambda files: (keep("redis", 4)(files), files.variables.update(SENTINEL_MODE)),
        ("There are 4 Redis hosts", "sentinel mode", "an even number", "group redis", "Give the group 5 hosts"),
    ),
    Case(
        "2 Redis hosts in sentinel mode",
        lambda files: (keep("redis", 2)(files), files.variables.update(SENTINEL_MODE)),
        ("There are 2 Redis hosts", "sentinel mode", "need a majority", "Give the group at least 3 hosts"),
    ),
    Case(
        "sentinels without a password",
        lambda files: (keep("redis", 3)(files), files.variables.update(redis_mode="sentinel")),
        ("The secret redis_sentinel_password is missing", "sentinel mode requires it", "Ansible Vault"),
    ),
    Case(
        "Redis hosts of both modes",
        lambda files: files.groups["redis"]["redis-2"].update(SENTINEL_MODE),
        ("have different modes: cluster, sentinel", "Set redis_mode once"),
    ),
    Case(
        "2 PostgreSQL members",
        keep("postgresql", 2),
        ("There are 2 PostgreSQL members", "group postgresql", "at least 3 hosts"),
    ),
    Case(
        "2 backup hosts",
        add("backup", backup_1="10.20.0.51", backup_2="10.20.0.52"),
        ("There are 2 backup hosts (backup-1, backup-2)", "group backup", "Leave one host"),
    ),
    Case(
        "backups on the disk of a member",
        add("backup", postgresql_1="10.20.0.41"),
        ("lost together with it", "group backup", "isn't in the group postgresql"),
    ),
    Case(
        "a backup host and no passphrase",
        both(add("backup", backup_1="10.20.0.51"), drop("pgbackrest_cipher_passphrase")),
        ("pgbackrest_cipher_passphrase",),
    ),
    Case(
        "a host name used twice with different addresses",
        twice,
        (
            "redis-1 is listed with different addresses",
            "10.20.0.31 (hosts.yml:",
            "10.20.0.77 (more.yml:5)",
            "another name",
        ),
    ),
    Case(
        "the same short name in two domains",
        add("clients", **{"redis_1.other": "10.20.0.90"}),
        ("The host name redis-1 is used twice", "redis-1.other is 10.20.0.90", "make it unique"),
    ),
    Case(
        "two hosts with the same address",
        add("clients", client_1="10.20.0.11"),
        (
            "2 hosts have the same address 10.20.0.11: consul-1, client-1",
            "variable platform_address (hosts.yml:",
            "its own address",
        ),
    ),
    Case(
        "one machine carrying two Redis nodes",
        one_machine,
        ("same address 10.20.0.31: redis-1, redis-2", "platform_address"),
    ),
    Case(
        "4 of 6 Redis nodes in one failure domain",
        domains("rack-a", "rack-a", "rack-a", "rack-a", "rack-b", "rack-c"),
        ("rack-a carries 4 of 6 Redis nodes", "a master would be beside its own replica", "more than 3 of the nodes"),
    ),
    Case(
        "a machine with the majority of the Redis masters",
        domains("vm-host-1", "vm-host-1", "vm-host-1", "vm-host-1", "vm-host-1", "vm-host-2"),
        ("vm-host-1 carries 5 of 6 Redis nodes", "at least 2 of 3 masters", "group redis"),
    ),
    Case(
        "two failure domains for three Redis masters",
        domains("rack-a", "rack-a", "rack-a", "rack-b", "rack-b", "rack-b"),
        ("rack-a carries 3 of 6 Redis nodes", "at least 2 of 3 masters", "group redis", "platform_failure_domain"),
    ),
    Case("an empty required group", empty("rabbitmq"), ("The required group rabbitmq is empty", "Put hosts into it")),
    Case(
        "no group postgresql",
        lambda files: files.groups.pop("postgresql"),
        ("The required group postgresql is missing", "Put hosts into it"),
    ),
    Case(
        "a required group misspelt: postgres",
        rename("postgresql", "postgres"),
        ("The required group postgresql is missing", "Did you mean the group 'postgres'"),
    ),
    Case(
        "a host that is to stay and to leave",
        add("rabbitmq_removed", rabbitmq_3="10.20.0.23"),
        ("rabbitmq-3 is in rabbitmq and in rabbitmq_removed", "group rabbitmq_removed", "Take what is to leave out of"),
    ),
    Case(
        "a Redis host that is to stay and to leave",
        add("redis_removed", redis_6="10.20.0.36"),
        ("redis-6 is in redis and in redis_removed", "group redis_removed", "Take what is to leave out of redis"),
    ),
    Case(
        "a Consul server that is to stay and to leave",
        add("consul_servers_removed", consul_3="10.20.0.13"),
        ("consul-3 is in consul_servers and in consul_servers_removed", "Take what is to leave out of consul_servers"),
    ),
    Case(
        "a Consul server that leaves, and runs something that needs an agent",
        add("consul_servers_removed", redis_6="10.20.0.36"),
        ("redis-6 leaves Consul", "but is in redis", "group consul_servers_removed", "Take it out of redis first"),
    ),
    Case(
        "a PostgreSQL host that is to stay and to leave",
        add("postgresql_removed", postgresql_3="10.20.0.43"),
        ("postgresql-3 is in postgresql and in postgresql_removed", "Take what is to leave out of postgresql"),
    ),
    Case(
        "an unknown group: rabitmq beside rabbitmq",
        add("rabitmq", rabbitmq_4="10.20.0.24"),
        ("The group rabitmq is unknown", "Did you mean 'rabbitmq'?"),
        warning=True,
    ),
    Case(
        "a VIP outside the hosts' subnet",
        put(platform_vip="10.21.0.5"),
        (
            "The VIP 10.21.0.5 is outside the hosts' subnet 10.20.0.0/24",
            "variable platform_vip (group_vars/all/main.yml:",
            "free address of 10.20.0.0/24",
        ),
    ),
    Case(
        "a VIP that a host has",
        put(platform_vip="10.20.0.31"),
        ("The VIP 10.20.0.31 is already the address of redis-1", "no host has"),
    ),
    Case(
        "a secret missing",
        drop("redis_admin_password"),
        ("The secret redis_admin_password is missing", "role redis requires it", "Ansible Vault"),
    ),
    Case(
        "a secret shorter than 16 characters",
        put(rabbitmq_admin_password="Tr0ub4dor&3"),
        ("rabbitmq_admin_password is shorter than 16 characters", "group_vars/all/main.yml:", "Ansible Vault"),
    ),
    Case(
        "a secret equal to an example",
        put(patroni_superuser_password="change-me-patroni-superuser"),
        ("patroni_superuser_password is an example value", "group_vars/all/main.yml:", "openssl rand"),
    ),
    Case(
        "a management token that is no UUID",
        put(platform_consul_management_token="k7Qm2XvT9pLzR4bWc8Nf5HsYd3"),
        ("platform_consul_management_token isn't a UUID", "uuidgen"),
    ),
    Case(
        "a gossip key of the wrong length",
        put(consul_gossip_key="c2hvcnQ="),
        ("consul_gossip_key isn't 32", "openssl rand -base64 32"),
    ),
    Case(
        "one secret for two purposes",
        lambda files: files.variables.update(redis_replication_password=files.variables["redis_admin_password"]),
        ("redis_admin_password and redis_replication_password have the same value", "its own"),
    ),
    Case(
        "a wrong type: consul_raft_multiplier: fast",
        put(consul_raft_multiplier="fast"),
        ("consul_raft_multiplier is 'fast', but must be of type int", "group_vars/all/main.yml:", "type int"),
    ),
    Case(
        "an unknown variable with a role's prefix: consul_raft_multiplyer",
        put(consul_raft_multiplyer=3),
        (
            "The variable consul_raft_multiplyer is unknown to the role consul and would be ignored",
            "Did you mean consul_raft_multiplier?",
        ),
    ),
    Case(
        "an unknown shared variable: platform_adress",
        put(platform_adress="10.20.0.1"),
        ("platform_adress is unknown to the platform", "Did you mean platform_address?"),
    ),
    Case(
        "RabbitMQ 4.0 with mirrored queues",
        put(rabbitmq_policies=[{"name": "ha-all", "pattern": ".*", "definition": {"ha-mode": "all"}}]),
        (
            "Mirrored queues are asked for by the policy ha-all",
            "RabbitMQ 4.0 removed",
            "variable rabbitmq_policies (group_vars/all/main.yml:",
            "quorum queues",
        ),
    ),
    Case(
        "RabbitMQ 4.0 with rabbitmq_mirrored_queues",
        put(rabbitmq_mirrored_queues=True),
        (
            "Mirrored queues are asked for by rabbitmq_mirrored_queues",
            "variable rabbitmq_mirrored_queues (group_vars/all/main.yml:",
            "Set rabbitmq_mirrored_queues to false",
        ),
    ),
    Case(
        "Consul 1.20.6 with Envoy 1.36.4",
        put(consul_version="1.20.6", envoy_version="1.36.4"),
        (
            "Envoy 1.36.4 isn't supported by Consul 1.20.6",
            "1.33, 1.32, 1.31, 1.30",
            "envoy_version",
            "envoy_ignore_compatibility",
        ),
    ),
    Case(
        "a TLS certificate without its key",
        put(redis_tls_cert_file="/etc/ssl/redis.crt"),
        (
            "redis_tls_cert_file gives a TLS certificate, but redis_tls_key_file gives no key for it",
            "Set redis_tls_key_file",
        ),
    ),
    Case(
        "Patroni timing 20/10/10",
        put(patroni_ttl_seconds=20),
        (
            "loop_wait + 2*retry_timeout <= ttl: 10 + 2*10 = 30 > 20",
            "patroni_ttl_seconds (group_vars/all/main.yml:",
            "Raise patroni_ttl_seconds to 30",
        ),
    ),
    Case(
        "a Patroni ttl under 20",
        put(patroni_ttl_seconds=15, patroni_loop_wait_seconds=5, patroni_retry_timeout_seconds=5),
        ("Patroni's ttl is 15 s", "patroni_ttl_seconds", "20 or more"),
    ),
    Case(
        "a variable that can't be evaluated",
        put(platform_domain="{{ company_domain }}"),
        (
            "platform_domain can't be evaluated: 'company_domain' is undefined",
            "group_vars/all/main.yml:",
            "Define what is missing",
        ),
    ),
    Case(
        "a host without address",
        lambda files: files.groups["redis"]["redis-3"].clear(),
        ("platform_address isn't set", "variable platform_address"),
    ),
    Case(
        "gateways without routes",
        gateways(),
        ("gateway_routes isn't set, but there are gateways", "variable gateway_routes", "docs/gateway.md"),
    ),
    Case(
        "one gateway",
        both(gateways(gateway_routes=ROUTES), keep("gateways", 1)),
        (
            "There is one gateway (gateway-1): nobody takes its requests over.",
            "group gateways (hosts.yml:",
            "Give the group 2 hosts.",
        ),
    ),
    Case(
        "load balancers with different virtual router ids",
        both(load_balancers(), lb_1(keepalived_virtual_router_id=52)),
        (
            "The load balancers have different virtual router ids (lb-1 has 52, lb-2 has 51): each would hold the virtual address.",
            "variable keepalived_virtual_router_id (hosts.yml:",
            "Set it once, for the group load_balancers",
        ),
    ),
    Case(
        "a virtual router id that others have",
        load_balancers(keepalived_virtual_router_id=7, keepalived_taken_router_ids=[7, 12]),
        (
            "The virtual router id 7 belongs to others on the network",
            "keepalived_virtual_router_id (group_vars/all/main.yml:",
            "Give a number from 1 to 255 that nobody has",
        ),
    ),
    Case(
        "a virtual router id out of range",
        load_balancers(keepalived_virtual_router_id=256),
        ("The virtual router id 256 is out of range.", "variable keepalived_virtual_router_id", "from 1 to 255"),
    ),
    Case(
        "a rate limit of 0 at the edge",
        load_balancers(haproxy_key_requests_per_second=0),
        (
            "A rate limit of 0 would refuse every request.",
            "variable haproxy_key_requests_per_second (group_vars/all/main.yml:",
            "haproxy_rate_limits_enabled: false has no limit",
        ),
    ),
    Case(
        "load balancers without gateways",
        both(add("load_balancers", lb_1="10.20.0.75", lb_2="10.20.0.76"), put(platform_vip="10.20.0.70")),
        (
            "lb-1, lb-2 would balance requests between gateways, but there are none.",
            "group gateways",
            "Put two hosts",
        ),
    ),
    Case(
        "4 Swarm managers",
        swarm(4),
        (
            "There are 4 Swarm managers (manager-1, manager-2, manager-3, manager-4): an even number survives no more losses",
            "group swarm_managers (hosts.yml:",
            "Give the group 5 hosts, or 3",
        ),
    ),
    Case(
        "one Swarm manager",
        swarm(1),
        ("There is one Swarm manager (manager-1)", "Give the group 3 hosts."),
        warning=True,
    ),
    Case(
        "agents on managers that run no containers",
        both(swarm(swarm_manager_availability="drain"), also("agents", "manager-2")),
        (
            "manager-2 is in agents and in swarm_managers, and managers run no containers (swarm_manager_availability is drain)",
            "variable swarm_manager_availability (group_vars/all/main.yml:",
            "Take them out of one of the groups",
        ),
    ),
    Case(
        "agents beside Redis",
        both(workers(), also("agents", "redis-2")),
        ("redis-2 would run agents beside Redis", "group agents", "Give the agents hosts of their own."),
        warning=True,
    ),
    Case(
        "containers with the hosts' addresses",
        swarm(swarm_address_pools=["10.0.0.0/8"]),
        (
            "swarm_address_pools: 10.0.0.0/8 overlaps 10.20.0.0/24.",
            "variable swarm_address_pools (group_vars/all/main.yml:",
        ),
    ),
    Case(
        "pools of addresses that are none, or too small",
        swarm(swarm_address_pools=["172.24.0.0/33", "172.25.0.0/28"]),
        (
            "swarm_address_pools: '172.24.0.0/33' does not appear to be",
            "172.25.0.0/28 is smaller than one network of /24",
        ),
    ),
    Case(
        "an agent that is to stay and to leave",
        both(swarm(), also("agents_removed", "agent-1")),
        ("agent-1 is in agents and in agents_removed: to stay and to leave.", "Take what is to leave out of agents"),
    ),
    Case(
        "a domain with the majority of the Swarm managers",
        both(
            swarm(),
            lambda files: [
                files.groups["swarm_managers"][f"manager-{n}"].update(platform_failure_domain="rack-1") for n in (1, 2)
            ],
        ),
        ("The failure domain rack-1 holds 2 of 3 Swarm managers",),
        warning=True,
    ),
    Case(
        "a task's route to an undeclared queue",
        workers(celery_routes={"ai.*": "inferense"}),
        (
            "Tasks ai.* are routed to the queue inferense, which isn't declared.",
            "variable celery_routes[ai.*] (group_vars/all/main.yml:",
            "Route them to one of inference",
        ),
    ),
    Case(
        "a task's priority out of range",
        workers(celery_partition_priority=11),
        ("The priority of the queue ai.tasks.0 is 11, out of range.", "celery_partition_priority", "from 0 to 10"),
    ),
    Case(
        "workers of partitions that the broker doesn't have",
        workers(celery_partitions=12),
        ("The partitions ai.tasks.10, ai.tasks.11 aren't declared by rabbitmq_topology.", "celery_partitions"),
    ),
    Case(
        "training and health in one pool",
        workers(
            celery_pools=[
                {"name": "inference", "queues": ["inference"]},
                {"name": "rest", "queues": ["health", "processing", "training"]},
                {"name": "partition", "partitions": True},
            ]
        ),
        (
            "The pool rest has queues of the priorities 3, 5, 8.",
            "variable celery_pools[rest]",
            "a pool for each priority",
        ),
    ),
    Case(
        "workers whose user the broker doesn't have",
        workers(celery_rabbitmq_user="celery"),
        ("The workers log in to RabbitMQ as celery, whom rabbitmq_users doesn't have.", "docs/workers.md"),
    ),
    Case(
        "Flower whose user the broker doesn't have",
        both(
            add("flower", **{"flower-1": "10.20.0.91"}),
            put(
                runtime_artifact_sha256="0" * 64,
                flower_password="w1k7Qm2XvT9pLzR4bWc8Nf5HsYd3",
                flower_rabbitmq_password="Zk7Qm2XvT9pLzR4bWc8Nf5HsYd3w",
            ),
        ),
        ("Flower logs in to RabbitMQ as flower, whom rabbitmq_users doesn't have.", "docs/workers.md"),
    ),
    Case(
        "a host of Fabio without the release's checksum",
        add("fabio", **{"fabio-1": "10.20.0.61", "fabio-2": "10.20.0.62"}),
        ("fabio_artifact_sha256",),
    ),
    Case(
        "agents from a registry without a password for it",
        swarm(agent_image_source="registry"),
        (
            "The agents' image comes from a registry that reader logs in to, but without a password.",
            "variable agent_registry_password",
            "agent_registry_user",
        ),
    ),
    Case(
        "agents from the platform's registry, which it hasn't got",
        swarm(**OF_THE_REGISTRY),
        (
            "agent_image is in registry.service.consul:5000, but the group registry has no hosts.",
            "Put two hosts or more",
        ),
    ),
    Case(
        "agents of a tag that the registry doesn't publish",
        both(swarm(**OF_THE_REGISTRY), add("registry", **{"registry-1": "10.20.0.95", "registry-2": "10.20.0.96"})),
        (
            "agent_image is sutazai/agent:0.1.1 of registry.service.consul:5000, which registry_images doesn't publish.",
            "use sutazai/agent:0.1.0",
        ),
    ),
    Case(
        "a registry without a password",
        add("registry", **{"registry-1": "10.20.0.95", "registry-2": "10.20.0.96"}),
        ("registry_password",),
    ),
    Case(
        "workers without a password for the broker",
        workers(celery_rabbitmq_password="change-me-celery"),
        ("The secret celery_rabbitmq_password is an example value.", "variable celery_rabbitmq_password"),
    ),
    Case(
        "scaling rules that can't work",
        workers(
            autoscaler_rules={
                "ai-agent": {
                    "min_replicas": 9,
                    "max_replicas": 3,
                    "metrics": [
                        {"type": "cpu", "target": 70, "scale_up_threshold": 30, "scale_down_threshold": 80},
                        {"type": "memory", "target": 70, "scale_up_threshold": 80, "scale_down_threshold": 30},
                    ],
                }
            }
        ),
        (
            "autoscaler_rules.ai-agent.min_replicas is 9, more than max_replicas, which is 3",
            "scale_down_threshold is 80, not below scale_up_threshold, which is 30: they overlap",
            'is the text "memory"; known metrics are cpu, queue_length.',
            "variable autoscaler_rules (group_vars/all/main.yml:",
        ),
    ),
    Case(
        "a gateway's engine that is none",
        gateways(gateway_engine="nginx", gateway_routes=ROUTES),
        (
            "gateway_engine is 'nginx', which isn't an engine",
            "variable gateway_engine (group_vars/all/main.yml:",
            "Use one of envoy_gateway, kong",
        ),
    ),
    Case(
        "a route to an unknown upstream",
        gateways(
            gateway_routes={**ROUTES, "upstreams": [{"name": "agnts", "hosts": [{"address": "::1", "port": 80}]}]}
        ),
        (
            "The service web, and so the route all, leads to the upstream agents, which isn't declared.",
            "variable gateway_routes.services[web].upstreams (group_vars/all/main.yml:",
            "Did you mean agnts?",
        ),
    ),
    Case(
        "several mistakes in the routes",
        gateways(
            gateway_routes={
                **ROUTES,
                "services": [{"name": "web", "upstreams": [{"name": "agents", "weight": 0}], "retry": 2}],
                "routes": [
                    {"name": "all", "service": "web", "rate_limit": {"requests": 0}},
                    {"name": "again", "service": "web"},
                ],
            }
        ),
        (
            "All weights of the service web are zero",
            "The key retry is unknown and would be ignored.",
            "Did you mean retries?",
            "A rate limit of 0 would refuse every request.",
            "The routes all and again have the same match",
            "The inventory can't be used: 4 problems.",
        ),
    ),
    Case(
        "a misspelt variable of the gateways",
        gateways(gateway_routes=ROUTES, gateway_route=[]),
        ("The variable gateway_route is unknown to the gateways", "Did you mean gateway_routes?"),
    ),
    Case(
        "a network that is none",
        put(platform_subnet="10.20.0.0/33"),
        ("platform_subnet is '10.20.0.0/33'", "not a network"),
    ),
]


def text_of(case: Case, directory: pathlib.Path) -> str:
    files = sound()
    case.change(files)
    problems, warnings = run(files, directory)
    found = warnings if case.warning else problems
    return (
        message(found, "The inventory can't be used", sum(len(hosts) for hosts in files.groups.values()))
        if found
        else ""
    )


def test_a_sound_inventory_passes(tmp_path):
    assert run(sound(), tmp_path) == ([], [])


def test_sound_workers_pass(tmp_path):
    files = sound()
    workers()(files)
    assert run(files, tmp_path) == ([], [])


@pytest.mark.parametrize(
    "change",
    [
        swarm(),
        both(swarm(), also("agents", "manager-1")),
        both(swarm(), add("agents_removed", agent_9="10.20.0.89")),
        both(swarm(), also("swarm_managers_removed", "agent-1")),  # a manager that stays as an agent
    ],
    ids=["a Swarm", "a manager with agents", "an agent leaves", "a manager becomes an agent"],
)
def test_sound_swarms_pass(change, tmp_path):
    files = sound()
    change(files)
    assert run(files, tmp_path) == ([], [])


def test_gateways_with_routes_pass(tmp_path):
    files = sound()
    gateways(gateway_routes=ROUTES)(files)
    assert run(files, tmp_path) == ([], [])


def test_load_balancers_with_a_certificate_of_their_own_pass(tmp_path):
    """HAProxy's key is beside the certificate: no variable names it."""
    files = sound()
    load_balancers(haproxy_tls_cert_file="/etc/ssl/edge.crt")(files)
    assert run(files, tmp_path) == ([], [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_wrong_input_is_refused(case, tmp_path):
    text = text_of(case, tmp_path)
    for phrase in case.phrases:
        assert phrase in text


def test_all_problems_are_in_one_message(tmp_path):
    files = sound()
    for case in ("4 Consul servers", "2 RabbitMQ nodes", "a secret missing", "a VIP outside the hosts' subnet"):
        next(one for one in CASES if one.title == case).change(files)
    problems, _warnings = run(files, tmp_path)
    assert len(problems) == 4
    text = message(problems, "The inventory can't be used")
    assert text.startswith("The inventory can't be used: 4 problems. Nothing was changed on any host.")
    assert all(f"\n {number}. " in text for number in range(1, 5))


@pytest.mark.parametrize("name", ["production", "staging"])
def test_a_shipped_inventory_lacks_nothing_but_its_secrets(name):
    problems, warnings = examine(ROOT / "inventories" / name)
    assert warnings == []
    assert {problem.what.split(" ", 3)[3] for problem in problems} == {"is an example value."}
    named = {problem.what.split(" ")[2] for problem in problems}
    assert named == {*SECRET_NAMES, "platform_consul_management_token", "consul_gossip_key"}
