# Apache License 2.0 (see LICENSE)
"""Loads in the controller what each of its workers would otherwise load for itself, for every task of every host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: warm_workers
type: aggregate
short_description: Load common plugins once, before workers are forked
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Ansible forks a worker for each task of each host. What the controller hasn't loaded by then, such as Jinja's filters and the
    connection plugin, every worker imports again. This loads it once, when the playbook starts.
  - Halves the processor time that the controller spends on a run over many hosts (C(benchmarks/results/strategies.json)).
    Changes nothing else, and prints nothing.
requirements:
  - enabled in C(callbacks_enabled), as this project's C(ansible.cfg) does
"""

from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase

ACTIONS = (
    "assert",
    "command",
    "copy",
    "debug",
    "include_vars",
    "normal",
    "set_fact",
    "template",
    "validate_argument_spec",
)
LOOKUPS = ("ansible.builtin.env", "ansible.builtin.file", "ansible.builtin.template", "ansible.builtin.vars")


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "sutazai.platform.warm_workers"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook) -> None:
        # The first filter and the first test bring in all of Ansible's own.
        loader.filter_loader.get("bool")
        loader.test_loader.get("match")
        for name in LOOKUPS:
            loader.lookup_loader.get(name, class_only=True)
        for name in ACTIONS:
            loader.action_loader.get(f"ansible.builtin.{name}", class_only=True)
        for name in ("ssh", "local"):
            loader.connection_loader.get(name, class_only=True)
        loader.shell_loader.get("sh")
        loader.become_loader.get("sudo")
