"""What a run of the lab is told: the environment, the checkout, and the paths that follow from them."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.errors import LabError

LABEL = "sutazai.lab"
DEFAULT_NAME = "sutazai-lab"
DEFAULT_SUBNET = "10.203.0.0/24"
STRATEGIES = ("linear", "mitogen")
ARTIFACT_SOURCES = ("auto", "release", "build")
BRIDGE_NAME_LENGTH = 15  # what the kernel allows for an interface


@dataclass(frozen=True)
class Settings:
    checkout: Path
    name: str
    subnet: ipaddress.IPv4Network
    cache: Path
    release: str
    strategy: str
    more_hosts: str = ""
    hosts: tuple[str, ...] = ()
    limit: str = ""
    ansible_arguments: str = ""
    consul_versions: tuple[str, ...] = ()
    artifact_source: str = "auto"
    debian_mirror: str = ""
    security_mirror: str = ""
    purge: bool = False
    secrets: str = ""

    @property
    def directory(self) -> Path:
        return self.checkout / ".lab"

    @property
    def inventory(self) -> Path:
        return self.checkout / "inventories" / "lab"

    @property
    def host_files(self) -> tuple[Path, ...]:
        return (self.inventory / "hosts.yml", *([self.checkout / self.more_hosts] if self.more_hosts else []))

    @property
    def group_vars(self) -> Path:
        return self.inventory / "group_vars" / "all"

    @property
    def bridge(self) -> str:
        return self.name[:BRIDGE_NAME_LENGTH]

    @property
    def gateway(self) -> str:
        return self.address(1)

    @property
    def mirror_address(self) -> str:
        return self.address(2)

    @property
    def package_cache(self) -> Path:
        # Two package caches can't share a directory.
        return self.cache / ("apt" if self.name == DEFAULT_NAME else f"apt-{self.name}")

    @property
    def control_path_directory(self) -> Path:
        # Not under .lab: a socket's whole path may have 107 characters, and a checkout's may be long.
        return Path.home() / ".ansible" / "cp" / self.name

    def address(self, index: int) -> str:
        return str(self.subnet.network_address + index)

    def container(self, host: str) -> str:
        return f"{self.name}-{host}"


def _words(value: str) -> tuple[str, ...]:
    return tuple(word for word in value.replace(",", " ").split() if word)


def _choice(environment: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    value = environment.get(name) or default
    if value not in choices:
        raise LabError(f"{name}={value} is not known.", f"Use one of: {', '.join(choices)}.")
    return value


def load(checkout: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    name = environment.get("LAB_NAME") or DEFAULT_NAME
    if not name.replace("-", "").isalnum() or not name.isascii() or not name.islower():
        raise LabError(f"LAB_NAME={name} can't be used.", "Use lower-case letters, digits and dashes.")
    given = environment.get("LAB_SUBNET") or DEFAULT_SUBNET
    try:
        subnet = ipaddress.IPv4Network(given)
    except ValueError as error:
        raise LabError(f"LAB_SUBNET={given} is not a network: {error}.", "Write it as, say, 10.77.0.0/24.") from None
    if subnet.prefixlen > 24 or not subnet.is_private:
        raise LabError(
            f"LAB_SUBNET={given} can't hold the lab.", "It takes a private network of /24 or larger, say 10.77.0.0/24."
        )
    cache = environment.get("LAB_CACHE") or str(Path.home() / ".cache" / "sutazai-lab")
    return Settings(
        checkout=checkout,
        name=name,
        subnet=subnet,
        cache=Path(cache).expanduser().absolute(),
        release=_choice(environment, "LAB_RELEASE", "trixie", ("trixie", "bookworm")),
        strategy=_choice(environment, "LAB_STRATEGY", "mitogen", STRATEGIES),
        more_hosts=environment.get("LAB_MORE_HOSTS", ""),
        hosts=_words(environment.get("HOSTS", "")),
        limit=environment.get("LIMIT", ""),
        ansible_arguments=environment.get("ARGS", ""),
        consul_versions=_words(environment.get("LAB_CONSUL_VERSIONS", "")),
        artifact_source=_choice(environment, "LAB_ARTIFACTS", "auto", ARTIFACT_SOURCES),
        debian_mirror=environment.get("LAB_DEBIAN_MIRROR", ""),
        security_mirror=environment.get("LAB_DEBIAN_SECURITY_MIRROR", ""),
        secrets=environment.get("SECRETS", ""),
        purge=environment.get("PURGE", "") not in ("", "0"),
    )
