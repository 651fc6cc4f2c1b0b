# Apache License 2.0 (see LICENSE)
"""Which commands a fault consists of, and which undo it. Pure."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

TABLE = "sutazai_failover"
GUARD_UNIT = "sutazai-failover-undo"
PROCESS_FAULTS = ("kill_process", "pause_process")
NETWORK_FAULTS = ("isolate_host", "cut_from_majority")
FAULTS = (*PROCESS_FAULTS, *NETWORK_FAULTS, "stop_host")


class Impossible(Exception):
    """A fault that can't be injected as it is asked for."""


@dataclass(frozen=True)
class Plan:
    """`undo` may be run at any time and any number of times."""

    what: str
    inject: tuple[str, ...]
    undo: tuple[str, ...]
    stdin: str = ""
    held: bool = True  # it lasts until it is undone; otherwise the host gets over it by itself


def ruleset(peers: Sequence[str]) -> str:
    """nftables: nothing to or from these addresses but SSH, by which the fault is undone. In a table of its own."""
    lines = [f"table inet {TABLE} {{"]
    for chain, port, direction in (("input", "dport", "saddr"), ("output", "sport", "daddr")):
        lines += [
            f"  chain {chain} {{",
            f"    type filter hook {chain} priority -300; policy accept;",
            f"    tcp {port} 22 accept",
        ]
        lines += [f"    {'ip6' if ':' in peer else 'ip'} {direction} {peer} drop" for peer in peers]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


def majority(others: Sequence[str]) -> list[str]:
    """Of the other members as many as make a majority of all: the fewest whose loss costs a leader its quorum."""
    everyone = len(others) + 1
    needed = everyone // 2 + 1
    if len(others) < needed:
        raise Impossible(
            f"No majority can be cut off: of {everyone} members {needed} are one, and there are only {len(others)} others (peers)."
        )
    return list(others[:needed])


def plan(
    fault: str, unit: str = "", peers: Sequence[str] = (), power_off: Sequence[str] = (), power_on: Sequence[str] = ()
) -> Plan:
    if fault in PROCESS_FAULTS and not unit:
        raise Impossible(f"{fault} needs the name of the systemd unit whose processes are meant (unit).")
    if fault in NETWORK_FAULTS and not peers:
        raise Impossible(f"{fault} needs the addresses that the host is to be cut off from (peers).")
    if fault == "stop_host" and not (power_off and power_on):
        raise Impossible(
            "How a whole host is switched off and on again is not known here. Say it in the inventory, as commands that the "
            "controller runs: failover_power_off_command and failover_power_on_command, lists of arguments, such as "
            "[ipmitool, -f, /root/ipmi, -H, \"{{ bmc_address }}\", chassis, power, 'off']. The second one must also succeed on a host that runs."
        )
    if fault == "kill_process":
        return Plan(
            f"SIGKILL for every process of {unit}",
            ("systemctl", "kill", "--signal=SIGKILL", unit),
            ("systemctl", "start", unit),
            held=False,
        )
    if fault == "pause_process":
        return Plan(
            f"SIGSTOP for every process of {unit}",
            ("systemctl", "kill", "--signal=SIGSTOP", unit),
            ("systemctl", "kill", "--signal=SIGCONT", unit),
        )
    if fault in NETWORK_FAULTS:
        peers = majority(peers) if fault == "cut_from_majority" else peers
        return Plan(
            f"cut off from {', '.join(peers)} by nftables",
            ("nft", "-f", "-"),
            # Succeeds where there is no such table, too.
            ("nft", f"add table inet {TABLE}; delete table inet {TABLE}"),
            stdin=ruleset(peers),
        )
    return Plan(f"switched off ({power_off[0]})", tuple(power_off), tuple(power_on))


def guard_on_host(undo: Sequence[str], seconds: float) -> list[str]:
    """systemd undoes it when the time is over, whatever has become of Ansible by then."""
    return [
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={GUARD_UNIT}",
        f"--on-active={seconds:g}s",
        "--timer-property=AccuracySec=1s",
        "--",
        *undo,
    ]


def guard_here(undo: Sequence[str], seconds: float) -> list[str]:
    """The same on the controller, for a host that can't do it itself."""
    return ["sh", "-c", 'sleep "$1" && shift && exec "$@"', "failover-guard", f"{seconds:g}", *undo]


def start_guard_here(undo: Sequence[str], seconds: float) -> subprocess.Popen[bytes]:
    """It outlives the module that starts it, in a session of its own."""
    quiet = subprocess.DEVNULL
    return subprocess.Popen(guard_here(undo, seconds), stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
