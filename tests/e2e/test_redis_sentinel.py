"""Redis with sentinels: one master that all sentinels name, found by its name; TLS only, users with passwords only."""

from __future__ import annotations

import pytest

# The group `sentinels` is the Molecule scenario's; in the lab Redis is a cluster (test_redis.py).
pytestmark = [pytest.mark.hosts("sentinels"), pytest.mark.unit("redis-server", "redis-sentinel")]
PKI = "/etc/sutazai/pki"
# The role keeps the administrator's password in a file for root's own tools.
CLI = f"set -a; . /etc/redis/admin.env; redis-cli --no-auth-warning --user admin --tls --cacert {PKI}/ca.crt"


def cli(node, command: str, port: int = 6379) -> str:
    return node.run(f"{CLI} -h {node.address} -p {port} {command}")


def role(node) -> str:
    return cli(node, "ROLE").splitlines()[0]


def masters(platform) -> list:
    return [node for node in platform.group("sentinels") if role(node) == "master"]


def test_server_and_sentinel_run_and_start_with_the_host(node):
    for name in ("redis-server", "redis-sentinel"):
        assert node.host.service(name).is_running
        assert node.host.service(name).is_enabled
    assert node.host.service("redis-role.socket").is_enabled


def test_there_is_one_master_and_every_sentinel_names_it(node, platform):
    (master,) = masters(platform)
    assert cli(node, "SENTINEL get-master-addr-by-name redis", 26379).split() == [master.address, "6379"]
    assert cli(node, "SENTINEL CKQUORUM redis", 26379).startswith("OK 3 usable Sentinels")
    if node is not master:
        assert role(node) == "slave"
        assert "master_link_status:up" in cli(node, "INFO replication")


def test_only_tls_listens(node):
    assert node.exposed("redis-server") == {6379}
    assert node.exposed("redis-sentinel") | node.exposed("redis-sentinel ") == {26379}


def test_tls_verifies_for_the_services_names(node):
    assert "Verification: OK" in node.certificate_for(6379, "redis.service.consul")
    assert "Verification: OK" in node.certificate_for(26379, "redis-sentinel.service.consul")


def test_without_a_password_nothing_is_answered(node):
    for port, command in ((6379, "get anything"), (26379, "sentinel masters")):
        answer = node.run(
            f"redis-cli -h {node.address} -p {port} --tls --cacert {PKI}/ca.crt {command} 2>&1", check=False
        )
        assert "NOAUTH" in answer or "NOPERM" in answer


def test_a_client_may_ask_the_sentinels_and_no_more(node):
    password = node.platform.secret("redis_application_password")
    sign_in = f"read -r REDISCLI_AUTH; export REDISCLI_AUTH; redis-cli --no-auth-warning --user application -h {node.address} -p 26379"
    tls = f"--tls --cacert {PKI}/ca.crt"
    assert "6379" in node.run(f"{sign_in} {tls} SENTINEL get-master-addr-by-name redis", stdin=f"{password}\n")
    answer = node.run(f"{sign_in} {tls} SENTINEL FAILOVER redis 2>&1", stdin=f"{password}\n", check=False)
    assert "NOPERM" in answer


def test_the_name_leads_to_the_master_alone(member, platform):
    (master,) = masters(platform)
    assert member.run("getent ahostsv4 redis.service.consul | cut -d ' ' -f 1 | sort -u").split() == [master.address]
    found = member.run("getent ahostsv4 redis-sentinel.service.consul | cut -d ' ' -f 1 | sort -u").split()
    assert sorted(found) == sorted(node.address for node in platform.group("sentinels"))


def test_health_checks_say_who_is_master(node, platform):
    (master,) = masters(platform)
    status = node.run("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:6380/master")
    assert status == ("200" if node is master else "503")


def test_secrets_are_not_readable_to_others(node):
    assert node.run("find /etc/redis /var/lib/redis /var/lib/redis-sentinel -type f -perm /007").strip() == ""


def test_the_master_stops_writes_without_a_replica(platform, member):
    (master,) = masters(platform)
    assert cli(master, "CONFIG GET min-replicas-to-write").split()[-1] == "1"
