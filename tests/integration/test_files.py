"""The module files on this machine, in a directory of the test's own."""

from __future__ import annotations

import os

import pytest

from tests.integration.modules import run_module

OWNER = {"owner": str(os.getuid()), "group": str(os.getgid())}


@pytest.mark.parametrize("check", [True, False])
def test_what_is_looked_for_is_what_was_there_before(tmp_path, check):
    (tmp_path / "old").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    looked_for = [str(tmp_path / name) for name in ("old", "new", "dangling")]
    files = [
        {"path": str(tmp_path / "old"), "state": "absent", **OWNER},
        {"path": str(tmp_path / "new"), "content": "text", **OWNER},
    ]
    result = run_module("files", {"files": files, "look_for": looked_for}, check)
    assert result["changed_paths"] == [str(tmp_path / "old"), str(tmp_path / "new")]
    assert result["found_paths"] == [str(tmp_path / "old"), str(tmp_path / "dangling")]
    assert (tmp_path / "new").exists() is not check


def test_looking_changes_nothing(tmp_path):
    result = run_module("files", {"files": [], "look_for": [str(tmp_path)]})
    assert not result["changed"]
    assert result["found_paths"] == [str(tmp_path)]
