"""What dpkg's records say of packages."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import dpkg

STATUS = """Package: redis-server
Status: install ok installed
Architecture: amd64
Version: 5:8.0.2-3
Description: server
 Package: not-a-field
Conffiles:
 /etc/redis/redis.conf 0123

Package: gone
Status: deinstall ok config-files
Version: 1.0

Package: half
Status: install ok half-configured
Version: 2.0

Package: held
Status: hold ok installed
Version: 3.0

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.41

Package: libc6
Status: deinstall ok config-files
Architecture: i386
Version: 2.40
"""


@pytest.mark.parametrize(
    ("wanted", "missing"),
    [
        (["redis-server"], []),
        (["redis-server:amd64"], []),
        (["redis-server=5:8.0.2-3"], []),
        (["redis-server=5:8.0.3-1"], ["redis-server=5:8.0.3-1"]),
        (["held", "libc6"], []),
        (["gone", "half", "unknown", "redis-server"], ["gone", "half", "unknown"]),
        (["not-a-field"], ["not-a-field"]),
        ([], []),
    ],
)
def test_missing(wanted, missing):
    assert dpkg.missing(wanted, STATUS) == missing


@pytest.mark.parametrize(
    ("updates", "interrupted"), [([], False), (["tmp.i"], False), (["0001"], True), (["tmp.i", "0000"], True)]
)
def test_interrupted(updates, interrupted):
    assert dpkg.interrupted(updates) is interrupted
