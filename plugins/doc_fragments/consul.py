# Apache License 2.0 (see LICENSE)
"""What the modules for Consul have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description: Address of an agent of the cluster.
    type: str
    default: http://127.0.0.1:8500
  token:
    description: Token to ask with. Without one, an agent that denies by default only says who leads.
    type: str
  ca_file:
    description: CA certificates to trust when O(url) is HTTPS.
    type: path
  client_cert:
    description: Client certificate.
    type: path
  client_key:
    description: Key of the client certificate.
    type: path
  timeout_seconds:
    description: How long a single answer may take, in seconds.
    type: int
    default: 10
"""
