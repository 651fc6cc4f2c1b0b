"""playbooks/preflight.yml as an operator runs it: the inventory tier refuses before any host is contacted, and everything after it."""

from __future__ import annotations

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def table():
    path = ROOT / "tests" / "unit" / "plugins" / "module_utils" / "test_preflight_messages.py"
    spec = importlib.util.spec_from_file_location("preflight_table", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def inventory(tmp_path):
    """A sound inventory whose hosts tell when somebody tries to reach them."""
    module = table()
    files = module.sound()
    contacted = tmp_path / "contacted"
    files.variables["ansible_ssh_common_args"] = f"-o ProxyCommand='touch {contacted}; false' -o ControlMaster=no"
    directory = tmp_path / "inventory"
    directory.mkdir()

    def write(*titles: str) -> pathlib.Path:
        for title in titles:
            next(case for case in module.CASES if case.title == title).change(files)
        files.write(directory)
        return directory

    return write, contacted


def play(
    inventory: pathlib.Path, *arguments: str, playbook: str = "playbooks/preflight.yml"
) -> subprocess.CompletedProcess:
    command = [
        str(pathlib.Path(sys.executable).with_name("ansible-playbook")),
        "-i",
        str(inventory),
        playbook,
        *arguments,
    ]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_sound_inventory_passes_without_contact(inventory):
    write, contacted = inventory
    done = play(write("an unknown group: rabitmq beside rabbitmq"), "--tags", "inventory")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The group rabitmq is unknown to the platform. Did you mean 'rabbitmq'?" in " ".join(
        (done.stdout + done.stderr).split()
    )
    assert not contacted.exists()


@pytest.mark.parametrize(
    "arguments", [(), ("--limit", "redis-2"), ("--check", "--tags", "hosts")], ids=["all", "limit", "check"]
)
def test_all_problems_stop_the_run_before_any_host(inventory, tmp_path, arguments):
    write, contacted = inventory
    after = tmp_path / "site.yml"
    after.write_text(
        f"- import_playbook: {ROOT}/playbooks/preflight.yml\n"
        "- hosts: all\n  gather_facts: false\n  tags: always\n  tasks: [{debug: {msg: reached the hosts}}]\n"
    )
    directory = write("4 Consul servers", "2 RabbitMQ nodes", "a secret missing")
    done = play(directory, *arguments, playbook=str(after))
    text = done.stdout + done.stderr
    assert done.returncode == 2, text
    assert "The inventory can't be used: 3 problems. Nothing was changed on any host." in text
    for phrase in (
        "There are 4 Consul servers",
        "There are 2 RabbitMQ nodes",
        "The secret redis_admin_password is missing",
    ):
        assert phrase in text
    assert "reached the hosts" not in text
    assert not contacted.exists()


def test_hosts_that_cannot_be_reached_are_reported_together(inventory, tmp_path):
    write, contacted = inventory
    after = tmp_path / "site.yml"
    after.write_text(
        f"- import_playbook: {ROOT}/playbooks/preflight.yml\n- hosts: all\n  gather_facts: false\n  tasks: "
        f"[{{debug: {{msg: reached the hosts}}}}]\n"
    )
    done = play(write(), "--limit", "redis-1,redis-2", playbook=str(after))
    text = done.stdout + done.stderr
    assert done.returncode == 2, text
    assert "The hosts can't carry what the inventory wants: 2 problems" in text
    assert "redis-1 can't be reached" in text
    assert "redis-2 can't be reached" in text
    assert "reached the hosts" not in text
    assert contacted.exists()


def test_hosts_that_cannot_be_examined_are_one_finding_each(inventory):
    """A module that fails, here for want of Python, doesn't end the play before the verdict on all hosts."""
    write, _contacted = inventory
    done = play(
        write(),
        "-e",
        "ansible_connection=local ansible_become=false ansible_python_interpreter=/usr/bin/there-is-no-python",
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Judge all hosts at once" in done.stdout
    said = " ".join(done.stdout.split())
    assert "consul-1 can't be examined:" in said and "consul-3 can't be examined:" in said
