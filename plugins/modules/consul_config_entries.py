#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Bring Consul's configuration entries to what is wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_config_entries
short_description: Bring Consul's configuration entries to what is wanted
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Keeps the entries that say how services of the mesh speak with each other, such as C(service-defaults), C(service-resolver) and
    C(service-intentions). What isn't named is left alone.
  - An entry is written whole, and only over the one that was read before. Two runs at once can't undo each other.
  - Entries that mean the same (C(90s), C(1m30s)) aren't changed.
options:
  token:
    description: A token that may write them, such as the management token.
    required: true
  entries:
    description:
      - Entries as Consul's API has them, each with C(Kind) and C(Name). The only C(mesh) is called V(mesh) here.
      - They are written in the order that Consul needs, whatever theirs is.
    type: list
    elements: dict
    default: []
  absent:
    description: Entries that must not exist, each by C(Kind) and C(Name) alone.
    type: list
    elements: dict
    default: []
  wait_seconds:
    description: How long an agent or a leader may be away, in seconds.
    type: int
    default: 30
extends_documentation_fragment: [sutazai.platform.consul]
attributes:
  check_mode: {support: full, description: Says which would be written. Where no agent answers yet all of them.}
  diff_mode: {support: full, description: Shows each entry before and after.}
"""

EXAMPLES = r"""
- name: Let the workers, and nobody else, ask the model server
  sutazai.platform.consul_config_entries:
    token: "{{ platform_consul_management_token }}"
    entries:
      - Kind: service-defaults
        Name: inference
        Protocol: http
        LocalRequestTimeoutMs: 600000
      - Kind: service-intentions
        Name: inference
        Sources:
          - {Name: celery-worker, Action: allow}
  no_log: true
"""

RETURN = r"""
changes:
  description: What was written or removed, in words.
  returned: always
  type: list
  elements: str
reachable:
  description: Whether an agent answered. Only false in check mode.
  returned: always
  type: bool
"""

import json
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.consul_api import (
    CONNECTION_ARGUMENTS,
    ConsulApi,
    Refused,
    Unreachable,
    patiently,
)
from ansible_collections.sutazai.platform.plugins.module_utils.consul_config_entries import (
    Entry,
    body_of,
    differs,
    key_of,
    ordered,
    problems,
    shown,
    title,
)

ATTEMPTS = 5


class Entries:
    """The entries of one cluster."""

    def __init__(self, module: AnsibleModule) -> None:
        self.api = ConsulApi(module.params)
        self.act = not module.check_mode
        self.wait_seconds = module.params["wait_seconds"] if self.act else 0
        self.changes: list[str] = []
        self.diff: list[dict[str, str]] = []

    def read(self, entry: Entry) -> Entry | None:
        kind, name = key_of(entry)
        answer = patiently(lambda: self.api.get(f"/v1/config/{kind}/{quote(name, safe='')}"), self.wait_seconds)
        return None if answer.status == 404 else self.api.demand(answer, f"{title(entry)} can't be read").data

    def note(self, entry: Entry, verb: str, before: Entry | None, after: Entry | None) -> None:
        if f"{title(entry)} {verb}" in self.changes:
            return
        self.changes.append(f"{title(entry)} {verb}")
        before_text, after_text = (json.dumps(shown(state), indent=2) + "\n" for state in (before, after))
        headers = {"before_header": title(entry), "after_header": title(entry)}
        self.diff.append({**headers, "before": before_text, "after": after_text})

    def write(self, wanted: Entry) -> None:
        for _attempt in range(ATTEMPTS):
            current = self.read(wanted)
            if current and not differs(current, wanted):
                return
            self.note(wanted, "changed" if current else "made", current, wanted)
            if not self.act:
                return
            # Index 0 means: only if there is none.
            path = f"/v1/config?cas={current['ModifyIndex'] if current else 0}"
            answer = patiently(lambda path=path: self.api.put(path, body_of(wanted)), self.wait_seconds)
            if self.api.demand(answer, f"{title(wanted)} isn't accepted").data is True:
                return
        raise Refused(
            f"{title(wanted)} was changed by somebody else {ATTEMPTS} times while it was being written. Run this again."
        )

    def remove(self, unwanted: Entry) -> None:
        current = self.read(unwanted)
        if not current:
            return
        self.note(unwanted, "removed", current, None)
        if self.act:
            kind, name = key_of(unwanted)
            answer = patiently(lambda: self.api.delete(f"/v1/config/{kind}/{quote(name, safe='')}"), self.wait_seconds)
            self.api.demand(answer, f"{title(unwanted)} can't be removed")


def main() -> None:
    entries = {"type": "list", "elements": "dict", "default": []}
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "token": {"type": "str", "no_log": True, "required": True},
            "entries": entries,
            "absent": entries,
            "wait_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    wanted, unwanted = module.params["entries"], module.params["absent"]
    wrong = problems(wanted, unwanted)
    if wrong:
        module.fail_json(msg=f"Consul's configuration entries can't be as given: {'; '.join(wrong)}.")
    cluster, reachable = Entries(module), True
    try:
        for entry in reversed(ordered(unwanted)):
            cluster.remove(entry)
        for entry in ordered(wanted):
            cluster.write(entry)
    except Unreachable as error:
        if not module.check_mode:
            module.fail_json(msg=f"{error}: is consul.service running there? See journalctl -u consul.")
        reachable, cluster.changes = False, [f"{title(entry)} made" for entry in ordered(wanted)]
    except Refused as error:
        module.fail_json(
            msg=f"{error}. What was done before: {', '.join(cluster.changes[:-1]) or 'nothing'}.",
            changed=len(cluster.changes) > 1,
            changes=cluster.changes[:-1],
        )
    module.exit_json(changed=bool(cluster.changes), changes=cluster.changes, reachable=reachable, diff=cluster.diff)


if __name__ == "__main__":
    main()
