"""The Docker Engine: a running one is used; else Debian's is installed and started, with systemd or without."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from lab import packages
from lab.command import output, run, succeeds
from lab.console import Console
from lab.errors import LabError

START_SECONDS = 60
WAY_OUT = (
    "Install and start a Docker Engine by hand (https://docs.docker.com/engine/install/), then run `make lab` again."
)
# Left over when an engine's machine or session ended without stopping it; each would keep a new one from starting.
PID_FILES = {
    Path("/run/docker.pid"): "dockerd",
    Path("/run/docker/containerd/containerd.pid"): "containerd",
}
CONTAINERD_SOCKETS = (Path("/run/containerd/containerd.sock"), Path("/run/docker/containerd/containerd.sock"))


def check_host() -> None:
    host = os.environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        raise LabError(
            f"DOCKER_HOST={host} is another machine; the lab needs an engine on this one.",
            "Run `unset DOCKER_HOST`.",
        )


def running() -> bool:
    return bool(shutil.which("docker")) and succeeds(
        ["docker", "version", "--format", "{{.Server.Version}}"], timeout=20
    )


def describe() -> str:
    version, driver, cgroups, root = (
        output(["docker", "info", "--format", "{{.ServerVersion}}|{{.Driver}}|{{.CgroupVersion}}|{{.DockerRootDir}}"])
        .strip()
        .split("|")
    )
    return f"Docker Engine {version}, storage {driver}, cgroup v{cgroups}, in {root}"


def root_directory() -> Path:
    if running():
        return Path(output(["docker", "info", "--format", "{{.DockerRootDir}}"]).strip())
    return Path("/var/lib/docker")


def ensure(console: Console, directory: Path) -> None:
    check_host()
    if not running():
        if not shutil.which("dockerd"):
            _install(console)
        _start(console, directory)
    console.note(describe())


def _install(console: Console) -> None:
    if not shutil.which("apt-get"):
        raise LabError("There is no Docker Engine here, and no apt-get to install one.", WAY_OUT)
    packages.update(console, way_out=WAY_OUT)
    wanted = ["docker.io", "iptables", "ca-certificates"]
    if not shutil.which("docker") and "docker-cli" in output(["apt-cache", "pkgnames", "docker-cli"]).split():
        wanted.append("docker-cli")  # a package of its own since Debian 13
    packages.install(console, *wanted, way_out=WAY_OUT, updated=True)


def _start(console: Console, directory: Path) -> None:
    if Path("/run/systemd/system").is_dir():
        console.note("starting the engine: systemctl start docker")
        run(
            console,
            ["systemctl", "start", "docker"],
            failure="systemd couldn't start the Docker Engine.",
            way_out="See `journalctl -u docker`.",
        )
        _wait(None, None)
        return
    _remove_leftovers(console)
    _mount_cgroups(console)
    log = directory / "dockerd.log"
    console.note(f"starting the engine by hand, no systemd runs here (log: {log})")
    with log.open("ab") as sink:
        process = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, cwd="/"
        )
    (directory / "dockerd.pid").write_text(f"{process.pid}\n", encoding="utf-8")
    _wait(process, log)


def _wait(process: subprocess.Popen[bytes] | None, log: Path | None) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not running():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > deadline:
            tail = log.read_text(errors="replace").splitlines()[-12:] if log else []
            why = "ended at once" if ended else f"doesn't answer after {START_SECONDS} s"
            raise LabError(f"The Docker Engine {why}.", WAY_OUT, tail)
        time.sleep(0.5)


def stale(pid_file: Path, program: str, proc: Path = Path("/proc")) -> bool:
    """Whether a pid file names a process that is gone, only waits to be reaped, or is another program by now."""
    try:
        pid = int(pid_file.read_text().strip())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    try:
        name, _, fields = (proc / str(pid) / "stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return True
    return name != program or fields.split()[0] in ("Z", "X")


def _remove_leftovers(console: Console) -> None:
    for pid_file, program in PID_FILES.items():
        if stale(pid_file, program):
            console.note(f"removing the stale {pid_file} of an earlier {program}")
            pid_file.unlink(missing_ok=True)
    for path in CONTAINERD_SOCKETS:
        if path.exists() and not _answers(path):
            console.note(f"removing the stale {path}")
            path.unlink(missing_ok=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def _mount_cgroups(console: Console) -> None:
    mounts = Path("/proc/mounts").read_text()
    if " cgroup " in mounts or " cgroup2 " in mounts:
        return
    packages.require(console, "cgroupfs-mount", "cgroupfs-mount", way_out=WAY_OUT)
    run(console, ["cgroupfs-mount"], failure="The control groups can't be mounted.", way_out=WAY_OUT)


def stop_own(console: Console, directory: Path) -> bool:
    """Stop an engine that the lab started by hand, unless somebody else's containers run in it."""
    pid_file = directory / "dockerd.pid"
    if not pid_file.exists() or stale(pid_file, "dockerd"):
        pid_file.unlink(missing_ok=True)
        return False
    if running() and output(["docker", "ps", "--quiet"]).strip():
        console.note("the engine stays: it runs containers that are not the lab's")
        return False
    pid = int(pid_file.read_text())
    os.kill(pid, 15)
    for _ in range(100):
        if stale(pid_file, "dockerd"):
            break
        time.sleep(0.2)
    pid_file.unlink(missing_ok=True)
    return True
