"""The hosts: containers that run systemd and are reached by SSH like any server."""

from __future__ import annotations

import io
import re
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lab import kernel, keys
from lab.command import output, run
from lab.console import Console, count
from lab.errors import LabError
from lab.inventory import Host
from lab.settings import LABEL, Settings

AT_ONCE = 4
SSH_SECONDS = 90
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE")
RESOLV_CONFS = (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf"))
# Hosts of these groups run an engine of their own. Its layers can't lie on the layers of the host's own file system.
ENGINE_GROUPS = frozenset({"swarm_managers", "agents"})
ENGINE_RESOLVER = "127.0.0.11"  # the engine's own, in every container of a network that isn't the default one


@dataclass(frozen=True)
class Container:
    name: str
    state: str
    role: str
    host: str
    image: str
    checkout: str


def containers(settings: Settings) -> list[Container]:
    """Every container that the lab made."""
    fields = "{{.Names}}|{{.State}}|" + "|".join(
        f'{{{{.Label "{LABEL}.{name}"}}}}' for name in ("role", "host", "image", "checkout")
    )
    lines = output(
        ["docker", "ps", "--all", "--no-trunc", "--filter", f"label={LABEL}={settings.name}", "--format", fields]
    )
    return [Container(*line.split("|")) for line in lines.splitlines()]


def labels(settings: Settings, role: str, host: str, image: str) -> list[str]:
    values = {"": settings.name, ".role": role, ".host": host, ".image": image, ".checkout": str(settings.checkout)}
    return [argument for key, value in values.items() for argument in ("--label", f"{LABEL}{key}={value}")]


def create_arguments(settings: Settings, host: Host, image: str) -> list[str]:
    directory = settings.directory / "hosts" / host.name
    arguments = ["docker", "create", "--name", settings.container(host.name), "--hostname", host.name]
    arguments += labels(settings, "host", host.name, image)
    arguments += ["--network", settings.name, "--ip", settings.address(host.index)]
    # The roles size their daemons by what a host may use; without a limit that would be the whole machine, 16 times.
    arguments += ["--memory", f"{host.memory_mb}m"]
    for capability in CAPABILITIES:
        arguments += ["--cap-add", capability]
    arguments += ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
    arguments += ["--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"]
    for path in ("/run", "/run/lock", "/tmp"):  # noqa: S108 (mount points)
        arguments += ["--tmpfs", path]
    # The engine's own versions of these are made anew at each start; a server keeps what was written.
    for name in ("resolv.conf", "hosts"):
        arguments += ["--volume", f"{directory / name}:/etc/{name}"]
    if ENGINE_GROUPS & set(host.groups):
        arguments += ["--volume", "/var/lib/docker"]  # without a name: it goes with the host
    return [*arguments, "--stop-signal", "SIGRTMIN+3", image]


def nameservers(texts: Iterable[str]) -> list[str]:
    """Name servers that a container can reach: those of the first text that has any but loopback ones."""
    for text in texts:
        found = re.findall(r"^\s*nameserver\s+(\S+)", text, re.MULTILINE)
        usable = [server for server in found if not server.startswith("127.") and server != "::1"]
        if usable:
            return usable
    return [ENGINE_RESOLVER]


def files_archive(files: dict[str, tuple[bytes, int]]) -> bytes:
    """A tar of root's files, from path -> (content, mode)."""
    buffer = io.BytesIO()
    made: set[str] = set()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (content, mode) in files.items():
            parent = str(Path(path).parent)
            if parent == "root/.ssh" and parent not in made:
                made.add(parent)
                directory = tarfile.TarInfo(parent)
                directory.type, directory.mode = tarfile.DIRTYPE, 0o700
                archive.addfile(directory)
            member = tarfile.TarInfo(path)
            member.size, member.mode, member.mtime = len(content), mode, int(time.time())
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _create(console: Console, settings: Settings, host: Host, image: str) -> None:
    directory = settings.directory / "hosts" / host.name
    directory.mkdir(parents=True, exist_ok=True)
    texts = [path.read_text(errors="replace") for path in RESOLV_CONFS if path.is_file()]
    servers = "".join(f"nameserver {server}\n" for server in nameservers(texts))
    (directory / "resolv.conf").write_text(servers, encoding="ascii")
    names = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost", f"{settings.address(host.index)}\t{host.name}"]
    (directory / "hosts").write_text("\n".join(names) + "\n", encoding="ascii")
    for fact in (settings.checkout / ".cache" / "facts").glob(f"*{host.name}"):
        if fact.name == host.name or fact.name.endswith(f"_{host.name}"):
            fact.unlink()
    run(console, create_arguments(settings, host, image), failure=f"The engine couldn't create the host {host.name}.")
    key = keys.host_key(settings, host)
    archive = files_archive(
        {
            "root/.ssh/authorized_keys": (keys.controller_key(settings).with_suffix(".pub").read_bytes(), 0o600),
            "etc/ssh/ssh_host_ed25519_key": (key.read_bytes(), 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (key.with_suffix(".pub").read_bytes(), 0o644),
        }
    )
    container = settings.container(host.name)
    run(
        console, ["docker", "cp", "-", f"{container}:/"], stdin=archive, failure=f"Keys can't be copied to {host.name}."
    )


def discard(console: Console, name: str) -> None:
    """Remove one container of ours; it need not exist."""
    run(console, ["docker", "rm", "--force", "--volumes", name], failure=f"The engine couldn't remove {name}.")


def check_owner(settings: Settings) -> None:
    """Leave a lab of the same name alone that another checkout made."""
    elsewhere = {container.checkout for container in containers(settings)} - {str(settings.checkout)}
    if elsewhere:
        raise LabError(
            f"A lab of another checkout runs here: {', '.join(sorted(elsewhere))}.",
            "Remove it with `make lab-down`, or use `make lab LAB_NAME=lab2 LAB_SUBNET=10.77.0.0/24` for another.",
        )


def ensure(console: Console, settings: Settings, hosts: list[Host], image_of: dict[str, str]) -> None:
    """Create and start what isn't there; hosts that run are kept as they are."""
    kernel.ensure(console)
    keys.controller_key(settings)
    existing = {container.host: container for container in containers(settings) if container.role == "host"}
    counts = {"kept": 0, "started again": 0, "created": 0}
    outdated = []

    def bring_up(host: Host) -> str:
        image = image_of[host.name]
        container = existing.get(host.name)
        what = "created"
        if container and not keys.host_key_path(settings, host).exists():
            # Left behind by a checkout that is gone with its keys: nobody could log in there any more.
            console.note(f"{host.name} is of a lab whose keys are gone: making it anew")
            discard(console, container.name)
            container = None
        if container:
            if container.image != image:
                outdated.append(host.name)
            if container.state == "running":
                return "kept"
            if container.state in ("exited", "paused"):
                what = "started again"
                if container.state == "paused":
                    run(console, ["docker", "unpause", container.name], failure=f"{host.name} can't be unpaused.")
                    return what
            else:  # created, dead, removing: an interrupted run
                console.note(f"{host.name} is half made ({container.state}): making it anew")
                discard(console, container.name)
                _create(console, settings, host, image)
        else:
            _create(console, settings, host, image)
        run(console, ["docker", "start", settings.container(host.name)], failure=f"The host {host.name} doesn't start.")
        return what

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for what in pool.map(bring_up, hosts):
            counts[what] += 1
    console.note(", ".join(f"{count} {what}" for what, count in counts.items() if count))
    if outdated:
        console.note(f"made from an older image (`make lab-fresh` replaces them): {', '.join(sorted(outdated))}")


def wait_for_ssh(console: Console, settings: Settings, hosts: list[Host]) -> None:
    def wait(host: Host) -> tuple[str, str]:
        address = settings.address(host.index)
        deadline = time.monotonic() + SSH_SECONDS
        while not _banner(address):
            if time.monotonic() > deadline:
                tail = _last_words(settings.container(host.name))
                raise LabError(
                    f"{host.name} ({address}) doesn't answer on port 22 after {SSH_SECONDS} s.",
                    f"See `docker logs {settings.container(host.name)}`; `make lab-fresh HOSTS={host.name}` renews it.",
                    tail,
                )
            time.sleep(0.3)
        command = keys.arguments(settings, address) + ["timeout 30 systemctl is-system-running --wait || true"]
        try:
            return host.name, output(command, timeout=SSH_SECONDS).strip()
        except subprocess.CalledProcessError as error:
            raise LabError(
                f"{host.name} ({address}) refuses the lab's SSH key.",
                f"Replace it: `make lab-fresh HOSTS={host.name}`.",
                error.stderr.splitlines()[-5:],
            ) from None
        except subprocess.TimeoutExpired:
            return host.name, "still starting"

    console.doing(f"SSH on {count(len(hosts), 'host')}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        states = dict(pool.map(wait, hosts))
    unwell = {name: state for name, state in states.items() if state != "running"}
    console.note(f"{count(len(hosts), 'host')} up" + (f"; not quite up: {unwell}" if unwell else ""))


def _banner(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            connection.settimeout(2)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _last_words(container: str) -> list[str]:
    result = subprocess.run(
        ["docker", "logs", "--tail", "8", container], check=False, capture_output=True, text=True, errors="replace"
    )
    return (result.stdout + result.stderr).splitlines()[-8:]


def remove(console: Console, settings: Settings, names: Iterable[str] | None = None) -> list[str]:
    """Remove these hosts; without names, every container that the lab made."""
    keys.close_connections(settings)
    wanted = None if names is None else set(names)
    doomed = [
        container.name
        for container in containers(settings)
        if wanted is None or (container.role == "host" and container.host in wanted)
    ]
    if doomed:
        run(
            console,
            ["docker", "rm", "--force", "--volumes", *doomed],
            failure="The engine couldn't remove the lab's containers.",
            way_out="Restart the engine, then run the same command again.",
        )
    return doomed
