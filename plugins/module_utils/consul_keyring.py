# Apache License 2.0 (see LICENSE)
"""What brings the gossip encryption of a Consul cluster to one key. No input or output here."""

from __future__ import annotations

from typing import Any, NamedTuple

METHODS = {"install": "POST", "use": "PUT", "remove": "DELETE"}


class Step(NamedTuple):
    """One request to the keyring's API, and what it does in words (which never name a key)."""

    verb: str
    key: str
    text: str


def agents_of(rings: list[dict[str, Any]]) -> int:
    """How many agents have answered. A server is asked twice where datacenters are joined (WAN)."""
    return max((ring.get("NumNodes", 0) for ring in rings), default=0)


def next_step(rings: list[dict[str, Any]], key: str, retire_others: bool) -> Step | None:
    """The first thing that is missing, from what every agent says of its keyring now; None when nothing is.

    Each of the three is for all agents at once, and only taken when the one before it has reached all of them: an agent that
    encrypts with a key that another one lacks would be dead to that one.
    """

    def everywhere(field: str) -> bool:
        return all((ring.get(field) or {}).get(key, 0) >= ring.get("NumNodes", 0) for ring in rings)

    count = agents_of(rings)
    if not everywhere("Keys"):
        return Step("install", key, f"the new key made known to {count} agents")
    if not everywhere("PrimaryKeys"):
        return Step("use", key, f"the new key used by {count} agents")
    others = sorted({other for ring in rings for other in ring.get("Keys") or {}} - {key})
    if others and retire_others:
        return Step("remove", others[0], "a former key removed")
    return None


def absent_problem(failed: list[str]) -> str:
    """Why the key isn't changed while agents are away; "" when none is."""
    if not failed:
        return ""
    return (
        f"The gossip key isn't changed while agents are away: {', '.join(sorted(failed))}. Such an agent would come back with the former key "
        "alone, and nobody would hear it. Start consul.service there; or, for a host that is gone for good, tell the others: "
        "`consul force-leave -prune <name>` on a server."
    )
