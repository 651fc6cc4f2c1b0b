"""What preflight knows about the platform, and the shapes its rules work on. Pure: no Ansible objects, no I/O."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Roles that a host runs because it is in a group. `all` stands for every host. A role that isn't in the checkout is left out.
GROUP_ROLES: dict[str, tuple[str, ...]] = {
    "all": ("base", "pki", "consul"),
    "consul_servers": ("consul",),
    "consul_servers_removed": (),  # hosts that are to leave the group before the underscore, or have left it
    "rabbitmq": ("rabbitmq",),
    "rabbitmq_removed": (),
    "redis": ("redis",),
    "redis_removed": (),
    "postgresql": ("patroni", "pgbouncer"),  # with a repository host in the inventory also `pgbackrest`
    "postgresql_removed": (),
    "backup": ("pgbackrest",),
    "load_balancers": ("haproxy", "keepalived"),
    "gateways": ("kong", "envoy_gateway"),
    "swarm_managers": ("docker", "swarm", "runtime", "registrar", "agent", "autoscaler"),
    "swarm_managers_removed": (),
    "fabio": ("fabio",),
    "fabio_removed": (),
    "agents": ("docker", "swarm", "runtime", "registrar", "agent", "celery", "autoscaler"),
    "agents_removed": (),
    "flower": ("runtime", "flower"),
    "registry": ("registry",),
    "flower_removed": (),
    "mesh": ("envoy",),
    "ollama": ("ollama",),
    "vector_stores": ("chroma", "qdrant"),
    "graph": ("neo4j",),
    "monitoring": ("prometheus", "alertmanager", "grafana", "jaeger", "otel_collector"),
    "clients": (),
}

#: Where a host may run one of several roles, the variable that says which.
ROLE_CHOICES: dict[str, str] = {"kong": "gateway_engine", "envoy_gateway": "gateway_engine"}

#: Which role it is where that variable isn't set.
CHOSEN: dict[str, str] = {"gateway_engine": "kong"}

#: What the gateways' engines share.
GATEWAY_VARIABLES = ("gateway_engine", "gateway_routes")

#: Roles that others include with their own variables: their required options don't come from the inventory.
CALLED_ROLES = ("artifact", "consul_service", "failover")

#: Every role of the design, whether or not it is in the checkout: an unknown variable is only called a typo where the role is.
KNOWN_ROLES: tuple[str, ...] = tuple(
    sorted(
        {role for roles in GROUP_ROLES.values() for role in roles}
        | set(CALLED_ROLES)
        | {"gateway", "consul_exporter", "pgbouncer_exporter", "rabbitmq_exporter", "redis_exporter"}
    )
)

REQUIRED_GROUPS = ("consul_servers", "rabbitmq", "redis", "postgresql")

#: Shared variables (CONTRIBUTING.md); the roles' own defaults add to them.
PLATFORM_VARIABLES = (
    "platform_name",
    "platform_domain",
    "platform_datacenter",
    "platform_subnet",
    "platform_vip",
    "platform_address",
    "platform_failure_domain",
    "platform_state_directory",
    "platform_package_proxy",
    "platform_artifact_mirror",
    "platform_artifact_bundle",
    "platform_consul_management_token",
    "platform_failover_tests_allowed",
    "platform_tls_directory",
    "platform_tls_ca_file",
    "platform_tls_cert_file",
    "platform_tls_key_file",
    "platform_tls_group",
)

#: Preflight's own settings, name -> default.
SETTINGS: dict[str, Any] = {
    "preflight_required_groups": list(REQUIRED_GROUPS),
    "preflight_extra_groups": [],
    "preflight_debian_release": "13",
    "preflight_memory_needs_mb": {},
    "preflight_memory_required_mb": None,
    "preflight_disk_required_mb": 2048,
    "preflight_clock_skew_limit_seconds": 2,
    "preflight_accept_existing_data": [],
    "preflight_accept_ports": [],
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong. `what` and `remedy` are sentences, `where` says which variable or group, and in which file."""

    what: str
    where: str
    remedy: str
    hosts: tuple[str, ...] = ()
    warning: bool = False


@dataclass
class Entry:
    """A host or group as an inventory file spells it, before Ansible merges what has the same name."""

    name: str
    file: str
    line: int
    group: str = ""
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass
class Host:
    """A host with its variables as the roles will see them."""

    name: str
    groups: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)  # set in the inventory, templated
    defaults: dict[str, Any] = field(default_factory=dict)  # of its roles, templated
    raw: dict[str, Any] = field(default_factory=dict)  # as written
    origins: dict[str, str] = field(default_factory=dict)  # file:line
    failed: dict[str, str] = field(default_factory=dict)  # variable that can't be templated -> reason
    missing: dict[str, str] = field(default_factory=dict)  # variable that a role's default needs -> that default's name
    facts: dict[str, Any] = field(default_factory=dict)  # from the cache, if any

    def get(self, name: str, default: Any = None) -> Any:
        if name in self.values:
            return self.values[name]
        return self.defaults.get(name, default)

    def first(self, *names: str, default: Any = None) -> Any:
        """The value of the first of several spellings that has one."""
        for name in names:
            if (value := self.get(name)) is not None:
                return value
        return default

    def where(self, *names: str) -> str:
        places = [f"{name} ({self.origins[name]})" if name in self.origins else name for name in names]
        return "variable " + ", ".join(places) if len(names) == 1 else "variables " + ", ".join(places)

    @property
    def address(self) -> str:
        value = self.get("platform_address") or self.get("ansible_host") or ""
        return str(value)


@dataclass
class RoleSpec:
    """A role's public interface."""

    name: str
    options: dict[str, dict] = field(default_factory=dict)  # of `main`
    names: frozenset[str] = frozenset()  # of every entry point, and of the defaults
    defaults: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, Any] = field(default_factory=dict)  # vars/main.yml


@dataclass
class Inventory:
    hosts: dict[str, Host] = field(default_factory=dict)
    groups: dict[str, list[str]] = field(default_factory=dict)
    roles: dict[str, RoleSpec] = field(default_factory=dict)
    host_entries: list[Entry] = field(default_factory=list)
    group_entries: list[Entry] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    platform_names: frozenset[str] = frozenset()
    example_values: frozenset[str] = frozenset()
    ansible_version: str = ""

    def setting(self, name: str) -> Any:
        value = self.settings.get(name)
        return SETTINGS[name] if value is None else value

    def members(self, group: str) -> list[Host]:
        return [self.hosts[name] for name in self.groups.get(group, []) if name in self.hosts]

    def group_where(self, group: str) -> str:
        places = [entry.place for entry in self.group_entries if entry.name == group]
        if places:
            return f"group {group} ({', '.join(dict.fromkeys(places))})"
        return f"group {group} (not in {', '.join(self.sources)})" if self.sources else f"group {group}"


def nearest(name: str, names: Iterable[str], cutoff: float = 0.7) -> str | None:
    """The known name that was probably meant."""
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return found[0] if found else None


def roles_of(
    groups: Iterable[str], present: Iterable[str], repository: bool = False, chosen: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The roles of a host in `groups`, of those in the checkout. `repository`: whether a host of the inventory keeps backups; `chosen`:
    the role that a variable of ROLE_CHOICES names."""
    chosen = {**CHOSEN, **(chosen or {})}
    present = set(present)
    groups = ("all", *groups)
    if repository and "postgresql" in groups:
        groups = (*groups, "backup")
    wanted = [role for group in groups for role in GROUP_ROLES.get(group, ()) if role in present]
    return tuple(dict.fromkeys(role for role in wanted if chosen.get(ROLE_CHOICES.get(role, ""), role) == role))


def owning_role(variable: str, roles: Iterable[str]) -> str | None:
    """The role whose prefix a variable has; the longest wins (`consul_service_name` is `consul_service`'s)."""
    owners = [role for role in roles if variable.startswith(f"{role}_")]
    return max(owners, key=len) if owners else None


def version_tuple(version: Any) -> tuple[int, ...]:
    """`1.20.6`, `4.0.5-1`, `1:2.3` -> numbers, as far as there are any."""
    text = str(version).split(":", 1)[-1]
    match = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def name_list(names: Iterable[str], limit: int = 8) -> str:
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def merged(problems: Iterable[Problem]) -> list[Problem]:
    """One entry for what is wrong in the same way on several hosts."""
    hosts: dict[tuple, dict[str, None]] = {}
    for problem in problems:
        key = (problem.what, problem.where, problem.remedy, problem.warning)
        hosts.setdefault(key, {}).update(dict.fromkeys(problem.hosts))
    return [
        Problem(what, where, remedy, tuple(names), warning) for (what, where, remedy, warning), names in hosts.items()
    ]


def message(problems: list[Problem], title: str, hosts_total: int = 0) -> str:
    """All problems as one numbered text."""
    count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
    lines = [f"{title}: {count}. Nothing was changed on any host."]
    for number, problem in enumerate(problems, 1):
        where = problem.where
        if problem.hosts:
            everywhere = hosts_total > 1 and len(problem.hosts) == hosts_total
            where += ", on every host" if everywhere else f", on {name_list(problem.hosts)}"
        lines += ["", f"{number:2d}. {problem.what}", f"    where:  {where}", f"    remedy: {problem.remedy}"]
    return "\n".join(lines)
