# Apache License 2.0 (see LICENSE)
"""What the modules for RabbitMQ have in common."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  url:
    description: Address of the management API, such as C(https://10.0.0.21:15671).
    type: str
  other_urls:
    description: The other nodes' addresses, asked in this order when O(url) doesn't answer. A node in maintenance mode doesn't.
    type: list
    elements: str
    default: []
  username:
    description: An administrator's name. For reading alone, a user with the tag C(monitoring) will do.
    type: str
  password:
    description: Its password.
    type: str
  ca_file:
    description: The certificate authority that the API's certificate is checked against. Empty means the system's.
    type: path
  timeout_seconds:
    description: How long one request may take, in seconds.
    type: int
    default: 15
"""
