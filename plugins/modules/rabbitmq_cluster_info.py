#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Say how a RabbitMQ cluster is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_cluster_info
short_description: Say how a RabbitMQ cluster is, and what this host holds of it
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Asks the management API of one node, over HTTPS. When that doesn't answer it asks C(rabbitmqctl) on this host, so that a
    cluster whose API is down is still described.
  - RV(healthy) is this collection's one definition of a healthy RabbitMQ cluster; RV(problems) says in sentences why it isn't.
  - Changes nothing.
options:
  gather:
    description:
      - V(cluster) asks the cluster, for which O(url), O(username) and O(password) are required. V(local) looks at this host's files
        only, and works where nothing is installed or running.
    type: list
    elements: str
    choices: [local, cluster]
    default: [local, cluster]
  nodes:
    description: The names of the nodes that are to make up the cluster, such as C(rabbit@rabbitmq-1). Empty means whatever is found.
    type: list
    elements: str
    default: []
  leaving_nodes:
    description: The names of nodes that are to leave the cluster. Whether they are still in it, or run, doesn't matter to RV(healthy).
    type: list
    elements: str
    default: []
  node:
    description: The name of this host's node.
    type: str
    required: true
  quorum_group_size:
    description: How many members each quorum queue is to have.
    type: int
    default: 3
  wait_seconds:
    description: How long to wait for the cluster to become healthy before saying that it isn't.
    type: int
    default: 0
  spare_this_node:
    description:
      - Whether to leave out that this host's own node is in maintenance mode. For a node about to be restarted, which a run that
        was interrupted may have left in that mode.
    type: bool
    default: false
  erlang_cookie:
    description: The cookie that this host is about to be given; compared with the one that is there, to gather V(local).
    type: str
  home_directory:
    description: RabbitMQ's home, where its cookie and data are.
    type: path
    default: /var/lib/rabbitmq
extends_documentation_fragment: [sutazai.platform.rabbitmq]
attributes:
  check_mode: {support: full, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Ask the cluster how it is
  sutazai.platform.rabbitmq_cluster_info:
    nodes: [rabbit@rabbitmq-1, rabbit@rabbitmq-2, rabbit@rabbitmq-3]
    node: rabbit@rabbitmq-1
    url: https://10.0.0.21:15671
    username: admin
    password: "{{ rabbitmq_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
  register: health

- name: Require a healthy cluster
  ansible.builtin.assert:
    that: health.healthy
    fail_msg: "{{ health.problems | join('\n') }}"
"""

RETURN = r"""
healthy:
  description: Whether there are no problems.
  returned: always
  type: bool
problems:
  description: Why the cluster isn't healthy, one sentence each.
  returned: always
  type: list
  elements: str
warnings_found:
  description: What is no failure but wants to be seen to; mixed versions and feature flags that are not enabled.
  returned: when the cluster was gathered
  type: list
  elements: str
source:
  description: Which way the cluster was asked, C(api), C(cli) or C(none).
  returned: when the cluster was gathered
  type: str
cluster_name:
  description: The cluster's name.
  returned: when the cluster was gathered
  type: str
members:
  description: The nodes that belong to the cluster, running or not.
  returned: when the cluster was gathered
  type: list
  elements: str
nodes_running:
  description: The nodes that run.
  returned: when the cluster was gathered
  type: list
  elements: str
nodes_expected:
  description: O(nodes).
  returned: when the cluster was gathered
  type: list
  elements: str
node_running:
  description: Whether this host's node runs in the cluster that was asked.
  returned: when the cluster was gathered
  type: bool
versions:
  description: RabbitMQ's version by node.
  returned: when the cluster was gathered
  type: dict
partitions:
  description: By node, the nodes that it is partitioned from.
  returned: when the cluster was gathered
  type: dict
alarms:
  description: Memory and disk alarms.
  returned: when the cluster was gathered
  type: list
  elements: str
maintenance:
  description: Nodes in maintenance mode.
  returned: when the cluster was gathered
  type: list
  elements: str
feature_flags_disabled:
  description: Stable feature flags that are not enabled.
  returned: when the cluster was gathered
  type: list
  elements: str
queues_by_type:
  description: How many queues there are of each type. Empty when only the command line answered.
  returned: when the cluster was gathered
  type: dict
leaders:
  description: How many queues each node leads.
  returned: when the cluster was gathered
  type: dict
quorum_queues_short:
  description: Quorum queues with fewer members than O(quorum_group_size).
  returned: when the cluster was gathered
  type: list
  elements: dict
quorum_queues_offline:
  description: Quorum queues of which a member isn't online.
  returned: when the cluster was gathered
  type: list
  elements: dict
local:
  description: What this host holds.
  returned: when local was gathered
  type: dict
  contains:
    installed: {description: Whether RabbitMQ's tools are there., type: bool}
    data_of: {description: The node names that have data here., type: list, elements: str}
    initialised: {description: Whether this host's node has been started before., type: bool}
    problems: {description: What forbids to go on., type: list, elements: str}
"""

import hmac
import os
import time
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import rabbitmq_cluster as model
from ansible_collections.sutazai.platform.plugins.module_utils.rabbitmq_api import (
    CONNECTION_ARGUMENTS,
    QUEUES,
    Api,
    ApiRefused,
    ApiUnreachable,
    CommandFailed,
    CommandLine,
)


def local_state(wanted: dict[str, Any]) -> dict[str, Any]:
    home, node = wanted["home_directory"], wanted["node"]
    data_directory = os.path.join(home, "mnesia")
    data_of = []
    if os.path.isdir(data_directory):
        data_of = sorted(
            name for name in os.listdir(data_directory) if "@" in name and name.rsplit("-", 1)[-1] != "plugins-expand"
        )
    # Beside each node's directory there may be files named after it (feature flags, pid).
    data_of = [name for name in data_of if os.path.isdir(os.path.join(data_directory, name))]
    problems = []
    if data_of and node not in data_of:
        problems.append(
            f"{data_directory} holds the data of {', '.join(data_of)}, not of {node}. It belongs to another cluster or to a host that was "
            "renamed; move it away or give the host its old name"
        )
    cookie_file = os.path.join(home, ".erlang.cookie")
    if node in data_of and wanted["erlang_cookie"] and os.path.exists(cookie_file):
        with open(cookie_file, "rb") as handle:
            present = handle.read().strip()
        if not hmac.compare_digest(present, wanted["erlang_cookie"].encode()):
            problems.append(
                f"the Erlang cookie in {cookie_file} isn't rabbitmq_erlang_cookie, and this node already has data. Nodes with different cookies "
                "can't talk: set rabbitmq_erlang_cookie to the cluster's, or stop all nodes, remove the file on each and run again"
            )
    return {
        "installed": CommandLine.installed(),
        "data_of": data_of,
        "initialised": node in data_of,
        "problems": problems,
    }


def ask_api(wanted: dict[str, Any]) -> tuple[model.Snapshot, dict[str, Any], list[str]]:
    api = Api.of_module(wanted)
    snapshot = model.snapshot_of_api(
        api.get("/api/overview?disable_stats=true"), api.get("/api/nodes"), api.get("/api/feature-flags")
    )
    # Asked through another node, this host's own may be one that clients can't reach.
    problems = (
        []
        if api.answers == api.urls[0] or wanted["spare_this_node"]
        else [f"the management API at {wanted['url']} doesn't answer"]
    )
    summary = model.queue_summary(api.get(QUEUES), wanted["quorum_group_size"], wanted["leaving_nodes"])
    return snapshot, summary, problems


def ask(module: AnsibleModule) -> dict[str, Any]:
    wanted, problems = module.params, []
    summary = model.queue_summary([], 0)
    try:
        snapshot, summary, problems = ask_api(wanted)
        problems += model.queue_problems(summary)
    except (ApiUnreachable, ApiRefused) as error:
        problems.append(f"the management API doesn't answer: {error}")
        snapshot = model.Snapshot(source="none")
        try:
            if CommandLine.installed():
                snapshot = model.snapshot_of_cli(CommandLine(module).read("cluster_status", timeout=20))
        except CommandFailed as failed:
            problems.append(str(failed))
    if wanted["spare_this_node"]:
        snapshot.maintenance = [node for node in snapshot.maintenance if node != wanted["node"]]
    if snapshot.source != "none":
        expected, leaving = wanted["nodes"] or snapshot.members, wanted["leaving_nodes"]
        problems = model.cluster_problems(snapshot, expected, "rabbitmq_members", leaving) + problems
    return {
        **asdict(snapshot),
        **summary,
        "nodes_expected": wanted["nodes"],
        "node_running": wanted["node"] in snapshot.nodes_running,
        "healthy": not problems,
        "problems": problems,
        "warnings_found": model.cluster_warnings(snapshot, wanted["leaving_nodes"]),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "gather": {
                "type": "list",
                "elements": "str",
                "choices": ["local", "cluster"],
                "default": ["local", "cluster"],
            },
            "nodes": {"type": "list", "elements": "str", "default": []},
            "leaving_nodes": {"type": "list", "elements": "str", "default": []},
            "node": {"type": "str", "required": True},
            "quorum_group_size": {"type": "int", "default": 3},
            "wait_seconds": {"type": "int", "default": 0},
            "spare_this_node": {"type": "bool", "default": False},
            "erlang_cookie": {"type": "str", "no_log": True},
            "home_directory": {"type": "path", "default": "/var/lib/rabbitmq"},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    result: dict[str, Any] = {"changed": False, "healthy": True, "problems": []}
    if "local" in wanted["gather"]:
        result["local"] = local_state(wanted)
        result["problems"] = result["local"]["problems"]
        result["healthy"] = not result["problems"]
    if "cluster" in wanted["gather"]:
        missing = [name for name in ("url", "username", "password") if not wanted[name]]
        if missing:
            module.fail_json(msg=f"to gather the cluster, {', '.join(missing)} must be given")
        deadline = time.monotonic() + wanted["wait_seconds"]
        while True:
            answer = ask(module)
            if answer["healthy"] or time.monotonic() >= deadline:
                break
            time.sleep(3)
        answer["problems"] = result["problems"] + answer["problems"]
        answer["healthy"] = not answer["problems"]
        result.update(answer)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
