"""playbooks/scale_agents.yml as it is, over roles that only note what they were asked for: who is taken out, by whom, in what order."""

from __future__ import annotations

import json

import pytest

from tests.integration.noting_roles import Platform

STAYING = {"swarm_managers": ["m-1", "m-2", "m-3"], "agents": ["a-1", "m-4"]}
# m-4 was a manager and stays as an agent; m-1 was an agent, too; m-5 and a-2 go. f-1 had Flower and stays a host.
LEAVING = {"swarm_managers_removed": ["m-4", "m-5"], "agents_removed": ["a-2", "m-1"], "flower_removed": ["f-1"]}
STAY_AS_WELL = {"flower": ["m-2"]}


def platform_of(directory, groups):
    made = Platform(directory, "scale_agents", groups, {})
    for name in ("remove", "forget"):  # one host does it for all
        made.write(f"roles/swarm/tasks/{name}.yml", [{**made.note(name), "run_once": True}])
    made.write("roles/swarm/tasks/leave.yml", [made.note("leave {{ inventory_hostname }}")])
    made.write("roles/swarm/tasks/main.yml", [made.note("join {{ inventory_hostname }}")])
    made.write("roles/swarm/tasks/verify.yml", [])
    for role in ("docker", "runtime", "registrar", "agent", "autoscaler", "flower"):
        made.write(f"roles/{role}/tasks/main.yml", [])
    made.write("roles/celery/tasks/main.yml", [made.note("work {{ inventory_hostname }}")])
    for role in ("registrar", "agent", "runtime", "celery", "autoscaler", "flower"):
        made.write(f"roles/{role}/tasks/verify.yml", [])
    for role in ("registrar", "celery", "autoscaler", "flower"):
        made.write(f"roles/{role}/tasks/retire.yml", [made.note(f"retire {role} {{{{ inventory_hostname }}}}")])
    made.write("roles/docker/vars/main.yml", {"__docker_service": {"restart_needed": False}})
    made.write("roles/celery/vars/main.yml", {"__celery_service": {"results": []}})
    return made


@pytest.fixture
def platform(tmp_path):
    return platform_of(tmp_path, {**STAYING, **LEAVING, **STAY_AS_WELL})


def left(platform):
    """What concerns the Swarm's nodes."""
    return [line for line in platform.noted() if line.startswith(("remove", "leave", "forget"))]


def retired(platform, role):
    return sorted(line.split()[-1] for line in platform.noted() if line.startswith(f"retire {role} "))


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


def test_what_works_on_a_host_ends_where_it_is_in_the_group_no_more(platform):
    done = platform.run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert {role: retired(platform, role) for role in ("celery", "flower", "autoscaler", "registrar")} == {
        "celery": ["a-2", "m-1"],
        "flower": ["f-1"],
        "autoscaler": ["a-2", "m-5"],
        "registrar": ["a-2", "m-5"],
    }


def test_the_others_take_over_before_workers_end_and_the_registrar_sees_the_containers_end(platform):
    done = platform.run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    log = platform.noted()
    where = {line: number for number, line in enumerate(log)}
    assert max(where["work a-1"], where["work m-4"]) < where["remove"] < where["retire celery a-2"]
    assert where["retire autoscaler m-5"] < where["leave m-5"] < where["retire registrar m-5"] < where["forget"]


def test_a_refusal_ends_the_run_before_anybody_leaves(platform):
    platform.write("roles/swarm/tasks/remove.yml", [{"name": "Refuse", "ansible.builtin.fail": {"msg": "no majority"}}])
    assert platform.run().returncode != 0
    assert [line for line in platform.noted() if not line.startswith(("join", "work"))] == []


def test_where_nobody_leaves_nobody_is_asked(tmp_path):
    made = platform_of(tmp_path, STAYING)
    done = made.run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert left(made) == []
