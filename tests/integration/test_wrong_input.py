"""Wrong input to a playbook for a platform that serves, with the example of a production inventory: a sentence, and no host is reached."""

from __future__ import annotations

import pytest

from tests.integration.modules import run_ansible


@pytest.mark.parametrize(
    ("playbook", "variables", "says"),
    [
        ("backup", "backup_component=redsi", "Nothing was backed up: backup_component (redsi) has to be"),
        ("restore", "restore_component=redsi", "Nothing was restored: restore_component (redsi) has to be"),
        ("replace_host", "replace_host=redis-99", "Nothing was changed. -e replace_host=<host> names"),
        ("drain_host", "drain_host=redis-99", "Nothing was stopped. -e drain_host=<host> has to name"),
    ],
)
def test_wrong_input_is_told_before_anything_is_reached(playbook, variables, says):
    done = run_ansible("ansible-playbook", "-i", "inventories/production", f"playbooks/{playbook}.yml", "-e", variables)
    assert done.returncode == 2
    assert says in " ".join(done.stdout.replace("\\n", " ").split())
    assert "unreachable=1" not in done.stdout
