"""Brings a file from the bundle on the controller to the host, but only when the host needs it."""

from __future__ import annotations

from ansible_collections.sutazai.platform.plugins.plugin_utils.bundle_action import BundleAction


class ActionModule(BundleAction):
    def perform(self, task_vars):
        arguments = {key: value for key, value in self._task.args.items() if key != "local_file"}
        return self.execute_with_part(arguments, f"artifacts/{arguments.get('file')}", task_vars)
