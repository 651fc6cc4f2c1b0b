"""The agents as a service of the Swarm: where they run, as what, and that each answers at the port its host gives it."""

from __future__ import annotations

import json
import re

import pytest

TASK = {"tenant_id": 42, "agent_id": "agent-1", "prompt": "Why?"}
CONTAINERS = "docker ps --quiet --no-trunc --filter label=com.docker.swarm.service.name="


def name_of(node) -> str:
    return node.variables.get("agent_name", "ai-agent")


def containers(node) -> list[dict]:
    """Those of this host that run."""
    ids = node.run(f"{CONTAINERS}{name_of(node)}").split()
    return json.loads(node.run(f"docker inspect {' '.join(ids)}")) if ids else []


def port_of(container: dict, inside: int) -> str:
    return container["NetworkSettings"]["Ports"][f"{inside}/tcp"][0]["HostPort"]


@pytest.mark.hosts("swarm_managers")
def test_as_many_run_as_are_wanted_and_on_workers_alone(member, platform):
    service = json.loads(member.run(f"docker service inspect {name_of(member)}"))[0]
    wanted = service["Spec"]["Mode"]["Replicated"]["Replicas"]
    tasks = member.run(f"docker service ps {name_of(member)} --filter desired-state=running --format '{{{{json .}}}}'")
    running = [task for task in map(json.loads, tasks.splitlines()) if task["CurrentState"].startswith("Running")]
    assert len(running) == wanted > 0
    workers = {node.run("hostname").strip() for node in platform.group("agents")}
    assert {task["Node"] for task in running} == workers


@pytest.mark.hosts("swarm_managers")
def test_a_broken_version_is_rolled_back(member):
    spec = json.loads(member.run(f"docker service inspect {name_of(member)}"))[0]["Spec"]
    assert spec["UpdateConfig"]["FailureAction"] == "rollback"
    assert spec["UpdateConfig"]["Order"] == spec["RollbackConfig"]["Order"] == "start-first"


@pytest.mark.hosts("agents")
def test_the_image_is_one_that_its_content_names(node):
    """A tag could mean another image on the next host."""
    images = {container["Config"]["Image"] for container in containers(node)}
    assert len(images) == 1
    assert re.search(r"[-@:][0-9a-f]{12,64}$", images.pop())


@pytest.mark.hosts("agents")
def test_none_has_more_rights_than_it_needs(node):
    for container in containers(node):
        host = container["HostConfig"]
        assert container["Config"]["User"] not in ("", "0", "root")
        assert (host["ReadonlyRootfs"], host["Privileged"], host["CapDrop"]) == (True, False, ["ALL"])
        assert host["Memory"] > 0
        assert host["NanoCpus"] > 0
        assert not [mount for mount in container["Mounts"] if mount["Source"] == "/var/run/docker.sock"]


@pytest.mark.hosts("agents")
def test_no_secret_is_in_its_environment(node):
    secrets = {
        str(value)
        for name, value in node.variables.items()
        if name.startswith("agent_") and name.endswith(("_password", "_token")) and value
    }
    for container in containers(node):
        values = [entry.partition("=")[2] for entry in container["Config"]["Env"]]
        assert not secrets.intersection(values)


@pytest.mark.hosts("agents")
def test_each_answers_a_task_at_its_own_port(node):
    found = containers(node)
    assert found
    for container in found:
        assert container["State"]["Health"]["Status"] == "healthy"
        url = f"http://127.0.0.1:{port_of(container, 8080)}"
        assert json.loads(node.run(f"curl --silent --show-error --fail {url}/health"))
        answer = json.loads(
            node.run(
                f"curl --silent --show-error --fail --max-time 40 --data-binary @- {url}/v1/tasks", json.dumps(TASK)
            )
        )
        assert (answer["status"], answer["output"]) == ("done", TASK["prompt"])


@pytest.mark.hosts("agents")
def test_what_is_wrong_with_a_task_is_said(node):
    url = f"http://127.0.0.1:{port_of(containers(node)[0], 8080)}/v1/tasks"
    answer = node.run(
        f"curl --silent --write-out '\n%{{http_code}}' --data-binary @- {url}", json.dumps({"tenant_id": 42})
    )
    text, _, status = answer.rpartition("\n")
    assert status == "422"
    assert "agent_id" in text
