"""Runs playbooks on the lab and judges the runs.

python -m tests.tools.e2e check [--changes=0]    --check without errors (and without changes)
python -m tests.tools.e2e again                  as the lab was converged: changes nothing, restarts nothing; prints its time beside the first run's
python -m tests.tools.e2e upgrade                a rolling upgrade where nothing is due: changes nothing, restarts nothing
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

from lab import converge, settings
from tests.tools.run import CHECKOUT

RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
UNITS = ("consul", "rabbitmq-server", "redis-server", "patroni", "pgbouncer")
TIMINGS = CHECKOUT / ".lab" / "timings.json"


def site(
    *arguments: str, environment: dict[str, str] | None = None, playbook: str = "site.yml"
) -> tuple[int, dict[str, int], float]:
    """(exit code, changes of each host, seconds) of one run; its output goes on to ours.

    Without an environment it runs as in production, with the stock strategy.
    """
    command = ["ansible-playbook", "-i", "inventories/lab", playbook, *arguments]
    began = time.monotonic()
    lines = []
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(line)
    changes = {host: int(changed) for host, changed, _, _ in RECAP.findall("".join(lines)) if host != "localhost"}
    return process.returncode, changes, time.monotonic() - began


def started() -> dict[str, str]:
    """When each clustered daemon of each host was started."""
    show = f"systemctl show --property=Id,ExecMainStartTimestampMonotonic,NRestarts {' '.join(UNITS)}"
    command = ["ansible", "all", "-i", "inventories/lab", "--one-line", "-m", "ansible.builtin.command", "-a", show]
    text = subprocess.run(command, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in text.splitlines() if " | " in line)


def first_run_seconds() -> float | None:
    try:
        return json.loads(TIMINGS.read_text(encoding="utf-8"))["seconds"]["converge"]
    except (OSError, ValueError, KeyError):
        return None


def check(changes_allowed: bool) -> list[str]:
    code, changes, _ = site("--check")
    problems = [] if code == 0 else [f"--check ended with {code}"]
    if not changes:
        problems.append("no host was checked")
    if not changes_allowed:
        problems += [f"--check would change {count} things on {host}" for host, count in changes.items() if count]
    return problems


def again() -> list[str]:
    before = started()
    # As the first run was made, so that their times can be compared.
    code, changes, seconds = site(environment={**os.environ, **converge.environment(settings.load(CHECKOUT))})
    problems = [] if code == 0 else [f"the second run ended with {code}"]
    if not changes:
        problems.append("no host was reached")
    problems += [f"the second run changed {count} things on {host}" for host, count in changes.items() if count]
    after = started()
    problems += [f"a daemon was restarted on {host}" for host in before if before[host] != after.get(host)]
    # Printed, not judged: a wall clock on a shared machine says little about one run. `benchmarks/lab.py warm` measures it.
    first = first_run_seconds()
    print(f"\nsecond run: {seconds:.0f} s; first run: {f'{first:.0f} s' if first else 'not measured'}")
    return problems


def upgrade() -> list[str]:
    before = started()
    environment = {**os.environ, **converge.environment(settings.load(CHECKOUT))}
    code, changes, _ = site(environment=environment, playbook="playbooks/rolling_upgrade.yml")
    problems = [] if code == 0 else [f"the upgrade ended with {code}"]
    problems += [f"the upgrade changed {count} things on {host}" for host, count in changes.items() if count]
    after = started()
    problems += [f"a daemon was restarted on {host}" for host in before if before[host] != after.get(host)]
    return problems


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["check"]:
        problems = check(changes_allowed="--changes=0" not in arguments)
    elif arguments == ["again"]:
        problems = again()
    elif arguments == ["upgrade"]:
        problems = upgrade()
    else:
        print(__doc__, file=sys.stderr)
        return 2
    print("\n".join(f"PROBLEM: {problem}" for problem in problems) or "as it should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
