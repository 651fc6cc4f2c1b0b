"""`python -m lab up|hosts|fresh|status|down|image|new-secrets|forget-secrets`: what the Makefile's lab targets run."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from lab import (
    agent_image,
    builds,
    checks,
    converge,
    engine,
    image,
    inventory,
    mirror,
    network,
    nodes,
    runtime,
    status,
    variables,
)
from lab import command as command_module
from lab import keys as ssh_keys
from lab.console import Console, count, duration
from lab.errors import LabError
from lab.inventory import Host
from lab.settings import Settings, load

CHECKOUT = Path(__file__).resolve().parent.parent
STEPS = {"up": 8, "fresh": 9, "hosts": 7, "image": 3, "down": 1, "status": 1, "new-secrets": 1, "forget-secrets": 1}


@contextmanager
def exclusive(settings: Settings) -> Iterator[None]:
    """One command at a time may change a lab. The lock ends with the process, however it ends."""
    path = Path("/run/lock") if Path("/run/lock").is_dir() else Path("/run")
    with (path / f"{settings.name}.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LabError(
                f"Another lab command is at work (process {file.read().strip() or 'unknown'}).",
                "Wait for it, or end it with Ctrl-C where it runs.",
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


@contextmanager
def ended_together() -> Iterator[None]:
    """When this thread fails or is interrupted, what runs beside it isn't waited for."""
    try:
        yield
    except BaseException:
        command_module.stop_all()
        raise


def free_bytes(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def check_machine(console: Console, settings: Settings, hosts: list[Host], build: bool) -> None:
    if shutil.which("ip") is None:
        raise LabError("The program `ip` is missing.", "Install Debian's iproute2.")
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        raise LabError("The SSH client is missing.", "Install Debian's openssh-client.")
    engine.check_host()
    here: set[str] = set()
    if engine.running():
        nodes.check_owner(settings)
        here = {c.host for c in nodes.containers(settings) if c.role == "host" and c.state == "running"}
    new = [host for host in hosts if host.name not in here]
    if new:
        needed = checks.memory_needed(new)
        checks.require_memory(checks.memory_available(Path("/proc/meminfo").read_text()), needed, len(new))
    for path, needed in zip((engine.root_directory(), settings.cache), checks.disk_needed(new, build), strict=True):
        checks.require_disk(str(path), free_bytes(path), needed)
    if not engine.running() or network.existing_subnet(settings.name) != str(settings.subnet):
        network.check_subnet(settings)
    console.note(
        f"{count(len(hosts), 'host')}, {len(here & {h.name for h in hosts})} of them running; {os.cpu_count()} cores"
    )


def announce(console: Console, settings: Settings, command: str, hosts: list[Host], build: bool) -> None:
    engine_disk, cache_disk = checks.disk_needed(hosts, build)
    estimate = {"hosts": "1 to 2 minutes", "up": "8 to 10 minutes", "fresh": "8 to 10 minutes"}[command]
    if build:
        estimate += ", and 5 to 10 more to get Consul this first time"
    console.say(
        f"The lab: {count(len(hosts), 'Debian host')} in {settings.subnet}, in containers on this machine, reached by SSH."
    )
    console.note(f"memory   {checks.gib(checks.memory_needed(hosts))}")
    console.note(
        f"disk     {checks.gib(engine_disk)} for hosts, {checks.gib(cache_disk)} for the cache {settings.cache}"
    )
    console.note("network  Debian's mirror as apt here has it; Consul's release, or Go's module proxy to build it")
    console.note(f"time     {estimate}; the log is {console.log_path}")


def hosts_up(console: Console, settings: Settings, command: str) -> list[Host]:
    everyone = inventory.load(*settings.host_files)
    hosts = inventory.select(everyone, settings.hosts)
    artifacts = builds.choose(
        builds.load(), settings.consul_versions, {group for host in everyone for group in host.groups}
    )
    build = not all(builds.cached(settings, artifact) for artifact in artifacts)
    announce(console, settings, command, hosts, build)

    with console.step("check", "check this machine"):
        check_machine(console, settings, hosts, build)
    with console.step("engine", "container engine"):
        engine.ensure(console, settings.directory)
    if command == "fresh":
        with console.step("remove", "remove the hosts that are there"):
            removed = nodes.remove(console, settings, [host.name for host in hosts])
            forget_facts(settings)
            console.note(f"{len(removed)} removed; caches, keys and secrets are kept")
    with console.step("image", "node image"):
        releases = sorted({host.release or settings.release for host in hosts} | {settings.release})
        images = {release: image.ensure(console, settings, release) for release in releases}
    with console.step("mirror", "network and mirror"):
        network.ensure(console, settings)
        mirror.ensure(console, settings, images[settings.release])
    with ThreadPoolExecutor(1) as pool, ended_together():
        began = time.monotonic()
        getting = pool.submit(builds.ensure, console, settings, images[settings.release], artifacts)
        with console.step("hosts", count(len(hosts), "host")):
            ssh_keys.controller_key(settings)
            image_of = {host.name: images[host.release or settings.release] for host in hosts}
            nodes.ensure(console, settings, hosts, image_of)
            ssh_keys.write_known_hosts(settings, everyone)
            nodes.wait_for_ssh(console, settings, hosts)
        with console.step("artifacts_wait", "third-party files for the mirror"):
            ready = getting.result()
            on = {host.release or settings.release for host in hosts if runtime.GROUPS & set(host.groups)}
            more = runtime.ensure(console, settings, on)
            more |= agent_image.ensure(console, settings, {group for host in hosts for group in host.groups})
    console.record("artifacts", time.monotonic() - began)
    with console.step("inventory", "the inventory's generated variables"):
        write_variables(console, settings, ready, more)
    return hosts


def write_variables(
    console: Console, settings: Settings, ready: list[builds.Ready], more: Mapping[str, object]
) -> None:
    if variables.write_secrets(settings.group_vars / "secrets.yml"):
        console.note(f"secrets made: {(settings.group_vars / 'secrets.yml').relative_to(settings.checkout)}")
    (settings.directory / "state").mkdir(mode=0o700, exist_ok=True)
    settings.control_path_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    values = {
        "lab_name": settings.name,
        "lab_directory": str(settings.directory),
        "lab_subnet": str(settings.subnet),
        # Plain text, because this is evaluated for every task of every host: a filter that has to be imported there costs more than the task.
        "lab_subnet_prefix": settings.gateway.rpartition(".")[0],
        "ansible_control_path_dir": str(settings.control_path_directory),
        "platform_package_proxy": mirror.package_proxy(settings),
        "platform_artifact_mirror": mirror.artifact_url(settings),
        **builds.variables(ready),
        **more,
    }
    variables.write_generated(settings.group_vars / "generated.yml", values)


def up(console: Console, settings: Settings, command: str) -> None:
    hosts_up(console, settings, command)
    with console.step("converge", "ansible-playbook site.yml"):
        converge.site(console, settings)
    console.say(f"[{duration(console.elapsed):>5}] done")
    console.say()
    status.show(console, settings)


def down(console: Console, settings: Settings) -> None:
    with console.step("down", "remove the lab"):
        if engine.running():
            removed = nodes.remove(console, settings)
            network.remove(console, settings)
            forget_facts(settings)
            console.note(f"{count(len(removed), 'container')} and the network are gone")
        else:
            console.note("no container engine runs, so no hosts do")
        if settings.purge:
            purge(console, settings)
        elif engine.running():
            console.note(f"kept: images, {settings.cache}, keys and secrets (`make lab-down PURGE=1` removes them too)")
            console.note(f"kept until a reboot: the route that keeps {settings.subnet} on this machine")


def forget_facts(settings: Settings) -> None:
    """What Ansible remembers of hosts that are gone would be wrong of the next ones with their names."""
    shutil.rmtree(settings.checkout / ".cache" / "facts", ignore_errors=True)


def purge(console: Console, settings: Settings) -> None:
    if engine.running():
        image.remove_all(console)
        if engine.stop_own(console, settings.directory):
            console.note("the engine that the lab had started is stopped")
    network.remove_fallback(console, settings.subnet)
    forget_facts(settings)
    shutil.rmtree(settings.cache, ignore_errors=True)
    for name in ("generated.yml", "secrets.yml"):
        (settings.group_vars / name).unlink(missing_ok=True)
    console.note(f"images, {settings.cache}, secrets and keys are gone")
    for path in settings.directory.iterdir():
        if path.name != "log":
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def change_secrets(console: Console, settings: Settings, command: str) -> None:
    """For playbooks/rotate_secrets.yml, which brings the hosts to what the inventory has."""
    path = settings.group_vars / "secrets.yml"
    if not path.exists():
        raise LabError("The lab has no secrets yet.", "`make lab` makes them.")
    change = variables.renewed_secrets if command == "new-secrets" else variables.without_previous
    with console.step("secrets", "the inventory's secrets"):
        if variables.write_secrets(path, lambda existing: change(existing, settings.secrets)):
            console.note(f"changed: {path.relative_to(settings.checkout)}")
            console.note(
                "next: ansible-playbook -i inventories/lab playbooks/rotate_secrets.yml -e "
                f"rotate_secrets_component={settings.secrets}"
            )
        else:
            console.note("nothing to change")


def build_image(console: Console, settings: Settings) -> None:
    release = os.environ.get("RELEASE") or settings.release
    with console.step("check", "check this machine"):
        engine.check_host()
    with console.step("engine", "container engine"):
        engine.ensure(console, settings.directory)
    with console.step("image", f"node image of {release}"):
        image.ensure(console, settings, release)
        console.note(f"also known as {image.REPOSITORY}:{release}")


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in STEPS:
        print(__doc__, file=sys.stderr)
        return 2
    command = arguments[0]
    console = None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        settings = load(CHECKOUT)
        if os.geteuid() != 0:
            raise LabError(
                "The lab needs root: it makes containers, a bridge and a route.",
                f"Use `sudo make lab{'' if command == 'up' else '-' + command}`.",
            )
        settings.directory.mkdir(mode=0o755, exist_ok=True)
        console = Console(settings.directory, command, STEPS[command])
        if command == "status":
            return 0 if status.show(console, settings) else 1
        with exclusive(settings):
            if command == "down":
                down(console, settings)
            elif command in ("new-secrets", "forget-secrets"):
                change_secrets(console, settings, command)
            elif command == "image":
                build_image(console, settings)
            elif command == "hosts":
                hosts_up(console, settings, command)
                console.say(
                    f"[{duration(console.elapsed):>5}] the hosts are up: ansible-playbook -i inventories/lab site.yml"
                )
            else:
                up(console, settings, command)
    except LabError as error:
        if console:
            console.failed(error)
        else:
            print(f"FAILED: {error.problem}\n  Way out: {error.way_out}", file=sys.stderr)
        return 1
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or "").splitlines()[-8:]
        failure = LabError(f"{error}", "If it isn't clear from this, the full log says what came before.", said)
        if not console:
            raise
        console.failed(failure)
        return 1
    except KeyboardInterrupt:
        if console:
            console.say("\nInterrupted. The same command goes on from here; `make lab-down` removes what there is.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
