"""playbooks/rotate_secrets.yml as it is, over roles that only note what they were asked for: the order in which hosts are changed."""

from __future__ import annotations

import time

import pytest

from tests.integration.noting_roles import Platform

GROUPS = {
    "consul_servers": ["consul-1"],
    "rabbitmq": ["rabbitmq-1"],
    "redis": ["redis-1", "redis-2"],
    "postgresql": ["pg-1", "pg-2"],
    "swarm_managers": ["manager-1"],
    "agents": ["agent-1", "agent-2"],
    "flower": ["manager-1"],
    "registry": ["manager-1"],
    "mesh": ["agent-2"],
    "fabio": ["fabio-1", "fabio-2"],
    "gateways": ["gateway-1"],
    "load_balancers": ["gateway-1"],
}
HOSTS = list(dict.fromkeys(host for hosts in GROUPS.values() for host in hosts))
ENTRIES = {
    "consul": ["rotate_gossip_key", "rotate_tokens", "restart"],
    "rabbitmq": ["rotate", "register"],
    "redis": ["rotate_accept", "rotate", "register"],
    "patroni": ["rotate", "rotate_reload", "rotate_token"],
    "pgbouncer": ["rotate", "rotate_reload", "register"],
    "pki": ["rotate_authority", "rotate_trust", "rotate"],
    "celery": ["rotate_accept", "rotate"],
    "flower": ["rotate_accept", "rotate", "register"],
    "autoscaler": ["rotate", "rotate_token"],
    "registrar": ["rotate_token"],
    "fabio": ["rotate_token", "register"],
    "envoy": ["rotate_token"],
    **{role: ["register"] for role in ("kong", "envoy_gateway", "haproxy", "registry")},
}
#: Who has a token, on the hosts that the inventory gives it.
TOKENS = {
    "consul rotate_tokens": HOSTS,
    "patroni rotate_token": ["pg-1", "pg-2"],
    "fabio rotate_token": ["fabio-1", "fabio-2"],
    "envoy rotate_token": ["agent-2"],
    "registrar rotate_token": ["manager-1", "agent-1", "agent-2"],
    "autoscaler rotate_token": ["manager-1", "agent-1", "agent-2"],
    "rabbitmq register": ["rabbitmq-1"],
    "redis register": ["redis-1", "redis-2"],
    "pgbouncer register": ["pg-1", "pg-2"],
    "kong register": ["gateway-1"],
    "haproxy register": ["gateway-1"],
    "registry register": ["manager-1"],
    "flower register": ["manager-1"],
    "fabio register": ["fabio-1", "fabio-2"],
}
# An agent is older than the authorities on the database's hosts that the test names.
SERVICE = """
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule(argument_spec={"name": {"type": "str"}, "restart_paths": {"type": "list"}}, supports_check_mode=True)
module.exit_json(changed=False, restart_needed=True)
"""
#: What an entry point was given, beside who was asked.
HOW = " retire={{ platform_consul_retire_former_tokens }} before={{ platform_consul_reissue_tokens_before }}"
GIVEN = {
    "rotate_authority": " {{ pki_rotate_step }}",
    **dict.fromkeys(("rotate_tokens", "rotate_token", "register"), HOW),
}


def tasks(platform: Platform, role: str, entry: str) -> list[dict]:
    if entry == "verify":
        healthy = {"that": f"unhealthy | default('') != '{role} ' ~ inventory_hostname"}
        return [{"name": "Refuse an unhealthy cluster", "ansible.builtin.assert": healthy}]
    return [platform.note(f"{role} {entry} {{{{ inventory_hostname }}}}{GIVEN.get(entry, '')}")]


@pytest.fixture
def platform(tmp_path):
    platform = Platform(
        tmp_path,
        "rotate_secrets",
        GROUPS,
        {"clustered_service": SERVICE},
        __patroni_cluster={"leader": "pg-1"},
        pki_directory=str(tmp_path),
    )
    for role, entries in ENTRIES.items():
        for entry in [*entries, "verify"]:
            platform.write(f"roles/{role}/tasks/{entry}.yml", tasks(platform, role, entry))
    return platform


def test_nothing_happens_without_saying_what(platform):
    for component in ({}, {"rotate_secrets_component": "rediss"}):
        done = platform.run(**component)
        assert done.returncode != 0
        assert "consul_tokens, gossip_key, certificates, ca, rabbitmq, redis, postgresql or all" in done.stdout
    assert platform.noted() == []


def test_every_redis_node_accepts_before_the_first_one_signs_in(platform):
    done = platform.run(rotate_secrets_component="redis")
    assert done.returncode == 0, done.stdout + done.stderr
    assert platform.noted() == [
        "redis rotate_accept redis-1",
        "redis rotate_accept redis-2",
        "redis rotate redis-1",
        "redis rotate redis-2",
    ]


def test_the_brokers_clients_know_new_passwords_before_it_does_and_former_ones_until_it_does(platform):
    done = platform.run(rotate_secrets_component="rabbitmq")
    assert done.returncode == 0, done.stdout + done.stderr
    noted = platform.noted()
    assert sorted(noted[:3]) == [
        "celery rotate_accept agent-1",
        "celery rotate_accept agent-2",
        "flower rotate_accept manager-1",
    ]
    assert noted[3] == "rabbitmq rotate rabbitmq-1"
    assert sorted(noted[4:]) == [
        "autoscaler rotate manager-1",
        "celery rotate agent-1",
        "celery rotate agent-2",
        "flower rotate manager-1",
    ]


def test_the_broker_keeps_its_passwords_while_one_of_its_clients_cannot_be_told(platform):
    platform.write("roles/flower/tasks/rotate_accept.yml", [{"name": "Fail", "ansible.builtin.fail": {}}])
    assert platform.run(rotate_secrets_component="rabbitmq").returncode != 0
    assert "rabbitmq rotate rabbitmq-1" not in platform.noted()


def test_postgresqls_leader_is_the_last_to_reload(platform):
    done = platform.run(rotate_secrets_component="postgresql")
    assert done.returncode == 0, done.stdout + done.stderr
    noted = platform.noted()
    assert noted[4:] == [
        f"{role} rotate_reload {host}" for host in ("pg-2", "pg-1") for role in ("patroni", "pgbouncer")
    ]
    assert sorted(noted[:4]) == [
        f"{role} rotate {host}" for role in ("patroni", "pgbouncer") for host in ("pg-1", "pg-2")
    ]


def test_all_hosts_trust_an_authority_before_it_signs_and_until_nobody_shows_its_certificates(platform):
    done = platform.run(rotate_secrets_component="ca")
    assert done.returncode == 0, done.stdout + done.stderr
    trust = [f"pki rotate_trust {host}" for host in HOSTS]
    steps = {step: [f"pki rotate_authority {host} {step}" for host in HOSTS] for step in ("begin", "switch", "end")}
    restarted = [line for line in platform.noted() if line.startswith("consul restart")]
    # Twice: when it is to trust both, and when it is to trust the new one alone.
    assert restarted == 2 * ["consul restart pg-1", "consul restart pg-2"]
    noted = [line for line in platform.noted() if line not in restarted]
    size = len(HOSTS)
    parts = [noted[start : start + size] for start in range(0, len(noted), size)]
    assert [sorted(part) for part in parts[::2]] == [sorted(steps[step]) for step in ("begin", "switch", "end")]
    assert parts[1::2] == [trust, [f"pki rotate {host}" for host in HOSTS], trust]


def test_an_unhealthy_cluster_ends_it_before_the_next_host(platform):
    done = platform.run(rotate_secrets_component="certificates", unhealthy="redis redis-1")
    assert done.returncode != 0
    changed = [line for line in platform.noted() if line.startswith("pki rotate ")]
    assert changed == [f"pki rotate {host}" for host in HOSTS[: HOSTS.index("redis-1") + 1]]


def of_tokens(retire: bool, moment: int, hosts: list[str]) -> list[str]:
    return [
        f"{who} {host} retire={retire} before={moment}"
        for host in hosts
        for who, where in TOKENS.items()
        if host in where
    ]


def test_former_tokens_are_deleted_when_every_host_has_new_ones(platform):
    moment = int(time.time()) - 5
    done = platform.run(rotate_secrets_component="consul_tokens", rotate_secrets_before=moment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert platform.noted() == of_tokens(False, moment, HOSTS) + of_tokens(True, moment, HOSTS)
    assert f"-e rotate_secrets_before={moment}" in " ".join(done.stdout.split())


def test_former_tokens_stay_while_hosts_are_left_out_that_may_share_them(platform):
    moment = int(time.time()) - 5
    done = platform.run(
        None, "--limit=pg-1,fabio-1", rotate_secrets_component="consul_tokens", rotate_secrets_before=moment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert platform.noted() == of_tokens(False, moment, ["pg-1", "fabio-1"])
    said = " ".join(done.stdout.split())
    assert said.count("The former tokens stay valid, because hosts were left out") == 1
    assert "consul-1, rabbitmq-1" in said and f"-e rotate_secrets_before={moment}: then all get new ones" in said


def test_the_gateways_engine_is_the_inventorys(platform):
    assert platform.run(rotate_secrets_component="consul_tokens", gateway_engine="envoy_gateway").returncode == 0
    gateways = [line.split(" retire")[0] for line in platform.noted() if "gateway-1" in line]
    assert "envoy_gateway register gateway-1" in gateways
    assert "kong register gateway-1" not in gateways


@pytest.mark.parametrize("unhealthy", ["fabio fabio-2", "envoy agent-2"])
def test_nobody_is_restarted_for_a_token_while_another_one_is_away(platform, unhealthy):
    assert platform.run(rotate_secrets_component="consul_tokens", unhealthy=unhealthy).returncode != 0
    assert platform.noted() == []


def test_former_tokens_stay_when_a_host_could_not_be_given_its_own(platform):
    fails = [{"name": "Fail", "ansible.builtin.fail": {}, "when": "inventory_hostname == 'fabio-2'"}]
    platform.write("roles/fabio/tasks/rotate_token.yml", fails)
    assert platform.run(rotate_secrets_component="consul_tokens").returncode != 0
    assert not [line for line in platform.noted() if "retire=True" in line or "gateway-1" in line]
