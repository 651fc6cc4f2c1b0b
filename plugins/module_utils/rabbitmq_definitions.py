# Apache License 2.0 (see LICENSE)
"""What importing definitions would do to those that are there. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: Of each kind what tells two objects apart. An import overwrites an object of these kinds …
OVERWRITTEN = {
    "users": ("name",),
    "vhosts": ("name",),
    "permissions": ("user", "vhost"),
    "topic_permissions": ("user", "vhost", "exchange"),
    "parameters": ("component", "vhost", "name"),
    "global_parameters": ("name",),
    "policies": ("vhost", "name"),
}
#: … and leaves one of these alone that is there already, whatever it is like.
LEFT_ALONE = {
    "queues": ("vhost", "name"),
    "exchanges": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination_type", "destination", "routing_key", "arguments"),
}
#: The cluster's own name and the like are a new cluster's own.
OWN_PARAMETERS = {"internal_cluster_id", "cluster_name"}


def indexed(definitions: Mapping, kind: str) -> dict[tuple, dict]:
    keys = {**OVERWRITTEN, **LEFT_ALONE}[kind]
    return {
        tuple(str(entry.get(key, "")) for key in keys): entry
        for entry in definitions.get(kind) or []
        if kind != "global_parameters" or entry.get("name") not in OWN_PARAMETERS
    }


def title(kind: str, identity: tuple) -> str:
    return f"{kind[:-1] if kind != 'policies' else 'policy'} {' '.join(word for word in identity if word and word != '{}')}"


def compare(live: Mapping, wanted: Mapping) -> dict[str, list[str]]:
    """What an import adds, overwrites, leaves alone though it differs (`conflicting`), and what it doesn't know (`others`)."""
    result: dict[str, list[str]] = {"added": [], "overwritten": [], "conflicting": [], "others": []}
    for kind in (*OVERWRITTEN, *LEFT_ALONE):
        here, there = indexed(live, kind), indexed(wanted, kind)
        for identity, entry in there.items():
            if identity not in here:
                result["added"].append(title(kind, identity))
            elif here[identity] != entry:
                result["overwritten" if kind in OVERWRITTEN else "conflicting"].append(title(kind, identity))
        result["others"] += [title(kind, identity) for identity in here if identity not in there]
    return result


def some(names: Sequence[str], limit: int = 6) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def refusal(compared: Mapping[str, Sequence[str]], queues: int, messages: int) -> str:
    """Why nothing is imported; "" when nothing that is there would be overwritten."""
    if not compared["overwritten"]:
        return ""
    return (
        f"Nothing was imported: the cluster has {queues} queues with {messages} messages, and the backup differs from it in "
        f"{len(compared['overwritten'])} things that an import overwrites: {some(compared['overwritten'])}. Give "
        "restore_replace_data=true to have them as they were. Queues and messages that are there stay in any case."
    )
