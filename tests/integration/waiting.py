"""For what comes about in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def eventually(ask: Callable[[], Any], seconds: float = 40) -> Any:
    """The first answer that is something. What fails meanwhile, say a connection to a server that isn't up yet, is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = ask()
        except Exception:
            if time.monotonic() > deadline:
                raise
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, f"it didn't come about in {seconds} s"
        time.sleep(0.2)
