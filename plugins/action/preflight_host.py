"""Runs the module of the same name and, over the connection it has opened, bounds how far the host's clock is off."""

from __future__ import annotations

import re
import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.clock import (
    GOOD_ENOUGH_SECONDS,
    narrowed,
    offset,
)

ATTEMPTS = 4


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        result = super().run(tmp, task_vars)
        result.update(self._execute_module(task_vars=task_vars))
        if result.get("failed"):
            # That a host can't be examined is a finding, which preflight_verdict reports together with those of the others.
            result.pop("exception", None)
            result["failed"] = False
        else:
            result["clock"] = self.clock()
        return result

    def clock(self) -> dict[str, float] | None:
        """The host reads its clock between two readings of ours; a quick answer bounds the difference well."""
        bounds = None
        for _attempt in range(ATTEMPTS):
            before = time.time()
            answer = self._low_level_execute_command("date +%s.%N", sudoable=False)
            after = time.time()
            match = re.search(r"^(\d+\.\d+)\s*$", str(answer.get("stdout", "")), re.MULTILINE)
            if answer.get("rc") != 0 or not match:
                return None
            bounds = narrowed(bounds, offset(before, float(match.group(1)), after))
            if bounds is None or bounds[1] - bounds[0] <= GOOD_ENOUGH_SECONDS:
                break
        return {"low": round(bounds[0], 3), "high": round(bounds[1], 3)} if bounds else None
