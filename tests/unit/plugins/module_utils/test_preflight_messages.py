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
        "2 PostgreSQL members",
        keep("postgresql", 2),
        ("There are 2 PostgreSQL members", "group postgresql", "at least 3 hosts"),
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
            "policy ha-all asks for mirrored queues",
            "RabbitMQ 4.0 removed",
            "variable rabbitmq_policies (group_vars/all/main.yml:",
            "quorum queues",
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
