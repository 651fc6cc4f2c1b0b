"""New values in the lab's secrets, and the old ones beside them."""

import stat

import pytest
import yaml

from lab import variables
from lab.errors import LabError


def test_what_is_there_stays_and_what_is_missing_is_made():
    made = variables.complete_secrets({"redis_admin_password": "there"})
    assert made["redis_admin_password"] == "there"
    assert set(made) == set(variables.SECRETS)


def test_new_ones_keep_the_old_ones_as_previous():
    before = variables.complete_secrets({})
    after = variables.renewed_secrets(before, "redis")
    assert after["redis_previous_admin_password"] == before["redis_admin_password"]
    assert after["redis_admin_password"] not in before.values()
    others = [name for name in before if not name.startswith("redis_")]
    assert [after[name] for name in others] == [before[name] for name in others]


def test_a_change_that_is_not_finished_is_not_overtaken():
    once = variables.renewed_secrets(variables.complete_secrets({}), "redis")
    with pytest.raises(LabError, match="isn't finished"):
        variables.renewed_secrets(once, "redis")
    done = variables.without_previous(once, "redis")
    assert set(done) == set(variables.SECRETS)
    assert variables.renewed_secrets(done, "redis")["redis_previous_admin_password"] == once["redis_admin_password"]


def test_every_component_makes_secrets_that_the_lab_has():
    before = variables.complete_secrets({})
    for component, names in variables.ROTATED.items():
        after = variables.renewed_secrets(before, component)
        assert all(after[name] != before[name] for name in names)
    with pytest.raises(LabError, match="is not known"):
        variables.renewed_secrets(before, "rediss")


def test_the_file_is_the_owners_alone(tmp_path):
    path = tmp_path / "secrets.yml"
    assert variables.write_secrets(path)
    assert not variables.write_secrets(path)
    path.chmod(0o644)
    assert variables.write_secrets(path, lambda existing: variables.renewed_secrets(existing, "all"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "redis_previous_admin_password" in yaml.safe_load(path.read_text())
