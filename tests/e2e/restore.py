"""Data is destroyed, restored and compared, on the lab. Not collected with the other tests: they need their data meanwhile.

Consul's restore is tried in tests/integration, since Patroni's lock is in the lab's Consul.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
REDIS = "set -a; . /etc/redis/admin.env; redis-cli --no-auth-warning --user admin -s /run/redis/redis-server.sock"
COUNT = 300


def playbook(name: str, component: str, **more: str) -> subprocess.CompletedProcess:
    verb = name.removesuffix(".yml")
    variables = {f"{verb}_component": component, **more}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventories/lab", f"playbooks/{name}"]
    for key, value in variables.items():
        command += ["-e", f"{key}={value}"]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PLATFORM_FAILURE_BUNDLE": "0"}
    return subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False, timeout=900
    )


def succeeded(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def redis_values(nodes) -> dict[str, str]:
    """The proof's keys and values, of whichever node is their master."""
    found = {}
    for node in nodes:
        if "role:master" not in node.run(f"{REDIS} info replication"):
            continue
        keys = node.run(f"{REDIS} --scan --pattern 'proof:*'").split()
        values = node.run(f"{REDIS}", "".join(f"GET {key}\n" for key in keys)).split() if keys else []
        found.update(zip(keys, values, strict=True))
    return found


@pytest.fixture
def members(platform):
    return platform.group("redis")


def test_redis(members):
    first = members[0]
    writes = "".join(f"SET proof:{number} value-{number} EX 86400\n" for number in range(COUNT))
    first.run(
        f"{REDIS.replace('-s /run/redis/redis-server.sock', '-c')} -h {first.address} --tls --cacert /etc/sutazai/pki/ca.crt",
        writes,
    )
    before = redis_values(members)
    assert before == {f"proof:{number}": f"value-{number}" for number in range(COUNT)}
    succeeded(playbook("backup.yml", "redis"))

    refused = playbook("restore.yml", "redis")
    assert refused.returncode != 0
    assert "Nothing was restored: there are" in refused.stdout
    assert redis_values(members) == before

    for node in members:
        if "role:master" in node.run(f"{REDIS} info replication"):
            node.run(f"{REDIS} flushall")
    assert redis_values(members) == {}
    succeeded(playbook("restore.yml", "redis"))
    assert redis_values(members) == before


def test_rabbitmq(platform):
    node = platform.group("rabbitmq")[0]

    def state() -> list[str]:
        asked = ("list_policies -p proof", "list_permissions -p proof")
        return [node.run(f"rabbitmqctl --quiet {words}", check=False).strip() for words in asked]

    node.run(
        "rabbitmqctl --quiet add_vhost proof; rabbitmqctl --quiet set_permissions -p proof application '^a' '^b' '^c'"
    )
    node.run("""rabbitmqctl --quiet set_policy -p proof limit '^a' '{"max-length": 7}'""")
    before = state()
    assert "max-length" in before[0]
    assert "^b" in before[1]
    try:
        succeeded(playbook("backup.yml", "rabbitmq"))
        node.run("rabbitmqctl --quiet delete_vhost proof")
        assert state() != before
        succeeded(playbook("restore.yml", "rabbitmq"))
        assert state() == before

        node.run("""rabbitmqctl --quiet set_policy -p proof limit '^a' '{"max-length": 8}'""")
        refused = playbook("restore.yml", "rabbitmq")
        assert refused.returncode != 0
        assert "policy proof limit" in refused.stdout
    finally:
        node.run("rabbitmqctl --quiet delete_vhost proof", check=False)
