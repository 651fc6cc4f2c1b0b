"""The gateway's routes as Kong's declarative configuration."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gateway_kong
short_description: The gateway's routes as Kong's declarative configuration
version_added: "0.1.0"
author: SutazAI platform team (@sutazai)
description:
  - Checks the table of routes and makes the configuration of a Kong 3.9 without a database from it. Fails with everything that is wrong with
    the table. C(docs/gateway.md) describes the table.
positional: gateways, traces_url, service_name
options:
  _input:
    description: The table, as in C(gateway_routes).
    type: dict
    required: true
  gateways:
    description: How many gateways share the rate limits of the table. Each counts for itself.
    type: int
    default: 1
  traces_url:
    description: Where traces are sent to, OTLP over HTTP; empty for none.
    type: str
    default: ""
  service_name:
    description: The gateway's name in traces.
    type: str
    default: kong
seealso:
  - plugin: sutazai.platform.gateway_envoy
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write Kong's configuration
  ansible.builtin.copy:
    content: "{{ gateway_routes | sutazai.platform.gateway_kong(gateways=groups['gateways'] | length) | to_nice_json }}"
    dest: /etc/kong/kong.json
    mode: "0640"
"""

RETURN = r"""
_value:
  description: The configuration, with services, upstreams and plugins.
  type: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.sutazai.platform.plugins.module_utils.gateway_kong import render
from ansible_collections.sutazai.platform.plugins.module_utils.gateway_routes import WrongTable, read


def gateway_kong(table, gateways=1, traces_url="", service_name="kong"):
    try:
        return render(read(table), int(gateways), str(traces_url or ""), str(service_name))
    except WrongTable as wrong:
        raise AnsibleFilterError(str(wrong)) from wrong


class FilterModule:
    def filters(self):
        return {"gateway_kong": gateway_kong}
