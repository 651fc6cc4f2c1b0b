#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Keep a Patroni cluster's dynamic configuration."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patroni_config
short_description: Keep a Patroni cluster's dynamic configuration
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Compares what the cluster keeps in its configuration store (C(GET /config)) with what is wanted, and sends the difference
    (C(PATCH /config)). Patroni's members take it over by themselves within one loop; what needs a restart they report as pending.
  - Settings that O(config) doesn't name stay, except PostgreSQL's parameters, which it owns as a whole.
options:
  prefer:
    description: The member to ask first, normally the leader. The others are asked when it doesn't answer.
    type: str
    default: ""
  config:
    description: The settings wanted. A null removes a setting. Empty only reads.
    type: dict
    default: {}
  settle_seconds:
    description: How long to wait after a change, so that all members have taken it over.
    type: int
    default: 0
extends_documentation_fragment: [sutazai.platform.patroni, sutazai.platform.patroni.client]
attributes:
  check_mode: {support: full, description: Says what would be changed.}
  diff_mode: {support: full, description: Shows the settings before and after.}
"""

EXAMPLES = r"""
- name: Keep the cluster's settings
  sutazai.platform.patroni_config:
    members: {postgresql-1: 10.0.0.41, postgresql-2: 10.0.0.42}
    ca_file: /etc/sutazai/pki/ca.crt
    username: patroni
    password: "{{ patroni_rest_password }}"
    config:
      ttl: 30
      postgresql: {parameters: {max_connections: 200}}
"""

RETURN = r"""
config:
  description: The settings as they are now (in check mode, as they would be).
  returned: always
  type: dict
patch:
  description: What was sent.
  returned: always
  type: dict
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils.patroni import apply_patch, config_patch
from ansible_collections.sutazai.platform.plugins.module_utils.patroni_rest import CLIENT_OPTIONS, REST_OPTIONS, Rest


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **REST_OPTIONS,
            **CLIENT_OPTIONS,
            "prefer": {"type": "str", "default": ""},
            "config": {"type": "dict", "default": {}},
            "settle_seconds": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    rest = Rest(wanted, wanted["username"], wanted["password"])
    names = sorted(rest.members, key=lambda name: name != wanted["prefer"])
    live, chosen, errors = None, "", []
    for name in names:
        answer, error = rest.ask(name, "/config")
        if isinstance(answer, dict) and not error:
            live, chosen = answer, name
            break
        errors.append(f"{name}: {error or 'no configuration'}")
    if live is None:
        module.fail_json(
            msg=f"No member of the cluster tells its configuration ({'; '.join(errors)}). Is Patroni running, and has the cluster a leader?"
        )
    patch = config_patch(live, wanted["config"])
    after = apply_patch(live, patch)
    if patch and not module.check_mode:
        answer, error = rest.ask(chosen, "/config", "PATCH", patch)
        if error:
            module.fail_json(msg=f"{chosen} refused the changed configuration: {error}", patch=patch)
        after = answer if isinstance(answer, dict) else after
        time.sleep(wanted["settle_seconds"])

    def show(config: dict) -> str:
        return json.dumps(config, indent=2, sort_keys=True) + "\n"

    module.exit_json(
        changed=bool(patch),
        config=after,
        patch=patch,
        diff={"before": show(live), "after": show(after)} if patch else {},
    )


if __name__ == "__main__":
    main()
