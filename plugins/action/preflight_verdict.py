"""Judges what the module preflight_host found on all hosts of the play, in one message."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.hosts import check
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.model import message

display = Display()


class ActionModule(ActionBase):
    _requires_connection = False
    _VALID_ARGS = frozenset({"inventory", "results"})
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        inventory = self._task.args.get("inventory")
        if not isinstance(inventory, dict) or "plan" not in inventory:
            raise AnsibleActionFail(
                "inventory must be the result of preflight_inventory; run the whole of playbooks/preflight.yml"
            )
        variable = self._task.args["results"]
        hostvars = task_vars["hostvars"]
        results = {}
        for name in task_vars["ansible_play_hosts_all"]:
            results[str(name)] = hostvars.raw_get(name).get(variable) or {"msg": "it gave no answer"}
        problems, warnings = check(
            inventory["plan"], results, inventory["members"], float(inventory["clock_skew_limit_seconds"])
        )
        for warning in warnings:
            display.warning(f"{warning.what} {warning.remedy}")
        result.update(changed=False, problem_count=len(problems), warning_count=len(warnings))
        if problems:
            result.update(failed=True, msg=message(problems, "The hosts can't carry what the inventory wants"))
        else:
            result["msg"] = f"{len(results)} hosts are fit for their roles."
        return result
