"""The virtual address: one holder, and another as soon as it can't hold it any more."""

from __future__ import annotations

import time

import pytest

pytestmark = [pytest.mark.hosts("load_balancers"), pytest.mark.unit("keepalived", "haproxy")]


@pytest.fixture(autouse=True)
def _load_balancers(platform):
    if not platform.group("load_balancers"):
        pytest.skip("no load balancers in this inventory")


def holders(platform):
    address = platform.group("load_balancers")[0].variables["platform_vip"]
    return [
        node.name
        for node in platform.group("load_balancers")
        if node.run(f"ip -brief address show to {address}").strip()
    ]


def test_it_runs_and_starts_with_the_host(node):
    service = node.host.service("keepalived")
    assert service.is_running
    assert service.is_enabled


def test_exactly_one_holds_the_address(platform):
    assert len(holders(platform)) == 1


def test_every_member_reaches_the_load_balancer_at_the_address(node):
    address = node.variables["platform_vip"]
    assert node.run(f"curl -sk -o /dev/null -w '%{{http_code}}' http://{address}/") == "308"


def test_a_load_balancer_that_is_killed_loses_the_address_at_once(platform):
    before = holders(platform)
    assert len(before) == 1
    platform.nodes[before[0]].run("systemctl kill --signal=KILL haproxy")
    deadline = time.monotonic() + 5
    # Nobody holds it for a moment: the first one gives it up at once, the other takes it a second later.
    while (after := holders(platform)) in (before, []) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(after) == 1
    assert after != before
    # And it doesn't go back when the first one is up again: each move costs its clients their connections.
    platform.nodes[before[0]].run(
        "for i in $(seq 50); do systemctl is-active -q haproxy && exit 0; sleep 0.1; done; exit 1"
    )
    time.sleep(3)
    assert holders(platform) == after
