# Apache License 2.0 (see LICENSE)
"""What the modules for Patroni have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  members:
    description: The cluster's members, name to address.
    type: dict
    required: true
  port:
    description: Port of the REST API.
    type: int
    default: 8008
  ca_file:
    description: CA certificates that the members' certificates are checked against. Without it plain HTTP is spoken.
    type: path
  timeout_seconds:
    description: How long one member may take for an answer to a question, in seconds.
    type: int
    default: 5
"""

    # For the modules that change something: Patroni asks them who they are.
    CLIENT = r"""
options:
  cert_file:
    description: Certificate to show when something is changed, with its chain.
    type: path
  key_file:
    description: Its key.
    type: path
  username:
    description: User of the REST API.
    type: str
  password:
    description: Password of the REST API.
    type: str
"""
