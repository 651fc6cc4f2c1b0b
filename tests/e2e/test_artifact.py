"""Third-party binaries: unpacked beside older versions, reached through a link."""

from __future__ import annotations

import pytest


@pytest.mark.hosts("all")
def test_the_binary_is_a_link_into_its_versions_directory(node):
    link = node.host.file("/usr/local/bin/consul")
    assert link.is_symlink
    assert link.linked_to.startswith("/opt/sutazai/consul/")
    assert node.run("consul version").startswith(f"Consul v{node.variables['consul_version']}")
    target = node.host.file(link.linked_to)
    assert (target.user, target.mode & 0o022) == ("root", 0)
