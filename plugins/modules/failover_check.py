#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Judge what a probe wrote down during a fault, and write the report."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_check
short_description: Judge what a failover probe wrote down, and write the report
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Compares the records that M(sutazai.platform.failover_probe) says were acknowledged with those that it found afterwards, and measures the
    longest time without an acknowledged write.
  - Writes the result as JSON and as one HTML page that needs no network, with a picture of every write. Run it on the controller.
  - That a test isn't passed is a result (RV(passed)), not a failure of the module.
options:
  records:
    description: The probe's records, a file beside which nothing else is needed.
    type: path
    required: true
  directory:
    description: Where the report goes; made if it isn't there.
    type: path
    required: true
  name:
    description: Name of the report's files, without suffix.
    type: str
    required: true
  component:
    description: What was tested.
    type: str
    required: true
  fault:
    description: The fault's name.
    type: str
    required: true
  what:
    description: What was done, for a person.
    type: str
    default: ""
  platform:
    description: The platform's name.
    type: str
    default: ""
  victim:
    description: The host that had the fault.
    type: str
    default: ""
  client:
    description: The host that the probe ran on.
    type: str
    default: ""
  leader_before:
    description: Who led before.
    type: str
    default: ""
  leader_after:
    description: Who led in the end.
    type: str
    default: ""
  injected_at:
    description: When the fault was injected, in seconds since 1970.
    type: float
  undone_at:
    description: When it was undone.
    type: float
  healthy_at:
    description: When the cluster was seen to be healthy again.
    type: float
  max_gap_seconds:
    description: How long the gap may be; 0 for any length.
    type: float
    default: 0
attributes:
  check_mode: {support: full, description: Judges and writes nothing.}
  diff_mode: {support: none, description: Reports are new files.}
"""

EXAMPLES = r"""
- name: Judge the run
  sutazai.platform.failover_check:
    records: results/redis-1.jsonl
    directory: results
    name: redis-1
    component: redis
    fault: kill_process
    injected_at: "{{ fault.injected_at }}"
    max_gap_seconds: 7
  delegate_to: localhost
  register: verdict
"""

RETURN = r"""
passed:
  description: Whether there are no problems.
  returned: always
  type: bool
problems:
  description: Why the test isn't passed, as sentences.
  returned: always
  type: list
  elements: str
summary:
  description: The result in one line.
  returned: always
  type: str
report:
  description: Path of the HTML page; the JSON file is beside it.
  returned: always
  type: str
result:
  description:
    - All numbers. Times are seconds since the first write. Of each series the writes attempted, acknowledged, lost, duplicated, recovered (there
      without having been acknowledged) and unexpected, and the longest gap.
  returned: always
  type: dict
  sample:
    longest_gap_seconds: 6.2
    lost: 0
    healthy_after_fault_seconds: 9.8
    series: [{name: append, attempted: 600, acknowledged: 541, lost: 0, duplicated: 0, longest_gap_seconds: 6.2}]
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.failover_records import (
    Events,
    Unreadable,
    headline,
    judge,
    parse,
)
from ansible_collections.sutazai.platform.plugins.module_utils.failover_report import page

TOLD = (
    "component",
    "fault",
    "what",
    "platform",
    "victim",
    "client",
    "leader_before",
    "leader_after",
    "max_gap_seconds",
)


def main() -> None:
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            "records": {"type": "path", "required": True},
            "directory": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "component": {"type": "str", "required": True},
            "fault": {"type": "str", "required": True},
            "what": text,
            "platform": text,
            "victim": text,
            "client": text,
            "leader_before": text,
            "leader_after": text,
            "injected_at": {"type": "float"},
            "undone_at": {"type": "float"},
            "healthy_at": {"type": "float"},
            "max_gap_seconds": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        with open(wanted["records"], encoding="utf-8") as file:
            records = parse(file)
    except (OSError, Unreadable) as error:
        module.fail_json(msg=f"{wanted['records']}: {error}")
    events = Events(wanted["injected_at"], wanted["undone_at"], wanted["healthy_at"])
    result = judge(records, events, wanted["max_gap_seconds"])
    meta = {name: wanted[name] for name in TOLD}
    base = os.path.join(wanted["directory"], wanted["name"])
    summary = headline(meta, result)
    if not module.check_mode:
        os.makedirs(wanted["directory"], exist_ok=True)
        with open(f"{base}.json", "w", encoding="utf-8") as file:
            json.dump({**meta, "summary": summary, **result}, file, indent=2)
            file.write("\n")
        with open(f"{base}.html", "w", encoding="utf-8") as file:
            file.write(page(meta, records, result))
    module.exit_json(
        changed=True,
        passed=result["passed"],
        problems=result["problems"],
        summary=summary,
        report=f"{base}.html",
        result=result,
    )


if __name__ == "__main__":
    main()
