"""Mitogen's linear strategy without its pinning of processes to processors.

On two or three processors Mitogen pins its multiplexer to the first and all of Ansible's workers to the second, one here. The lab's
workers are what takes the time, and so half of the machine stood idle: 146 s for a run that takes 94 s unpinned.
"""

from __future__ import annotations

import ansible_mitogen.affinity

ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()

# After the policy, which the strategy applies to this process when it is imported.
import ansible_mitogen.loaders  # noqa: E402
import ansible_mitogen.strategy  # noqa: E402

Linear = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, Linear):
    """What Ansible's loader looks for."""
