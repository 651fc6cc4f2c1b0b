#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Take servers out of a Consul cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_peers
short_description: Take servers out of a Consul cluster
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - A server that leaves is stopped by its host (by systemd, which would start it again after C(consul leave)) and then taken out by those that
    stay. This module does what has to be done there, before and after. It runs on one of the servers that stay.
  - O(action=plan) waits until those that stay are healthy voters, refuses what would
    cost the cluster its majority, and says who leaves in which order. O(action=hand_over) waits until the
    cluster can spare O(server) and has another one lead, if it leads. O(action=remove) takes O(server) out of gossip and of Raft's peers
    when it has stopped, and waits until the others are healthy without it.
  - A server that neither gossip nor Raft knows needs nothing. So it can be repeated, at any step.
options:
  token:
    required: true
  servers:
    description: Names of the servers that stay.
    type: list
    elements: str
    required: true
  removed_servers:
    description: Names of those that are to leave, each with its address (by which Raft knows one that gossip has forgotten).
    type: dict
    required: true
  action:
    description: What to do.
    type: str
    choices: [plan, hand_over, remove]
    default: plan
  server:
    description: The one of O(removed_servers) that O(action=hand_over) and O(action=remove) are about.
    type: str
  replacing:
    description: Whether another machine takes the place of O(removed_servers). Then their number isn't judged, but they have to be dead.
    type: bool
    default: false
  wait_seconds:
    description: How long each step may take, in seconds.
    type: int
    default: 120
extends_documentation_fragment: [sutazai.platform.consul]
attributes:
  check_mode: {support: full, description: Says what would be done.}
  diff_mode: {support: none, description: RV(changes) says it.}
"""

EXAMPLES = r"""
- name: Refuse what would cost the cluster its majority
  sutazai.platform.consul_peers:
    token: "{{ platform_consul_management_token }}"
    servers: [consul-1, consul-2, consul-3]
    removed_servers: {consul-4: 10.0.0.14, consul-5: 10.0.0.15}
  run_once: true
  register: leaving

- name: Take out one that has been stopped
  sutazai.platform.consul_peers:
    token: "{{ platform_consul_management_token }}"
    servers: [consul-1, consul-2, consul-3]
    removed_servers: {consul-4: 10.0.0.14, consul-5: 10.0.0.15}
    action: remove
    server: consul-4
  run_once: true
"""

RETURN = r"""
leaving:
  description: The servers that are still to leave, in this order.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Its name., type: str}
    alive: {description: Whether the others hear of it., type: bool}
    peer: {description: Whether it is one of Raft's peers., type: bool}
    leader: {description: Whether it leads., type: bool}
changes:
  description: What was done, in words.
  returned: always
  type: list
  elements: str
refused:
  description: Why nothing was done, one sentence each.
  returned: always
  type: list
  elements: str
"""

import time
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import consul_peers as model
from ansible_collections.sutazai.platform.plugins.module_utils.consul_api import (
    CONNECTION_ARGUMENTS,
    Answer,
    ConsulApi,
    Refused,
    Unreachable,
    patiently,
)
from ansible_collections.sutazai.platform.plugins.module_utils.consul_health import (
    members_of,
    no_leader_problem,
    servers_of,
)

# An election or a change of leader in between.
RACE_SECONDS = 15
# Gossip calls a stopped server failed after some seconds; Raft's leader drops one that has left a moment later.
POLL_SECONDS = 0.5


class Cluster:
    """The servers, as one of them sees them."""

    def __init__(self, module: AnsibleModule) -> None:
        self.wanted = module.params
        self.api = ConsulApi(module.params)
        self.act = not module.check_mode
        self.changes: list[str] = []

    def demand(self, method: str, path: str, what: str) -> Answer:
        return self.api.demand(patiently(lambda: self.api.request(method, path), RACE_SECONDS), f"{what} failed")

    def look(self) -> None:
        leader = self.api.get("/v1/status/leader", anonymous=True)
        if not (leader.ok and leader.data):
            leader = patiently(lambda: self.api.get("/v1/status/leader", anonymous=True), RACE_SECONDS)
        if not (leader.ok and leader.data):
            raise Refused(
                no_leader_problem(self.api.url)
                + " Without a majority no server can be taken out; if it is lost for good, see raft/peers.json in Consul's manual."
            )
        self.peers: list[dict[str, Any]] = self.demand(
            "GET", "/v1/operator/raft/configuration", "Reading Raft's peers"
        ).data["Servers"]
        state = self.demand("GET", "/v1/operator/autopilot/state", "Reading the servers' state").data
        self.servers = servers_of(state)
        self.tolerance = state.get("FailureTolerance", 0)
        self.members = members_of(self.demand("GET", "/v1/agent/members", "Reading the members").data)

    def plan(self) -> model.Plan:
        self.look()
        return model.plan(
            self.peers,
            self.servers,
            self.members,
            self.wanted["servers"],
            self.wanted["removed_servers"],
            self.wanted["replacing"],
        )

    def ready_plan(self) -> model.Plan:
        """The plan, when those that stay have had their time to become healthy voters."""
        deadline = time.monotonic() + (self.wanted["wait_seconds"] if self.act else 0)
        plan = self.plan()
        while plan.unready and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            plan = self.plan()
        return plan

    def wait_for(self, done: Any, otherwise: Any) -> None:
        """Look until it is done; or say what isn't."""
        deadline = time.monotonic() + self.wanted["wait_seconds"]
        while not done():
            if time.monotonic() >= deadline:
                raise Refused(f"{otherwise()} (after {self.wanted['wait_seconds']} s)")
            time.sleep(POLL_SECONDS)
            self.look()

    def unhealthy(self) -> list[str]:
        return [server["name"] for server in self.servers if not (server["healthy"] and server["voter"])]

    def hand_over(self, one: model.Leaving) -> None:
        if not one.peer or not one.alive:
            return  # it isn't missed
        if self.act:
            self.wait_for(
                lambda: not self.unhealthy() and self.tolerance >= 1,
                lambda: (
                    f"{one.name} can't be stopped: the cluster survives the loss of {self.tolerance} servers, and not healthy or not voting "
                    f"yet are {', '.join(self.unhealthy()) or 'none'}"
                ),
            )
        if not one.leader:
            return
        heir = model.successor(self.servers, self.wanted["servers"])
        if not heir:
            raise Refused(f"{one.name} leads, and none of the servers that stay can take over.")
        self.changes.append(f"{heir} takes over from {one.name}")
        if not self.act:
            return
        peer = model.peer_of(heir, "", self.peers)
        self.demand(
            "POST", f"/v1/operator/raft/transfer-leader?id={quote(peer['ID'], safe='')}", f"Handing over to {heir}"
        )
        self.look()
        self.wait_for(
            lambda: any(server["leader"] and server["name"] != one.name for server in self.servers),
            lambda: f"{one.name} was told to hand over to {heir}, but still leads",
        )

    def remove(self, one: model.Leaving) -> None:
        self.changes.append(f"{one.name} taken out")
        if not self.act:
            return
        # Told to leave while it is alive, it would object.
        self.wait_for(
            lambda: one.name not in self.members["alive"],
            lambda: f"{one.name} is still alive: consul.service has to be stopped there first",
        )
        if any(one.name in names for state, names in self.members.items() if state != "left"):
            self.demand("PUT", f"/v1/agent/force-leave/{quote(one.name, safe='')}?prune", f"Taking {one.name} out")
        deadline = time.monotonic() + RACE_SECONDS
        self.look()
        # The leader drops a peer that has left; one that gossip had forgotten before it doesn't notice.
        while (peer := model.peer_of(one.name, self.wanted["removed_servers"][one.name], self.peers)) and (
            time.monotonic() < deadline and one.member
        ):
            time.sleep(POLL_SECONDS)
            self.look()
        if peer:
            self.demand("DELETE", f"/v1/operator/raft/peer?id={quote(peer['ID'], safe='')}", f"Removing {one.name}")
            self.look()
        self.wait_for(
            lambda: model.settled(one.name, one.peer, self.peers, self.members),
            lambda: f"{one.name} was taken out, but is still known: is it running somewhere?",
        )
        self.wait_for(
            lambda: not set(self.unhealthy()) & set(self.wanted["servers"]),
            lambda: f"Without {one.name} these aren't healthy: {', '.join(self.unhealthy())}",
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "token": {"type": "str", "no_log": True, "required": True},
            "servers": {"type": "list", "elements": "str", "required": True},
            "removed_servers": {"type": "dict", "required": True},
            "action": {"type": "str", "choices": ["plan", "hand_over", "remove"], "default": "plan"},
            "server": {"type": "str"},
            "replacing": {"type": "bool", "default": False},
            "wait_seconds": {"type": "int", "default": 120},
        },
        required_if=[("action", "hand_over", ["server"]), ("action", "remove", ["server"])],
        supports_check_mode=True,
    )
    cluster = Cluster(module)
    result: dict[str, Any] = {"leaving": [], "changes": cluster.changes, "refused": []}
    action = module.params["action"]
    try:
        plan = cluster.plan() if action == "remove" else cluster.ready_plan()
        if action != "remove":
            plan.refused += plan.unready
        result["leaving"] = [one.as_dict() for one in plan.leaving]
        one = next((one for one in plan.leaving if one.name == module.params["server"]), None)
        # Once it has been stopped, it is taken out, whatever has befallen the others meanwhile.
        if plan.refused and (action != "remove" or (one and one.alive)):
            result["refused"] = plan.refused
            module.fail_json(msg="\n".join(plan.refused), changed=False, **result)
        if one and action == "hand_over":
            cluster.hand_over(one)
        elif one and action == "remove":
            cluster.remove(one)
    except (Refused, Unreachable) as error:
        module.fail_json(msg=str(error), changed=bool(cluster.changes) and cluster.act, **result)
    module.exit_json(changed=bool(cluster.changes), **result)


if __name__ == "__main__":
    main()
