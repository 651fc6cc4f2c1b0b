"""The gateway's routes as what Envoy reads."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gateway_envoy
short_description: The gateway's routes as what Envoy reads
version_added: "0.1.0"
author: SutazAI platform team (@sutazai)
description:
  - Checks the table of routes and makes Envoy's bootstrap and the files that a running Envoy watches from it. Fails with everything that is
    wrong with the table. C(docs/gateway.md) describes the table.
positional: settings
options:
  _input:
    description: The table, as in C(gateway_routes).
    type: dict
    required: true
  settings:
    description: What the gateway has of its own.
    type: dict
    suboptions:
      name:
        description: Name of this gateway.
        type: str
        default: gateway
      address:
        description: Address that it listens on.
        type: str
        default: 0.0.0.0
      port:
        description: Port that it listens on.
        type: int
        default: 8000
      admin_port:
        description: Port of the administration interface, on loopback.
        type: int
        default: 9901
      status_address:
        description: Address of C(/status/ready) and C(/metrics); empty for that of O(settings.address).
        type: str
        default: ""
      status_port:
        description: Port of C(/status/ready) and C(/metrics); 0 for none.
        type: int
        default: 0
      directory:
        description: Directory of the watched files.
        type: path
        default: /etc/envoy-gateway/xds
      gateways:
        description: How many gateways share the rate limits of the table. Each counts for itself.
        type: int
        default: 1
      trusted_hops:
        description: How many proxies in front of it name the client in C(X-Forwarded-For).
        type: int
        default: 0
      clients_maximum:
        description: How many clients are remembered for each rate limit.
        type: int
        default: 10000
      connections_maximum:
        description: How many connections it takes at once.
        type: int
        default: 20000
      keepalive_seconds:
        description: How long an idle connection to a host is kept, in seconds. Shorter than the hosts keep theirs.
        type: float
        default: 4
      drain_seconds:
        description: How long connections of a listener that is replaced are given to end, in seconds.
        type: int
        default: 30
      tls_cert_file:
        description: The gateway's certificate with its chain; empty to listen in plain text.
        type: path
        default: ""
      tls_key_file:
        description: Key of the certificate.
        type: path
        default: ""
      upstream_ca_file:
        description: CA certificates that those of hosts are checked against.
        type: path
        default: ""
      traces_host:
        description: Host that traces are sent to, OTLP over HTTP; empty for none.
        type: str
        default: ""
      traces_port:
        description: Port of it.
        type: int
        default: 4318
      service_name:
        description: The gateway's name in traces.
        type: str
        default: gateway
seealso:
  - plugin: sutazai.platform.gateway_kong
    plugin_type: filter
  - module: sutazai.platform.envoy_resources
"""

EXAMPLES = r"""
- name: Write the files that Envoy watches
  sutazai.platform.envoy_resources:
    directory: /etc/envoy-gateway/xds
    files: "{{ (gateway_routes | sutazai.platform.gateway_envoy({'port': 8000, 'gateways': 2})).files }}"
"""

RETURN = r"""
_value:
  description: >-
    Texts in JSON. C(bootstrap) is what Envoy is started with; C(files) has the watched files by name; C(check) is all of it in one document
    for C(envoy --mode validate), which doesn't read watched files.
  type: dict
"""

from dataclasses import fields

from ansible.errors import AnsibleFilterError
from ansible_collections.sutazai.platform.plugins.module_utils import gateway_envoy as envoy
from ansible_collections.sutazai.platform.plugins.module_utils.gateway_routes import WrongTable, read

KINDS = {"int": int, "float": float, "str": str}


def settings_of(given):
    known = {field.name: KINDS[field.type] for field in fields(envoy.Settings)}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise AnsibleFilterError(f"gateway_envoy has no setting {', '.join(unknown)}. It has {', '.join(known)}.")
    return envoy.Settings(**{name: known[name](value) for name, value in given.items()})


def gateway_envoy(table, settings=None):
    try:
        own = settings_of(settings or {})
        made = envoy.render(read(table), own)
    except WrongTable as wrong:
        raise AnsibleFilterError(str(wrong)) from wrong
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(f"A setting of gateway_envoy has the wrong type: {error}.") from error
    return {
        "bootstrap": envoy.text_of(envoy.bootstrap(own)),
        "files": {name: envoy.text_of(document) for name, document in made.items()},
        "check": envoy.text_of(envoy.as_one(made, own)),
    }


class FilterModule:
    def filters(self):
        return {"gateway_envoy": gateway_envoy}
