"""playbooks/scale_agents.yml as it is, over roles that only note what they were asked for: who is taken out, by whom, in what order."""

from __future__ import annotations

import json

import pytest

from tests.integration.noting_roles import Platform

STAYING = {"swarm_managers": ["m-1", "m-2", "m-3"], "agents": ["a-1", "m-4"]}
# m-4 was a manager and stays as an agent; m-5 and a-2 go.
LEAVING = {"swarm_managers_removed": ["m-4", "m-5"], "agents_removed": ["a-2"]}


def platform_of(directory, groups):
    made = Platform(directory, "scale_agents", groups, {})
    for name in ("remove", "forget"):  # one host does it for all
        made.write(f"roles/swarm/tasks/{name}.yml", [{**made.note(name), "run_once": True}])
    made.write("roles/swarm/tasks/leave.yml", [made.note("leave {{ inventory_hostname }}")])
    made.write("roles/swarm/tasks/main.yml", [made.note("join {{ inventory_hostname }}")])
    made.write("roles/swarm/tasks/verify.yml", [])
    for role in ("docker", "runtime", "registrar", "agent"):
        made.write(f"roles/{role}/tasks/main.yml", [])
    for role in ("registrar", "agent"):
        made.write(f"roles/{role}/tasks/verify.yml", [])
    made.write("roles/docker/vars/main.yml", {"__docker_service": {"restart_needed": False}})
    return made


@pytest.fixture
def platform(tmp_path):
    return platform_of(tmp_path, {**STAYING, **LEAVING})


def left(platform):
    return [line for line in platform.noted() if not line.startswith("join")]


def test_work_is_taken_away_before_hosts_leave_and_they_are_forgotten_after(platform):
    done = platform.run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    joined = sorted(line for line in platform.noted() if line.startswith("join"))
    assert joined == ["join a-1", "join m-1", "join m-2", "join m-3", "join m-4"]
    log = left(platform)
    assert (log[0], sorted(log[1:-1]), log[-1]) == ("remove", ["leave a-2", "leave m-5"], "forget")


def test_a_host_that_is_gone_is_forgotten_unasked(platform):
    (platform.directory / "host_vars").mkdir()
    unreachable = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    (platform.directory / "host_vars" / "m-5.json").write_text(json.dumps(unreachable))
    done = platform.run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert left(platform) == ["remove", "leave a-2", "forget"]


def test_a_refusal_ends_the_run_before_anybody_leaves(platform):
    platform.write("roles/swarm/tasks/remove.yml", [{"name": "Refuse", "ansible.builtin.fail": {"msg": "no majority"}}])
    assert platform.run().returncode != 0
    assert left(platform) == []


def test_where_nobody_leaves_nobody_is_asked(tmp_path):
    made = platform_of(tmp_path, STAYING)
    done = made.run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert left(made) == []
