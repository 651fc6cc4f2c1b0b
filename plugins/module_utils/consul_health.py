# Apache License 2.0 (see LICENSE)
"""Judge a Consul cluster by what its agents answer. No input or output here."""

from __future__ import annotations

from typing import Any

# Serf's member states as numbers in /v1/agent/members.
MEMBER_STATES = {0: "none", 1: "alive", 2: "leaving", 3: "left", 4: "failed"}
NEVER = "0001-01-01T00:00:00Z"


def servers_of(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The Raft peers in /v1/operator/autopilot/state."""
    return sorted(
        (
            {
                "name": server["Name"],
                "address": server["Address"],
                "version": server.get("Version", ""),
                "status": server.get("NodeStatus", ""),
                "leader": server.get("Status") == "leader",
                "voter": server.get("Status") in ("leader", "voter"),
                "healthy": bool(server.get("Healthy")),
                "last_contact": server.get("LastContact", ""),
                "last_index": server.get("LastIndex", 0),
                "stable": bool(server.get("Healthy")) and server.get("StableSince", NEVER) != NEVER,
                "stable_since": server.get("StableSince", ""),
            }
            for server in (state.get("Servers") or {}).values()
        ),
        key=lambda server: server["name"],
    )


def members_of(members: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Member names of /v1/agent/members by state."""
    result: dict[str, list[str]] = {"alive": [], "failed": [], "left": []}
    for member in members:
        state = MEMBER_STATES.get(member.get("Status", 0), "none")
        result.setdefault(state, []).append(member["Name"])
    return {state: sorted(names) for state, names in result.items()}


def server_problems(
    servers: list[dict[str, Any]],
    failure_tolerance: int,
    expected: list[str],
    minimum_tolerance: int,
    leaving: list[str] | None = None,
) -> list[str]:
    """What is wrong with the servers. Those that are to leave may be there, in whatever state; while they are, they count in the tolerance,
    which so says nothing about the rest."""
    problems = []
    still_there = {server["name"] for server in servers} & set(leaving or [])
    servers = [server for server in servers if server["name"] not in still_there]
    known = {server["name"] for server in servers}
    for name in sorted(set(expected) - known):
        problems.append(
            f"Server {name} is not among the Raft peers ({', '.join(sorted(known)) or 'none'}): "
            f"is consul.service running there, and does it reach port 8300 and 8301 of the others?"
        )
    for name in sorted(known - set(expected) if expected else set()):
        problems.append(
            f"Server {name} is a Raft peer but not one of the expected servers ({', '.join(sorted(expected))})."
        )
    for server in servers:
        who = f"Server {server['name']} ({server['address']})"
        if server["status"] != "alive":
            problems.append(
                f"{who} is {server['status']}: consul.service isn't running there, or the others can't reach it."
            )
        elif not server["healthy"]:
            problems.append(f"{who} is not healthy: last contact with the leader {server['last_contact']} ago.")
        elif not server["voter"]:
            problems.append(
                f"{who} doesn't vote yet; autopilot makes a new server a voter after its stabilisation time."
            )
    if failure_tolerance < minimum_tolerance and not still_there:
        problems.append(
            f"The cluster survives the loss of {failure_tolerance} servers; {minimum_tolerance} are wanted."
        )
    return problems


def node_problems(node: str, checks: list[dict[str, Any]]) -> list[str]:
    """Judge a node by /v1/health/node/<name>."""
    serf = [check for check in checks if check.get("CheckID") == "serfHealth"]
    if not serf:
        return [
            f"Node {node} is not registered in the catalog, or the token may not read it. A node appears some seconds after "
            "it joined; its agent token must be the one in /etc/consul.d/tokens.json."
        ]
    if serf[0].get("Status") != "passing":
        return [
            f"Node {node} is in the catalog, but serfHealth is {serf[0].get('Status')}: {serf[0].get('Output', '')}"
        ]
    return []


def service_problems(service: str, status: int, health: Any) -> list[str]:
    """Judge a service by /v1/agent/health/service/id/<id>, whose HTTP status says how it is."""
    if status == 200:
        return []
    if status == 404 or not isinstance(health, dict):
        return [f"Service {service} is not registered with the agent, or the token may not read it ({status})."]
    failing = [
        f"{check.get('Name')}: {check.get('Output', '').strip()}"
        for check in health.get("Checks") or []
        if check.get("Status") != "passing"
    ]
    return [f"Service {service} is {health.get('AggregatedStatus')}: {'; '.join(failing) or 'no check says why'}"]


def member_problems(members: dict[str, list[str]], expected: list[str]) -> list[str]:
    problems = []
    for name in expected:
        state = next((state for state, names in members.items() if name in names), None)
        if state is None:
            problems.append(f"Member {name} is not known to the agent: it has not joined.")
        elif state != "alive":
            problems.append(f"Member {name} is {state}.")
    return problems


def no_leader_problem(url: str) -> str:
    return (
        f"The agent at {url} answers, but knows no leader: too few Consul servers run, or they don't reach each other on "
        "ports 8300 and 8301, or don't accept each other's certificates. See journalctl -u consul on the servers."
    )
