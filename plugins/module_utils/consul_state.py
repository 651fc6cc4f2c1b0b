# Apache License 2.0 (see LICENSE)
"""What a Consul cluster's ACL and autopilot objects should look like, and what differs. No input or output here."""

from __future__ import annotations

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
