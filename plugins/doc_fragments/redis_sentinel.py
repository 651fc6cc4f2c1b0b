# Apache License 2.0 (see LICENSE)
"""What the modules for Redis with sentinels have in common, besides sutazai.platform.redis and its removed_nodes."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  sentinel_port:
    description: Port of the sentinel beside each server.
    type: int
    default: 26379
  master_name:
    description: What sentinels and clients call the master.
    type: str
    default: redis
"""
