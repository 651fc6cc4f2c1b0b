#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Replace a Consul cluster's state by a snapshot's."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_snapshot_restore
short_description: Replace a Consul cluster's state by a snapshot's
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Checks the snapshot, refuses to restore over data (keys, config entries) unless told, sends it to the leader by way of any server and
    waits until there is a leader that knows the token.
  - The snapshot replaces everything, ACL tokens included. Tokens that are younger than it are gone afterwards.
options:
  token:
    required: true
  path:
    description: The snapshot, on this host.
    type: path
    required: true
  replace_data:
    description: Whether data that is in the cluster is given up.
    type: bool
    default: false
  binary:
    description: Consul's program, which checks the snapshot.
    type: path
    default: /usr/local/bin/consul
  wait_seconds:
    description: How long to wait for a leader after the restore, in seconds.
    type: int
    default: 60
extends_documentation_fragment: [sutazai.platform.consul]
attributes:
  check_mode: {support: full, description: Checks the snapshot and refuses what would be refused.}
  diff_mode: {support: none, description: RV(snapshot) and RV(keys_before) say it.}
seealso:
  - module: sutazai.platform.backup_files_info
"""

EXAMPLES = r"""
- name: Restore a snapshot
  sutazai.platform.consul_snapshot_restore:
    token: "{{ platform_consul_management_token }}"
    path: /var/lib/consul-snapshots/consul-20261124T220000Z.snap
"""

RETURN = r"""
snapshot:
  description: What the snapshot holds, counted.
  returned: always
  type: str
keys_before:
  description: How many keys were in the cluster.
  returned: always
  type: int
keys_after:
  description: How many keys are in it now.
  returned: when it was restored
  type: int
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import consul_snapshot
from ansible_collections.sutazai.platform.plugins.module_utils.consul_api import (
    CONNECTION_ARGUMENTS,
    Answer,
    ConsulApi,
    Refused,
    Unreachable,
    patiently,
)


def inspect(module: AnsibleModule) -> str:
    path = module.params["path"]
    if not os.path.isfile(path):
        module.fail_json(msg=f"There is no snapshot {path} on this host.")
    code, out, error = module.run_command([module.params["binary"], "snapshot", "inspect", "-format=json", path])
    if code != 0:
        module.fail_json(msg=f"{path} is no snapshot that can be restored: {error.strip() or out.strip()}")
    return consul_snapshot.summary(consul_snapshot.kinds(json.loads(out)))


def read(api: ConsulApi, path: str, what: str, seconds: float = 15) -> list:
    """A list; none (404) is an empty one."""
    answer = patiently(lambda: api.get(path), seconds)
    if answer.status == 404:
        return []
    return api.demand(answer, f"Reading {what} failed").data or []


def config_entries(api: ConsulApi) -> list[dict]:
    kinds = (
        "service-defaults",
        "proxy-defaults",
        "service-router",
        "service-splitter",
        "service-resolver",
        "service-intentions",
    )
    return [entry for kind in kinds for entry in read(api, f"/v1/config/{kind}", f"config entries {kind}")]


def restore(module: AnsibleModule, api: ConsulApi) -> None:
    with open(module.params["path"], "rb") as handle:
        answer = api.put("/v1/snapshot", handle.read())
    if not answer.ok:
        raise Refused(f"{api.url} didn't restore the snapshot: {answer.status} {answer.text}")

    # The leader takes up its duties anew with the restored state.
    def led() -> Answer:
        leader = api.get("/v1/status/leader", anonymous=True)
        return leader if leader.data else Answer(503, "no leader")

    patiently(led, module.params["wait_seconds"])
    own = patiently(lambda: api.get("/v1/acl/token/self"), module.params["wait_seconds"])
    if own.missing:
        raise Refused(consul_snapshot.unknown_token())
    if not own.ok:
        raise Refused(f"After the restore {api.url} answers: {own.status} {own.text}")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "token": {"type": "str", "required": True, "no_log": True},
            "path": {"type": "path", "required": True},
            "replace_data": {"type": "bool", "default": False},
            "binary": {"type": "path", "default": "/usr/local/bin/consul"},
            "wait_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    api = ConsulApi(module.params)
    result = {"changed": True, "snapshot": inspect(module), "keys_before": 0}
    try:
        keys = read(api, "/v1/kv/?keys", "the keys")
        result["keys_before"] = len(keys)
        why = consul_snapshot.refusal(keys, config_entries(api))
        if why and not module.params["replace_data"]:
            module.fail_json(
                msg=f"{why} The snapshot holds {result['snapshot']}.",
                **{**result, "changed": False},
            )
        if not module.check_mode:
            restore(module, api)
            result["keys_after"] = len(read(api, "/v1/kv/?keys", "the keys", module.params["wait_seconds"]))
    except (Refused, Unreachable) as error:
        module.fail_json(msg=str(error), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
