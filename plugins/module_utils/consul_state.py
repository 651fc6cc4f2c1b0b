# Apache License 2.0 (see LICENSE)
"""What a Consul cluster's ACL and autopilot objects should look like, and what differs. No input or output here."""

from __future__ import annotations

import datetime
import re
import uuid
from typing import Any

# The namespace of Ansible's to_uuid filter: "name | to_uuid" in a playbook gives the accessor that is used here.
NAMESPACE = uuid.UUID("361E6D51-FAEC-444A-9079-341386DA8E2E")
MANAGEMENT_POLICY = "00000000-0000-0000-0000-000000000001"

AUTOPILOT_KEYS = {
    "cleanup_dead_servers": "CleanupDeadServers",
    "last_contact_threshold": "LastContactThreshold",
    "max_trailing_logs": "MaxTrailingLogs",
    "min_quorum": "MinQuorum",
    "server_stabilization_time": "ServerStabilizationTime",
}


def accessor_of(name: str) -> str:
    return str(uuid.uuid5(NAMESPACE, name))


def accessors_of(name: str) -> tuple[str, str]:
    """The two places that a token may be in: while it is replaced there are two of them, and their secrets can't be changed."""
    return accessor_of(name), accessor_of(f"{name}#2")


def in_force(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Of the tokens found in these places the one that is to be used: the one made last."""
    return max(found, key=lambda token: token.get("CreateIndex", 0), default=None)


def created(token: dict[str, Any]) -> float:
    """When a token was made, in seconds since the epoch. Consul writes nanoseconds and its own time zone."""
    text = re.sub(r"(\.\d{6})\d+", r"\1", token.get("CreateTime") or "")
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def place_for_another(found: list[dict[str, Any]], name: str, reissue_before: float) -> str:
    """The accessor of a token that is to replace one made before that moment; "" when none is due.

    Where there are two, a replacement isn't finished: the older one may still be in use.
    """
    if len(found) != 1 or created(found[0]) >= reissue_before:
        return ""
    return next(accessor for accessor in accessors_of(name) if accessor != found[0]["AccessorID"])


def wanted_token(token: dict[str, Any]) -> dict[str, Any]:
    """The API's form of a token that a playbook asks for."""
    return {
        "AccessorID": accessor_of(token["name"]),
        "Description": token.get("description") or token["name"],
        "Policies": [{"Name": name} for name in token.get("policies") or []],
        "NodeIdentities": [
            {"NodeName": node["name"], "Datacenter": node["datacenter"]} for node in token.get("node_identities") or []
        ],
        "ServiceIdentities": [{"ServiceName": name} for name in token.get("service_identities") or []],
        "TemplatedPolicies": [{"TemplateName": name} for name in token.get("templated_policies") or []],
    }


def _links(token: dict[str, Any]) -> dict[str, Any]:
    """What a token's meaning consists of, in a form that two tokens can be compared by."""
    return {
        "Description": token.get("Description", ""),
        "Policies": sorted(item["Name"] for item in token.get("Policies") or []),
        "NodeIdentities": sorted((item["NodeName"], item["Datacenter"]) for item in token.get("NodeIdentities") or []),
        "ServiceIdentities": sorted(item["ServiceName"] for item in token.get("ServiceIdentities") or []),
        "TemplatedPolicies": sorted(item["TemplateName"] for item in token.get("TemplatedPolicies") or []),
    }


def token_differs(current: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return _links(current) != _links(wanted)


def policy_differs(current: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return (current.get("Rules") or "").strip() != wanted["rules"].strip() or (current.get("Description") or "") != (
        wanted.get("description") or ""
    )


def is_management(token: dict[str, Any]) -> bool:
    return any(policy.get("ID") == MANAGEMENT_POLICY for policy in token.get("Policies") or [])


def autopilot_changes(current: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """The keys (in the API's spelling) whose value isn't the wanted one."""
    return {
        AUTOPILOT_KEYS[key]: value
        for key, value in wanted.items()
        if value is not None and current.get(AUTOPILOT_KEYS[key]) != value
    }


def reset_index(message: str) -> str:
    """The number in "ACL bootstrap no longer allowed (reset index: 12)"."""
    digits = "".join(character for character in message.partition("reset index:")[2] if character.isdigit())
    return digits or "<the reset index>"


def other_token_message(url: str, refusal: str) -> str:
    return (
        "This Consul cluster's ACLs were bootstrapped with another management token than the one given here "
        "(consul_management_token, by default platform_consul_management_token). "
        "Set that variable to the token that the cluster was bootstrapped with. If it is lost, write "
        f"{reset_index(refusal)} into /var/lib/consul/acl-bootstrap-reset on the leader (owner consul) and run this again: "
        f"the new token is then accepted once. Asked at {url}: {refusal}"
    )
