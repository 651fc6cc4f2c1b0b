"""The agents' image, without an image registry: a plain Debian with Python and the runtime package, as a file that engines load.

`python -m lab.agent_image DIRECTORY` makes it for a mirror of one's own, beside the archive of the runtime package that it is made from.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from lab import aptsources, engine, packages, runtime
from lab import settings as lab_settings
from lab.command import run
from lab.console import Console
from lab.errors import LabError
from lab.settings import LABEL, Settings

NAME = "sutazai/agent"
#: Groups whose hosts run it, or publish it.
GROUPS = frozenset({"agents", "swarm_managers", "registry"})
DEBIAN, RELEASE = "13", "trixie"
USER_ID = 10001
PACKAGES = ["ca-certificates", "python3", "python3-venv"]
EXCLUDES = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
INCLUDES = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")
# The wheels are those that the archive's requirements name, by their hashes; no package index is asked.
CUSTOMIZE = r"""
set -eu
root=$1 archive=$2
mkdir "$root/wheels"
tar -xf "$archive" -C "$root/wheels"
chroot "$root" python3 -m venv /opt/sutazai
chroot "$root" /opt/sutazai/bin/pip install --quiet --disable-pip-version-check --no-index --no-cache-dir --require-hashes \
    --find-links /wheels/wheels --requirement /wheels/requirements.txt
rm -rf "$root/wheels"
printf 'sutazai:x:USER_ID:USER_ID::/nonexistent:/usr/sbin/nologin\n' >> "$root/etc/passwd"
printf 'sutazai:x:USER_ID:\n' >> "$root/etc/group"
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/etc/apt/apt.conf.d/99mmdebstrap
: > "$root/etc/machine-id"
: > "$root/etc/resolv.conf"
""".replace("USER_ID", str(USER_ID))
CONFIGURATION = [
    f"USER {USER_ID}:{USER_ID}",
    "ENV PATH=/opt/sutazai/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONUNBUFFERED=1",
    'CMD ["sutazai-agent"]',
    "EXPOSE 8080 9090",
    f"LABEL {LABEL}=image",
]


def file_name(number: str) -> str:
    return f"sutazai-agent-{number}-{runtime.ARCHITECTURE}.tar"


def recipe(archive: Path) -> str:
    """A hash of what the image is made from. Debian's packages aren't in it: their updates come when something else changes."""
    text = json.dumps([PACKAGES, EXCLUDES, INCLUDES, CUSTOMIZE, CONFIGURATION, DEBIAN])
    return hashlib.sha256(text.encode() + archive.read_bytes()).hexdigest()[:16]


def tag(number: str, made_from: str) -> str:
    """Another image has another name: what a service runs is never exchanged under it."""
    return f"{NAME}:{number}-{made_from[:12]}"


def mmdebstrap_arguments(
    mirrors: aptsources.Mirrors, proxy: str, script: Path, archive: Path, tarball: Path
) -> list[str]:
    options = [f"--dpkgopt=path-exclude={path}" for path in EXCLUDES]
    options += [f"--dpkgopt=path-include={path}" for path in INCLUDES]
    if proxy:
        options.append(f'--aptopt=Acquire::http::Proxy "{proxy}"')
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        *options,
        f'--customize-hook=sh {script} "$1" {archive}',
        RELEASE,
        str(tarball),
        *aptsources.sources(mirrors, RELEASE),
    ]


def make(console: Console, settings: Settings, archive: Path, directory: Path) -> tuple[Path, str]:
    """The file in `directory`, and the image's name."""
    number, made_from = runtime.version(), recipe(archive)
    image, result = tag(number, made_from), directory / file_name(number)
    packages.require(console, "mmdebstrap", "mmdebstrap", way_out="Install mmdebstrap by hand.")
    mirrors = aptsources.discover(settings.debian_mirror, settings.security_mirror)
    with tempfile.TemporaryDirectory(prefix=".agent-image-", dir=directory) as scratch:
        Path(scratch).chmod(0o755)
        script, tarball = Path(scratch) / "customize", Path(scratch) / "root.tar"
        script.write_text(CUSTOMIZE, encoding="utf-8")
        arguments = mmdebstrap_arguments(mirrors, aptsources.proxy(), script, archive.resolve(), tarball)
        run(
            console,
            arguments,
            failure="Building the agents' image failed.",
            way_out="Check that this machine's apt can reach its mirror (`apt-get update`), then run the same command again.",
            heartbeat=True,
        )
        changes = [part for change in CONFIGURATION for part in ("--change", change)]
        run(
            console,
            ["docker", "import", *changes, str(tarball), image],
            failure="The engine couldn't import the agents' image.",
        )
        partial = result.with_suffix(".partial")
        run(
            console,
            ["docker", "save", "--output", str(partial), image],
            failure="The engine couldn't save the agents' image.",
        )
        partial.chmod(0o644)  # the engine makes it for its own user alone
        partial.rename(result)
    return result, image


def ensure(console: Console, settings: Settings, groups: Iterable[str]) -> dict[str, object]:
    """The image on the mirror, and the inventory's variables about it; none where no host runs agents."""
    if not GROUPS & set(groups):
        return {}
    runtime.ensure(console, settings, [DEBIAN])
    directory, number = settings.cache / "artifacts", runtime.version()
    archive, file = directory / runtime.file_name(number, DEBIAN), directory / file_name(number)
    record, made_from = file.with_suffix(".json"), recipe(archive)
    if not runtime.is_recorded(file, record, made_from):
        console.note("building the agents' image (about a minute, once)")
        make(console, settings, archive, directory)
        content = {"sha256": runtime.sha256(file), "recipe": made_from, "version": number, "source": "build"}
        record.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    image = tag(number, made_from)
    # The second name is for an inventory that sets agent_image itself, to the same image in a registry.
    return {"agent_image": image, "lab_agent_image": image, "agent_image_artifact_sha256": runtime.sha256(file)}


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    checkout = Path(__file__).resolve().parent.parent
    settings = lab_settings.load(checkout, os.environ)
    console = Console(settings.directory, "agent-image", 1)
    try:
        engine.ensure(console, settings.directory)
        archive = runtime.make(DEBIAN, directory)
        file, image = make(console, settings, archive, directory)
    except LabError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{runtime.sha256(file)}  {file}  {image}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
