"""`ansible-test sanity` on a copy of the checkout, as a collection has to lie for it.

ansible-test makes a virtual environment per check and fetches pip for it from a server of its own. That server is no package
registry and not reachable everywhere, so it is given Python's bundled pip instead; the rest comes from PyPI. It also drops the
environment, so what this machine has told pip there (PIP_*) is written into a configuration file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.tools.run import CHECKOUT
from tests.tools.stages import tracked

HOME = CHECKOUT / ".cache" / "sanity"  # keeps the virtual environments
# Checks that don't run, each with its reason. Everything else that ansible-test knows is run.
SKIPPED = {
    "empty-init": "it forbids docstrings in __init__.py of tests, which ruff wants",
    "yamllint": "ansible-test's own rules for plugins' documentation; the files are linted by the lint stage",
    "pslint": "there is no PowerShell in this collection",
    "shellcheck": "the lint stage runs it",
}
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # networks that inspect TLS have theirs there
GET_PIP = """\
import subprocess, sys
subprocess.check_call([sys.executable, "-m", "ensurepip"])
arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--no-")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *arguments]))
"""
# What a user of the collection gets; tests and the lab are linted elsewhere.
INCLUDED = (
    "plugins/",
    "roles/",
    "playbooks/",
    "meta/",
    "changelogs/",
    "tests/sanity/",
    "galaxy.yml",
    "README.md",
    "LICENSE",
    "CHANGELOG.md",
)


def copy(collection: Path) -> None:
    for name in tracked(*INCLUDED):
        target = collection / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, target)


def ignore(collection: Path) -> None:
    """The collection is Apache-2.0, modules included; ansible-test only knows the licence of Ansible's own."""
    plugins = [*collection.glob("plugins/modules/*.py"), *collection.glob("plugins/callback/*.py")]
    lines = [f"{path.relative_to(collection)} validate-modules:missing-gplv3-license\n" for path in sorted(plugins)]
    directory = collection / "tests" / "sanity"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "ignore-2.19.txt").write_text("".join(lines), encoding="utf-8")


def provide_pip(home: Path) -> None:
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    options = {"cert": CERTIFICATES} if Path(CERTIFICATES).exists() else {}
    options |= {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name.startswith("PIP_") and value
    }
    configuration = home / ".config" / "pip" / "pip.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(
        "[global]\n" + "".join(f"{name} = {value}\n" for name, value in options.items()), encoding="utf-8"
    )
    for name in ("get_pip_24_2.py", "get_pip_20_3_4.py"):
        (cache / name).write_text(GET_PIP, encoding="utf-8")


def main() -> int:
    provide_pip(HOME)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    argv = ["ansible-test", "sanity", "--color", "no", "--truncate", "0", "--python", version, "--requirements"]
    for name, reason in SKIPPED.items():
        print(f"SKIPPED {name}: {reason}", flush=True)
        argv += ["--skip-test", name]
    environment = {**os.environ, "HOME": str(HOME)}
    for variable in ("ANSIBLE_CONFIG", "ANSIBLE_INJECT_FACT_VARS", "PYTHONPATH"):
        environment.pop(variable, None)
    # Outside of the checkout: inside, ansible-test finds the checkout's git and takes the copy for ignored files.
    with tempfile.TemporaryDirectory(prefix="sanity-") as directory:
        collection = Path(directory) / "ansible_collections" / "sutazai" / "platform"
        copy(collection)
        ignore(collection)
        return subprocess.run(argv + sys.argv[1:], cwd=collection, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
