#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Have Debian packages installed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Have Debian packages installed
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Asks dpkg's records, which takes milliseconds, and leaves the work to M(ansible.builtin.apt) when something is missing. Opening apt's
    index to find nothing to do takes a second or two of processor time on every host.
  - Neither upgrades nor removes. Recommended packages aren't installed.
  - Finishes what a killed dpkg left half done, which apt refuses to go on from.
  - An action plugin calls apt; the module alone only says what is missing.
options:
  name:
    description: Names of packages, each with C(=VERSION) where only that version will do.
    type: list
    elements: str
    required: true
  cache_valid_seconds:
    description: How old apt's index may be before it is read anew, in seconds. Only looked at when a package is missing.
    type: int
    default: 86400
  lock_timeout_seconds:
    description: How long another package manager on the host may hold its lock, in seconds. One that was left by a killed run ends by itself.
    type: int
    default: 300
attributes:
  check_mode: {support: full, description: Says what would be installed.}
  diff_mode: {support: full, description: As M(ansible.builtin.apt) shows it.}
seealso:
  - module: ansible.builtin.apt
"""

EXAMPLES = r"""
- name: Install the packages
  sutazai.platform.packages:
    name: [redis-server, redis-tools]
"""

RETURN = r"""
missing:
  description: Which of O(name) were not installed before.
  returned: always
  type: list
  elements: str
repaired:
  description: Whether a half-done installation was finished.
  returned: always
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import dpkg, dpkg_work


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "cache_valid_seconds": {"type": "int", "default": 86400},
            "lock_timeout_seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    dpkg_work.require_debian(module)
    repaired = dpkg_work.finish_interrupted_work(module, module.params["lock_timeout_seconds"])
    missing = dpkg.missing(module.params["name"], dpkg_work.status())
    module.exit_json(changed=repaired or bool(missing), missing=missing, repaired=repaired)


if __name__ == "__main__":
    main()
