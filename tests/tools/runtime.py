"""`python -m tests.tools.runtime venv|wheel|proto|requirements`: the runtime package's own virtual environment, its wheel, what is
generated from its .proto files, its pinned requirements."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from tests.tools.run import CHECKOUT, environment

RUNTIME = CHECKOUT / "runtime"
VENV = RUNTIME / ".venv"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = RUNTIME / "requirements.txt"
STAMP = VENV / ".made"
# Python of each Debian release.
PYTHONS = {"12": "3.11.2", "13": "3.13"}


def run(*command: str) -> None:
    subprocess.run(command, cwd=RUNTIME, check=True, env=environment({"UV_SYSTEM_CERTS": "1"}))


def venv() -> None:
    """Made anew when the requirements are newer, as the collection's own."""
    if STAMP.exists() and STAMP.stat().st_mtime > REQUIREMENTS.stat().st_mtime:
        return
    if not PYTHON.exists():
        run("uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(VENV))
    run("uv", "pip", "sync", "--quiet", "--require-hashes", "--python", str(PYTHON), str(REQUIREMENTS))
    STAMP.touch()


def wheel() -> None:
    venv()
    run(str(PYTHON), "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist")


def proto() -> None:
    """Paths and imports are those of the package."""
    venv()
    source = RUNTIME / "src"
    files = sorted(str(path.relative_to(source)) for path in source.rglob("*.proto"))
    to = [f"--{kind}_out=src" for kind in ("python", "pyi", "grpc_python")]
    run(str(PYTHON), "-m", "grpc_tools.protoc", "-Isrc", *to, *files)


def requirements() -> None:
    compile_ = ("uv", "pip", "compile", "--generate-hashes", "--no-header", "--quiet", "--all-extras")
    own = ("--no-emit-package", "sutazai-runtime")
    run(
        *(*compile_, "--python-version", "3.11", "--universal", "--upgrade", *own),
        *("pyproject.toml", "requirements.in", "--output-file", REQUIREMENTS.name),
    )
    # What the hosts get: the same versions without the tools of tests, and only what their Python needs.
    for debian, python in PYTHONS.items():
        run(
            *(
                *compile_,
                "--python-version",
                python,
                "--python-platform",
                "x86_64-manylinux_2_28",
                "--no-annotate",
                *own,
            ),
            *(
                "--constraint",
                REQUIREMENTS.name,
                "pyproject.toml",
                "--output-file",
                f"requirements-debian-{debian}.txt",
            ),
        )


ACTIONS = {"venv": venv, "wheel": wheel, "proto": proto, "requirements": requirements}


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in ACTIONS:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        ACTIONS[arguments[0]]()
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
