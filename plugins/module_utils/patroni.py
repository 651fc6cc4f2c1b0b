# Apache License 2.0 (see LICENSE)
"""What Patroni's answers mean. Nothing here talks to anybody."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

LEADER_ROLES = ("leader", "master", "primary", "standby_leader")
SYNC_ROLES = ("sync_standby", "quorum_standby")
# What a member is while it comes up by itself: worth waiting for.
TRANSIENT_STATES = (
    "starting",
    "restarting",
    "creating replica",
    "initializing new cluster",
    "running custom bootstrap script",
    "stopping",
)


def version(number: Any) -> str:
    """PostgreSQL's version from its number: 170012 -> 17.12."""
    try:
        return f"{int(number) // 10000}.{int(number) % 10000}" if number else ""
    except (TypeError, ValueError):
        return ""


def moment(text: Any) -> float:
    """Patroni's times, such as 2026-11-24 19:09:23.786000+00:00, in seconds since the epoch; 0 when there is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return 0.0


def replication_states(statuses: dict[str, dict | None]) -> dict[str, str]:
    """What the leader's pg_stat_replication says of each member, by member name."""
    for status in statuses.values():
        if status and status.get("role") in LEADER_ROLES:
            return {
                str(entry.get("application_name")): str(entry.get("state") or "")
                for entry in status.get("replication") or []
            }
    return {}


def describe(
    name: str, address: str, status: dict | None, error: str, listed: dict | None, streaming: str = ""
) -> dict[str, Any]:
    """One member: its own answer to /patroni (None when there was none), and what /cluster says of it."""
    status = status or {}
    listed = listed or {}
    patroni = status.get("patroni") or {}
    role = str(status.get("role") or listed.get("role") or "")
    if role in LEADER_ROLES:
        role = "standby_leader" if role == "standby_leader" else "leader"
    elif status.get("sync_standby") or listed.get("role") == "sync_standby":
        role = "sync_standby"
    elif status.get("quorum_standby") or listed.get("role") == "quorum_standby":
        role = "quorum_standby"
    state = str(status.get("state") or listed.get("state") or "")
    replication = str(
        status.get("replication_state")
        or (listed.get("state") if listed.get("state") == "streaming" else "")
        or streaming
        or ""
    )
    lag = listed.get("lag", listed.get("receive_lag", 0 if role == "leader" else None))
    return {
        "name": name,
        "address": address,
        "reachable": not error,
        "error": error,
        "role": role,
        "state": state,
        "replication_state": "" if role == "leader" else replication,
        "timeline": status["timeline"] if "timeline" in status else listed.get("timeline"),
        "lag_bytes": lag if isinstance(lag, int) else None,
        "pending_restart": bool(status.get("pending_restart") or listed.get("pending_restart")),
        "pending_restart_reasons": sorted(status.get("pending_restart_reason") or {}),
        "system_identifier": str(status.get("database_system_identifier") or ""),
        "postgresql_version": version(status.get("server_version")),
        "postgresql_start_time": moment(status.get("postmaster_start_time")),
        "patroni_version": str(patroni.get("version") or ""),
    }


def _complaints_about(member: dict, leader: dict | None, max_lag_bytes: int) -> list[str]:
    who = f"{member['name']} ({member['address']})"
    if not member["reachable"]:
        return [f"Patroni on {who} doesn't answer: {member['error']}. Look at `journalctl -u patroni` there."]
    if member["state"] not in ("running", "streaming"):
        return [
            f"PostgreSQL on {who} is {member['state'] or 'in an unknown state'}, not running. Look at `journalctl -u patroni` there."
        ]
    if leader is None or member["role"] == "leader":
        return []
    complaints = []
    if member["replication_state"] and member["replication_state"] != "streaming":
        complaints.append(f"{who} doesn't stream from the leader: its replication is {member['replication_state']}.")
    elif not member["replication_state"]:
        complaints.append(f"{who} doesn't stream from the leader {leader['name']}.")
    if member["lag_bytes"] is not None and member["lag_bytes"] > max_lag_bytes:
        complaints.append(f"{who} is {member['lag_bytes']} bytes behind the leader, more than {max_lag_bytes}.")
    if not member["timeline"]:
        complaints.append(
            f"{who} doesn't know its own timeline, and so can't take over: Patroni there can't connect to its "
            "PostgreSQL for replication. Look at `journalctl -u patroni` there, and at patroni_hba_default."
        )
    if member["timeline"] and leader["timeline"] and member["timeline"] != leader["timeline"]:
        complaints.append(
            f"{who} is on timeline {member['timeline']}, the leader on {leader['timeline']}: it hasn't followed the last promotion (`patronictl reinit`)."
        )
    return complaints


def _identifier_complaint(members: list[dict]) -> list[str]:
    found: dict[str, list[str]] = {}
    for member in members:
        if member["system_identifier"]:
            found.setdefault(member["system_identifier"], []).append(member["name"])
    if len(found) < 2:
        return []
    parts = "; ".join(f"{', '.join(names)}: {identifier}" for identifier, names in sorted(found.items()))
    return [
        f"The members don't hold the same database cluster (system identifiers: {parts}). They were bootstrapped apart; keep one, empty the others."
    ]


def judge(
    members: list[dict],
    cluster: dict | None,
    synchronous: bool = True,
    max_lag_bytes: int = 16 * 1024 * 1024,
    allow_paused: bool = False,
    leaving: Sequence[str] = (),
    left: Sequence[str] = (),
    synchronous_among_staying: bool = False,
) -> dict[str, Any]:
    """The cluster from its members' answers (`describe`) and /cluster, with everything that is wrong with it.

    What is to leave may lead and follow, and may as well be gone; what has left must be gone, also from the cluster's memory.
    """
    cluster = cluster or {}
    reachable = [member for member in members if member["reachable"]]
    leaders = [
        member
        for member in reachable
        if member["role"] in ("leader", "standby_leader") and member["state"] in ("running", "streaming")
    ]
    leader = leaders[0] if len(leaders) == 1 else None
    problems: list[str] = []
    if members and not reachable:
        problems.append("No member of the cluster answers.")
    elif not leaders:
        problems.append("The cluster has no leader: nobody takes writes.")
    elif len(leaders) > 1:
        problems.append(
            f"More than one member says that it is the leader: {', '.join(member['name'] for member in leaders)}."
        )
    staying = [member for member in members if member["name"] not in {*leaving, *left}]
    for member in staying:
        problems.extend(_complaints_about(member, leader, max_lag_bytes))
    problems.extend(_identifier_complaint(members))
    known = [str(member.get("name")) for member in cluster.get("members") or []]
    problems.extend(f"{name} was stopped, but the cluster still knows it." for name in left if name in known)
    paused = bool(cluster.get("pause"))
    if paused and not allow_paused:
        problems.append(
            "The cluster is in maintenance mode (paused): it doesn't fail over. `patronictl resume` ends it."
        )
    sync = [member["name"] for member in reachable if member["role"] in SYNC_ROLES]
    if synchronous and leader and len(staying) > 1 and not sync:
        problems.append("No replica is synchronous: losing the leader now could lose acknowledged writes.")
    elif synchronous and synchronous_among_staying and not set(sync) - set(leaving):
        problems.append(f"Only {', '.join(sync)} is synchronous, which is to leave.")
    expected = {member["name"] for member in members}
    identifiers = sorted({member["system_identifier"] for member in members if member["system_identifier"]})
    return {
        "healthy": not problems,
        "problems": problems,
        "leader": leader["name"] if leader else "",
        "leader_address": leader["address"] if leader else "",
        "replicas": [member["name"] for member in reachable if leader and member["name"] != leader["name"]],
        "sync_standbys": sync,
        "paused": paused,
        "timeline": leader["timeline"] if leader else None,
        "system_identifier": identifiers[0] if len(identifiers) == 1 else "",
        "pending_restart": [member["name"] for member in staying if member["pending_restart"]],
        "listed": sorted(known),
        "unknown_members": sorted(name for name in known if name not in expected),
        "members": members,
    }


def same(wanted: Any, live: Any) -> bool:
    """Whether two settings mean the same: Patroni keeps what it was given, so on, true and "on" are equal, as are 100 and "100"."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return wanted.keys() == live.keys() and all(same(wanted[key], live[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(live, list):
        return len(wanted) == len(live) and all(same(a, b) for a, b in zip(wanted, live))
    if isinstance(wanted, (dict, list)) or isinstance(live, (dict, list)):
        return False
    return _scalar(wanted) == _scalar(live)


def _scalar(value: Any) -> str:
    text = "" if value is None else str(value).strip()
    return {"true": "on", "yes": "on", "false": "off", "no": "off"}.get(text.lower(), text)


def config_patch(live: dict, wanted: dict, owned: tuple[str, ...] = ("postgresql.parameters",), path: str = "") -> dict:
    """What PATCH /config has to be given so that `live` becomes `wanted`.

    Keys that `wanted` doesn't name stay, except below the `owned` paths: there they are removed (null). A null in `wanted` removes, too.
    """
    patch: dict[str, Any] = {}
    for key, value in wanted.items():
        here = f"{path}.{key}" if path else key
        if value is None:
            if key in live:
                patch[key] = None
        elif isinstance(value, dict) and isinstance(live.get(key), dict):
            inner = config_patch(live[key], value, owned, here)
            if inner:
                patch[key] = inner
        elif key not in live or not same(value, live[key]):
            patch[key] = value
    if path in owned:
        patch.update({key: None for key in live if key not in wanted})
    return patch


def apply_patch(live: dict, patch: dict) -> dict:
    """What Patroni makes of PATCH /config."""
    result = dict(live)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = apply_patch(result[key], value)
        else:
            result[key] = value
    return result


def removal_refusals(result: dict, leaving: Sequence[str], synchronous_nodes: int) -> list[str]:
    """Why these members may not leave. `result` is what `judge` makes of all, with those that leave among them."""
    known = {member["name"] for member in result["members"] if member["reachable"]}
    going = [name for name in leaving if name in known or name in result["listed"]]
    if not going:
        return []
    who = ", ".join(going)
    refused = []
    staying = [member["name"] for member in result["members"] if member["name"] not in leaving]
    fewest = max(2, synchronous_nodes + 1)
    if len(staying) < fewest:
        refused.append(
            f"{who} can't leave: {', '.join(staying) or 'nobody'} would stay, and {fewest} members are the least "
            "(a leader, and a replica for each that patroni_synchronous_node_count asks for). Put it back into the group postgresql, or "
            "add another host first."
        )
    if result["problems"]:
        refused.append(
            f"{who} can't leave while those that stay aren't healthy: {' '.join(result['problems'])} A member that is gone for good "
            "belongs into the group postgresql_removed, too."
        )
    return refused


def slot_name(member: str) -> str:
    """The name of a member's replication slot, as Patroni makes it."""
    return re.sub("[^a-z0-9_]", lambda found: "_" if found[0] in "-." else f"u{ord(found[0]):04d}", member.lower())[:63]


def switchover_candidate(result: dict, preferred: str = "", leaving: Sequence[str] = ()) -> str:
    """Who is to lead next: the preferred member, else a synchronous replica, else the one least behind. Empty when nobody can.
    Nobody who is to leave."""
    leader = result["leader"]
    able = [
        m
        for m in result["members"]
        if m["reachable"]
        and m["name"] != leader
        and m["name"] not in leaving
        and m["state"] in ("running", "streaming")
    ]
    if preferred:
        return preferred if preferred in [member["name"] for member in able] else ""
    ranked = sorted(
        able,
        key=lambda m: (
            m["role"] not in SYNC_ROLES,
            m["lag_bytes"] if m["lag_bytes"] is not None else 1 << 62,
            m["name"],
        ),
    )
    return ranked[0]["name"] if ranked else ""
