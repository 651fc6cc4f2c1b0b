#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Bring a Consul cluster's ACLs and autopilot to what is wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_cluster
short_description: Bring a Consul cluster's ACLs and autopilot to what is wanted
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Waits for a leader, bootstraps the ACL system with a management token that is known beforehand, sets autopilot on the live
    cluster (the agents' files only count at the cluster's first start), and keeps policies and tokens.
  - Any number of hosts may run this at once; who comes second finds what the first one made.
  - A token's accessor is computed from its name (as the filter C(to_uuid) does), its secret is made by Consul and read back.
  - A secret can't be changed. With O(reissue_before) a second token of the same name is made, at another accessor, and returned from then on. The
    first one stays valid until O(retire_former).
options:
  token:
    description: The management token, a UUID.
    required: true
  wait_seconds:
    description: How long to wait for a leader, in seconds.
    type: int
    default: 120
  former_token:
    description:
      - The management token before O(token). If the cluster doesn't know O(token), it is made with this one.
      - With O(retire_former) this one is deleted.
    type: str
  reissue_before:
    description: A token of O(tokens) that was made before this moment, in seconds since the epoch, gets a follower of the same name.
    type: int
    default: 0
  retire_former:
    description: Whether tokens are deleted that have got a follower, and O(former_token).
    type: bool
    default: false
  report_problems:
    description:
      - Whether what can't be done is only returned as RV(problems), for a following M(ansible.builtin.assert). The secrets in the result
        call for C(no_log), which would hide a failure's message too.
    type: bool
    default: false
  bootstrap:
    description: Whether to bootstrap the ACL system with O(token) when that hasn't happened yet.
    type: bool
    default: false
  autopilot:
    description: Autopilot's settings. What isn't given stays as it is.
    type: dict
    suboptions:
      cleanup_dead_servers:
        description: Whether a failed server is removed when a new one joined.
        type: bool
      last_contact_threshold:
        description: How long a healthy server may have been out of contact with the leader, such as C(200ms).
        type: str
      max_trailing_logs:
        description: How many log entries a healthy server may be behind.
        type: int
      min_quorum:
        description: Clean-up never leaves fewer servers than this.
        type: int
      server_stabilization_time:
        description: How long a new server must be healthy before it votes, such as C(10s).
        type: str
  policies:
    description: ACL policies.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The policy's name.
        type: str
        required: true
      description:
        description: What it is for.
        type: str
        default: ""
      state:
        description: Whether it is to exist. One that a token still has is left alone; those of O(tokens) that are V(absent) go first.
        type: str
        choices: [present, absent]
        default: present
      rules:
        description: Its rules (HCL or JSON). Required unless it is V(absent).
        type: str
  tokens:
    description: ACL tokens.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name, which its accessor is computed from. Unique in the datacenter.
        type: str
        required: true
      description:
        description: What it is for; the name if not given.
        type: str
      state:
        description: Whether it is to exist.
        type: str
        choices: [present, absent]
        default: present
      policies:
        description: Names of its policies.
        type: list
        elements: str
        default: []
      node_identities:
        description: Nodes for which it is an agent's token.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: The node.
            type: str
            required: true
          datacenter:
            description: The node's datacenter.
            type: str
            required: true
      service_identities:
        description: Services that it may register, and discover others for.
        type: list
        elements: str
        default: []
      templated_policies:
        description: Consul's own templates, such as C(builtin/dns).
        type: list
        elements: str
        default: []
extends_documentation_fragment: [sutazai.platform.consul]
attributes:
  check_mode: {support: full, description: "Says what would be made. On a fresh host, where no agent answers yet, all of it."}
  diff_mode: {support: none, description: Tokens are secret.}
"""

EXAMPLES = r"""
- name: Make the token that Patroni uses
  sutazai.platform.consul_cluster:
    token: "{{ platform_consul_management_token }}"
    policies:
      - name: patroni
        rules: 'key_prefix "service/postgresql/" { policy = "write" } session_prefix "" { policy = "write" }'
    tokens:
      - name: "patroni/{{ inventory_hostname }}"
        policies: [patroni]
        service_identities: [postgresql]
  delegate_to: "{{ groups['consul_servers'][0] }}"
  no_log: true
  register: __patroni_consul
  # the secret: __patroni_consul.tokens['patroni/' ~ inventory_hostname].secret_id
"""

RETURN = r"""
reachable:
  description: Whether an agent answered. Only false in check mode.
  returned: always
  type: bool
bootstrapped:
  description: Whether this task bootstrapped the ACL system.
  returned: always
  type: bool
healthy:
  description: Whether everything is as wanted. Only false with O(report_problems=true).
  returned: always
  type: bool
problems:
  description: What could not be done, and what to do about it, in sentences.
  returned: always
  type: list
  elements: str
changes:
  description: What was done, in words.
  returned: always
  type: list
  elements: str
tokens:
  description: The tokens by name, each with C(accessor_id) and C(secret_id) (empty if it doesn't exist yet in check mode).
  returned: always
  type: dict
"""

import time
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.consul_api import (
    CONNECTION_ARGUMENTS,
    Answer,
    ConsulApi,
    Refused,
    Unreachable,
    patiently,
)
from ansible_collections.sutazai.platform.plugins.module_utils.consul_health import no_leader_problem
from ansible_collections.sutazai.platform.plugins.module_utils.consul_state import (
    MANAGEMENT_POLICY,
    accessor_of,
    accessors_of,
    autopilot_changes,
    in_force,
    is_management,
    other_token_message,
    place_for_another,
    policy_differs,
    token_differs,
    wanted_token,
)

# Another host's write that isn't visible yet, or the leader's caches after a bootstrap.
RACE_SECONDS = 15


class Cluster:
    """The state that one run of the module wants."""

    def __init__(self, module: AnsibleModule) -> None:
        self.parameters = module.params
        self.api = ConsulApi(module.params)
        self.act = not module.check_mode
        self.changes: list[str] = []

    def ask(self, method: str, path: str, body: object = None, anonymous: bool = False) -> Answer:
        return patiently(lambda: self.api.request(method, path, body, anonymous), RACE_SECONDS)

    def wait_for_leader(self) -> None:
        deadline = time.monotonic() + (self.parameters["wait_seconds"] if self.act else 0)
        while True:
            last = no_leader_problem(self.api.url)
            try:
                answer = self.api.get("/v1/status/leader", anonymous=True)
                if answer.ok and answer.data:
                    return
            except Unreachable as error:
                if not self.act:
                    raise
                last = f"{error}: is consul.service running there? See journalctl -u consul."
            if time.monotonic() >= deadline:
                raise Refused(last)
            time.sleep(0.5)

    def former(self, method: str, path: str, body: object = None) -> Answer:
        """Asked with the management token before this one."""
        api = ConsulApi({**self.parameters, "token": self.parameters["former_token"]})
        return patiently(lambda: api.request(method, path, body), RACE_SECONDS)

    def succeed(self) -> None:
        """Makes the management token by means of the one before it."""
        former = self.former("GET", "/v1/acl/token/self")
        if not former.ok or not is_management(former.data):
            return
        self.changes.append("the new management token")
        if self.act:
            body = {
                "SecretID": self.parameters["token"],
                "Description": "Management",
                "Policies": [{"ID": MANAGEMENT_POLICY}],
            }
            answer = self.former("PUT", "/v1/acl/token", body)
            if not answer.ok and self.ask("GET", "/v1/acl/token/self").missing:
                self.api.demand(answer, "Making the new management token failed")

    def retire_former_token(self) -> None:
        if not self.parameters["former_token"] or self.parameters["former_token"] == self.parameters["token"]:
            return
        found = self.former("GET", "/v1/acl/token/self")
        if not found.missing:
            accessor = self.api.demand(found, "Reading the former management token failed").data["AccessorID"]
            self.changes.append("the former management token removed")
            if self.act:
                self.api.demand(
                    self.ask("DELETE", f"/v1/acl/token/{accessor}"), "Removing the former management token failed"
                )

    def bootstrap(self) -> bool:
        own = self.ask("GET", "/v1/acl/token/self")
        if own.missing and self.parameters["former_token"]:
            self.succeed()
            if self.changes and not self.act:
                return False
            own = self.ask("GET", "/v1/acl/token/self")
        if own.missing and self.parameters["bootstrap"]:
            if not self.act:
                self.changes.append("bootstrap the ACL system")
                return True
            answer = self.ask("PUT", "/v1/acl/bootstrap", {"BootstrapSecret": self.parameters["token"]}, anonymous=True)
            if answer.ok:
                self.changes.append("bootstrapped the ACL system")
                return True
            # Somebody was first: with the same token (another host of this run), or long ago with another.
            deadline = time.monotonic() + RACE_SECONDS / 3
            while own.missing and time.monotonic() < deadline:
                time.sleep(0.5)
                own = self.ask("GET", "/v1/acl/token/self")
            if own.missing:
                raise Refused(other_token_message(self.api.url, answer.text))
        elif own.missing:
            raise Refused(
                f"The cluster at {self.api.url} doesn't know the management token (consul_management_token, by default "
                "platform_consul_management_token). Its servers are set up by playbooks/discovery.yml; has that run with this token?"
            )
        self.api.demand(own, "Reading the management token failed")
        if not is_management(own.data):
            raise Refused(
                "The token given as management token is known to the cluster, but lacks the policy global-management."
            )
        return False

    def autopilot(self) -> None:
        wanted = self.parameters["autopilot"]
        if not wanted:
            return
        for attempt in range(5):
            current = self.api.demand(
                self.ask("GET", "/v1/operator/autopilot/configuration"), "Reading autopilot's settings failed"
            ).data
            changes = autopilot_changes(current, wanted)
            if not changes:
                return
            if attempt == 0:
                self.changes.append(
                    f"autopilot: {', '.join(f'{key}={value}' for key, value in sorted(changes.items()))}"
                )
            if not self.act:
                return
            answer = self.ask(
                "PUT", f"/v1/operator/autopilot/configuration?cas={current['ModifyIndex']}", {**current, **changes}
            )
            if self.api.demand(answer, "Setting autopilot failed").data is True:
                return
        raise Refused(
            "Autopilot's settings were changed by somebody else five times while they were being set. Run this again."
        )

    def policy(self, wanted: dict) -> None:
        path = f"/v1/acl/policy/name/{quote(wanted['name'], safe='')}"
        found = self.ask("GET", path)
        current = None if found.missing else self.api.demand(found, f"Reading policy {wanted['name']} failed").data
        if current and not policy_differs(current, wanted):
            return
        self.changes.append(f"policy {wanted['name']}")
        if not self.act:
            return
        body = {"Name": wanted["name"], "Description": wanted["description"], "Rules": wanted["rules"]}
        if current:
            self.api.demand(
                self.ask("PUT", f"/v1/acl/policy/{current['ID']}", {**body, "ID": current["ID"]}),
                f"Policy {wanted['name']} failed",
            )
            return
        answer = self.api.put("/v1/acl/policy", body)
        if not answer.ok and not self.ask("GET", path).ok:
            self.api.demand(answer, f"Making policy {wanted['name']} failed")

    def remove_policy(self, name: str, going: set[str]) -> None:
        found = self.ask("GET", f"/v1/acl/policy/name/{quote(name, safe='')}")
        if found.missing:
            return
        policy = self.api.demand(found, f"Reading policy {name} failed").data["ID"]
        users = self.api.demand(
            self.ask("GET", f"/v1/acl/tokens?policy={policy}"), f"Asking who has policy {name} failed"
        ).data
        if {user["AccessorID"] for user in users} - going:
            return
        self.changes.append(f"policy {name} removed")
        if self.act:
            self.api.demand(self.api.delete(f"/v1/acl/policy/{policy}"), f"Removing policy {name} failed")

    def write_token(self, path: str, wanted: dict, current: dict | None) -> Answer:
        if current:
            return self.ask("PUT", path, {**wanted, "SecretID": current["SecretID"]})
        answer = self.api.put("/v1/acl/token", wanted)
        if answer.ok:
            return answer
        # Another host may have made it in between.
        found = self.ask("GET", path)
        return found if found.ok else answer

    def find_tokens(self, name: str) -> list[dict]:
        answers = [self.ask("GET", f"/v1/acl/token/{accessor}") for accessor in accessors_of(name)]
        return [
            self.api.demand(answer, f"Reading token {name} failed").data for answer in answers if not answer.missing
        ]

    def remove_tokens(self, name: str, tokens: list[dict], text: str) -> None:
        for token in tokens:
            self.changes.append(text)
            if self.act:
                self.api.demand(
                    self.api.delete(f"/v1/acl/token/{token['AccessorID']}"), f"Removing token {name} failed"
                )

    def token(self, asked: dict) -> dict[str, str]:
        name = asked["name"]
        found = self.find_tokens(name)
        if asked["state"] == "absent":
            self.remove_tokens(name, found, f"token {name} removed")
            return {"accessor_id": accessor_of(name), "secret_id": ""}
        wanted, current = wanted_token(asked), in_force(found)
        another = place_for_another(found, name, self.parameters["reissue_before"])
        if another:
            current = None
        accessor = another or (current or {}).get("AccessorID") or accessor_of(name)
        if current is None or token_differs(current, wanted):
            self.changes.append(f"token {name} made anew" if another else f"token {name}")
            if self.act:
                answer = self.write_token(f"/v1/acl/token/{accessor}", {**wanted, "AccessorID": accessor}, current)
                current = self.api.demand(answer, f"Making token {name} failed").data
        if self.parameters["retire_former"]:
            others = [token for token in found if current and token["AccessorID"] != current["AccessorID"]]
            self.remove_tokens(name, others, f"the former token {name} removed")
        return {"accessor_id": accessor, "secret_id": (current or {}).get("SecretID", "")}


def main() -> None:
    text_list = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "token": {"type": "str", "no_log": True, "required": True},
            "wait_seconds": {"type": "int", "default": 120},
            "report_problems": {"type": "bool", "default": False},
            "former_token": {"type": "str", "no_log": True},
            "reissue_before": {"type": "int", "default": 0},
            "retire_former": {"type": "bool", "default": False},
            "bootstrap": {"type": "bool", "default": False},
            "autopilot": {
                "type": "dict",
                "options": {
                    "cleanup_dead_servers": {"type": "bool"},
                    "last_contact_threshold": {"type": "str"},
                    "max_trailing_logs": {"type": "int"},
                    "min_quorum": {"type": "int"},
                    "server_stabilization_time": {"type": "str"},
                },
            },
            "policies": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "description": {"type": "str", "default": ""},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                    "rules": {"type": "str"},
                },
                "required_if": [("state", "present", ["rules"])],
            },
            "tokens": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "no_log": False,
                "options": {
                    "name": {"type": "str", "required": True},
                    "description": {"type": "str"},
                    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                    "policies": text_list,
                    "node_identities": {
                        "type": "list",
                        "elements": "dict",
                        "default": [],
                        "options": {
                            "name": {"type": "str", "required": True},
                            "datacenter": {"type": "str", "required": True},
                        },
                    },
                    "service_identities": text_list,
                    "templated_policies": text_list,
                },
            },
        },
        supports_check_mode=True,
    )
    cluster = Cluster(module)
    result = {
        "changed": False,
        "reachable": True,
        "bootstrapped": False,
        "healthy": True,
        "problems": [],
        "changes": [],
        "tokens": {
            token["name"]: {"accessor_id": accessor_of(token["name"]), "secret_id": ""}
            for token in module.params["tokens"]
        },
    }
    try:
        cluster.wait_for_leader()
        result["bootstrapped"] = cluster.bootstrap()
        if cluster.changes and module.check_mode:  # its token isn't known there yet
            module.exit_json(**{**result, "changed": True, "changes": cluster.changes})
        cluster.autopilot()
        policies, tokens = module.params["policies"], module.params["tokens"]
        for policy in policies:
            if policy["state"] == "present":
                cluster.policy(policy)
        for token in tokens:
            result["tokens"][token["name"]] = cluster.token(token)
        # In check mode the tokens that go are still there.
        going = {place for token in tokens if token["state"] == "absent" for place in accessors_of(token["name"])}
        for policy in policies:
            if policy["state"] == "absent":
                cluster.remove_policy(policy["name"], going)
        if module.params["retire_former"]:
            cluster.retire_former_token()
    except Unreachable as error:
        if module.check_mode:
            module.exit_json(**{**result, "changed": True, "reachable": False, "changes": [f"everything ({error})"]})
        result.update(healthy=False, problems=[str(error)])
    except Refused as error:
        result.update(healthy=False, problems=[str(error)])
    result.update(changed=bool(cluster.changes), changes=cluster.changes)
    if result["problems"] and not module.params["report_problems"]:
        module.fail_json(msg=" ".join(result["problems"]), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
