from __future__ import annotations

import shutil
import subprocess
import time

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.failover_faults import (
    FAULTS,
    Impossible,
    guard_here,
    guard_on_host,
    majority,
    plan,
    ruleset,
)

COMPLETE = {"unit": "redis-server", "peers": ["10.0.0.2", "10.0.0.3"], "power_off": ["off"], "power_on": ["on"]}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_can_be_undone(fault):
    planned = plan(fault, **COMPLETE)
    assert planned.inject and planned.undo and planned.what
    assert planned.held == (fault != "kill_process")


@pytest.mark.parametrize(
    ("fault", "missing", "said"),
    [
        ("kill_process", "unit", "systemd unit"),
        ("pause_process", "unit", "systemd unit"),
        ("isolate_host", "peers", "peers"),
        ("cut_from_majority", "peers", "peers"),
        ("stop_host", "power_off", "failover_power_off_command"),
        ("stop_host", "power_on", "failover_power_on_command"),
    ],
)
def test_what_is_missing_is_said(fault, missing, said):
    with pytest.raises(Impossible, match=said):
        plan(fault, **{name: value for name, value in COMPLETE.items() if name != missing})


def test_the_rules_drop_peers_both_ways_and_keep_ssh():
    text = ruleset(["10.0.0.2", "fd00::3"])
    assert text.index("tcp dport 22 accept") < text.index("ip saddr 10.0.0.2 drop")
    assert text.index("tcp sport 22 accept") < text.index("ip daddr 10.0.0.2 drop")
    assert "ip6 saddr fd00::3 drop" in text and "ip6 daddr fd00::3 drop" in text
    assert text.count("policy accept") == 2


@pytest.mark.skipif(not shutil.which("nft", path="/usr/sbin:/usr/bin"), reason="no nft here")
def test_nft_takes_the_rules():
    nft = shutil.which("nft", path="/usr/sbin:/usr/bin")
    command = [nft, "--check", "-f", "-"]
    done = subprocess.run(command, input=ruleset(["10.0.0.2", "fd00::3"]), capture_output=True, text=True, check=False)
    if "Operation not permitted" in done.stderr:
        pytest.skip("nft may not ask the kernel here")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("size", "cut"), [(3, 2), (4, 3), (5, 3), (6, 4), (7, 4)])
def test_a_majority_is_the_fewest_that_suffice(size, cut):
    others = [f"m{number}" for number in range(1, size)]
    assert len(majority(others)) == cut
    assert size - cut < size / 2 <= size - cut + 1, "what is left has no quorum, and would have one with one more"


def test_only_a_majority_is_cut_off():
    planned = plan("cut_from_majority", peers=[f"10.0.0.{number}" for number in range(2, 6)])
    assert planned.stdin.count("saddr") == 3 and "10.0.0.5" not in planned.stdin
    assert plan("isolate_host", peers=[f"10.0.0.{number}" for number in range(2, 6)]).stdin.count("saddr") == 4


def test_two_members_have_no_majority_apart_from_one():
    with pytest.raises(Impossible, match="only 1 others"):
        majority(["a"])


def test_the_guard_on_the_host_is_a_timer():
    command = guard_on_host(["systemctl", "start", "x"], 90)
    assert command[0] == "systemd-run" and "--on-active=90s" in command
    assert command[command.index("--") + 1 :] == ["systemctl", "start", "x"]


def test_the_guard_here_waits_and_passes_arguments_as_they_are(tmp_path):
    file = tmp_path / "a name $(with) things"
    began = time.monotonic()
    subprocess.run(guard_here(["touch", str(file)], 0.3), check=True)
    assert file.exists() and time.monotonic() - began >= 0.3
