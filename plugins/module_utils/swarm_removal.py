# Apache License 2.0 (see LICENSE)
"""Taking hosts out of a Docker Swarm: what forbids it, in which order, and when their work is done elsewhere. Pure."""

from __future__ import annotations

from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.swarm_state import Node, quorum_problems

FINISHED = frozenset({"complete", "shutdown", "failed", "rejected", "orphaned", "remove"})
Answer = dict[str, Any]


def leaving_nodes(nodes: list[Node], hosts: list[dict[str, str]]) -> list[Node]:
    """Every node of these hosts, also those of a host's former life. The dead ones first: without them the majority is
    smaller. The leader last.
    """
    names, addresses = {host["hostname"] for host in hosts}, {host["address"] for host in hosts}
    found = [node for node in nodes if node.hostname in names or node.address in addresses]
    return sorted(found, key=lambda node: (node.leader, node.state == "ready", node.hostname, node.id))


def removal_problems(nodes: list[Node], leaving: list[Node]) -> list[str]:
    """Why these can't leave, one after the other. Nothing is begun that couldn't be ended."""
    if not leaving:
        return []
    gone = {node.id for node in leaving}
    staying = [node for node in nodes if node.id not in gone]
    if not any(node.role == "manager" for node in staying):
        return ["no manager would be left: the Swarm would be gone, and its services with it"]
    if not any(node.state == "ready" and node.availability == "active" for node in staying):
        return ["no node that runs containers would be left: bring one back, or add one first"]
    present = list(nodes)
    for node in leaving:
        if problems := quorum_problems(present, node.hostname):
            return problems
        present.remove(node)
    return []


def services_on(nodes: list[Node], tasks: list[Answer]) -> set[str]:
    """The services that have something to run on these nodes. Also on dead ones: the Swarm may not have replaced it yet."""
    ids = {node.id for node in nodes}
    return {
        task["ServiceID"] for task in tasks if task.get("NodeID") in ids and _unfinished(task) and "ServiceID" in task
    }


def _unfinished(task: Answer) -> bool:
    return (task.get("Status") or {}).get("State") not in FINISHED


def unsettled(nodes: list[Node], tasks: list[Answer], services: list[Answer], watched: set[str]) -> list[str]:
    """What still runs on these nodes, and which of the services that did aren't whole elsewhere yet.

    Of a dead node nobody knows what it runs: there only the others count.
    """
    names = {service["ID"]: service["Spec"]["Name"] for service in services}
    alive = {node.id: node.hostname for node in nodes if node.state == "ready"}
    found = {
        f"{names.get(task.get('ServiceID', ''), 'a task')} still runs on {alive[task['NodeID']]}"
        for task in tasks
        if task.get("NodeID") in alive and _unfinished(task)
    }
    for service in services:
        status = service.get("ServiceStatus") or {}
        running, desired = status.get("RunningTasks", 0), status.get("DesiredTasks", 0)
        if service["ID"] in watched and running < desired:
            found.add(f"{names[service['ID']]} has {running} of {desired} replicas on the nodes that stay")
    return sorted(found)
