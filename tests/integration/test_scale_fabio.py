"""playbooks/scale_fabio.yml as it is, over roles that only note what they were asked for."""

from __future__ import annotations

import json

import pytest

from tests.integration.noting_roles import Platform


@pytest.fixture
def platform(tmp_path):
    # fabio-2 is to stay, and was forgotten in the other group.
    made = Platform(
        tmp_path, "scale_fabio", {"fabio": ["fabio-1", "fabio-2"], "fabio_removed": ["fabio-2", "old-1", "old-2"]}, {}
    )
    for name in ("main", "restart", "retire"):
        made.write(f"roles/fabio/tasks/{name}.yml", [made.note(f"{name} {{{{ inventory_hostname }}}}")])
    made.write("roles/fabio/tasks/verify.yml", made.verify({}))
    made.write("roles/fabio/vars/main.yml", {"__fabio_service": {"restart_needed": False}})
    return made


def test_new_hosts_serve_before_old_ones_go_one_after_the_other(platform):
    done = platform.run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    log = platform.noted()
    assert sorted(log[:2]) == ["main fabio-1", "main fabio-2"]
    assert log[2:] == ["retire old-1", "retire old-2"]


def test_nobody_goes_while_one_that_stays_does_not_serve(platform):
    assert platform.run(unhealthy="fabio-1").returncode != 0
    assert [line for line in platform.noted() if line.startswith("retire")] == []


def test_a_host_that_is_gone_is_left_alone(platform):
    (platform.directory / "host_vars").mkdir()
    unreachable = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    (platform.directory / "host_vars" / "old-1.json").write_text(json.dumps(unreachable))
    done = platform.run()
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert platform.noted()[2:] == ["retire old-2"]
