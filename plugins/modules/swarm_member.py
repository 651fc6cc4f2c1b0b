#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Make this host a member of a Docker Swarm, or have it leave."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_member
short_description: Make this host a member of a Docker Swarm
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Makes a new Swarm (O(initialise)), or joins one. A member stays what it is; a host in a Swarm of other managers is refused.
  - What an interrupted join has left is cleared first, so the same task can be run again.
  - The token goes to the engine's socket in the body of a request. It is in no argument of a process and on no disk.
extends_documentation_fragment: [sutazai.platform.swarm]
options:
  state:
    description: Whether this host is a member. V(absent) leaves, as a manager only after it was made a worker.
    type: str
    choices: [present, absent]
    default: present
  initialise:
    description: Whether to make a new Swarm here.
    type: bool
    default: false
  address:
    description: The address of this host that the others reach. Required with O(state=present).
    type: str
  managers:
    description: The addresses of all managers, without ports.
    type: list
    elements: str
    default: []
  join_token:
    description: The secret that hosts of this role join with.
    type: str
  address_pools:
    description: Networks that overlay networks are cut from. Only read when a Swarm is made.
    type: list
    elements: str
    default: []
  address_pool_prefix:
    description: Length of the prefix of each overlay network.
    type: int
    default: 24
  data_port:
    description: UDP port of the traffic between containers. Only read when a Swarm is made.
    type: int
    default: 4789
  timeout_seconds:
    description: How long to wait until this host is a member, or no manager any more before it leaves.
    type: int
    default: 60
attributes:
  check_mode: {support: full, description: Says what would be done.}
"""

EXAMPLES = r"""
- name: Make the Swarm
  sutazai.platform.swarm_member:
    initialise: true
    address: 10.0.0.61
    managers: [10.0.0.61]

- name: Join it
  sutazai.platform.swarm_member:
    address: 10.0.0.62
    managers: [10.0.0.61]
    join_token: "{{ __swarm_tokens.tokens.manager }}"
  no_log: true
"""

RETURN = r"""
did:
  description: What was done, or would be. One of nothing, initialised, joined, left.
  returned: always
  type: str
cleared:
  description: Whether what an interrupted join had left was cleared.
  returned: always
  type: bool
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_state as model
from ansible_collections.sutazai.platform.plugins.module_utils.docker_engine import (
    CONNECTION_ARGUMENTS,
    Engine,
    EngineRefused,
    EngineUnreachable,
)

PORT = 2377


class StillAManager(Exception):
    """A manager that left would take its vote with it."""


class NotAMember(Exception):
    """The engine didn't become a member in time."""


def initialise(engine: Engine, wanted: dict[str, Any]) -> None:
    body = {
        "ListenAddr": f"{wanted['address']}:{PORT}",
        "AdvertiseAddr": f"{wanted['address']}:{PORT}",
        "DataPathAddr": wanted["address"],
        "DataPathPort": wanted["data_port"],
        "DefaultAddrPool": wanted["address_pools"],
        "SubnetSize": wanted["address_pool_prefix"],
        "Spec": {},
    }
    engine.request("POST", "/swarm/init", body)


def join(engine: Engine, wanted: dict[str, Any]) -> None:
    """Join through any manager; the engine goes on in the background when it doesn't get through at once."""
    body = {
        "ListenAddr": f"{wanted['address']}:{PORT}",
        "AdvertiseAddr": f"{wanted['address']}:{PORT}",
        "DataPathAddr": wanted["address"],
        "RemoteAddrs": [f"{address}:{PORT}" for address in wanted["managers"] if address != wanted["address"]],
        "JoinToken": wanted["join_token"],
    }
    engine.request("POST", "/swarm/join", body)


def wait_for_membership(engine: Engine, seconds: int) -> None:
    deadline = time.monotonic() + seconds
    while (local := model.local_of(engine.get("/info"))).state != "active":
        if time.monotonic() >= deadline:
            raise NotAMember(
                f"after {seconds} s this host is still {local.state} in the Swarm ({local.error or 'no error yet'}): are ports "
                "2377/tcp, 7946/tcp, 7946/udp and the data port (UDP) open between the hosts?"
            )
        time.sleep(0.5)


def wait_until_worker(engine: Engine, seconds: int) -> None:
    """A manager that was made a worker learns it a moment later."""
    deadline = time.monotonic() + seconds
    while model.local_of(engine.get("/info")).control:
        if time.monotonic() >= deadline:
            raise StillAManager("this host is a manager still: make it a worker first, then have it leave")
        time.sleep(0.5)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "initialise": {"type": "bool", "default": False},
            "address": {"type": "str"},
            "managers": {"type": "list", "elements": "str", "default": []},
            "join_token": {"type": "str", "no_log": True},
            "address_pools": {"type": "list", "elements": "str", "default": []},
            "address_pool_prefix": {"type": "int", "default": 24},
            "data_port": {"type": "int", "default": 4789},
            "timeout_seconds": {"type": "int", "default": 60},
        },
        required_if=[("state", "present", ["address"])],
        supports_check_mode=True,
    )
    wanted = module.params
    engine = Engine(wanted["socket"])
    act = not module.check_mode
    result: dict[str, Any] = {"changed": False, "did": "nothing", "cleared": False}
    try:
        local = model.local_of(engine.get("/info") if engine.there() or act else {})
        if wanted["state"] == "absent":
            if local.state == "inactive":
                module.exit_json(**result)
            if act:
                wait_until_worker(engine, wanted["timeout_seconds"])
                engine.request("POST", "/swarm/leave")
            result.update(changed=True, did="left")
            module.exit_json(**result)
        joins, clears = model.must_join(local, wanted["managers"])
        if not joins:
            module.exit_json(**result)
        if not wanted["initialise"] and not wanted["join_token"] and act:
            module.fail_json(msg="to join, join_token must be given", **result)
        result.update(changed=True, did="initialised" if wanted["initialise"] else "joined", cleared=clears)
        if act:
            if clears:
                engine.request("POST", "/swarm/leave?force=true")
            try:
                (initialise if wanted["initialise"] else join)(engine, wanted)
            except EngineRefused as refused:
                # 503: not through yet; the engine keeps trying, and what follows waits for it.
                if refused.status != 503 or wanted["initialise"]:
                    raise
            wait_for_membership(engine, wanted["timeout_seconds"])
    except (EngineRefused, EngineUnreachable, NotAMember, StillAManager, model.CannotForm) as failure:
        module.fail_json(msg=str(failure), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
