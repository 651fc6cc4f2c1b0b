"""The Swarm as its members see it."""

from __future__ import annotations

import json

import pytest


@pytest.mark.hosts("converge")
def test_every_host_is_an_active_member(node):
    swarm = json.loads(node.run("docker info --format '{{json .Swarm}}'"))
    assert swarm["LocalNodeState"] == "active"
    assert len(swarm["RemoteManagers"]) == 3


@pytest.mark.hosts("converge")
def test_no_join_token_is_in_the_journal(node):
    assert node.host.run("journalctl --no-pager | grep -q SWMTKN").rc == 1
