"""The runtime package: one environment in use, owned by root, that needs nothing from outside."""

from __future__ import annotations

import pytest

LINK = "/opt/sutazai-runtime/current"


@pytest.mark.hosts("agents")
def test_the_environment_in_use_is_whole_and_nobody_else_writes_it(node):
    assert node.host.file(LINK).is_symlink
    target = node.host.file(node.host.file(LINK).linked_to)
    assert (target.user, target.mode & 0o022) == ("root", 0)
    assert node.run(f"{LINK}/bin/python -m pip check") == "No broken requirements found."
    assert "sutazai-autoscaler" in node.run(f"{LINK}/bin/sutazai-autoscaler --help")
