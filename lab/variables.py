"""The inventory's generated variables: secrets, made once, and what this machine's lab looks like."""

from __future__ import annotations

import base64
import os
import secrets
import string
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from lab.errors import LabError

LENGTH = 40


def _password() -> str:
    alphabet = string.ascii_letters + string.digits
    return "".join(secrets.choice(alphabet) for _ in range(LENGTH))


def _uuid() -> str:
    return str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))


def _gossip_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


SECRETS = {
    "platform_consul_management_token": _uuid,
    "consul_gossip_key": _gossip_key,
    "pki_ca_passphrase": _password,
    "rabbitmq_erlang_cookie": _password,
    "rabbitmq_admin_password": _password,
    "rabbitmq_application_password": _password,
    "redis_admin_password": _password,
    "redis_replication_password": _password,
    "redis_sentinel_password": _password,
    "redis_application_password": _password,
    "patroni_superuser_password": _password,
    "patroni_replication_password": _password,
    "patroni_rewind_password": _password,
    "patroni_rest_password": _password,
    "patroni_application_password": _password,
    "pgbouncer_auth_password": _password,
    "pgbackrest_cipher_passphrase": _password,
    "celery_rabbitmq_password": _password,
    "autoscaler_rabbitmq_password": _password,
    "flower_rabbitmq_password": _password,
    "flower_password": _password,
    "registry_password": _password,
}


#: What `make lab-new-secrets` makes anew for playbooks/rotate_secrets.yml, by that playbook's component. With it, the variable that says
#: what was in force before, where both are accepted for a while.
ROTATED = {
    "gossip_key": {"consul_gossip_key": ""},
    "consul_tokens": {"platform_consul_management_token": "platform_consul_previous_management_token"},
    "rabbitmq": {
        "rabbitmq_admin_password": "",
        "rabbitmq_application_password": "",
        "celery_rabbitmq_password": "",
        "autoscaler_rabbitmq_password": "",
        "flower_rabbitmq_password": "",
    },
    "redis": {
        "redis_admin_password": "redis_previous_admin_password",
        "redis_replication_password": "redis_previous_replication_password",
        "redis_application_password": "redis_previous_application_password",
    },
    "postgresql": {
        "patroni_superuser_password": "",
        "patroni_replication_password": "",
        "patroni_rewind_password": "",
        "patroni_rest_password": "",
        "patroni_application_password": "",
        "pgbouncer_auth_password": "",
    },
}


def _rotated(component: str) -> dict[str, str]:
    known = {**ROTATED, "all": {name: previous for names in ROTATED.values() for name, previous in names.items()}}
    if component not in known:
        raise LabError(f"SECRETS={component} is not known.", f"Use one of: {', '.join(known)}.")
    return known[component]


def renewed_secrets(existing: Mapping[str, str], component: str) -> dict[str, str]:
    """New values for a component's secrets; what was in force stays as the previous one."""
    names = _rotated(component)
    unfinished = [previous for previous in names.values() if previous and existing.get(previous)]
    if unfinished:
        raise LabError(
            f"The last change isn't finished: {', '.join(unfinished)} are still there.",
            f"Run playbooks/rotate_secrets.yml, `make lab-forget-secrets SECRETS={component}`, and the playbook again.",
        )
    new = {name: SECRETS[name]() for name in names}
    return {
        **existing,
        **new,
        **{previous: existing[name] for name, previous in names.items() if previous and name in existing},
    }


def without_previous(existing: Mapping[str, str], component: str) -> dict[str, str]:
    """What is there without the component's previous secrets."""
    return {name: value for name, value in existing.items() if name not in _rotated(component).values()}


def complete_secrets(existing: Mapping[str, str]) -> dict[str, str]:
    """What exists stays as it is; what is missing is made."""
    return {**existing, **{name: make() for name, make in SECRETS.items() if name not in existing}}


def write_secrets(path: Path, change: Callable[[Mapping[str, str]], dict[str, str]] = complete_secrets) -> bool:
    """Returns whether anything was changed."""
    existing = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else {}
    complete = change(existing)
    if complete == existing:
        path.chmod(0o600)
        return False
    header = "# Made once by `make lab`; never in git. Remove it only together with the lab's hosts.\n"
    _write(path, header + "---\n" + yaml.safe_dump(complete, sort_keys=False), 0o600)
    return True


def write_generated(path: Path, values: Mapping[str, object]) -> None:
    header = "# Written by `make lab` at each run; change lab/ or the other files here instead.\n"
    _write(path, header + "---\n" + yaml.safe_dump(dict(values), sort_keys=False), 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    """All or nothing, and never readable to others in between."""
    partial = path.with_name(f".{path.name}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    partial.rename(path)
