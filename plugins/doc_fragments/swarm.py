"""Options of modules that talk to a host's Docker engine about its Swarm."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  socket:
    description: The engine's socket.
    type: path
    default: /run/docker.sock
"""
