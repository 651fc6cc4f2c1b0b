"""What runs beside what: the tests wait for servers most of the time, so files run in parallel, those that share the lab one after another."""

from __future__ import annotations

from pathlib import PurePath

import pytest
from xdist.scheduler import LoadScopeScheduling

# One of them stops members that the others talk to.
SHARE_THE_LAB = {"test_missing_member.py", "test_postgresql_partition.py", "test_rabbitmq_modules.py"}


class ByFile(LoadScopeScheduling):
    """In place of --dist loadgroup, which groups nothing with pytest 9.2: xdist 3.8 writes the group where pytest no longer reads it."""

    def _split_scope(self, nodeid: str) -> str:
        file = PurePath(nodeid.split("::")[0]).name
        return "lab" if file in SHARE_THE_LAB else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log) -> ByFile:
    return ByFile(config, log)
