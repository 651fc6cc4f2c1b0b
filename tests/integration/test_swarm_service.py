"""What swarm_service refuses before the engine is asked for anything."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.docker_engine import has_ipvs

from tests.integration.modules import run_module
from tests.integration.swarm_engine import Swarm, serving


@pytest.mark.skipif(has_ipvs(), reason="this kernel has IPVS")
@pytest.mark.parametrize("check", [False, True])
def test_without_ipvs_a_virtual_address_is_refused(tmp_path, check):
    swarm = Swarm(1, 0)
    with serving(swarm, tmp_path / "docker.sock") as socket:
        service = {"socket": socket, "name": "web", "image": "sha256:1", "ports": [{"target": 80, "mode": "ingress"}]}
        done = run_module("swarm_service", {**service, "endpoint_mode": "vip"}, check)
    assert done["failed"]
    assert "couldn't be reached by endpoint_mode (vip) and the mode of port 80 (ingress)" in done["msg"]
    assert swarm.requests == []
