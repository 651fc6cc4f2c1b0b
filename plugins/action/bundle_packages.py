"""Brings the packages' part of a bundle to the host, but only when the host hasn't got it."""

from __future__ import annotations

from ansible_collections.sutazai.platform.plugins.module_utils import bundle_file
from ansible_collections.sutazai.platform.plugins.plugin_utils.bundle_action import BundleAction


class ActionModule(BundleAction):
    def perform(self, task_vars):
        bundle = self._task.args.get("bundle") or ""
        if not bundle:
            return self._execute_module(module_args={"bundle": ""}, task_vars=task_vars)
        manifest = bundle_file.read_manifest(bundle)
        release = self._release()
        part = f"packages/{release}.tar"
        entry = bundle_file.find(manifest, part)
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
        return self.execute_with_part({"bundle": bundle, "repository_sha256": entry["sha256"]}, part, task_vars)

    def _release(self):
        command = ". /etc/os-release; echo $VERSION_CODENAME-$(dpkg --print-architecture)"
        answer = self._low_level_execute_command(command)
        return (
            answer["stdout"].strip().splitlines()[-1] if answer["rc"] == 0 and answer["stdout"].strip() else "unknown"
        )
