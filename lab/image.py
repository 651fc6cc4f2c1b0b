"""The node image: a plain Debian server as an installer leaves it, with SSH and Python for Ansible."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

from lab import aptsources, packages, trust
from lab.command import output, run, succeeds
from lab.console import Console, count
from lab.settings import LABEL, Settings

REPOSITORY = "sutazai-lab/node"
PACKAGES = [
    "ca-certificates",
    "curl",
    "dbus",
    "iproute2",
    "iptables",
    "iputils-ping",
    "less",
    "nftables",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
    "unzip",
]

# Only what makes a container boot faster or a lab safer; everything else is the roles' business.
CUSTOMIZE = r"""
set -eu
root=$1 authorities=$2
rm -f "$root"/etc/ssh/ssh_host_* "$root"/var/lib/dbus/machine-id
: > "$root/etc/machine-id"
: > "$root/etc/resolv.conf"
: > "$root/etc/fstab"
rm -f "$root"/etc/apt/apt.conf.d/99mmdebstrap
# Packages come through the lab's own cache on the same machine: a lost disk write costs a new host, nothing else.
printf 'force-unsafe-io\n' > "$root/etc/dpkg/dpkg.cfg.d/lab"
printf 'Acquire::Languages "none";\nAcquire::Retries "3";\n' > "$root/etc/apt/apt.conf.d/90lab"
for unit in getty.target console-getty.service systemd-logind.service apt-daily.timer apt-daily-upgrade.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/usr/local/share/ca-certificates"
find "$authorities" -name '*.crt' -exec cp {} "$root/usr/local/share/ca-certificates/" \;
chroot "$root" update-ca-certificates >/dev/null 2>&1
"""
EXCLUDES = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
# A server knows what packages there are; without that a dry run on a fresh host could not say what it would install.
KEPT = ("cleanup/apt/lists",)
INCLUDES = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")


def recipe(release: str, mirrors: aptsources.Mirrors, authorities: list[str]) -> str:
    """A hash of everything that the image is made from, so that a changed recipe makes a new image."""
    text = json.dumps(
        [release, mirrors.all, PACKAGES, CUSTOMIZE, EXCLUDES, INCLUDES, KEPT, authorities], sort_keys=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def mmdebstrap_arguments(
    release: str, mirrors: aptsources.Mirrors, proxy: str, authorities: Path, script: Path, tarball: Path
) -> list[str]:
    options = [f"--dpkgopt=path-exclude={path}" for path in EXCLUDES]
    options += [f"--dpkgopt=path-include={path}" for path in INCLUDES]
    options += [f"--skip={step}" for step in KEPT]
    options.append('--aptopt=Acquire::Languages "none"')
    if proxy:
        options.append(f'--aptopt=Acquire::http::Proxy "{proxy}"')
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join(PACKAGES)}",
        *options,
        f'--customize-hook=sh {script} "$1" {authorities}',
        release,
        str(tarball),
        *aptsources.sources(mirrors, release),
    ]


def name(release: str, key: str) -> str:
    return f"{REPOSITORY}:{release}-{key}"


def exists(image: str) -> bool:
    return succeeds(["docker", "image", "inspect", image])


def ensure(console: Console, settings: Settings, release: str) -> str:
    """The image's name; builds it when neither the engine nor the cache has it."""
    mirrors = aptsources.discover(settings.debian_mirror, settings.security_mirror)
    authorities = trust.discover()
    key = recipe(release, mirrors, authorities)
    image = name(release, key)
    tarball = settings.cache / "images" / f"node-{release}-{key}.tar"
    if exists(image):
        console.note(f"{image} is there")
    else:
        if tarball.exists():
            console.note(f"{image} from the cache")
        else:
            console.note(f"building {image} from {mirrors.main} (about 40 s)")
            _build(console, release, mirrors, authorities, tarball)
        console.doing("importing the image")
        run(
            console,
            [
                "docker",
                "import",
                "--change",
                'CMD ["/sbin/init"]',
                "--change",
                f"LABEL {LABEL}=image",
                str(tarball),
                image,
            ],
            failure="The engine couldn't import the node image.",
            way_out=f"Remove {tarball} and run the same command again.",
        )
    run(console, ["docker", "tag", image, f"{REPOSITORY}:{release}"], failure="The engine couldn't tag the image.")
    return image


def _build(console: Console, release: str, mirrors: aptsources.Mirrors, authorities: list[str], tarball: Path) -> None:
    way_out = "Check that this machine's apt can reach its mirror (`apt-get update`), then run the same command again."
    packages.require(console, "mmdebstrap", "mmdebstrap", way_out="Install mmdebstrap by hand.")
    tarball.parent.mkdir(parents=True, exist_ok=True)
    partial = tarball.with_suffix(".partial.tar")
    partial.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="lab-image-") as scratch:
        certificates = Path(scratch) / "ca-certificates"
        certificates.mkdir(mode=0o755)
        Path(scratch).chmod(0o755)
        for number, certificate in enumerate(authorities):
            (certificates / f"machine-{number}.crt").write_text(certificate + "\n", encoding="ascii")
        script = Path(scratch) / "customize"
        script.write_text(CUSTOMIZE, encoding="utf-8")
        arguments = mmdebstrap_arguments(release, mirrors, aptsources.proxy(), certificates, script, partial)
        run(console, arguments, failure="Building the node image failed.", way_out=way_out, heartbeat=True)
    partial.rename(tarball)
    for old in sorted(tarball.parent.glob(f"node-{release}-*.tar"), key=lambda path: path.stat().st_mtime):
        if old != tarball:
            old.unlink()


def remove_all(console: Console) -> None:
    """Remove every image that the lab made and no container uses (a second lab's may)."""
    containers = output(["docker", "ps", "--all", "--quiet"]).split()
    used = set(output(["docker", "inspect", "--format", "{{.Image}}", *containers]).split()) if containers else set()
    listing = ["docker", "images", "--quiet", "--no-trunc", "--filter", f"label={LABEL}=image"]
    images = set(output(listing).split())
    if images - used:
        doomed = sorted(images - used)
        run(console, ["docker", "rmi", "--force", *doomed], failure="The lab's images can't be removed.")
    if images & used:
        console.note(f"kept {count(len(images & used), 'image')} that other containers use")
