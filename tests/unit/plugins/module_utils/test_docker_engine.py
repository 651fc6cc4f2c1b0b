"""What this host's kernel can do for the engine."""

from __future__ import annotations

import os

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import docker_engine


@pytest.mark.parametrize(
    ("path", "content", "has"),
    [
        ("proc/net/ip_vs", "", True),
        ("sys/module/ip_vs/refcnt", "0", True),
        (
            "lib/modules/{release}/modules.dep",
            "kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/lib/libcrc32c.ko.xz\n",
            True,
        ),
        ("lib/modules/{release}/modules.dep", "kernel/net/x.ko: kernel/net/netfilter/ipvs/ip_vs.ko\n", False),
        ("lib/modules/of-another/modules.dep", "kernel/net/netfilter/ipvs/ip_vs.ko:\n", False),
    ],
)
def test_ipvs_is_found_in_the_kernel_or_beside_it(tmp_path, path, content, has):
    file = tmp_path / path.format(release=os.uname().release)
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert docker_engine.has_ipvs(str(tmp_path)) is has
