"""The mirror: one container with a Debian package cache, which also serves third-party files by name."""

from __future__ import annotations

import hashlib
import json
import socket
import time

from lab import aptsources, nodes
from lab.command import output, run
from lab.console import Console
from lab.errors import LabError
from lab.image import exists
from lab.settings import LABEL, Settings

REPOSITORY = "sutazai-lab/mirror"
PORT = 3142
START_SECONDS = 30
HOST = "mirror"
CONFIGURATION = """\
CacheDir: /var/cache/apt-cacher-ng
LogDir: /var/log/apt-cacher-ng
SocketPath: /run/apt-cacher-ng.socket
LocalDirs: artifacts /srv/artifacts
Port: 3142
ForeGround: 1
ReportPage: acng-report.html
ExThreshold: 30
ExStartTradeOff: 4g
PassThroughPattern: .*
FollowIndexFileRemoval: 1
VerboseLog: 0
"""
INSTALL = """\
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
echo apt-cacher-ng apt-cacher-ng/tunnelenable boolean true | debconf-set-selections
apt-get install -y -q --no-install-recommends apt-cacher-ng
apt-get clean
rm -rf /var/lib/apt/lists/* /etc/apt-cacher-ng/acng.conf
mkdir -p /srv/artifacts /var/log/apt-cacher-ng
cat > /etc/apt-cacher-ng/acng.conf
"""


def configuration(mirrors: aptsources.Mirrors, proxy: str) -> str:
    lines = [CONFIGURATION.rstrip(), *aptsources.remaps(mirrors)]
    if proxy:
        lines.append(f"Proxy: {proxy}")
    return "\n".join(lines) + "\n"


def package_proxy(settings: Settings) -> str:
    return f"http://{settings.mirror_address}:{PORT}"


def artifact_url(settings: Settings) -> str:
    return f"http://{settings.mirror_address}:{PORT}/artifacts"


def image_name(node_image: str, text: str) -> str:
    key = hashlib.sha256(json.dumps([node_image, INSTALL, text]).encode()).hexdigest()[:12]
    return f"{REPOSITORY}:{key}"


def ensure(console: Console, settings: Settings, node_image: str) -> None:
    mirrors = aptsources.discover(settings.debian_mirror, settings.security_mirror)
    text = configuration(mirrors, aptsources.proxy())
    image = image_name(node_image, text)
    if not exists(image):
        _build(console, settings, node_image, image, text)
    (settings.cache / "artifacts").mkdir(parents=True, exist_ok=True)
    settings.package_cache.mkdir(parents=True, exist_ok=True)
    container = next((c for c in nodes.containers(settings) if c.role == "mirror"), None)
    if container and (container.image != image or container.state != "running"):
        nodes.discard(console, container.name)
        container = None
    if not container:
        arguments = ["docker", "run", "--detach", "--init", "--name", settings.container(HOST), "--hostname", HOST]
        arguments += nodes.labels(settings, "mirror", HOST, image)
        arguments += ["--network", settings.name, "--ip", settings.mirror_address]
        arguments += ["--volume", f"{settings.package_cache}:/var/cache/apt-cacher-ng"]
        arguments += ["--volume", f"{settings.cache / 'artifacts'}:/srv/artifacts:ro"]
        run(console, [*arguments, image], failure="The mirror doesn't start.")
    _wait(console, settings)
    console.note(f"packages through {package_proxy(settings)}, files from {artifact_url(settings)}")


def _build(console: Console, settings: Settings, node_image: str, image: str, text: str) -> None:
    console.note("building the mirror's image (about 20 s)")
    name = settings.container("mirror-build")
    nodes.discard(console, name)
    arguments = ["docker", "run", "--interactive", "--name", name, "--network", settings.name]
    arguments += [*nodes.labels(settings, "build", "", image), node_image, "bash", "-c", INSTALL]
    try:
        run(
            console,
            arguments,
            stdin=text.encode(),
            failure="Building the mirror's image failed.",
            way_out="Check that containers reach the Debian mirror, then run the same command again.",
            heartbeat=True,
        )
        command = json.dumps(["apt-cacher-ng", "-c", "/etc/apt-cacher-ng"])
        run(
            console,
            ["docker", "commit", "--change", f"CMD {command}", "--change", f"LABEL {LABEL}=image", name, image],
            failure="The engine couldn't keep the mirror's image.",
        )
    finally:
        nodes.discard(console, name)


def _wait(console: Console, settings: Settings) -> None:
    console.doing(f"the mirror on port {PORT}")
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((settings.mirror_address, PORT), timeout=2).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                name = settings.container(HOST)
                tail = output(["docker", "logs", "--tail", "10", name]).splitlines()
                raise LabError(
                    f"The mirror doesn't answer after {START_SECONDS} s.", f"See `docker logs {name}`.", tail
                ) from None
            time.sleep(0.3)
