"""The rotation of the broker's password in the roles celery, flower and autoscaler, on the file that the daemons read."""

from __future__ import annotations

import json
import sys

import pytest

from tests.integration.modules import run_ansible

PLAYBOOK = """
- hosts: agents
  connection: local
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: "sutazai.platform.{{ role }}", tasks_from: "{{ part }}"}
"""
SETTINGS = {
    "celery": {"celery_redis_password": "of-redis", "celery_inference_backend": "echo"},
    "flower": {"flower_password": "of-its-own-pages"},
    "autoscaler": {},
}
# What verify asks is another test's concern.
ASKED = {"celery": {"__celery_ping": "/bin/true"}, "flower": {"flower_wait_seconds": 1}, "autoscaler": {}}


class Host:
    def __init__(self, directory, role):
        self.directory, self.role = directory, role
        self.file = directory / "rabbitmq.password"
        (directory / "play.yml").write_text(PLAYBOOK)
        groups = {
            "agents": {"hosts": {"agent-1": {"platform_address": "127.0.0.1"}}},
            **{
                group: {"hosts": {"agent-1": {}}} for group in ("rabbitmq", "redis", "consul_servers", "swarm_managers")
            },
        }
        (directory / "hosts.json").write_text(json.dumps(groups))

    def run(self, part, password, *options):
        variables = {
            "ansible_python_interpreter": sys.executable,
            "platform_consul_management_token": "unused",
            f"{self.role}_rabbitmq_password": password,
            f"__{self.role}_configuration": str(self.directory),
            f"__{self.role}_user": "root",
            **SETTINGS[self.role],
            **ASKED[self.role],
            "role": self.role,
            "part": part,
        }
        return run_ansible(
            "ansible-playbook",
            f"--inventory={self.directory}/hosts.json",
            f"--extra-vars={json.dumps(variables)}",
            *options,
            str(self.directory / "play.yml"),
        )

    def done(self, *arguments):
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        assert "secret-" not in done.stdout + done.stderr
        return done.stdout

    def write(self, text):
        self.file.touch(0o600)
        self.file.write_text(f"{text}\n")

    def lines(self):
        return self.file.read_text().splitlines()


@pytest.fixture(params=["celery", "flower"])
def host(request, tmp_path):
    return Host(tmp_path, request.param)


def test_the_former_password_is_beside_the_new_one_however_often_it_is_said(host):
    host.write("secret-former")
    host.done("rotate_accept", "secret-new")
    assert host.lines() == ["secret-new", "secret-former"]
    assert host.file.stat().st_mode & 0o777 == 0o600
    assert "changed=0" in host.done("rotate_accept", "secret-new")
    assert host.lines() == ["secret-new", "secret-former"]


def test_a_change_of_mind_in_between_keeps_the_one_that_is_in_force(host):
    """The run was interrupted, and the broker still has the first password."""
    host.write("secret-former")
    host.done("rotate_accept", "secret-new")
    host.done("rotate_accept", "secret-newer")
    assert host.lines() == ["secret-newer", "secret-new", "secret-former"]


def test_what_is_in_force_already_changes_nothing(host):
    host.write("secret-new")
    assert "changed=0" in host.done("rotate_accept", "secret-new")
    assert host.lines() == ["secret-new"]


def test_a_host_that_has_not_been_set_up_is_left_to_its_playbook(host):
    assert "changed=0" in host.done("rotate_accept", "secret-new")
    assert "changed=0" in host.done("rotate", "secret-new")
    assert not host.file.exists()


def test_check_mode_changes_nothing(host):
    host.write("secret-former")
    host.done("rotate_accept", "secret-new", "--check")
    assert host.lines() == ["secret-former"]


def test_the_former_password_is_forgotten_in_the_end(tmp_path):
    host = Host(tmp_path, "celery")
    host.write("secret-new\nsecret-former")
    host.done("rotate", "secret-new")
    assert host.lines() == ["secret-new"]
    assert "changed=0" in host.done("rotate", "secret-new")


def test_an_autoscaler_gets_the_new_one(tmp_path):
    host = Host(tmp_path, "autoscaler")
    assert "changed=0" in host.done("rotate", "secret-new")
    (tmp_path / "settings.yml").write_text("{}")
    host.write("secret-former")
    host.done("rotate", "secret-new")
    assert host.lines() == ["secret-new"]
