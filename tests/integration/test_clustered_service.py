"""What the module says of a unit, against a systemctl of the test's own that knows one state."""

from __future__ import annotations

import os

import pytest

from tests.integration.modules import run_module


@pytest.mark.parametrize(
    ("load_state", "active_state", "wanted", "changed"),
    [
        (
            "not-found",
            "inactive",
            "stopped",
            False,
        ),  # what isn't there doesn't run: so playbooks/replace_host.yml asks a new machine
        ("not-found", "inactive", "started", True),
        ("loaded", "active", "stopped", True),
        ("loaded", "inactive", "stopped", False),
        ("loaded", "inactive", "started", True),
        ("loaded", "active", "started", False),
    ],
)
def test_says_whether_it_would_stop_or_start_the_unit(tmp_path, monkeypatch, load_state, active_state, wanted, changed):
    lines = [f"LoadState={load_state}", f"ActiveState={active_state}", "UnitFileState=enabled", "NeedDaemonReload=no"]
    program = tmp_path / "systemctl"
    program.write_text("#!/bin/sh\n[ $1 = show ] || exit 1\n" + "".join(f"echo {line}\n" for line in lines))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    result = run_module("clustered_service", {"name": "a-unit", "state": wanted}, check=True)
    assert result["changed"] is changed, result
    assert result["installed"] is (load_state == "loaded")
