"""Runs Molecule scenarios. Their hosts are made by the lab's own code, in the lab's network, beside its hosts if it is up.

python -m tests.tools.molecule SCENARIO DEBIAN    everything of one scenario
python -m tests.tools.molecule create|destroy     called by .config/molecule/{create,destroy}.yml, platforms as JSON on stdin
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.tools.run import CHECKOUT

RELEASES = {"12": "bookworm", "13": "trixie"}
SHARED = CHECKOUT / ".config" / "molecule"
FIRST_INDEX = 200  # addresses of the lab's network from here on are the scenarios'
# What CI runs of it; on Debian 13 the lab's own run converges, repeats, checks and verifies every role.
CI = (
    ("artifact", "13"),
    ("base", "12"),
    ("envoy", "13"),
    ("keepalived", "12"),
    ("pki", "12"),
    ("redis", "12"),
    ("redis_sentinel", "12"),
)
# The lab that CI makes has no hosts for these.
NOT_IN_THE_LAB = ("envoy", "envoy_gateway", "fabio", "haproxy", "keepalived", "kong", "registry")


@dataclass(frozen=True)
class Run:
    scenario: str
    debian: str


def scenarios() -> list[str]:
    return sorted(path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml"))


def role_of(scenario: str) -> str:
    """A scenario is called like its role, or says which it is."""
    content = yaml.safe_load((CHECKOUT / "molecule" / scenario / "molecule.yml").read_text(encoding="utf-8"))
    return content.get("provisioner", {}).get("env", {}).get("MOLECULE_ROLE", scenario)


def supported(scenario: str) -> list[str]:
    """The Debian releases that the scenario's role supports, by its meta/main.yml."""
    meta = yaml.safe_load((CHECKOUT / "roles" / role_of(scenario) / "meta" / "main.yml").read_text(encoding="utf-8"))
    names = {version for platform in meta["galaxy_info"]["platforms"] for version in platform["versions"]}
    return [debian for debian, name in sorted(RELEASES.items(), reverse=True) if name in names]


def selection(ci: bool) -> list[Run]:
    runs = [Run(scenario, debian) for scenario in scenarios() for debian in supported(scenario)]
    if ci:
        return [run for run in runs if (run.scenario, run.debian) in CI]
    wanted, debian = os.environ.get("SCENARIO", ""), os.environ.get("DEBIAN", "")
    runs = [run for run in runs if wanted in ("", run.scenario) and debian in ("", run.debian)]
    if not runs:
        raise SystemExit(
            f"No scenario matches SCENARIO={wanted} DEBIAN={debian}. Scenarios: {', '.join(scenarios())}; Debian 12, 13."
        )
    return runs


def where_each_ran(ci: bool) -> str:
    """Which role was converged, converged again and verified where."""
    lines = [f"{'role':<16} {'Debian 13':<24} Debian 12"]
    for scenario in scenarios():
        cells = []
        for debian in ("13", "12"):
            here = [] if debian not in supported(scenario) else ["make molecule"]
            if here and debian == "13" and ci and scenario == role_of(scenario) and scenario not in NOT_IN_THE_LAB:
                here = ["lab"]
            if ci and (scenario, debian) in CI:
                here = [*(name for name in here if name == "lab"), "molecule"]
            cells.append(", ".join(here) or "not supported")
        lines.append(f"{scenario:<16} {cells[0]:<24} {cells[1]}")
    heading = (
        "Where each role ran ('make molecule': not here, but in `make molecule`):" if ci else "Where each role runs:"
    )
    return "\n".join([heading, *lines])


def host_name(scenario: str, number: int) -> str:
    return f"molecule-{scenario.replace('_', '-')}-{number}"


def lab_settings() -> Any:
    from lab.settings import Settings, load

    class MoleculeSettings(Settings):
        """The lab's network and caches, but keys and hosts' files of its own."""

        @property
        def directory(self) -> Path:
            return CHECKOUT / ".cache" / "molecule"

        @property
        def control_path_directory(self) -> Path:
            return Path.home() / ".ansible" / "cp" / f"{self.name}-molecule"

    return MoleculeSettings(**vars(load(CHECKOUT)))


def create(platforms: list[dict[str, Any]]) -> None:
    from lab import agent_image, builds, engine, image, keys, mirror, network, nodes, runtime, variables
    from lab.__main__ import exclusive
    from lab.console import Console
    from lab.inventory import Host

    settings = lab_settings()
    settings.directory.mkdir(parents=True, exist_ok=True)
    release = RELEASES[os.environ.get("DEBIAN") or "13"]
    hosts = [
        Host(platform["name"], FIRST_INDEX + number, tuple(platform.get("groups", ())), release)
        for number, platform in enumerate(platforms)
    ]
    console = Console(settings.directory, "molecule", 3)
    with exclusive(settings):
        with console.step("engine", "engine, images, network and mirror"):
            engine.ensure(console, settings.directory)
            own = image.ensure(console, settings, settings.release)
            node = own if release == settings.release else image.ensure(console, settings, release)
            network.ensure(console, settings)
            mirror.ensure(console, settings, own)
        with console.step("artifacts", "third-party files"):
            groups = {group for host in hosts for group in host.groups}
            artifacts = builds.choose(builds.load(), settings.consul_versions, groups)
            ready = builds.ensure(console, settings, own, artifacts)
            more = runtime.ensure(console, settings, [release] if runtime.GROUPS & groups else [])
            more |= agent_image.ensure(console, settings, groups)
        with console.step("hosts", f"{len(hosts)} hosts of Debian {release}"):
            nodes.remove(console, settings, [host.name for host in hosts])
            nodes.ensure(console, settings, hosts, {host.name: node for host in hosts})
            keys.write_known_hosts(settings, hosts)
            nodes.wait_for_ssh(console, settings, hosts)
    group_vars = SHARED / "inventory" / "group_vars" / "all"
    variables.write_secrets(group_vars / "secrets.yml")
    values = {
        "molecule_addresses": {host.name: settings.address(host.index) for host in hosts},
        "molecule_directory": str(settings.directory),
        "platform_package_proxy": mirror.package_proxy(settings),
        "platform_artifact_mirror": mirror.artifact_url(settings),
        "platform_subnet": str(settings.subnet),
        **builds.variables(ready),
        **more,
    }
    variables.write_generated(group_vars / "generated.yml", values)
    # The authority and what else outlives a run belong to the hosts that are gone now.
    subprocess.run(["rm", "-rf", str(settings.directory / "state")], check=True)
    (settings.directory / "state").mkdir(mode=0o700)


def destroy(platforms: list[dict[str, Any]]) -> None:
    from lab import engine, nodes
    from lab.console import Console

    settings = lab_settings()
    if settings.directory.is_dir() and engine.running():
        nodes.remove(Console(settings.directory, "molecule", 1), settings, [platform["name"] for platform in platforms])


def run(scenario: str, debian: str) -> int:
    environment = {
        **os.environ,
        "NO_COLOR": "1",
        "DEBIAN": debian,
        "SCENARIO": scenario,
        "MOLECULE_GLOB": "molecule/*/molecule.yml",
    }
    command = ["molecule", "test", "--scenario-name", scenario]
    if os.environ.get("KEEP"):
        command += ["--destroy", "never"]
    return subprocess.run(command, cwd=CHECKOUT, env=environment, check=False).returncode


def main(arguments: list[str]) -> int:
    if arguments in (["create"], ["destroy"]):
        (create if arguments == ["create"] else destroy)(json.load(sys.stdin))
        return 0
    if len(arguments) != 2 or arguments[0] not in scenarios() or arguments[1] not in RELEASES:
        print(__doc__, file=sys.stderr)
        return 2
    return run(*arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
