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
options:
  url:
    description: Address of an agent of the cluster.
    type: str
    default: http://127.0.0.1:8500
  token:
    description: The management token, a UUID.
    type: str
    required: true
  ca_file:
    description: CA certificates to trust when O(url) is HTTPS.
    type: path
  client_cert:
    description: Client certificate.
    type: path
  client_key:
    description: Key of the client certificate.
    type: path
  timeout_seconds:
    description: How long a single answer may take.
    type: int
    default: 10
  wait_seconds:
    description: How long to wait for a leader, in seconds.
    type: int
    default: 120
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
    description: ACL policies that must exist as given.
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
      rules:
        description: Its rules (HCL or JSON).
        type: str
        required: true
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
    accessor_of,
    autopilot_changes,
    is_management,
    other_token_message,
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

    def demand(self, answer: Answer, what: str) -> Answer:
        if not answer.ok:
            raise Refused(f"{what} failed at {self.api.url}: {answer.status} {answer.text}")
        return answer

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

    def bootstrap(self) -> bool:
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
        self.demand(own, "Reading the management token")
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
            current = self.demand(
                self.ask("GET", "/v1/operator/autopilot/configuration"), "Reading autopilot's settings"
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
            if self.demand(answer, "Setting autopilot").data is True:
                return
        raise Refused(
            "Autopilot's settings were changed by somebody else five times while they were being set. Run this again."
        )

    def policy(self, wanted: dict) -> None:
        path = f"/v1/acl/policy/name/{quote(wanted['name'], safe='')}"
        found = self.ask("GET", path)
        current = None if found.missing else self.demand(found, f"Reading policy {wanted['name']}").data
        if current and not policy_differs(current, wanted):
            return
        self.changes.append(f"policy {wanted['name']}")
        if not self.act:
            return
        body = {"Name": wanted["name"], "Description": wanted["description"], "Rules": wanted["rules"]}
        if current:
            self.demand(
                self.ask("PUT", f"/v1/acl/policy/{current['ID']}", {**body, "ID": current["ID"]}),
                f"Policy {wanted['name']}",
            )
            return
        answer = self.api.put("/v1/acl/policy", body)
        if not answer.ok and not self.ask("GET", path).ok:
            self.demand(answer, f"Making policy {wanted['name']}")

    def write_token(self, path: str, wanted: dict, current: dict | None) -> Answer:
        if current:
            return self.ask("PUT", path, {**wanted, "SecretID": current["SecretID"]})
        answer = self.api.put("/v1/acl/token", wanted)
        if answer.ok:
            return answer
        # Another host may have made it in between.
        found = self.ask("GET", path)
        return found if found.ok else answer

    def token(self, asked: dict) -> dict[str, str]:
        accessor = accessor_of(asked["name"])
        path = f"/v1/acl/token/{accessor}"
        found = self.ask("GET", path)
        current = None if found.missing else self.demand(found, f"Reading token {asked['name']}").data
        if asked["state"] == "absent":
            if current:
                self.changes.append(f"token {asked['name']} removed")
                if self.act:
                    self.demand(self.api.delete(path), f"Removing token {asked['name']}")
            return {"accessor_id": accessor, "secret_id": ""}
        wanted = wanted_token(asked)
        if current is None or token_differs(current, wanted):
            self.changes.append(f"token {asked['name']}")
            if self.act:
                answer = self.write_token(path, wanted, current)
                current = self.demand(answer, f"Making token {asked['name']}").data
        return {"accessor_id": accessor, "secret_id": (current or {}).get("SecretID", "")}


def main() -> None:
    text_list = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "token": {"type": "str", "no_log": True, "required": True},
            "wait_seconds": {"type": "int", "default": 120},
            "report_problems": {"type": "bool", "default": False},
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
                    "rules": {"type": "str", "required": True},
                },
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
        if result["bootstrapped"] and module.check_mode:
            module.exit_json(**{**result, "changed": True, "changes": cluster.changes})
        cluster.autopilot()
        for policy in module.params["policies"]:
            cluster.policy(policy)
        for token in module.params["tokens"]:
            result["tokens"][token["name"]] = cluster.token(token)
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
