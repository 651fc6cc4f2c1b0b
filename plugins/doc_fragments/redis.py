# Apache License 2.0 (see LICENSE)
"""What the modules for Redis have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  nodes:
    description: All members of the cluster, as the inventory has them.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The member's name in messages and results; the inventory's host name.
        type: str
        required: true
      host:
        description: Its address, the one it announces to the others.
        type: str
        required: true
      port:
        description: Its port for clients. The cluster bus is 10000 above.
        type: int
        default: 6379
      failure_domain:
        description: What fails together, such as a host or a rack. By default O(nodes[].name).
        type: str
        default: ""
  username:
    description: ACL user that may do everything.
    type: str
    default: default
  password:
    description: Its password. Empty means that none is sent.
    type: str
    default: ""
  tls:
    description: Whether to connect with TLS.
    type: bool
    default: true
  ca_file:
    description: CA bundle that the members' certificates are checked with.
    type: path
  cert_file:
    description: Client certificate, for members that ask for one.
    type: path
  key_file:
    description: Key of O(cert_file).
    type: path
  connect_timeout_seconds:
    description: How long a member may take to answer, in seconds.
    type: float
    default: 3
requirements:
  - redis (Python, 4.3 or later) on the host that runs the module
"""

    REMOVED = r"""
options:
  removed_nodes:
    description: Nodes that are to leave or have left. As long as they are members, they are looked at like all others.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The node's name in messages and results.
        type: str
        required: true
      host:
        description: Its address, the one it announces to the others.
        type: str
        required: true
      port:
        description: Its port for clients.
        type: int
        default: 6379
      failure_domain:
        description: What fails together. By default O(removed_nodes[].name).
        type: str
        default: ""
"""
