#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ask a Consul agent how its cluster is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_cluster_info
short_description: Ask a Consul agent how its cluster is
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Asks one agent for the leader, the servers (with autopilot's judgement) and the members, and says in sentences what is wrong.
  - Servers are judged when O(expected_servers) or O(minimum_failure_tolerance) is given (the token needs C(operator:read)),
    a node's registration when O(node) is given, names when O(resolve) is given.
options:
  token_file:
    description:
      - On the host, a configuration file of the agent in JSON that holds the token to ask with, as C(acl.tokens.agent) or (a service's
        file) C(service.token).
    type: path
  wait_seconds:
    description: How long to wait for the cluster to become healthy, in seconds.
    type: int
    default: 0
  expected_servers:
    description: Names of the nodes that must be the servers, no more and no fewer.
    type: list
    elements: str
    default: []
  leaving_servers:
    description:
      - Names of servers that may be there besides O(expected_servers), because they are to leave.
      - While one of them is, O(minimum_failure_tolerance) isn't judged.
    type: list
    elements: str
    default: []
  expected_members:
    description: Names of nodes that must be alive.
    type: list
    elements: str
    default: []
  minimum_failure_tolerance:
    description: How many servers the cluster must be able to lose.
    type: int
    default: 0
  node:
    description: Name of the node whose registration in the catalog is checked; the agent's own.
    type: str
  service:
    description: Identifier of a service of the agent whose checks must pass.
    type: str
  resolve:
    description: Names that the host's resolver must be able to resolve, such as C(consul.service.consul).
    type: list
    elements: str
    default: []
extends_documentation_fragment: [sutazai.platform.consul]
attributes:
  check_mode: {support: full, description: Reads only.}
  diff_mode: {support: none, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Ask the cluster
  sutazai.platform.consul_cluster_info:
    token: "{{ platform_consul_management_token }}"
    expected_servers: "{{ groups['consul_servers'] }}"
    wait_seconds: 60
  register: __consul_info

- name: Refuse a cluster that isn't healthy
  ansible.builtin.assert:
    that: __consul_info.healthy
    fail_msg: "{{ __consul_info.problems | join('\n') }}"
"""

RETURN = r"""
healthy:
  description: Whether there are no problems.
  returned: always
  type: bool
problems:
  description: What is wrong, in sentences.
  returned: always
  type: list
  elements: str
reachable:
  description: Whether the agent answered.
  returned: always
  type: bool
leader:
  description: Name of the leader; its address when the token may not read the servers; empty when there is none.
  returned: always
  type: str
leader_address:
  description: The leader's address and Raft port; empty when there is none.
  returned: always
  type: str
is_leader:
  description: Whether O(node) is the leader.
  returned: always
  type: bool
servers:
  description: The Raft peers; empty when the token may not read them.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Node name., type: str}
    address: {description: Address and Raft port., type: str}
    version: {description: Consul's version., type: str}
    status: {description: Serf's state (C(alive) and others)., type: str}
    leader: {description: Whether it leads., type: bool}
    voter: {description: Whether it votes., type: bool}
    healthy: {description: Autopilot's judgement., type: bool}
    last_contact: {description: Time since the leader last heard from it., type: str}
    last_index: {description: Its last Raft log entry., type: int}
    stable: {description: Whether it is healthy and has been for a known time., type: bool}
    stable_since: {description: Since when., type: str}
failure_tolerance:
  description: How many servers may be lost; -1 when unknown.
  returned: always
  type: int
members:
  description: Names of the members that the token may see, by state (C(alive), C(failed), C(left)).
  returned: always
  type: dict
versions:
  description: Versions of Consul among servers and members.
  returned: always
  type: list
  elements: str
"""

import json
import socket
import time
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.consul_api import (
    CONNECTION_ARGUMENTS,
    ConsulApi,
    Unreachable,
)
from ansible_collections.sutazai.platform.plugins.module_utils.consul_health import (
    member_problems,
    members_of,
    no_leader_problem,
    node_problems,
    server_problems,
    servers_of,
    service_problems,
)


def token_in(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        return content.get("acl", {}).get("tokens", {}).get("agent") or content.get("service", {}).get("token")
    except (OSError, ValueError):
        return None


def unresolved(names: list[str]) -> list[str]:
    problems = []
    for name in names:
        try:
            socket.getaddrinfo(name, None)
        except OSError as error:
            problems.append(
                f"{name} does not resolve on this host ({error}): see consul-dns.service (or systemd-resolved) and /etc/resolv.conf."
            )
    return problems


def look(parameters: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "reachable": True,
        "leader": "",
        "leader_address": "",
        "is_leader": False,
        "servers": [],
        "failure_tolerance": -1,
        "members": {"alive": [], "failed": [], "left": []},
        "versions": [],
    }
    problems: list[str] = []
    if parameters["token_file"] and not parameters["token"]:
        parameters = {**parameters, "token": token_in(parameters["token_file"])}
        if not parameters["token"]:
            problems.append(f"{parameters['token_file']} holds no token.")
    api = ConsulApi(parameters)
    try:
        leader = api.get("/v1/status/leader", anonymous=True)
        result["leader_address"] = result["leader"] = leader.data if leader.ok else ""
        if not result["leader_address"]:
            problems.append(no_leader_problem(api.url))
        judge_servers = bool(parameters["expected_servers"] or parameters["minimum_failure_tolerance"])
        # An agent's own token may not read it, and the servers would log each refusal.
        ask_servers = judge_servers or not parameters["token_file"]
        state = api.get("/v1/operator/autopilot/state") if result["leader_address"] and ask_servers else None
        if state and state.ok:
            result["servers"] = servers_of(state.data)
            result["failure_tolerance"] = state.data.get("FailureTolerance", 0)
            result["leader"] = next(
                (server["name"] for server in result["servers"] if server["leader"]), result["leader"]
            )
            result["is_leader"] = bool(parameters["node"]) and result["leader"] == parameters["node"]
            if judge_servers:
                problems += server_problems(
                    result["servers"],
                    result["failure_tolerance"],
                    parameters["expected_servers"],
                    parameters["minimum_failure_tolerance"],
                    parameters["leaving_servers"],
                )
        elif state and judge_servers:
            problems.append(
                f"The servers' state can't be read: {state.status} {state.text} (the token needs operator:read)."
            )
        answer = api.get("/v1/agent/members")
        members = answer.data if answer.ok else []
        result["members"] = members_of(members)
        versions = {server["version"] for server in result["servers"]}
        versions |= {(member.get("Tags") or {}).get("build", "").partition(":")[0] for member in members}
        result["versions"] = sorted(version for version in versions if version)
        problems += member_problems(result["members"], parameters["expected_members"])
        if parameters["node"] and result["leader_address"]:
            checks = api.get(f"/v1/health/node/{quote(parameters['node'], safe='')}")
            problems += node_problems(parameters["node"], checks.data if checks.ok else [])
            if not checks.ok:
                problems.append(f"Reading the node's checks failed: {checks.status} {checks.text}")
        if parameters["service"]:
            health = api.get(f"/v1/agent/health/service/id/{quote(parameters['service'], safe='')}")
            problems += service_problems(parameters["service"], health.status, health.data)
        if result["leader_address"]:
            problems += unresolved(parameters["resolve"])
    except Unreachable as error:
        result["reachable"] = False
        problems.append(f"{error}: is consul.service running? See journalctl -u consul.")
    return {**result, "healthy": not problems, "problems": problems}


def main() -> None:
    names = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "token_file": {"type": "path", "no_log": False},
            "wait_seconds": {"type": "int", "default": 0},
            "expected_servers": names,
            "leaving_servers": names,
            "expected_members": names,
            "minimum_failure_tolerance": {"type": "int", "default": 0},
            "node": {"type": "str"},
            "service": {"type": "str"},
            "resolve": names,
        },
        supports_check_mode=True,
    )
    deadline = time.monotonic() + module.params["wait_seconds"]
    result = look(module.params)
    while not result["healthy"] and time.monotonic() < deadline:
        time.sleep(1)
        result = look(module.params)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
