#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Bring RabbitMQ nodes into one cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_cluster
short_description: Bring RabbitMQ nodes into one cluster
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Nodes find each other when they first start (C(classic_config) peer discovery). A node that doesn't reach its peers then becomes a
    cluster of its own, silently. This module finds such nodes and joins them to the others.
  - With O(url) and credentials, a cluster that is complete is recognised in one request.
  - Only a blank node (no queues, no users but the built-in one and O(username), no further virtual hosts, no policies) is ever
    reset. When two clusters both hold something, the module fails and says so.
  - A node of O(removed_nodes) that runs is reset, by which it leaves; one that doesn't is forgotten. Not while a node that stays is down, and
    not while a quorum queue has a member there.
  - Enables the stable feature flags once all nodes are there.
  - Runs on one of the nodes, for all; it reaches the others through the Erlang cookie that they share.
options:
  nodes:
    description: The names of all nodes, such as C(rabbit@rabbitmq-1).
    type: list
    elements: str
    required: true
  removed_nodes:
    description: The names of nodes that are to leave the cluster. They lose what they hold.
    type: list
    elements: str
    default: []
  start_timeout_seconds:
    description: How long to wait for a node that is still starting.
    type: int
    default: 120
extends_documentation_fragment: [sutazai.platform.rabbitmq]
attributes:
  check_mode: {support: full, description: Says what would be done.}
"""

EXAMPLES = r"""
- name: Bring the members into one cluster
  sutazai.platform.rabbitmq_cluster:
    nodes: [rabbit@rabbitmq-1, rabbit@rabbitmq-2, rabbit@rabbitmq-3]
  run_once: true

- name: Take a node out, after its queues were moved away
  sutazai.platform.rabbitmq_cluster:
    nodes: [rabbit@rabbitmq-1, rabbit@rabbitmq-2, rabbit@rabbitmq-3]
    removed_nodes: [rabbit@rabbitmq-4]
    url: https://10.0.0.21:15671
    username: admin
    password: "{{ rabbitmq_admin_password }}"
    ca_file: /etc/sutazai/pki/ca.crt
  run_once: true
"""

RETURN = r"""
joined:
  description: The nodes that were reset and joined to the others.
  returned: always
  type: list
  elements: str
removed:
  description: The nodes that were taken out.
  returned: always
  type: list
  elements: str
feature_flags_enabled:
  description: The feature flags that were enabled.
  returned: always
  type: list
  elements: str
nodes_running:
  description: The nodes that run in the cluster.
  returned: always
  type: list
  elements: str
"""

import time
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


class Cluster:
    """All nodes, told what to do from this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.nodes: list[str] = module.params["nodes"]
        self.cli = CommandLine(module)

    def seen_by_api(self) -> model.Snapshot | None:
        """The cluster, if the API can be asked at all: it can't before the first user was made."""
        wanted = self.module.params
        if not (wanted["url"] and wanted["username"] and wanted["password"]):
            return None
        api = Api.of_module(wanted)
        try:
            return model.snapshot_of_api(
                api.get("/api/overview?disable_stats=true"), api.get("/api/nodes"), api.get("/api/feature-flags")
            )
        except (ApiRefused, ApiUnreachable):
            return None

    def seen_by_cli(self, node: str | None = None) -> model.Snapshot:
        return model.snapshot_of_cli(self.cli.read("cluster_status", node=node))

    def is_blank(self, node: str) -> bool:
        own = {"guest", self.module.params["username"] or "guest"}
        # Users and virtual hosts first: most nodes that hold something answer with these.
        users = {user["user"] for user in self.cli.read("list_users", node=node)}
        if users - own:
            return False
        vhosts = [vhost["name"] for vhost in self.cli.read("list_vhosts", "name", node=node)]
        if vhosts != ["/"]:
            return False
        return not any(
            self.cli.read(what, *columns, node=node)
            for what, columns in (("list_queues", ["name"]), ("list_policies", []))
        )

    def view(self, node: str) -> model.NodeView:
        snapshot = self.seen_by_cli(node)
        return model.NodeView(node, snapshot.members, snapshot.nodes_running, self.is_blank(node))

    def wait_for(self, node: str) -> None:
        """Wait until a node has booted. A node that can't be reached at all fails after the same time."""
        deadline = time.monotonic() + self.module.params["start_timeout_seconds"]
        while True:
            try:
                self.cli.run("await_startup", node=node, timeout=30)
                return
            except CommandFailed as failed:
                if time.monotonic() >= deadline:
                    self.module.fail_json(
                        msg=f"{node} doesn't answer from here: {failed}. Is its host up, does its name resolve on this host "
                        "(/etc/hosts), are ports 4369 and 25672 open, and has it the same Erlang cookie?"
                    )
                time.sleep(3)

    def join(self, node: str, seed: str, members: list[str]) -> None:
        """Empty a blank node and join it to the seed's cluster, which has these members already."""
        self.cli.run("stop_app", node=node)
        self.cli.run("reset", node=node)
        if node in members:
            # The cluster remembers a node that was there before it lost its data, and doesn't take it a second time.
            self.cli.run("forget_cluster_node", node, node=seed)
        self.cli.run("join_cluster", seed, node=node)
        self.cli.run("start_app", node=node, timeout=300)
        self.wait_for(node)

    def remove(self, node: str, running: bool) -> None:
        """Have a node leave, by itself if it runs."""
        if running:
            self.cli.run("stop_app", node=node)
            self.cli.run("reset", node=node)
        else:
            self.cli.run("forget_cluster_node", node)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "nodes": {"type": "list", "elements": "str", "required": True},
            "removed_nodes": {"type": "list", "elements": "str", "default": []},
            "start_timeout_seconds": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    missing = [name for name in ("url", "username", "password") if not module.params[name]]
    if module.params["removed_nodes"] and missing:
        module.fail_json(msg=f"to take nodes out, {', '.join(missing)} must be given")
    cluster = Cluster(module)
    expected = set(cluster.nodes)
    result: dict[str, Any] = {"changed": False, "joined": [], "removed": [], "feature_flags_enabled": []}
    try:
        snapshot = cluster.seen_by_api()
        if snapshot is None or expected - set(snapshot.nodes_running):
            snapshot = cluster.seen_by_cli()
        if expected - set(snapshot.nodes_running):
            if not module.check_mode:
                for node in cluster.nodes:
                    cluster.wait_for(node)
            # A node that was still starting may be in by now.
            snapshot = cluster.seen_by_cli()
        if expected - set(snapshot.nodes_running):
            views = [cluster.view(node) for node in cluster.nodes]
            seed, joining = model.plan_joins(views, cluster.nodes)
            result.update(changed=True, joined=joining)
            if not module.check_mode:
                members = next(view.members for view in views if view.node == seed)
                for node in joining:
                    cluster.join(node, seed, members)
                snapshot = cluster.seen_by_cli()
                if expected - set(snapshot.nodes_running):
                    module.fail_json(
                        msg="the nodes are still not one cluster: "
                        + "; ".join(model.cluster_problems(snapshot, cluster.nodes, "rabbitmq_members")),
                        **result,
                    )
        leaving = [node for node in module.params["removed_nodes"] if node in snapshot.members]
        if leaving:
            queues = Api.of_module(module.params).get(QUEUES)
            problems = model.removal_problems(snapshot, cluster.nodes, leaving, queues)
            if problems:
                module.fail_json(msg=f"{', '.join(leaving)} can't be taken out: {'; '.join(problems)}", **result)
            result["changed"] = True
            for node in leaving:
                if not module.check_mode:
                    cluster.remove(node, node in snapshot.nodes_running)
                result["removed"].append(node)
            if not module.check_mode:
                snapshot = cluster.seen_by_cli()
        if snapshot.feature_flags_disabled and not expected - set(snapshot.nodes_running):
            result.update(changed=True, feature_flags_enabled=snapshot.feature_flags_disabled)
            if not module.check_mode:
                for flag in snapshot.feature_flags_disabled:
                    cluster.cli.run("enable_feature_flag", flag, timeout=300)
        result["nodes_running"] = snapshot.nodes_running
    except (ApiRefused, ApiUnreachable, CommandFailed, model.CannotForm) as failed:
        module.fail_json(msg=str(failed), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
