"""The one exception that ends a run with a sentence instead of a traceback."""

from __future__ import annotations


class LabError(Exception):
    """What is wrong, and the way out."""

    def __init__(self, problem: str, way_out: str = "", tail: list[str] | None = None):
        super().__init__(problem)
        self.problem = problem
        self.way_out = way_out
        self.tail = tail or []
