"""What is generated is what its source says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"


def test_generated_files_are_up_to_date(tmp_path):
    files = [str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.proto")]
    assert files
    to = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{SOURCE}", *to, *files], check=True)
    made = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    there = {name: (SOURCE / name).read_text() for name in made}
    assert made == there, "run `make runtime-proto`"
