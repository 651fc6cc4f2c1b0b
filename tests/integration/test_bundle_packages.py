"""The module bundle_packages with a real apt, whose directories are replaced for it in a mount namespace of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import bundle_build

from tests.integration.modules import run_module

CONFIGURATION = "apt.conf.d/99sutazai-bundle"


def namespace() -> str:
    """Why none can be had; "" where one can."""
    if os.geteuid() != 0:
        return "only root may replace apt's directories"
    missing = [program for program in ("unshare", "apt-get", "dpkg-deb") if not shutil.which(program)]
    if missing:
        return f"{', '.join(missing)} isn't installed"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return f"no mount namespace can be made here: {done.stderr.strip()}" if done.returncode else ""


pytestmark = pytest.mark.skipif(bool(namespace()), reason=namespace() or "possible here")


def package(directory: Path, name: str) -> str:
    control = directory / name / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: {name}\n"
    )
    deb = directory / f"{name}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", str(directory / name), str(deb)], check=True, capture_output=True)
    return str(deb)


class Host:
    """A host's apt: its own source holds the package of-the-host, the bundle the package of-the-bundle."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.places = {path: root / path.strip("/") for path in ("/etc/apt", "/var/lib/apt", "/var/cache")}
        for place in self.places.values():
            place.mkdir(parents=True)
        self.apt = self.places["/etc/apt"]
        self.own = root / "own"
        self.own.mkdir()
        debs = root / "debs"
        index, _versions = bundle_build.repository([package(debs, "of-the-host")])
        for name, body in index.items():
            (self.own / name).write_bytes(body)
        for name in ("apt.conf.d", "sources.list.d", "preferences.d", "trusted.gpg.d"):
            (self.apt / name).mkdir()
        # The test's directories are closed to the user that apt would read them as.
        (self.apt / "apt.conf.d" / "10test").write_text('APT::Sandbox::User "root";\n')
        (self.apt / "sources.list.d" / "own.sources").write_text(
            f"Types: deb\nURIs: file:{self.own}\nSuites: ./\nTrusted: yes\n"
        )
        self.part = root / "part.tar"
        bundle_build.write_repository(str(self.part), [package(debs, "of-the-bundle")])

        mounts = "".join(f"mount --bind {place} {path} && " for path, place in self.places.items())
        self.inside = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mounts}exec "$@"', "sh"]

    def packages(self) -> set[str]:
        command = [*self.inside, "apt-cache", "pkgnames", "of-the-"]
        return set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split())

    def ask(self, check: bool = False, **arguments: str) -> dict:
        return run_module("bundle_packages", arguments, check, through=self.inside)

    def take_bundle(self) -> dict:
        return self.ask(
            bundle="bundle.tar", repository_sha256=bundle_build.sha256_of(str(self.part)), local_file=str(self.part)
        )


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_the_bundle_is_the_only_source_until_it_is_dropped(host):
    taken = host.take_bundle()
    assert taken["changed"], taken
    assert taken["active"]
    assert host.packages() == {"of-the-bundle"}
    assert not host.take_bundle()["changed"]

    planned = host.ask(check=True, bundle="")
    assert planned["changed"]
    assert host.packages() == {"of-the-bundle"}

    dropped = host.ask(bundle="")
    assert dropped["changed"], dropped
    assert not dropped["active"]
    assert host.packages() == {"of-the-host"}
    assert not list(host.apt.rglob("*bundle*"))
    assert not (host.places["/var/cache"] / "sutazai/packages").exists()
    assert not host.ask(bundle="")["changed"]


def test_a_host_that_never_had_a_bundle_is_left_alone(host):
    result = host.ask(bundle="")
    assert not result["changed"]
    assert host.packages() == set()  # nothing was read


def test_own_sources_that_cannot_be_read_are_told_and_the_bundle_stays(host):
    host.take_bundle()
    shutil.rmtree(host.own)
    result = host.ask(bundle="")
    assert result["failed"]
    assert "the host's own apt sources can't be read" in result["msg"]
    assert "set the bundle again" in result["msg"]
    assert result["active"]
    assert host.packages() == {"of-the-bundle"}
    assert not host.take_bundle()["changed"]


def test_an_interrupted_return_is_completed(host):
    host.take_bundle()
    shutil.rmtree(host.apt / "sutazai-bundle.d")
    assert (host.apt / CONFIGURATION).exists()
    assert host.ask(bundle="")["changed"]
    assert not (host.apt / CONFIGURATION).exists()
    assert host.packages() == {"of-the-host"}
