"""A real registry with the role's own settings, and the real skopeo. What systemd does, a script stands in for.

Both programs are on the PATH, as Debian's packages docker-registry and skopeo bring them, or REGISTRY_BIN and SKOPEO_BIN name them.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import signal
import ssl
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.integration.modules import run_module
from tests.integration.ports import free_ports
from tests.integration.redis_servers import certificates
from tests.unit.roles.rendering import Role, by_path

REGISTRY = os.environ.get("REGISTRY_BIN") or shutil.which("docker-registry")
SKOPEO = os.environ.get("SKOPEO_BIN") or shutil.which("skopeo")
pytestmark = pytest.mark.skipif(not (REGISTRY and SKOPEO), reason="there is no docker-registry, or no skopeo")

NAME = "sutazai/agent:1.0"
START_SECONDS = 30
# As long as the unit runs, its process is in the file.
SYSTEMCTL = """#!/bin/sh
set -eu
echo "$1" >> {here}/systemctl.log
case $1 in
start) setsid {program} serve {here}/publish.yml > {here}/publish.log 2>&1 & echo $! > {here}/publish.pid ;;
stop) kill "$(cat {here}/publish.pid)" ;;
esac
"""


def save(path: Path, text: str) -> str:
    """An image as `docker save` writes one, with a single file in it; returns its id."""

    def tar(files: dict[str, bytes]) -> bytes:
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        return written.getvalue()

    layer = tar({"said": text.encode() * 10_000})
    configuration = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer).hexdigest()}"]},
        }
    ).encode()
    identity = sha256(configuration).hexdigest()
    manifest = [{"Config": f"{identity}.json", "RepoTags": [NAME], "Layers": ["0/layer.tar"]}]
    path.write_bytes(
        tar({"0/layer.tar": layer, f"{identity}.json": configuration, "manifest.json": json.dumps(manifest).encode()})
    )
    return f"sha256:{identity}"


class Host:
    """One host's registry, in a directory of its own."""

    def __init__(self, directory: Path, number: int) -> None:
        self.here = directory / f"registry-{number}"
        self.here.mkdir()
        certificates(self.here)
        ports = free_ports(2)
        self.password = f"of-{directory.name}-which-is-long"[-40:]
        role = Role(
            "registry",
            {
                "inventory_hostname": f"registry-{number}",
                "platform_name": "test",
                "registry_address": "127.0.0.1",
                "registry_port": ports[0],
                "registry_publish_port": ports[1],
                "registry_password": self.password,
                "registry_data_directory": f"{self.here}/data",
                "registry_tls_ca_file": f"{self.here}/ca.crt",
                "registry_tls_cert_file": f"{self.here}/host.crt",
                "registry_tls_key_file": f"{self.here}/host.key",
                "registry_wait_seconds": START_SECONDS,
                "__registry_configuration": str(self.here),
                "__registry_archive": f"{self.here}/image.tar",
                "item": {"name": NAME},
            },
        )
        for path, entry in by_path(role.value("__registry_files")).items():
            if path.startswith(f"{self.here}/") and "content" in entry:
                Path(path).write_text(entry["content"])
        self.publication = role.value("__registry_publication")
        self.url = self.publication["url"]
        programs = self.here / "bin"
        programs.mkdir()
        (programs / "systemctl").write_text(SYSTEMCTL.format(here=self.here, program=REGISTRY))
        (programs / "systemctl").chmod(0o755)
        (programs / "skopeo").symlink_to(str(SKOPEO))
        self.path = f"{programs}:{os.environ['PATH']}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Host]:
        with open(self.here / "registry.log", "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [str(REGISTRY), "serve", str(self.here / "config.yml")], stdout=log, stderr=subprocess.STDOUT
            )
        try:
            until = time.monotonic() + START_SECONDS
            while True:
                with contextlib.suppress(urllib.error.URLError):
                    self.ask("/")
                    break
                assert process.poll() is None and time.monotonic() < until, self.log()
                time.sleep(0.05)
            yield self
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def ask(self, path: str, method: str = "GET", password: str | None = None) -> int:
        """The status."""
        request = urllib.request.Request(self.url + path, method=method, data=b"" if method == "POST" else None)
        request.add_header("Accept", "application/vnd.docker.distribution.manifest.v2+json")
        if password is not None:
            login = base64.b64encode(f"reader:{password}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        trusting = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=self.here / "ca.crt"))
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({}), trusting).open(request) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def publish(self, check: bool = False, **other: object) -> dict:
        return run_module("registry_image", {**self.publication, **other}, check, ("env", f"PATH={self.path}"))

    def started(self) -> list[str]:
        log = self.here / "systemctl.log"
        return log.read_text().split() if log.exists() else []

    def log(self) -> str:
        return (self.here / "registry.log").read_text()


@pytest.fixture
def host(tmp_path):
    with Host(tmp_path, 1).running() as found:
        yield found


def test_nothing_is_to_be_had_without_the_password_and_nothing_changed_with_it(host):
    save(host.here / "image.tar", "one")
    digest = host.publish()["digest"]
    manifest = "/v2/sutazai/agent/manifests"
    assert host.ask("/") == 200
    assert [host.ask("/v2/"), host.ask("/v2/", password="another")] == [401, 401]
    assert host.ask(f"{manifest}/{digest}") == 401
    assert host.ask(f"{manifest}/{digest}", password=host.password) == 200
    assert host.ask(f"{manifest}/{digest}", "DELETE", host.password) == 405
    assert host.ask("/v2/sutazai/agent/blobs/uploads/", "POST", host.password) == 405


def test_an_image_is_published_once(host):
    identity = save(host.here / "image.tar", "one")
    would = host.publish(check=True)
    assert (would["changed"], would["id"], would["digest"], host.started()) == (True, identity, "", [])
    done = host.publish()
    assert (done["changed"], done["id"]) == (True, identity)
    assert host.started() == ["start", "stop"]
    for check in (True, False):
        again = host.publish(check=check)
        assert (again["changed"], again["digest"]) == (False, done["digest"])
    assert host.started() == ["start", "stop"]


def test_another_image_takes_the_name_over_and_the_one_before_stays(host):
    save(host.here / "image.tar", "one")
    before = host.publish()["digest"]
    identity = save(host.here / "image.tar", "another")
    assert host.publish(check=True)["digest"] == ""
    after = host.publish()
    assert (after["changed"], after["id"], after["digest"] != before) == (True, identity, True)
    assert host.ask(f"/v2/sutazai/agent/manifests/{before}", password=host.password) == 200


def test_every_host_has_it_by_the_same_digest(tmp_path, host):
    """Whatever the other one has had before."""
    save(host.here / "image.tar", "one")
    with Host(tmp_path, 2).running() as other:
        save(other.here / "image.tar", "before")
        assert other.publish(name="sutazai/agent:0.9")["changed"]
        save(other.here / "image.tar", "one")
        assert other.publish()["digest"] == host.publish()["digest"]


def test_another_password_is_in_force_at_once(host):
    lines = (host.here / "htpasswd").read_text()
    assert host.ask("/v2/", password=host.password) == 200
    time.sleep(1.1)  # the file's time of change is looked at, in seconds
    (host.here / "htpasswd").write_text(lines.replace("reader:", "nobody:"))
    assert host.ask("/v2/", password=host.password) == 401


def test_what_is_wrong_is_said(host):
    assert "no image as" in host.publish()["msg"]
    save(host.here / "image.tar", "one")
    assert "write it with its tag" in host.publish(name="sutazai/agent")["msg"]
    closed = free_ports(1)[0]
    assert "no registry answers on" in host.publish(url=f"https://127.0.0.1:{closed}", wait_seconds=0)["msg"]
    assert host.publish(check=True, url=f"https://127.0.0.1:{closed}")["changed"]
    (host.here / "auth.json").write_text("{}")
    assert "has none for" in host.publish()["msg"]
    assert host.started() == []


def test_uploads_end_when_publishing_fails(host):
    save(host.here / "image.tar", "one")
    (host.here / "bin/skopeo").unlink()
    (host.here / "bin/skopeo").write_text("#!/bin/sh\necho no space left on device >&2\nexit 1\n")
    (host.here / "bin/skopeo").chmod(0o755)
    said = host.publish()
    assert said["failed"] and "no space left on device" in said["msg"]
    assert host.started() == ["start", "stop"]


def test_the_password_is_in_no_argument_result_or_log(host):
    save(host.here / "image.tar", "one")
    seen = json.dumps(host.publish()) + host.log() + (host.here / "publish.log").read_text()
    login = base64.b64encode(f"reader:{host.password}".encode()).decode()
    assert host.password not in seen and login not in seen
    assert host.password not in json.dumps(host.publication)
