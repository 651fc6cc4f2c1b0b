"""A Docker engine with the role's settings, asked on its host."""

from __future__ import annotations

import json

import pytest


@pytest.mark.hosts("converge")
def test_the_engine_rotates_logs_and_keeps_no_containers_alive_without_it(node):
    info = json.loads(node.run("docker info --format '{{json .}}'"))
    assert info["LoggingDriver"] == "json-file"
    assert info["LiveRestoreEnabled"] is False


@pytest.mark.hosts("converge")
def test_the_engine_starts_at_boot(node):
    service = node.host.service("docker")
    assert service.is_running
    assert service.is_enabled
