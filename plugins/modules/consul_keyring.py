#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Bring the gossip encryption of a Consul cluster to one key."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_keyring
short_description: Bring the gossip encryption of a running Consul cluster to another key
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Makes the key known to all agents, then lets all of them use it, then (with O(retire_others)) removes the others. Each step is taken when all
    agents say that the one before has reached them. No agent is restarted, and none is cut off meanwhile.
  - What is in force is asked, so a run that was interrupted is finished by the next one, and one that finds nothing to do changes nothing.
  - Refuses while an agent is away (failed), because that one would come back with the former key alone.
options:
  token:
    description: A token with C(keyring:write).
    required: true
  gossip_key:
    description: The key that is to be in force, base64 of 32 bytes.
    type: str
    required: true
  retire_others:
    description: Whether keys other than O(gossip_key) are removed in the end.
    type: bool
    default: true
  settle_seconds:
    description: How long to wait until all agents say that a step has reached them, in seconds.
    type: int
    default: 30
extends_documentation_fragment: [sutazai.platform.consul]
attributes:
  check_mode: {support: partial, description: Says the next step., details: "Says the next step; what follows it depends on its result."}
  diff_mode: {support: none, description: Keys are secret.}
"""

EXAMPLES = r"""
- name: Use the new gossip key, keep the former one for agents that are set up meanwhile
  sutazai.platform.consul_keyring:
    token: "{{ platform_consul_management_token }}"
    gossip_key: "{{ consul_gossip_key }}"
    retire_others: false
  delegate_to: "{{ groups['consul_servers'][0] }}"
  run_once: true
"""

RETURN = r"""
agents:
  description: How many agents were asked.
  returned: always
  type: int
changes:
  description: What was done, in words.
  returned: always
  type: list
  elements: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.consul_api import (
    CONNECTION_ARGUMENTS,
    ConsulApi,
    Refused,
    Unreachable,
)
from ansible_collections.sutazai.platform.plugins.module_utils.consul_health import members_of
from ansible_collections.sutazai.platform.plugins.module_utils.consul_keyring import (
    METHODS,
    absent_problem,
    agents_of,
    next_step,
)

PATH = "/v1/operator/keyring"
POLL_SECONDS = 1.0
#: In Serf's message when not all members have answered: "16/17 nodes reported success".
INCOMPLETE = "nodes reported success"


def rings(api: ConsulApi, settle_seconds: int) -> list[dict]:
    """What all agents have. They are asked by gossip, in which an answer may be lost or late, so an incomplete one is asked for again."""
    deadline = time.monotonic() + settle_seconds
    while True:
        answer = api.get(PATH)
        if answer.ok:
            return answer.data
        if INCOMPLETE not in answer.text or time.monotonic() > deadline:
            raise Refused(f"The agents' keyrings can't be read at {api.url}: {answer.status} {answer.text}")
        time.sleep(POLL_SECONDS)


def failed_members(api: ConsulApi) -> list[str]:
    answer = api.get("/v1/agent/members")
    if not answer.ok:
        raise Refused(f"The members can't be read at {api.url}: {answer.status} {answer.text}")
    return members_of(answer.data)["failed"]


def bring(api: ConsulApi, wanted: dict, act: bool, changes: list[str]) -> int:
    """Takes one step after the other; returns how many agents there are. A step that some may not have heard of is told again."""
    told, deadline, heard = None, 0.0, False
    while True:
        now = rings(api, wanted["settle_seconds"])
        step = next_step(now, wanted["gossip_key"], wanted["retire_others"])
        if step is None:
            return agents_of(now)
        if step != told:
            problem = absent_problem(failed_members(api))
            if problem:
                raise Refused(problem)
            changes.append(step.text)
            if not act:
                return agents_of(now)
            told, deadline, heard = step, time.monotonic() + wanted["settle_seconds"], False
        elif time.monotonic() > deadline:
            raise Refused(
                f"Not all agents say that the step has reached them after {wanted['settle_seconds']} s ({step.text}). "
                "`consul keyring -list` on a server says how many have; the next run goes on from there."
            )
        else:
            time.sleep(POLL_SECONDS)
        if not heard:
            answer = api.request(METHODS[step.verb], PATH, {"Key": step.key})
            heard = answer.ok
            if not answer.ok and INCOMPLETE not in answer.text:
                # The answer may name agents, never a key.
                raise Refused(f"A step failed at {api.url} ({step.text}): {answer.status} {answer.text}")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "token": {"type": "str", "no_log": True, "required": True},
            "gossip_key": {"type": "str", "no_log": True, "required": True},
            "retire_others": {"type": "bool", "default": True},
            "settle_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    result = {"changed": False, "agents": 0, "changes": []}
    try:
        result["agents"] = bring(ConsulApi(module.params), module.params, not module.check_mode, result["changes"])
    except (Refused, Unreachable) as error:
        module.fail_json(msg=str(error), **{**result, "changed": bool(result["changes"])})
    module.exit_json(**{**result, "changed": bool(result["changes"])})


if __name__ == "__main__":
    main()
