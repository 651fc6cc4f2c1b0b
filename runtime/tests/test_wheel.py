"""The wheel that hosts and the agent's image install."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr or done.stdout
    (wheel,) = tmp_path.glob("sutazai_runtime-*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    source = PACKAGE / "src"
    there = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert packed == {name for name in there if not name.endswith(".pyc")}
    assert "sutazai_runtime/py.typed" in packed
