#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Have a Python package in a virtual environment, from pinned wheels."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: python_environment
short_description: Have a Python package in a virtual environment, from pinned wheels
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Makes a virtual environment for exactly these requirements below O(root) and switches O(link) to it in one step. Another version gets an
    environment beside it; what runs from the former one isn't disturbed.
  - Wheels come from O(wheels) only, no package index is asked. Each has to have one of the hashes that O(requirements) names.
  - An environment counts when it is complete; a run that was killed can be repeated. Nothing is restarted.
options:
  version:
    description: Version of the package, for the environment's name.
    type: str
    required: true
  requirements:
    description: File with all requirements, each pinned by C(==) and C(--hash=sha256:…).
    type: path
    required: true
  wheels:
    description: Directory of wheels.
    type: path
    required: true
  root:
    description: Directory that holds the environments.
    type: path
    required: true
  link:
    description: Link to the environment in use; C(current) in O(root) if not given.
    type: path
  python:
    description: The interpreter that they are made with.
    type: path
    default: /usr/bin/python3
  keep:
    description: How many environments stay, the one in use included.
    type: int
    default: 2
attributes:
  check_mode: {support: full, description: Says whether it would make or switch something.}
  diff_mode: {support: none, description: An environment is many files.}
"""

EXAMPLES = r"""
- name: Install the runtime package
  sutazai.platform.python_environment:
    version: 0.1.0
    requirements: /opt/sutazai/sutazai-runtime/0.1.0/requirements.txt
    wheels: /opt/sutazai/sutazai-runtime/0.1.0/wheels
    root: /opt/sutazai-runtime
"""

RETURN = r"""
path:
  description: The environment; empty where it can't be told yet, in check mode.
  returned: always
  type: str
made:
  description: Whether it was made, or would be.
  returned: always
  type: bool
switched:
  description: Whether the link was switched, or would be.
  returned: always
  type: bool
removed:
  description: Environments that were removed, or would be.
  returned: always
  type: list
  elements: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import python_environment as environments


def make(module, directory):
    """Quick enough to be made from scratch, and that is what a killed run's rest is replaced by."""
    arguments = module.params
    if os.path.lexists(directory):
        environments.discard(directory)
    os.makedirs(arguments["root"], mode=0o755, exist_ok=True)
    python = os.path.join(directory, "bin", "python")
    # Without what people set for their own pip: another index, a proxy.
    variables = {"PIP_CONFIG_FILE": os.devnull, "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": ""}
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-index"]
    install += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--find-links", arguments["wheels"]]
    steps = (
        ([arguments["python"], "-m", "venv", directory], "made. Debian's package python3-venv is needed"),
        ([*install, "--requirement", arguments["requirements"]], "filled: wheels and requirements don't go together"),
        ([python, "-m", "pip", "--disable-pip-version-check", "check"], "used: a requirement of a package is missing"),
    )
    for command, what in steps:
        code, out, error = module.run_command(command, environ_update=variables, umask=0o022)
        if code:
            said = " ".join((error or out).split())[-800:]
            raise environments.EnvironmentProblem(f"The virtual environment {directory} can't be {what}. {said}")
    environments.finish(directory, arguments["version"])


def run(module):
    arguments = module.params
    if not environments.SAFE_NAME.match(arguments["version"]):
        raise environments.EnvironmentProblem(
            f"version is {arguments['version']!r}: letters, digits and . _ + ~ - only."
        )
    link = arguments["link"] or os.path.join(arguments["root"], "current")
    try:
        with open(arguments["requirements"], "rb") as handle:
            requirements = handle.read()
    except FileNotFoundError:
        if module.check_mode:  # the archive with them would only be unpacked by the run itself
            return {"changed": True, "path": "", "made": True, "switched": True, "removed": []}
        raise
    loose = environments.unpinned(requirements.decode())
    if loose:
        raise environments.EnvironmentProblem(
            f"{arguments['requirements']} doesn't pin {', '.join(loose)} to a version and its hashes; make it with uv pip compile "
            "--generate-hashes."
        )
    name = environments.identity(arguments["version"], requirements, os.path.realpath(arguments["python"]))
    directory = os.path.join(arguments["root"], name)
    made, switched = not environments.is_complete(directory), not environments.is_linked(link, directory)
    if not module.check_mode:
        if made:
            make(module, directory)
        if switched:
            environments.switch(link, directory)
    # Who was linked before stays until the next run: what still runs from it may import something yet.
    removed = environments.superfluous(arguments["root"], link, name, max(arguments["keep"], 1))
    if not module.check_mode:
        for other in removed:
            environments.discard(os.path.join(arguments["root"], other))
    return {
        "changed": bool(made or switched or removed),
        "path": directory,
        "made": made,
        "switched": switched,
        "removed": removed,
    }


def main():
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "requirements": {"type": "path", "required": True},
            "wheels": {"type": "path", "required": True},
            "root": {"type": "path", "required": True},
            "link": {"type": "path"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "keep": {"type": "int", "default": 2},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except (environments.EnvironmentProblem, OSError, UnicodeDecodeError) as problem:
        module.fail_json(msg=str(problem))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
