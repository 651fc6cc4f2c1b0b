"""From which version to which a component may go in one step."""

from __future__ import annotations

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.upgrade_paths import step

ALLOWED = [
    ("consul", "1.20.6", "1.21.0"),
    ("consul", "1.20.6", "1.22.1"),
    ("consul", "1.20.6", "1.20.9"),
    ("consul", "1.21.7", "2.0.0"),
    ("rabbitmq-server", "3.10.8-1.1+deb12u1", "3.10.8-1.1+deb12u2"),
    ("rabbitmq-server", "3.11.28-1", "3.12.14-1"),
    ("rabbitmq-server", "3.12.14-1", "3.13.7-1"),
    ("rabbitmq-server", "3.13.7-1", "4.0.5-1"),
    ("rabbitmq-server", "3.13.7-1", "4.2.1-1"),
    ("rabbitmq-server", "4.0.5-1", "4.0.5-2"),
    ("rabbitmq-server", "4.0.5-1", "4.0"),
    ("rabbitmq-server", "4.2.1", "4.3.0"),
    ("redis-server", "5:7.0.15-1~deb12u7", "5:7.0.15-1~deb12u10"),
    ("redis-server", "5:7.0.15-1", "5:8.0.2-3"),
    ("postgresql-15", "15.18-0+deb12u1", "15.20-0+deb12u1"),
    ("patroni", "3.0.2-1", "4.0.7-1"),
    ("pgbouncer", "1.18.0-1", "1.24.1-1"),
    ("redis-tools", "", "5:8.0.2-3"),
    ("libpq5", "15.18-0", "17.6-0"),
]
REFUSED = [
    ("consul", "1.21.0", "1.20.6", "set consul_version to 1.21.0 or newer"),
    ("consul", "1.16.3", "1.20.6", "Go by 1.18 first"),
    ("consul", "1.21.4", "2.2.0", "Go by 2.0 first"),
    ("consul", "1.20.6", "2.0.0", "Go by 1.22 first"),
    ("rabbitmq-server", "3.10.8-1.1", "4.0.5-1", "Upgrade to 3.13 with every feature flag enabled first"),
    ("rabbitmq-server", "3.10.8", "3.12.1", "Upgrade to 3.11.18 with every"),
    ("rabbitmq-server", "3.11.2", "3.12.1", "Upgrade to 3.11.18 with every"),
    ("rabbitmq-server", "3.13.7", "4.3.0", "Upgrade to 4.2 with every"),
    ("rabbitmq-server", "4.2.1", "4.9.0", "aren't known here"),
    ("rabbitmq-server", "4.0.5", "4.0.2", "can't be downgraded"),
    ("redis-server", "5:6.0.16-1", "5:8.0.2-3", "Go by 7 first"),
    ("redis-server", "5:8.0.2-3", "5:7.0.15-1", "can't be downgraded"),
    ("postgresql-15", "15.20-0", "17.6-0", "logical replication"),
    ("postgresql-client-15", "15.20-0", "15.18-0", "never taken back"),
    ("patroni", "2.1.4-1", "4.0.7-1", "Go by 3 first"),
    ("patroni", "4.0.7-1", "3.0.2-1", "can't be downgraded"),
    ("pgbouncer", "1.24.1-1", "1.18.0-1", "isn't taken back"),
]


@pytest.mark.parametrize(("package", "before", "after"), ALLOWED)
def test_a_step_that_is_allowed(package, before, after):
    assert step(package, before, after) == ""


@pytest.mark.parametrize(("package", "before", "after", "said"), REFUSED)
def test_a_step_that_is_not(package, before, after, said):
    assert said in step(package, before, after)
