"""What the actions that bring a part of the bundle from the controller to a host have in common."""

from __future__ import annotations

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.sutazai.platform.plugins.module_utils import bundle_file


class BundleAction(ActionBase):
    """An action says in `perform` what its module is given, and which part of the bundle that may be for."""

    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        try:
            result.update(self.perform(task_vars))
        except bundle_file.BundleError as error:
            raise AnsibleActionFail(str(error)) from error
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def perform(self, task_vars):
        raise NotImplementedError

    def execute_with_part(self, arguments, part, task_vars):
        """Run the module; where it says that it needs the file, run it again with the part of the bundle as `local_file`."""
        result = self._execute_module(module_args=arguments, task_vars=task_vars)
        if not result.get("needs_file") or result.get("failed"):
            return result
        bundle = arguments["bundle"]
        if self._task.check_mode:
            bundle_file.require(bundle, part)
            return result
        copy = bundle_file.fetch(bundle, part, C.DEFAULT_LOCAL_TMP)
        shell = self._connection._shell
        if not shell.tmpdir:
            self._make_tmp_path()
        remote = shell.join_path(shell.tmpdir, "part")
        self._transfer_file(copy, remote)
        self._fixup_perms2((shell.tmpdir, remote))
        return {
            **result,
            **self._execute_module(module_args={**arguments, "local_file": remote}, task_vars=task_vars),
        }
