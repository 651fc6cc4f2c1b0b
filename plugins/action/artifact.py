"""Brings a file from the bundle on the controller to the host, but only when the host needs it."""

from __future__ import annotations

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.sutazai.platform.plugins.module_utils import bundle_file


class ActionModule(ActionBase):
    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        arguments.pop("local_file", None)
        try:
            result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
            if not result.get("needs_file") or result.get("failed"):
                return result
            path = f"artifacts/{arguments['file']}"
            try:
                if self._task.check_mode:
                    if bundle_file.find(bundle_file.read_manifest(arguments["bundle"]), path) is None:
                        raise bundle_file.BundleError(f"{path} is not in the bundle {arguments['bundle']}.")
                    return result
                copy = bundle_file.fetch(arguments["bundle"], path, C.DEFAULT_LOCAL_TMP)
            except bundle_file.BundleError as error:
                raise AnsibleActionFail(str(error)) from error
            if not self._connection._shell.tmpdir:
                self._make_tmp_path()
            remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "artifact")
            self._transfer_file(copy, remote)
            self._fixup_perms2((self._connection._shell.tmpdir, remote))
            result.update(self._execute_module(module_args={**arguments, "local_file": remote}, task_vars=task_vars))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result
