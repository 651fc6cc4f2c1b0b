"""Celery's workers: a unit for each pool, secrets that only they read, a graceful stop."""

from __future__ import annotations

import pytest


@pytest.mark.hosts("agents")
def test_each_pool_has_a_worker_with_its_own_queues(node):
    shown = node.run("systemctl list-units --plain --no-legend --state=running 'celery-worker@*'")
    running = {line.split()[0].removeprefix("celery-worker@").removesuffix(".service") for line in shown.splitlines()}
    assert {"inference", "health", "processing", "training"} <= running
    environment = node.run("systemctl show --property=Environment --value celery-worker@training.service")
    assert "CELERY_QUEUES=training" in environment


@pytest.mark.hosts("agents")
def test_secrets_are_the_workers_own_and_on_no_command_line(node):
    for name in ("rabbitmq", "redis"):
        file = node.host.file(f"/etc/sutazai/celery/{name}.password")
        assert (file.user, file.mode) == ("celery", 0o600)
    secret = node.run("cat /etc/sutazai/celery/rabbitmq.password").strip()
    assert secret
    assert secret not in node.run("ps -ewwo args")


@pytest.mark.hosts("agents")
def test_a_worker_that_is_stopped_says_good_bye(node):
    """By SIGTERM, which is a warm shutdown, and not by the kill after the timeout."""
    node.run("systemctl restart celery-worker@health.service")
    log = node.run("journalctl --unit=celery-worker@health.service --output=cat --lines=200")
    assert "Warm shutdown" in log
    node.run("/usr/local/lib/sutazai/celery-ping 60 health")
