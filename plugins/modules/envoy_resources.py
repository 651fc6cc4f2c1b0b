#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Give a running Envoy other listeners, routes, clusters and hosts without failing a request."""

from __future__ import annotations

DOCUMENTATION = r"""
module: envoy_resources
short_description: Replace the files that Envoy watches, step by step
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Writes what the filter P(sutazai.platform.gateway_envoy#filter) has made into the directory that Envoy watches.
  - While Envoy runs, new clusters come first, then routes and listeners, and what nothing leads to any more goes last. After each step it
    waits until Envoy reports the new versions and has checked the hosts of new clusters, so that no request meets a cluster that can't
    serve it.
  - What Envoy doesn't take is put back, because an Envoy that is restarted with it wouldn't serve at all; then the module fails.
  - While Envoy doesn't run, the files are just written.
options:
  directory:
    description: Directory that Envoy watches. It has to be there.
    type: path
    required: true
  files:
    description: Name of each file, and its content. Other files that this module has written earlier are removed.
    type: dict
    required: true
  group:
    description: Group that may read the files.
    type: str
    default: root
  mode:
    description: Permissions of the files, as four octal digits.
    type: str
    default: "0640"
  admin_url:
    description: URL of Envoy's administration interface.
    type: str
    default: http://127.0.0.1:9901
  wait_seconds:
    description: How long Envoy may take for each step, in seconds. Hosts of new clusters are checked in that time.
    type: int
    default: 30
attributes:
  check_mode: {support: full, description: Says which files would change.}
  diff_mode: {support: full, description: Shows the difference of each file.}
"""

EXAMPLES = r"""
- name: Give Envoy its routes
  sutazai.platform.envoy_resources:
    directory: /etc/envoy-gateway/xds
    files: "{{ (gateway_routes | sutazai.platform.gateway_envoy(settings)).files }}"
    group: envoy-gateway
"""

RETURN = r"""
changed_files:
  description: Names of the files that changed or were removed.
  returned: always
  type: list
  elements: str
running:
  description: Whether Envoy was running and has taken them.
  returned: always
  type: bool
"""

import json
import os
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_apply as steps

POLL_SECONDS = 0.1


class Refused(Exception):
    """Envoy didn't take a stage."""


def read_all(directory: str) -> dict[str, str]:
    found = {}
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if steps.OURS.fullmatch(name) and os.path.isfile(path):
            with open(path, encoding="utf-8", errors="replace") as file:
                found[name] = file.read()
    return found


def write(module: AnsibleModule, name: str, text: str) -> None:
    """Moves the file into place, which is what Envoy watches for. It reads at once, so owner and mode are right before."""
    directory = module.params["directory"]
    handle, candidate = tempfile.mkstemp(dir=directory, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        module.set_group_if_different(candidate, module.params["group"], False)
        module.set_mode_if_different(candidate, module.params["mode"], False)
        os.replace(candidate, os.path.join(directory, name))
    except BaseException:
        os.unlink(candidate)
        raise


def ask(module: AnsibleModule, query: str) -> dict | None:
    """What Envoy says; None when it doesn't run."""
    try:
        return json.load(open_url(module.params["admin_url"] + query, timeout=5, use_proxy=False))
    except (OSError, ValueError):
        return None


def wait(module: AnsibleModule, versions: dict[str, str]) -> None:
    until = time.monotonic() + module.params["wait_seconds"]
    while True:
        answer, warming = ask(module, steps.VERSIONS_QUERY), ask(module, steps.WARMING_QUERY)
        if answer is None or warming is None:
            missing, why = sorted(versions), "Envoy stopped answering meanwhile"
        else:
            missing, why = steps.not_taken(versions, answer), "Envoy reports another version"
            if not missing and not steps.is_warming(warming):
                return
            if not missing:
                missing, why = sorted(versions), "hosts of new clusters are still being found or checked"
        if time.monotonic() >= until:
            raise Refused(f"{', '.join(missing)}: {why} after {module.params['wait_seconds']} s")
        time.sleep(POLL_SECONDS)


def apply(module: AnsibleModule, current: dict[str, str], stages: list[steps.Stage], running: bool) -> None:
    done: dict[str, str] = {}
    try:
        for stage in stages:
            for name, text in stage.write.items():
                done.setdefault(name, current.get(name))
                write(module, name, text)
            if running:
                wait(module, steps.expected(stage, current))
            for name in stage.remove:
                os.unlink(os.path.join(module.params["directory"], name))
    except Refused as refused:
        # Routes before clusters: what is put back is in use again before what it replaces goes.
        for name, text in sorted(done.items(), key=lambda item: item[0] == "cds.json"):
            if text is not None:
                write(module, name, text)
        module.fail_json(
            msg=f"Envoy didn't take what it was given ({refused}). The former files are in place again, and Envoy goes on with what it "
            "had. Its log says what is wrong with them: journalctl -u envoy-gateway. Correct gateway_routes and run this again."
        )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "files": {"type": "dict", "required": True},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str", "default": "0640"},
            "admin_url": {"type": "str", "default": "http://127.0.0.1:9901"},
            "wait_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    directory, wanted = module.params["directory"], module.params["files"]
    wrong = sorted(name for name in wanted if not steps.OURS.fullmatch(name))
    if wrong:
        module.fail_json(
            msg=f"files has {', '.join(wrong)}, which Envoy's files aren't called. Use what the filter gateway_envoy returns."
        )
    if not os.path.isdir(directory) and not module.check_mode:
        module.fail_json(msg=f"{directory} is no directory. Make it before Envoy is given its files.")
    current = read_all(directory) if os.path.isdir(directory) else {}
    stages = steps.plan(current, wanted)
    changed = sorted({name for stage in stages for name in (*stage.write, *stage.remove)})
    running = ask(module, steps.VERSIONS_QUERY) is not None
    if not module.check_mode:
        apply(module, current, stages, running)
    diff = [
        {
            "before_header": os.path.join(directory, name),
            "after_header": os.path.join(directory, name),
            "before": current.get(name, ""),
            "after": wanted.get(name, ""),
        }
        for name in changed
    ]
    module.exit_json(changed=bool(changed), changed_files=changed, running=running, diff=diff)


if __name__ == "__main__":
    main()
