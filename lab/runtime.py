"""The runtime package for hosts without a package index: one archive of wheels for each Debian release.

`python -m lab.runtime RELEASE DIRECTORY` makes it for a mirror of one's own.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lab.console import Console
from lab.errors import LabError
from lab.settings import Settings

RUNTIME = Path(__file__).resolve().parent.parent / "runtime"
#: Debian release -> its Python, as pip names it.
PYTHONS = {"12": "3.11", "13": "3.13"}
DEBIANS = {"bookworm": "12", "trixie": "13"}
#: Groups whose hosts run it.
GROUPS = frozenset({"agents", "swarm_managers", "flower"})
#: What the oldest release's C library runs.
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
ARCHITECTURE = "amd64"
REQUIREMENTS = "requirements.txt"


def version() -> str:
    return str(tomllib.loads((RUNTIME / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def file_name(number: str, debian: str) -> str:
    return f"sutazai-runtime-{number}-debian{debian}-{ARCHITECTURE}.tar"


def requirements(debian: str) -> Path:
    return RUNTIME / f"requirements-debian-{debian}.txt"


def sources() -> dict[str, bytes]:
    """What the wheel is built from, by path."""
    files = [RUNTIME / "pyproject.toml", RUNTIME / "README.md"]
    files += [path for path in (RUNTIME / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(RUNTIME)): path.read_bytes() for path in sorted(files)}


def recipe(files: Mapping[str, bytes], pinned: bytes) -> str:
    """A hash of what an archive is made from."""
    digest = hashlib.sha256(pinned)
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name] + b"\0")
    return digest.hexdigest()[:16]


def pinned_with(own: Path, number: str, pinned: str) -> str:
    """The requirements with the package's own wheel: pip then installs what these hashes name, and nothing else."""
    return f"sutazai-runtime=={number} \\\n    --hash=sha256:{sha256(own)}\n{pinned}"


def pack(wheels: Sequence[Path], text: str, archive: Path) -> None:
    """The same wheels make the same archive: its checksum is in the inventory."""
    contents = {f"wheels/{path.name}": path.read_bytes() for path in wheels}
    contents[REQUIREMENTS] = text.encode()
    partial = archive.with_suffix(".partial")
    with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as out:
        for name in sorted(contents):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(contents[name]), 0o644
            out.addfile(entry, io.BytesIO(contents[name]))
    partial.rename(archive)


def download_arguments(debian: str, directory: Path) -> list[str]:
    """Wheels only: a source would run its own code here, and be compiled for another Python."""
    python = PYTHONS[debian]
    arguments = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    arguments += ["--require-hashes", "--only-binary", ":all:", "--python-version", python, "--implementation", "cp"]
    arguments += ["--abi", f"cp{python.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    for platform in (*PLATFORMS, "any"):
        arguments += ["--platform", platform]
    return [*arguments, "--dest", str(directory), "--requirement", str(requirements(debian))]


def build_arguments(directory: Path) -> list[str]:
    """In an environment of its own; pyproject.toml pins what builds it."""
    arguments = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    return [*arguments, "--wheel-dir", str(directory), str(RUNTIME)]


def make(debian: str, directory: Path) -> Path:
    """The archive, in `directory`."""
    if debian not in PYTHONS:
        raise LabError(f"Debian {debian} isn't known here.", f"Use one of {', '.join(PYTHONS)}.")
    number = version()
    archive = directory / file_name(number, debian)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".runtime-", dir=directory) as scratch:
        wheels = Path(scratch)
        for arguments in (build_arguments(wheels), download_arguments(debian, wheels)):
            result = subprocess.run(
                arguments, env=_environment(), capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
            )
            if result.returncode:
                raise LabError(
                    f"The wheels of the runtime package for Debian {debian} can't be got.",
                    "Set PIP_INDEX_URL as your network needs it, and run it again.",
                    result.stderr.splitlines()[-10:],
                )
        own = next(wheels.glob("sutazai_runtime-*.whl"))
        text = pinned_with(own, number, requirements(debian).read_text(encoding="utf-8"))
        pack(sorted(wheels.glob("*.whl")), text, archive)
    return archive


def _environment() -> dict[str, str]:
    # Hatchling stamps the wheel's files with it; without it each build would have another checksum.
    return {**os.environ, "SOURCE_DATE_EPOCH": "1577836800"}


def ensure(console: Console, settings: Settings, releases: Iterable[str]) -> dict[str, object]:
    """The archives for some Debian releases on the mirror, and the inventory's variables about them."""
    directory, number, checksums = settings.cache / "artifacts", version(), {}
    for debian in sorted({DEBIANS.get(release, release) for release in releases}):
        archive = directory / file_name(number, debian)
        record = archive.with_suffix(".json")
        made_from = recipe(
            sources(), requirements(debian).read_bytes() + "".join(download_arguments(debian, Path())).encode()
        )
        if not is_recorded(archive, record, made_from):
            console.note(f"building the runtime package {number} for Debian {debian} (half a minute, once)")
            make(debian, directory)
            content = {"sha256": sha256(archive), "recipe": made_from, "version": number, "source": "build"}
            record.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        checksums[debian] = sha256(archive)
    if not checksums:
        return {}
    newest = max(checksums, key=int)
    expression = "{{ lab_runtime_sha256[ansible_facts['distribution_major_version'] | default('" + newest + "')] }}"
    return {"runtime_version": number, "lab_runtime_sha256": checksums, "runtime_artifact_sha256": expression}


def is_recorded(archive: Path, record: Path, made_from: str) -> bool:
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return bool(content.get("recipe") == made_from and content.get("sha256") == sha256(archive))
    except (OSError, ValueError, AttributeError):
        return False


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        archive = make(arguments[0], Path(arguments[1]))
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{sha256(archive)}  {archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
