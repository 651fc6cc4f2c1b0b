"""Rules about variables: types, typos, secrets, values that don't go together."""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .. import celery_plan
from ..autoscaler_rules import WrongRules, parse_rules
from ..gateway_routes import examine
from .model import (
    CALLED_ROLES,
    GATEWAY_VARIABLES,
    KNOWN_ROLES,
    PLATFORM_VARIABLES,
    ROLE_CHOICES,
    SETTINGS,
    Host,
    Inventory,
    Problem,
    nearest,
    owning_role,
    version_tuple,
)

SECRET_NAME = re.compile(
    r"(^|_)(password|passphrase|secret|token|cookie|gossip_key|encryption_key|secret_key|credential)s?$"
)
EXAMPLE = re.compile(
    r"change[-_ ]?(me|it|this)|example|placeholder|replace[-_ ]?(me|this)|your[-_ ](secret|password)|^<.*>$"
    r"|^(insert|todo|fixme|dummy|x{4,})\b"
    r"|^(secret|password|passphrase|admin|guest|root|default|test|letmein|qwerty|hunter2|correcthorsebatterystaple)[\d!._-]*$",
    re.IGNORECASE,
)
REFERENCE = re.compile(r"^\{\{\s*(\w+)\s*\}\}$")
MINIMUM_LENGTH = 16
MAKE_ONE = "Put a random value of 32 characters into Ansible Vault (openssl rand -hex 16)."

#: What isn't a plain password: how it must look and how to make one.
UUID_SECRETS = ("platform_consul_management_token", "consul_management_token")
KEY_SECRETS = ("consul_gossip_key",)

#: Secrets that a role can't do without, for specs that leave the choice to their defaults.
ROLE_SECRETS = {
    "consul": ("platform_consul_management_token", "consul_gossip_key"),
    "pki": ("pki_ca_passphrase",),
    "rabbitmq": ("rabbitmq_erlang_cookie", "rabbitmq_admin_password", "rabbitmq_application_password"),
    "redis": ("redis_admin_password", "redis_replication_password", "redis_application_password"),
    "patroni": (
        "patroni_superuser_password",
        "patroni_replication_password",
        "patroni_rewind_password",
        "patroni_rest_password",
        "patroni_application_password",
    ),
    "pgbouncer": ("pgbouncer_auth_password",),
}

#: Consul minor -> Envoy minors that its release notes support.
ENVOY_OF_CONSUL = {
    (1, 22): ("1.38", "1.37", "1.35"),
    (1, 21): ("1.38", "1.37", "1.35"),
    (1, 20): ("1.33", "1.32", "1.31", "1.30"),
    (1, 19): ("1.33", "1.32", "1.29", "1.28", "1.27", "1.26"),
    (1, 18): ("1.33", "1.32", "1.31", "1.30", "1.29", "1.28", "1.27", "1.26", "1.25"),
}

ANSIBLE_MINIMUM = (2, 19)

MIRRORING_KEYS = ("ha-mode", "ha-params", "ha-sync-mode", "ha-promote-on-shutdown", "ha-promote-on-failure")
MIRRORING_REMEDY = (
    "Set rabbitmq_mirrored_queues to false and remove ha-mode and ha-params from the policies: queues are quorum queues, "
    "which have their copies anyway."
)

#: Debian release -> RabbitMQ that it ships.
RABBITMQ_OF_DEBIAN = {"12": "3.10", "13": "4.0"}


def ansible_version(inventory: Inventory) -> list[Problem]:
    version = version_tuple(inventory.ansible_version)
    if not version or version[:2] >= ANSIBLE_MINIMUM:
        return []
    least = ".".join(map(str, ANSIBLE_MINIMUM))
    return [
        Problem(
            f"This is ansible-core {inventory.ansible_version}; the collection is made and tested with {least}.",
            "the controller",
            f"Run it from the checkout's .venv (make lab builds it), or install ansible-core>={least}.",
        )
    ]


def is_secret(inventory: Inventory, name: str) -> bool:
    if SECRET_NAME.search(name):
        return True
    role = owning_role(name, inventory.roles)
    return bool(role and inventory.roles[role].options.get(name, {}).get("no_log"))


def untemplatable(inventory: Inventory) -> list[Problem]:
    """One entry per cause: a name that isn't there takes everything with it that refers to it."""
    causes: dict[str, dict[str, None]] = {}
    for host in inventory.hosts.values():
        for name, reason in host.failed.items():
            if reason == "'platform_address' is undefined":
                continue  # the rule about addresses says it
            causes.setdefault(reason, {}).setdefault(name)
    problems = []
    for host in inventory.hosts.values():
        for reason in dict.fromkeys(host.failed.values()):
            if reason not in causes:
                continue
            names = list(causes[reason])
            text = f"{', '.join(names)} can't be evaluated: {reason}."
            problems.append(
                Problem(
                    text,
                    host.where(*names),
                    "Define what is missing, in this inventory and for this host, or correct the expression.",
                    (host.name,),
                )
            )
    return problems


def required(inventory: Inventory) -> list[Problem]:
    """Options that a role of the host requires, and shared variables that its defaults need."""
    problems = []
    for host in inventory.hosts.values():
        wanted: dict[str, str] = {}
        for role in host.roles:
            spec = inventory.roles.get(role)
            if role in CALLED_ROLES:
                continue
            for name, option in (spec.options if spec else {}).items():
                if option.get("required") and not (
                    name in spec.defaults and name not in host.defaults
                ):  # else its default's cause is
                    wanted.setdefault(name, f"the role {role} requires it")
            if role == "redis" and host.get("redis_mode") == "sentinel":
                wanted.setdefault("redis_sentinel_password", "sentinel mode requires it")
            for name in ROLE_SECRETS.get(role, ()):
                if not spec or not spec.options or name in spec.options or name.startswith("platform_"):
                    wanted.setdefault(name, f"the role {role} requires it")
        for name, option in host.missing.items():
            wanted.setdefault(name, f"the default of {option} refers to it")
        wanted.pop("platform_address", None)  # the rule about addresses says it
        for name, reason in wanted.items():
            if name in host.failed or host.get(name) not in (None, ""):
                continue
            if name in host.defaults and name not in host.values and not is_secret(inventory, name):
                continue
            if is_secret(inventory, name):
                what, remedy = f"The secret {name} is missing: {reason}.", _make_one(name)
            else:
                what, remedy = f"{name} isn't set: {reason}.", _described(inventory, name)
            problems.append(Problem(what, host.where(name), remedy, (host.name,)))
    return problems


def _described(inventory: Inventory, name: str) -> str:
    role = owning_role(name, inventory.roles)
    option = inventory.roles[role].options.get(name, {}) if role else {}
    text = option.get("description", "")
    text = text[0] if isinstance(text, list) and text else text
    if text:
        text = re.sub(r"\b[A-Z]\(([^)]*)\)", r"\1", str(text)).strip().rstrip(".")
        return f"Set it in the inventory's group_vars ({option.get('type', 'str')}). {text}."
    return "Set it in the inventory's group_vars/all; CONTRIBUTING.md lists the shared variables."


def _make_one(name: str) -> str:
    if name in UUID_SECRETS:
        return "Put a random UUID into Ansible Vault (uuidgen)."
    if name in KEY_SECRETS:
        return "Put 32 random bytes in base64 into Ansible Vault (openssl rand -base64 32)."
    return MAKE_ONE


def _secrets(inventory: Inventory, host: Host):
    """Every secret of a host as (variable, path below it, value); lists of users are searched for their passwords."""
    for name, value in host.values.items():
        if isinstance(value, (dict, list)):
            for path, inner in _inner_secrets(value):
                yield name, path, inner
        elif is_secret(inventory, name) and isinstance(value, (str, int)) and not isinstance(value, bool):
            referred = REFERENCE.match(str(host.raw.get(name, "")))
            if not referred or not is_secret(inventory, referred[1]) or referred[1] not in host.values:
                yield name, "", str(value)  # otherwise it is told of under its own name


def _inner_secrets(value: Any, path: str = ""):
    if isinstance(value, dict):
        label = value.get("name")
        for key, inner in value.items():
            inner_path = f"{path}.{key}" if not label else f"{path}[{label}].{key}"
            if isinstance(inner, str) and SECRET_NAME.search(str(key)):
                yield inner_path, inner
            elif isinstance(inner, (dict, list)):
                yield from _inner_secrets(inner, inner_path)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            named = isinstance(inner, dict) and inner.get("name")
            yield from _inner_secrets(inner, path if named else f"{path}[{number}]")


def weak_secrets(inventory: Inventory) -> list[Problem]:
    problems = []
    seen: dict[tuple[str, str, str], str] = {}
    for host in inventory.hosts.values():
        for name, path, value in _secrets(inventory, host):
            if not value:
                continue  # missing, or switched off
            key = (name, path, value)
            if key not in seen:
                seen[key] = _weakness(inventory, name, value)
            if seen[key]:
                problems.append(
                    Problem(f"The secret {name}{path} {seen[key]}.", host.where(name), _make_one(name), (host.name,))
                )
    return problems


def _weakness(inventory: Inventory, name: str, value: str) -> str:
    if EXAMPLE.search(value) or value in inventory.example_values:
        return "is an example value"
    if name in UUID_SECRETS:
        try:
            if uuid.UUID(value).int in (0, 2**128 - 1) or len(set(value) - {"-"}) < 4:
                return "is an example value"
        except ValueError:
            return "isn't a UUID, which Consul requires"
        return ""
    if name in KEY_SECRETS:
        try:
            key = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != 32:
            return "isn't 32 bytes in base64, which Consul requires"
        return "is an example value" if len(set(key)) < 5 else ""
    if len(value) < MINIMUM_LENGTH:
        return f"is shorter than {MINIMUM_LENGTH} characters"
    if len(set(value)) < 6:
        return f"has only {len(set(value))} different characters"
    return ""


def reused_secrets(inventory: Inventory) -> list[Problem]:
    """One value under two names. A variable that refers to another one isn't meant."""
    problems, reported = [], set()
    for host in inventory.hosts.values():
        names: dict[str, str] = {}
        for name, _path, value in _secrets(inventory, host):
            if not value or "{{" in str(host.raw.get(name, "")):
                continue
            other = names.setdefault(value, name)
            pair = tuple(sorted((name, other)))
            if other != name and pair not in reported and not EXAMPLE.search(value):
                reported.add(pair)
                problems.append(
                    Problem(
                        f"The secrets {pair[0]} and {pair[1]} have the same value.",
                        host.where(*pair),
                        "Give each purpose its own: who reads one would have both.",
                    )
                )
    return problems


def types(inventory: Inventory) -> list[Problem]:
    """Each variable against the argument spec of the role that it is for."""
    problems: list[Problem] = []
    known: dict[tuple[str, str], list[str]] = {}
    for host in inventory.hosts.values():
        for role in host.roles:
            spec = inventory.roles.get(role)
            for name, option in (spec.options if spec else {}).items():
                if name not in host.values:
                    continue
                value = host.values[name]
                key = (name, f"{type(value).__name__}:{value!r}")
                if key not in known:
                    known[key] = _type_errors(name, option, value, is_secret(inventory, name))
                problems += [Problem(what, host.where(name), _wanted(option), (host.name,)) for what in known[key]]
    return problems


def _type_errors(name: str, option: dict, value: Any, secret: bool) -> list[str]:
    if value is None and not option.get("required"):
        return []
    kind = option.get("type", "str")
    if kind == "int" and isinstance(value, bool):
        return [f"{name} is {value!r}, but must be of type int."]
    errors = (
        ArgumentSpecValidator({name: {key: inner for key, inner in option.items() if key != "default"}})
        .validate({name: value})
        .error_messages
    )
    shown = "" if secret or isinstance(value, (dict, list)) else f" is {_plain(value)!r}, but"
    texts = []
    for error in errors:
        error = str(error)
        if "unable to convert to" in error or "cannot be converted" in error or "we were unable" in error:
            if isinstance(value, (dict, list)) and kind in ("dict", "list"):
                texts.append(f"{name} has an entry of the wrong type: {error}")
            else:
                texts.append(f"{name}{shown} must be of type {kind}.")
        elif "value of" in error and "must be one of" in error and not isinstance(value, (dict, list)):
            texts.append(f"{name}{shown} must be one of {', '.join(map(str, option.get('choices', [])))}.")
        else:
            texts.append(f"{name} is not as its role wants it: {'(not shown)' if secret else error}")
    return texts


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _wanted(option: dict) -> str:
    kind = option.get("type", "str")
    parts = [f"Give a value of type {kind}" + (f" of {option['elements']}" if option.get("elements") else "")]
    if option.get("choices"):
        parts.append(f"one of {', '.join(map(str, option['choices']))}")
    text = option.get("description", "")
    text = text[0] if isinstance(text, list) and text else text
    text = re.sub(r"\b[A-Z]\(([^)]*)\)", r"\1", str(text)).strip()
    return ", ".join(parts) + (f". {text}" if text else ".")


def unknown_variables(inventory: Inventory) -> list[Problem]:
    """A variable with a role's prefix that the role doesn't have: its setting would silently be ignored."""
    problems = []
    verdicts: dict[str, tuple[str, str] | None] = {}
    all_roles = (*KNOWN_ROLES, *inventory.roles)
    for host in inventory.hosts.values():
        for name in host.raw:
            if name not in verdicts:
                verdicts[name] = _unknown(inventory, name, all_roles)
            if verdicts[name]:
                what, remedy = verdicts[name]
                problems.append(Problem(what, host.where(name), remedy, (host.name,)))
    return problems


def _unknown(inventory: Inventory, name: str, all_roles: tuple[str, ...]) -> tuple[str, str] | None:
    if name.startswith("platform_"):
        known, owner = {*PLATFORM_VARIABLES, *inventory.platform_names}, "the platform"
    elif name.startswith("gateway_"):
        known, owner = set(GATEWAY_VARIABLES), "the gateways"
    elif name.startswith("preflight_"):
        known, owner = set(SETTINGS), "preflight"
    else:
        role = owning_role(name, all_roles)
        if not role or role not in inventory.roles or not inventory.roles[role].names:
            return None
        known, owner = set(inventory.roles[role].names), f"the role {role}"
    if name in known:
        return None
    meant = nearest(name, known, cutoff=0.6)
    remedy = f"Did you mean {meant}?" if meant else f"Remove it; docs list the variables of {owner}."
    return f"The variable {name} is unknown to {owner} and would be ignored.", remedy


def tls_pairs(inventory: Inventory) -> list[Problem]:
    """A certificate of one's own needs its own key; the default key belongs to the default certificate."""
    problems = []
    for host in inventory.hosts.values():
        for name, value in host.values.items():
            match = re.match(r"(?!.*_ca_)(.*_)(cert|certificate|key|private_key)(_file|_path)$", name)
            if not match or not value:
                continue
            start, kind, end = match.groups()
            wanted = {
                "cert": ("key", "private_key"),
                "certificate": ("key", "private_key"),
                "key": ("cert", "certificate"),
                "private_key": ("cert", "certificate"),
            }[kind]
            names = [f"{start}{part}{end}" for part in wanted]
            if any(host.values.get(other) for other in names):
                continue
            known = {option for spec in inventory.roles.values() for option in spec.names} | set(PLATFORM_VARIABLES)
            if name in known and not any(other in known for other in names):
                continue  # HAProxy's key is beside the certificate
            if kind in ("key", "private_key") and not any(other in known for other in names):
                continue  # a key on its own, such as an SSH key
            other = next((candidate for candidate in names if candidate in known), names[0])
            this, that = ("TLS certificate", "key") if kind.startswith("cert") else ("TLS key", "certificate")
            problems.append(
                Problem(
                    f"{name} gives a {this}, but {other} gives no {that} for it.",
                    host.where(name),
                    f"Set {other} to the {that} that belongs to it, or remove {name} to use the platform's own.",
                    (host.name,),
                )
            )
    return problems


def _number(host: Host, *names: str, default: float) -> float | None:
    value = host.first(*names, default=default)
    try:
        return float(value)
    except (TypeError, ValueError):
        return None  # its type is reported elsewhere


def patroni_timing(inventory: Inventory) -> list[Problem]:
    problems = []
    for host in inventory.hosts.values():
        if "postgresql" not in host.groups:
            continue
        names = {}
        numbers = {}
        for short, default in (("ttl", 30), ("loop_wait", 10), ("retry_timeout", 10)):
            spellings = (f"patroni_{short}_seconds", f"patroni_{short}")
            numbers[short] = _number(host, *spellings, default=default)
            names[short] = next((name for name in spellings if host.get(name) is not None), spellings[0])
        if None in numbers.values():
            continue
        ttl, loop, retry = (numbers[key] for key in ("ttl", "loop_wait", "retry_timeout"))
        where = host.where(*names.values())
        if loop + 2 * retry > ttl:
            problems.append(
                Problem(
                    f"Patroni's timing breaks loop_wait + 2*retry_timeout <= ttl: {loop:g} + 2*{retry:g} = "
                    f"{loop + 2 * retry:g} > {ttl:g}; "
                    "a leader could keep writing after its lock has expired.",
                    where,
                    f"Raise {names['ttl']} to {loop + 2 * retry:g} or more, or lower the others (20, 5 and 5 is the "
                    "fastest, 30, 10 and 10 the usual).",
                    (host.name,),
                )
            )
        if ttl < 20:
            problems.append(
                Problem(
                    f"Patroni's ttl is {ttl:g} s: Consul's sessions can't be shorter than 10 s, and Patroni asks "
                    "for half of ttl.",
                    where,
                    f"Set {names['ttl']} to 20 or more.",
                    (host.name,),
                )
            )
    return problems


def consul_envoy(inventory: Inventory) -> list[Problem]:
    problems = []
    for host in inventory.hosts.values():
        envoy, consul = host.get("envoy_version"), host.get("consul_version")
        if (
            not envoy
            or not consul
            or host.get("envoy_ignore_compatibility") is True
            or "envoy_version" not in host.values
        ):
            continue
        supported = ENVOY_OF_CONSUL.get(version_tuple(consul)[:2])
        minor = ".".join(map(str, version_tuple(envoy)[:2]))
        if supported is None or minor in supported:
            continue
        problems.append(
            Problem(
                f"Envoy {envoy} isn't supported by Consul {consul}, which supports Envoy {', '.join(supported)}.",
                host.where("envoy_version", "consul_version"),
                f"Set envoy_version to a {supported[0]} release. envoy_ignore_compatibility: true waives this where "
                "it was tried.",
                (host.name,),
            )
        )
    return problems


def consul_checksum(inventory: Inventory) -> list[Problem]:
    return [
        Problem(
            f"No checksum is known for Consul {host.get('consul_version')}.",
            host.where("consul_version"),
            "Set consul_artifact_sha256 from HashiCorp's SHA256SUMS of that release, or use the version that is "
            "the role's default.",
            (host.name,),
        )
        for host in inventory.hosts.values()
        if "consul_version" in host.values and host.get("consul_artifact_sha256") == ""
    ]


def mirrored_queues(inventory: Inventory) -> list[Problem]:
    """Mirroring was removed in RabbitMQ 4.0: such a policy is accepted and does nothing."""
    problems = []
    for host in inventory.members("rabbitmq"):
        asking = mirroring_asked_by(host)
        release = str(host.facts.get("distribution_major_version") or inventory.setting("preflight_debian_release"))
        version = host.get("rabbitmq_version") or RABBITMQ_OF_DEBIAN.get(release, "")
        if not asking or version_tuple(version) < (4,):
            continue
        problems.append(
            Problem(
                f"Mirrored queues are asked for by {' and '.join(asking.values())}. "
                f"RabbitMQ 4.0 removed them (this would be {version}): the messages would have one copy.",
                host.where(*asking),
                MIRRORING_REMEDY,
                (host.name,),
            )
        )
    return problems


def mirroring_asked_by(host: Host) -> dict[str, str]:
    """Which of a host's variables ask for mirrored queues, and what to call that."""
    asking = {}
    if host.get("rabbitmq_mirrored_queues") is True:
        asking["rabbitmq_mirrored_queues"] = "rabbitmq_mirrored_queues"
    policies = mirroring_policies(host.get("rabbitmq_policies"))
    if policies:
        asking["rabbitmq_policies"] = f"the {'policies' if len(policies) > 1 else 'policy'} {', '.join(policies)}"
    return asking


def mirroring_policies(policies: Any) -> list[str]:
    """Names of the policies that ask for mirroring; a list of policies, or a dict by name."""
    if isinstance(policies, dict):
        policies = [dict(policy, name=name) for name, policy in policies.items() if isinstance(policy, dict)]
    names = []
    for number, policy in enumerate(policies if isinstance(policies, list) else []):
        if not isinstance(policy, dict):
            continue
        keys = set(policy)
        for part in ("definition", "tags", "arguments"):
            if isinstance(policy.get(part), dict):
                keys |= set(policy[part])
        if keys & set(MIRRORING_KEYS):
            names.append(str(policy.get("name", f"number {number + 1}")))
    return names


def gateway_engine(inventory: Inventory) -> list[Problem]:
    engines = sorted(role for role, variable in ROLE_CHOICES.items() if variable == "gateway_engine")
    return [
        Problem(
            f"gateway_engine is {str(host.get('gateway_engine'))!r}, which isn't an engine that a gateway could be.",
            host.where("gateway_engine"),
            f"Use one of {', '.join(engines)}; without it a gateway is kong.",
            (host.name,),
        )
        for host in inventory.members("gateways")
        if host.get("gateway_engine", engines[0]) not in engines
    ]


def gateway_table(inventory: Inventory) -> list[Problem]:
    """The routes that the gateways' engines are made from, whichever it is. The table is the same for many hosts and examined once."""
    problems = []
    examined: dict[str, list[tuple[str, str, str]]] = {}
    for host in inventory.members("gateways"):
        if "gateway_routes" in host.failed:
            continue
        table = host.get("gateway_routes")
        if table is None:
            problems.append(
                Problem(
                    "gateway_routes isn't set, but there are gateways, which would have nothing to answer.",
                    host.where("gateway_routes"),
                    "Set it for the group gateways; docs/gateway.md describes it.",
                    (host.name,),
                )
            )
            continue
        key = repr(table)
        if key not in examined:
            examined[key] = [(found.what, found.where, found.remedy) for found in examine(table)[1]]
        for what, where, remedy in examined[key]:
            place = f"{where} ({host.origins['gateway_routes']})" if "gateway_routes" in host.origins else where
            problems.append(Problem(what, f"variable {place}", remedy, (host.name,)))
    return problems


def celery_workers(inventory: Inventory) -> list[Problem]:
    """Queues, routes and pools of the workers, and whether the broker declares what they expect."""
    problems = []
    seen: dict[str, list[celery_plan.Finding]] = {}
    brokers = inventory.members("rabbitmq")
    for host in inventory.hosts.values():
        if "celery" not in host.roles:
            continue
        keys = ("queues", "routes", "pools", "partitions", "partition_pattern", "partition_priority")
        settings = {key: host.get(f"celery_{key}") for key in keys}
        identity = repr(settings)
        if identity not in seen:
            topology = brokers[0].get("rabbitmq_topology") if brokers else None
            seen[identity] = celery_plan.examine(settings) + celery_plan.undeclared(settings, topology)
        for found in seen[identity]:
            variable = re.split(r"[\[,]", found.where)[0]
            place = f"{found.where} ({host.origins[variable]})" if variable in host.origins else found.where
            problems.append(Problem(found.what, f"variable {place}", found.remedy, (host.name,)))
    return problems


#: Who logs in to RabbitMQ, and the variable that says as whom.
BROKER_USERS = {
    "celery": ("The workers log", "celery_rabbitmq_user"),
    "flower": ("Flower logs", "flower_rabbitmq_user"),
}


def broker_users(inventory: Inventory) -> list[Problem]:
    """Users of the workers and of those who watch them, where the inventory says which users there are."""
    brokers = inventory.members("rabbitmq")
    users = brokers[0].get("rabbitmq_users") if brokers else None
    names = [user.get("name") for user in users if isinstance(user, dict)] if isinstance(users, list) else []
    problems = []
    for host in inventory.hosts.values():
        for role, (who, variable) in BROKER_USERS.items():
            user = host.get(variable)
            if names and role in host.roles and user not in names:
                problems.append(
                    Problem(
                        f"{who} in to RabbitMQ as {user}, whom rabbitmq_users doesn't have.",
                        host.where(variable),
                        f"Add {user} to rabbitmq_users; docs/workers.md says with which permissions.",
                        (host.name,),
                    )
                )
    return problems


def scaling_rules(inventory: Inventory) -> list[Problem]:
    """The autoscaler's rules, judged as it judges them itself."""
    problems = []
    for host in inventory.hosts.values():
        if "autoscaler" not in host.roles or "autoscaler_rules" in host.failed:
            continue
        try:
            parse_rules(host.get("autoscaler_rules"), "autoscaler_rules")
        except WrongRules as wrong:
            problems += [
                Problem(
                    what,
                    host.where("autoscaler_rules"),
                    "Correct the rule; docs/workers.md says where they are described.",
                    (host.name,),
                )
                for what in wrong.problems
            ]
    return problems


#: The platform's own registry, as the role docker trusts it.
OWN_REGISTRY = "registry.service.consul"


def agent_image(inventory: Inventory) -> list[Problem]:
    """Whether an image of a registry can be had there."""
    problems = []
    registries = inventory.members("registry")
    published = registries[0].get("registry_images") if registries else []
    names = [image.get("name") for image in published if isinstance(image, dict)] if isinstance(published, list) else []
    for host in inventory.hosts.values():
        if "agent" not in host.roles or host.get("agent_image_source") != "registry":
            continue
        user, image = host.get("agent_registry_user"), str(host.get("agent_image") or "")
        registry, _slash, name = image.partition("/")
        if user and not host.get("agent_registry_password"):
            problems.append(
                Problem(
                    f"The agents' image comes from a registry that {user} logs in to, but without a password.",
                    host.where("agent_registry_password"),
                    "Set it, to \"{{ registry_password }}\" for the platform's own; or agent_registry_user to '' where none is asked for.",
                    (host.name,),
                )
            )
        if registry.partition(":")[0] != OWN_REGISTRY:
            continue
        if not registries:
            problems.append(
                Problem(
                    f"agent_image is in {registry}, but the group registry has no hosts.",
                    host.where("agent_image"),
                    "Put two hosts or more into it; or name another registry, or set agent_image_source to artifact.",
                    (host.name,),
                )
            )
        elif "@" not in name and name not in names:
            meant = nearest(name, [str(each) for each in names])
            problems.append(
                Problem(
                    f"agent_image is {name} of {registry}, which registry_images doesn't publish.",
                    host.where("agent_image"),
                    f"Add it to registry_images{f', or use {meant}' if meant else ''}; docs/agents.md says how.",
                    (host.name,),
                )
            )
    return problems


RULES = (
    ansible_version,
    untemplatable,
    required,
    weak_secrets,
    reused_secrets,
    types,
    unknown_variables,
    tls_pairs,
    patroni_timing,
    consul_envoy,
    consul_checksum,
    mirrored_queues,
    gateway_engine,
    gateway_table,
    celery_workers,
    broker_users,
    scaling_rules,
    agent_image,
)
