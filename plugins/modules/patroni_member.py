#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Tell a Patroni cluster to restart a member, to change its leader, or to pause."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_member
short_description: Tell a Patroni cluster to restart a member, to change its leader, or to pause
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Acts through Patroni's REST API and waits until it is done. Looks first - what is already so is left alone.
options:
  username:
    required: true
  password:
    required: true
  name:
    description: The member that is meant. For V(step_down) the one that is not to lead.
    type: str
    default: ""
  action:
    description:
      - V(restart) restarts PostgreSQL on the member.
      - V(step_down) makes another member the leader if O(name) is it, preferably a synchronous replica, and waits until O(name) follows it.
      - V(pause) and V(resume) begin and end maintenance mode.
    type: str
    required: true
    choices: [restart, step_down, pause, resume]
  candidate:
    description: Who is to lead after V(step_down). Empty leaves the choice to the module.
    type: str
    default: ""
  leaving:
    description: Members that are to leave, and so aren't to lead.
    type: list
    elements: str
    default: []
  only_if_pending:
    description: Whether V(restart) only restarts when a setting waits for it.
    type: bool
    default: false
  wait_seconds:
    description: How long it may take.
    type: int
    default: 120
extends_documentation_fragment: [sutazai.platform.patroni, sutazai.platform.patroni.client]
attributes:
  check_mode: {support: full, description: Says what would be done.}
  diff_mode: {support: none, description: Nothing to compare.}
"""

EXAMPLES = r"""
- name: Let another member lead
  sutazai.platform.patroni_member:
    members: {postgresql-1: 10.0.0.41, postgresql-2: 10.0.0.42}
    ca_file: /etc/sutazai/pki/ca.crt
    username: patroni
    password: "{{ patroni_rest_password }}"
    name: postgresql-1
    action: step_down
"""

RETURN = r"""
leader:
  description: Who leads afterwards.
  returned: always
  type: str
message:
  description: What Patroni said.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.patroni import switchover_candidate
from ansible_collections.sutazai.platform.plugins.module_utils.patroni_rest import CLIENT_OPTIONS, REST_OPTIONS, Rest


class Cluster:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.wanted = module.params
        self.rest = Rest(self.wanted, self.wanted["username"], self.wanted["password"])
        self.before = self.rest.look(synchronous=False, allow_paused=True)

    def leave(self, changed: bool, message: str, leader: str = "") -> None:
        self.module.exit_json(changed=changed, message=message, leader=leader or self.before["leader"])

    def tell(self, name: str, path: str, body: dict, method: str = "POST") -> str:
        answer, error = self.rest.ask(name, path, method, body, timeout=self.wanted["wait_seconds"])
        if error:
            self.module.fail_json(
                msg=f"{name} did not {self.wanted['action'].replace('_', ' ')}: {error}", leader=self.before["leader"]
            )
        return answer if isinstance(answer, str) else ""

    def require(self, condition: object, message: str) -> None:
        if not condition:
            self.module.fail_json(
                msg=f"{message} {' '.join(self.before['problems'])}".strip(), leader=self.before["leader"]
            )

    def restart(self) -> None:
        name = self.wanted["name"]
        member = next((m for m in self.before["members"] if m["name"] == name), None)
        self.require(member, f"{name or 'name'} is not one of the members.")
        if self.wanted["only_if_pending"] and not member["pending_restart"]:
            self.leave(False, f"No setting waits for a restart of {name}.")
        if self.module.check_mode:
            self.leave(True, f"PostgreSQL on {name} would be restarted.")
        self.leave(True, self.tell(name, "/restart", {}))

    def step_down(self) -> None:
        leader = self.before["leader"]
        self.require(leader, "There is no leader to take over from.")
        if leader != self.wanted["name"]:
            self.leave(False, f"{leader} leads, not {self.wanted['name']}.")
        candidate = switchover_candidate(self.before, self.wanted["candidate"], self.wanted["leaving"])
        self.require(candidate, f"Nobody can take over from {leader}.")
        if self.module.check_mode:
            self.leave(True, f"{candidate} would take over from {leader}.", candidate)
        message = self.tell(leader, "/switchover", {"leader": leader, "candidate": candidate})

        def handed_over(found: dict) -> bool:
            former = next(member for member in found["members"] if member["name"] == leader)
            return found["leader"] not in ("", leader) and former["replication_state"] == "streaming"

        # Until the former leader follows, its Patroni refuses whatever it is told.
        after = self.rest.wait(self.wanted["wait_seconds"], handed_over, synchronous=False, allow_paused=True)
        self.before = after
        self.require(
            after["leader"] not in ("", leader),
            f"{leader} was told to hand over to {candidate}, but didn't within {self.wanted['wait_seconds']} s.",
        )
        self.require(
            handed_over(after),
            f"{after['leader']} leads instead of {leader}, but {leader} doesn't follow it after {self.wanted['wait_seconds']} s.",
        )
        self.leave(True, message, after["leader"])

    def set_pause(self, pause: bool) -> None:
        if self.before["paused"] == pause:
            self.leave(False, "Nothing to do.")
        if self.module.check_mode:
            self.leave(True, f"Maintenance mode would be {'begun' if pause else 'ended'}.")
        name = self.before["leader"] or next((m["name"] for m in self.before["members"] if m["reachable"]), "")
        self.require(name, "Nobody answers.")
        self.tell(name, "/config", {"pause": True if pause else None}, "PATCH")
        # Each member must have noticed: a Patroni that is stopped before it knows of the pause stops PostgreSQL with it.
        answering = [m["name"] for m in self.before["members"] if m["reachable"]]

        def noticed(_found: dict) -> bool:
            return all(bool((self.rest.ask(member, "/patroni")[0] or {}).get("pause")) == pause for member in answering)

        after = self.rest.wait(self.wanted["wait_seconds"], noticed, synchronous=False, allow_paused=True)
        self.require(noticed(after), f"Not every member noticed within {self.wanted['wait_seconds']} s.")
        self.leave(True, "", after["leader"])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **REST_OPTIONS,
            **CLIENT_OPTIONS,
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "name": {"type": "str", "default": ""},
            "action": {"type": "str", "required": True, "choices": ["restart", "step_down", "pause", "resume"]},
            "candidate": {"type": "str", "default": ""},
            "leaving": {"type": "list", "elements": "str", "default": []},
            "only_if_pending": {"type": "bool", "default": False},
            "wait_seconds": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    cluster = Cluster(module)
    action = module.params["action"]
    if action == "restart":
        cluster.restart()
    elif action == "step_down":
        cluster.step_down()
    else:
        cluster.set_pause(action == "pause")


if __name__ == "__main__":
    main()
