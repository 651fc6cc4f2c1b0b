"""Brings the packages' part of a bundle to the host, but only when the host hasn't got it."""

from __future__ import annotations

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.sutazai.platform.plugins.module_utils import bundle_file


class ActionModule(ActionBase):
    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        bundle = self._task.args.get("bundle") or ""
        try:
            if not bundle:
                result.update(self._execute_module(module_args={"bundle": ""}, task_vars=task_vars))
                return result
            try:
                manifest = bundle_file.read_manifest(bundle)
                release = self._release()
                path = f"packages/{release}.tar"
                entry = bundle_file.find(manifest, path)
                if entry is None:
                    held = sorted(
                        f["path"][len("packages/") : -len(".tar")]
                        for f in manifest["files"]
                        if f["path"].startswith("packages/")
                    )
                    raise bundle_file.BundleError(
                        f"The bundle {bundle} holds no packages for {release}, only for {', '.join(held) or 'nothing'}. "
                        "Make it again with playbooks/bundle.yml from an inventory that has such a host."
                    )
                arguments = {"bundle": bundle, "repository_sha256": entry["sha256"]}
                result.update(self._execute_module(module_args=arguments, task_vars=task_vars))
                if not result.get("needs_file") or result.get("failed") or self._task.check_mode:
                    return result
                copy = bundle_file.fetch(bundle, path, C.DEFAULT_LOCAL_TMP)
            except bundle_file.BundleError as error:
                raise AnsibleActionFail(str(error)) from error
            if not self._connection._shell.tmpdir:
                self._make_tmp_path()
            remote = self._connection._shell.join_path(self._connection._shell.tmpdir, "packages.tar")
            self._transfer_file(copy, remote)
            self._fixup_perms2((self._connection._shell.tmpdir, remote))
            result.update(self._execute_module(module_args={**arguments, "local_file": remote}, task_vars=task_vars))
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def _release(self):
        command = ". /etc/os-release; echo $VERSION_CODENAME-$(dpkg --print-architecture)"
        answer = self._low_level_execute_command(command)
        return (
            answer["stdout"].strip().splitlines()[-1] if answer["rc"] == 0 and answer["stdout"].strip() else "unknown"
        )
