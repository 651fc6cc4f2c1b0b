# Apache License 2.0 (see LICENSE)
"""Virtual hosts, users, permissions and policies: what differs, and which requests make it the same. Pure functions."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import path

HASHES = {"rabbit_password_hashing_sha256": hashlib.sha256, "rabbit_password_hashing_sha512": hashlib.sha512}
DEFAULT_HASH = "rabbit_password_hashing_sha256"


@dataclass(frozen=True)
class Change:
    """One request, and the sentence that says what it does."""

    says: str
    method: str
    path: str
    body: Any = None


def hash_password(password: str, salt: bytes | None = None, algorithm: str = DEFAULT_HASH) -> str:
    """RabbitMQ's format: four bytes of salt, then the digest of salt and password, in base64."""
    salt = os.urandom(4) if salt is None else salt
    return base64.b64encode(salt + HASHES[algorithm](salt + password.encode()).digest()).decode()


def password_matches(password: str, stored: str, algorithm: str = DEFAULT_HASH) -> bool:
    if algorithm not in HASHES:
        return False
    try:
        salt = base64.b64decode(stored)[:4]
    except ValueError:
        return False
    return bool(stored) and hash_password(password, salt, algorithm) == stored


def user_definition(name: str, password: str, tags: list[str]) -> dict[str, str]:
    """A user as the API and files of definitions take it."""
    return {
        "name": name,
        "password_hash": hash_password(password),
        "hashing_algorithm": DEFAULT_HASH,
        "tags": ",".join(sorted(tags)),
    }


def tags_of(user: dict[str, Any]) -> list[str]:
    tags = user.get("tags") or []
    return sorted(tag.strip() for tag in (tags.split(",") if isinstance(tags, str) else tags) if tag.strip())


def live_queue_type(vhost: dict[str, Any]) -> str:
    known = vhost.get("default_queue_type") or (vhost.get("metadata") or {}).get("default_queue_type")
    return "" if known in (None, "undefined") else str(known)


def plan(live: dict[str, list[dict[str, Any]]], wanted: dict[str, Any]) -> list[Change]:
    """The changes that make the live objects what is wanted. What isn't mentioned is left alone."""
    return [
        *plan_vhosts(live["vhosts"], wanted["vhosts"], wanted["default_queue_type"]),
        *plan_users(live, wanted),
        *plan_policies(live["policies"], wanted["policies"]),
        *(
            Change(
                f"remove the virtual host {vhost['name']} and everything in it", "DELETE", path("vhosts", vhost["name"])
            )
            for vhost in wanted["vhosts"]
            if vhost["state"] == "absent" and any(known["name"] == vhost["name"] for known in live["vhosts"])
        ),
    ]


def plan_vhosts(live: list[dict[str, Any]], wanted: list[dict[str, Any]], default_queue_type: str) -> list[Change]:
    known = {vhost["name"]: vhost for vhost in live}
    changes = []
    for vhost in wanted:
        if vhost["state"] == "absent":
            continue
        name, queue_type = vhost["name"], vhost.get("default_queue_type") or default_queue_type
        # Before 3.11 the API called it defaultqueuetype; what a version doesn't know it passes over.
        body = {"default_queue_type": queue_type, "defaultqueuetype": queue_type}
        if name not in known:
            changes.append(
                Change(f"make the virtual host {name} ({queue_type} queues)", "PUT", path("vhosts", name), body)
            )
        elif live_queue_type(known[name]) != queue_type:
            changes.append(
                Change(f"make {queue_type} the default queue type of {name}", "PUT", path("vhosts", name), body)
            )
    return changes


def stuck_queue_types(
    live: list[dict[str, Any]], wanted: list[dict[str, Any]], default_queue_type: str
) -> dict[str, str]:
    """Virtual hosts whose default queue type is still another one: before 3.11 the API sets it in new ones only."""
    known = {vhost["name"]: live_queue_type(vhost) for vhost in live}
    types = {
        vhost["name"]: vhost.get("default_queue_type") or default_queue_type
        for vhost in wanted
        if vhost["state"] == "present"
    }
    return {name: queue_type for name, queue_type in types.items() if known.get(name) != queue_type}


def set_queue_type_expression(vhost: str, queue_type: str) -> str:
    """The Erlang expression that sets it in versions without a request for it. The name is given as bytes: nothing in it is code."""
    name = f"<<{','.join(str(byte) for byte in vhost.encode())}>>"
    update = f'fun(M) -> M#{{default_queue_type => <<"{queue_type}">>}} end'
    return f"rabbit_misc:execute_mnesia_transaction(fun() -> rabbit_vhost:update_metadata({name}, {update}) end), ok."


def plan_users(live: dict[str, list[dict[str, Any]]], wanted: dict[str, Any]) -> list[Change]:
    users = {user["name"]: user for user in live["users"]}
    granted = {(each["user"], each["vhost"]): each for each in live["permissions"]}
    changes = []
    for user in wanted["users"]:
        name = user["name"]
        if user["state"] == "absent":
            continue
        change = _user_change(users.get(name), user)
        if change:
            changes.append(change)
        mentioned = set()
        for permission in user["permissions"]:
            vhost = permission["vhost"]
            mentioned.add(vhost)
            body = {right: permission[right] for right in ("configure", "write", "read")}
            has = granted.get((name, vhost), {})
            if any(has.get(right) != pattern for right, pattern in body.items()):
                changes.append(
                    Change(f"grant {name} its permissions in {vhost}", "PUT", path("permissions", vhost, name), body)
                )
        for owner, vhost in granted:
            if owner == name and vhost not in mentioned:
                changes.append(
                    Change(f"take from {name} its permissions in {vhost}", "DELETE", path("permissions", vhost, name))
                )
    gone = [*(user["name"] for user in wanted["users"] if user["state"] == "absent"), *wanted["absent_users"]]
    return changes + [
        Change(f"remove the user {name}", "DELETE", path("users", name)) for name in gone if name in users
    ]


def _user_change(known: dict[str, Any] | None, wanted: dict[str, Any]) -> Change | None:
    name, tags = wanted["name"], sorted(wanted["tags"])
    request = {"method": "PUT", "path": path("users", name)}
    fresh = user_definition(name, wanted["password"], tags)
    if known is None:
        return Change(says=f"make the user {name}", body=fresh, **request)
    algorithm = known.get("hashing_algorithm", DEFAULT_HASH)
    if not password_matches(wanted["password"], known.get("password_hash", ""), algorithm):
        return Change(says=f"change the password of {name}", body=fresh, **request)
    if tags_of(known) != tags:
        kept = {"password_hash": known["password_hash"], "hashing_algorithm": algorithm, "tags": ",".join(tags)}
        return Change(says=f"set the tags of {name} to {','.join(tags) or 'none'}", body=kept, **request)
    return None


def plan_policies(live: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[Change]:
    known = {(policy["vhost"], policy["name"]): policy for policy in live}
    changes = []
    for policy in wanted:
        vhost, name = policy["vhost"], policy["name"]
        has = known.get((vhost, name))
        where = path("policies", vhost, name)
        if policy["state"] == "absent":
            if has:
                changes.append(Change(f"remove the policy {name} of {vhost}", "DELETE", where))
            continue
        body = {
            "pattern": policy["pattern"],
            "apply-to": policy["apply_to"],
            "priority": policy["priority"],
            "definition": policy["definition"],
        }
        if has is None or any(has.get(key) != value for key, value in body.items()):
            changes.append(Change(f"{'change' if has else 'make'} the policy {name} of {vhost}", "PUT", where, body))
    return changes


def exported(live: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """The live objects as the role's variables; no password, no hash."""
    return {
        "vhosts": [
            {
                "name": vhost["name"],
                **({"default_queue_type": live_queue_type(vhost)} if live_queue_type(vhost) else {}),
            }
            for vhost in sorted(live["vhosts"], key=lambda vhost: vhost["name"])
        ],
        "users": [
            {
                "name": user["name"],
                "tags": tags_of(user),
                "permissions": [
                    {"vhost": each["vhost"], **{right: each[right] for right in ("configure", "write", "read")}}
                    for each in sorted(live["permissions"], key=lambda each: each["vhost"])
                    if each["user"] == user["name"]
                ],
            }
            for user in sorted(live["users"], key=lambda user: user["name"])
        ],
        "policies": [
            {
                "vhost": policy["vhost"],
                "name": policy["name"],
                "pattern": policy["pattern"],
                "apply_to": policy["apply-to"],
                "priority": policy["priority"],
                "definition": policy["definition"],
            }
            for policy in sorted(live["policies"], key=lambda policy: (policy["vhost"], policy["name"]))
        ],
    }
