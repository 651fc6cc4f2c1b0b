"""Calls apt on the host, but only when dpkg doesn't have the packages; the module of the same name is its documentation."""

from __future__ import annotations

from ansible.plugins.action import ActionBase

CACHE_VALID_SECONDS = 86400
LOCK_TIMEOUT_SECONDS = 300


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        looked = self._execute_module(task_vars=task_vars)
        if looked.get("failed") or not looked.get("missing"):
            result.update(looked)
            return result
        arguments = self._task.args
        result.update(
            self._execute_module(
                module_name="ansible.builtin.apt",
                module_args={
                    "name": arguments["name"],
                    "install_recommends": False,
                    "update_cache": True,
                    "cache_valid_time": arguments.get("cache_valid_seconds", CACHE_VALID_SECONDS),
                    "lock_timeout": arguments.get("lock_timeout_seconds", LOCK_TIMEOUT_SECONDS),
                },
                task_vars=task_vars,
            ),
            missing=looked["missing"],
            repaired=looked["repaired"],
        )
        result["changed"] = result.get("changed", False) or looked["repaired"]
        return result
