"""The inventory tier: every rule over the whole inventory."""

from __future__ import annotations

from . import topology, traffic, variables
from .model import Inventory, Problem, merged


def check(inventory: Inventory) -> tuple[list[Problem], list[Problem]]:
    """All problems, then all warnings."""
    found = merged(
        problem for rule in (*topology.RULES, *traffic.RULES, *variables.RULES) for problem in rule(inventory)
    )
    return [problem for problem in found if not problem.warning], [problem for problem in found if problem.warning]
