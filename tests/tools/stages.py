"""What each stage runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence

import yaml

from tests.tools import molecule
from tests.tools.run import CHECKOUT, Step, pytest

PYTHON = sys.executable


def tracked(*patterns: str) -> list[str]:
    """Files in git or about to be."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if (CHECKOUT / name).is_file()]


def shell_files() -> list[str]:
    names = []
    for name in tracked():
        with (CHECKOUT / name).open("rb") as file:
            first = file.readline(80)
        if (
            first.startswith(b"#!")
            and (b"bash" in first or first.rstrip().endswith(b"sh"))
            and not name.endswith(".j2")
        ):
            names.append(name)
    return names


def extra() -> list[str]:
    return shlex.split(os.environ.get("ARGS", ""))


def lint() -> list[Step]:
    steps = [
        Step("yamllint", ["yamllint", "--strict", "."]),
        Step("ruff check", ["ruff", "check", "."]),
        Step("ruff format", ["ruff", "format", "--check", "."]),
        Step("ansible-lint", ["ansible-lint", "--offline", "--profile", "production", "--nocolor"]),
        Step("changelog", ["antsibull-changelog", "lint"]),
    ]
    files = shell_files()
    if files:
        steps.append(Step("shellcheck", ["shellcheck", *files]))
    return steps


def quality() -> list[Step]:
    return [pytest("the project's own rules", "tests/quality", *extra())]


def unit() -> list[Step]:
    return [pytest("unit tests", "-n", "2", "tests/unit", *extra())]


def sanity() -> list[Step]:
    return [Step("ansible-test sanity", [PYTHON, "-m", "tests.tools.sanity"])]


def e2e() -> list[Step]:
    tool = [PYTHON, "-m", "tests.tools.e2e"]
    lab = [PYTHON, "-m", "lab"]
    return [
        Step("remove an earlier lab", [*lab, "down"], show=True),
        Step("new hosts", [*lab, "hosts"], needs=["remove an earlier lab"], show=True),
        Step("check on fresh hosts", [*tool, "check"], needs=["new hosts"]),
        Step("converge", [*lab, "up"], needs=["new hosts"], show=True),
        Step("second run changes nothing", [*tool, "again"], needs=["converge"]),
        Step("check on the converged lab", [*tool, "check", "--changes=0"], needs=["converge"]),
        pytest("the lab from end to end", "-n", "3", "tests/e2e", *extra(), needs=["converge"]),
        Step("status", [*lab, "status"], needs=["converge"], show=True),
    ]


def integration() -> list[Step]:
    return [pytest("modules against real servers", "tests/integration", *extra(), environment=servers())]


def servers() -> dict[str, str]:
    """Where the tests find real servers: Consul's binary in the lab's cache, the lab's RabbitMQ; Redis from the PATH."""
    from lab import builds
    from lab.inventory import load as load_hosts
    from lab.settings import load

    settings = load(CHECKOUT)
    found = {}
    for artifact in builds.load():
        archive = settings.cache / "artifacts" / artifact.file
        if artifact.name == "consul" and artifact.default and archive.exists():
            directory = CHECKOUT / ".cache" / "integration"
            directory.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(archive) as content:
                content.extract(artifact.member, directory)
            (directory / artifact.member).chmod(0o755)
            found["CONSUL_BIN"] = str(directory / artifact.member)
    secrets, authority = settings.group_vars / "secrets.yml", settings.directory / "state" / "pki" / "ca.crt"
    brokers = [host for host in load_hosts(settings.inventory / "hosts.yml") if "rabbitmq" in host.groups]
    if brokers and secrets.exists() and authority.exists():
        password = yaml.safe_load(secrets.read_text(encoding="utf-8")).get("rabbitmq_admin_password", "")
        found |= {
            "SUTAZAI_TEST_RABBITMQ_URL": f"https://{settings.address(brokers[0].index)}:15671",
            "SUTAZAI_TEST_RABBITMQ_USER": "admin",
            "SUTAZAI_TEST_RABBITMQ_PASSWORD": password,
            "SUTAZAI_TEST_RABBITMQ_CA_FILE": str(authority),
        }
    return found


def molecule_stage(ci: bool = False) -> list[Step]:
    return [
        Step(
            f"{run.scenario} on Debian {run.debian}",
            [PYTHON, "-m", "tests.tools.molecule", run.scenario, run.debian],
        )
        for run in molecule.selection(ci)
    ]


STAGES: dict[str, Callable[[], list[Step]]] = {
    "lint": lint,
    "quality": quality,
    "unit": unit,
    "sanity": sanity,
    "e2e": e2e,
    "integration": integration,
    "molecule": molecule_stage,
}
# In `make test`: first what is quick, then the lab, then what needs the lab or its caches.
TEST: Sequence[str] = ("lint", "quality", "unit", "sanity", "e2e", "integration", "molecule")


def steps_of(stage: str, ci: bool) -> list[Step]:
    return molecule_stage(ci) if stage == "molecule" else STAGES[stage]()
