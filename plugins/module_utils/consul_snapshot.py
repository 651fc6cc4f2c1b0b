# Apache License 2.0 (see LICENSE)
"""What is in a Consul cluster, and what a snapshot would make of it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

#: Patroni's keys: leader lock, members, history.
PATRONI = "service/"


def kinds(inspected: dict) -> dict[str, int]:
    """Of each kind of object how many a snapshot holds, from `consul snapshot inspect -format=json`."""
    return {entry["Name"]: entry["Count"] for entry in inspected.get("Stats") or []}


def summary(counts: dict[str, int]) -> str:
    """What a snapshot holds, for a person."""
    return f"{counts.get('KVS', 0)} keys, {counts.get('ACLToken', 0)} tokens, {counts.get('ConfigEntry', 0)} config entries"


def folders(keys: Sequence[str], limit: int = 8) -> str:
    """Keys counted by their first part: agents/ (12), service/ (9)."""
    counts = Counter(f"{key.split('/', 1)[0]}/" if "/" in key else key for key in keys)
    shown = [f"{name} ({count})" for name, count in counts.most_common(limit)]
    return ", ".join(shown) + (f" and {len(counts) - limit} more" if len(counts) > limit else "")


def refusal(keys: Sequence[str], entries: Sequence[dict]) -> str:
    """Why nothing is restored over what is there; "" when there is nothing."""
    if not keys and not entries:
        return ""
    there = [f"{len(keys)} keys, by their first part {folders(keys)}"] if keys else []
    if entries:
        there.append(f"{len(entries)} config entries")
    text = (
        f"Nothing was restored: the cluster has data ({'; '.join(there)}). A snapshot replaces Consul's whole state, and what was written "
        "after it is lost. Give restore_replace_data=true to give that up."
    )
    if any(key.startswith(PATRONI) for key in keys):
        text += (
            f" Patroni's leader lock is among the keys ({PATRONI}): pause Patroni first (`patronictl pause --wait`) and resume it afterwards, "
            "or PostgreSQL has no leader until the lock of then has run out."
        )
    return text


def unknown_token() -> str:
    return (
        "The snapshot was restored, and with it the tokens of its time: the management token (consul_management_token, by default "
        "platform_consul_management_token) is not among them. Put the one of that time into the inventory and run this again, "
        "or restore a younger snapshot with that one."
    )
