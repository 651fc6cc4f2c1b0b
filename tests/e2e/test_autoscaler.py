"""The autoscaler: a unit that decides on Swarm managers, secrets that only it reads."""

from __future__ import annotations

import pytest


@pytest.mark.hosts("swarm_managers")
def test_it_runs_and_its_token_is_its_own(node):
    assert node.run("systemctl is-active sutazai-autoscaler sutazai-autoscaler-report").split() == ["active"] * 2
    token = node.host.file("/etc/sutazai/autoscaler/consul.token")
    assert (token.user, token.mode) == ("sutazai-autoscaler", 0o600)
    assert "sutazai_autoscaler_leader" in node.run("curl --silent --fail http://127.0.0.1:9105/metrics")
