"""SSH keys: the controller's own, and each host's, made here so that known_hosts needs no scan."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from lab.command import output
from lab.inventory import Host
from lab.settings import Settings


def _generate(path: Path, comment: str) -> None:
    if not path.exists() or not path.with_suffix(".pub").exists():
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])


def controller_key(settings: Settings) -> Path:
    path = settings.directory / "ssh" / "id_ed25519"
    _generate(path, settings.name)
    return path


def host_key_path(settings: Settings, host: Host) -> Path:
    return settings.directory / "hosts" / host.name / "ssh_host_ed25519_key"


def host_key(settings: Settings, host: Host) -> Path:
    path = host_key_path(settings, host)
    _generate(path, host.name)
    return path


def known_hosts(entries: Iterable[tuple[str, str, str]]) -> str:
    """The file's text from (name, address, public key)."""
    lines = []
    for name, address, public_key in entries:
        kind, key = public_key.split()[:2]
        lines.append(f"{name},{address} {kind} {key}")
    return "\n".join(lines) + "\n"


def write_known_hosts(settings: Settings, hosts: Iterable[Host]) -> None:
    entries = [
        (host.name, settings.address(host.index), host_key(settings, host).with_suffix(".pub").read_text())
        for host in hosts
    ]
    (settings.directory / "ssh" / "known_hosts").write_text(known_hosts(entries), encoding="ascii")


def arguments(settings: Settings, address: str) -> list[str]:
    directory = settings.directory / "ssh"
    return [
        "ssh",
        *("-i", str(directory / "id_ed25519"), "-o", f"UserKnownHostsFile={directory / 'known_hosts'}"),
        *("-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR"),
        f"root@{address}",
    ]


def close_connections(settings: Settings) -> None:
    """End Ansible's kept SSH connections to hosts that are about to go: a dead one would stall the next run."""
    directory = settings.control_path_directory
    if not directory.is_dir():
        return
    for socket in directory.iterdir():
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "lab"],
                check=False,
                capture_output=True,
                timeout=5,
                stdin=subprocess.DEVNULL,
            )
    shutil.rmtree(directory, ignore_errors=True)
