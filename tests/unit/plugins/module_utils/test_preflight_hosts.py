"""The hosts' tier: what was found on hosts against what their roles need."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.preflight import clock
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.hosts import check
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.model import Host
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.plan import given_certificates

MEMBERS = {
    "db-1": "10.20.0.41",
    "db-2": "10.20.0.42",
    "redis-1": "10.20.0.31",
    "redis-2": "10.20.0.32",
    "rabbitmq-1": "10.20.0.21",
    "rabbitmq-2": "10.20.0.22",
}
CONSUL = {"version": "1.20.6", "datacenter": "main"}
LOOK = {
    "consul": {"data": "/var/lib/consul", "configuration": "/etc/consul.d", "binary": "/usr/local/bin/consul"},
    "rabbitmq": {"home": "/var/lib/rabbitmq"},
    "redis": {"data": "/var/lib/redis"},
    "postgresql": {"data": "/var/lib/postgresql", "configuration": "/etc/patroni"},
    "certificates": {"redis_tls_cert_file": {"certificate": "/srv/redis.crt", "key": "/srv/redis.key"}},
}
EXPECT = {
    "rabbitmq": {"version": "", "nodes": ["rabbit@rabbitmq-1", "rabbit@rabbitmq-2"], "leaving": [], "mirroring": []},
    "redis": {"mode": "cluster", "addresses": ["10.20.0.31", "10.20.0.32"], "leaving": []},
    "postgresql": {"scope": "postgresql", "version": ""},
}


def plan(name: str, component: str) -> dict:
    expect = {"consul": dict(CONSUL), component: copy.deepcopy(EXPECT[component])}
    if component == "rabbitmq":
        expect["rabbitmq"]["node"] = f"rabbit@{name}"
    port, owner = {"rabbitmq": (5671, "beam.smp"), "redis": (6379, "redis-server"), "postgresql": (5432, "postgres")}[
        component
    ]
    return {
        "look": LOOK,
        "expect": expect,
        "ports": [{"port": port, "role": component, "owners": [owner]}],
        "memory_mb": {"base": 128, component: 512},
        "disk_mb": 2048,
        "accept_data": [],
        "groups": [component],
    }


def state(component: str) -> dict:
    found = {
        "release": {"distribution": "debian", "release": "13", "name": "Debian GNU/Linux 13 (trixie)"},
        "memory_mb": 4096,
        "disk_free_mb": 50000,
        "listeners": {},
        "packages": {},
        "consul": {"version": "", "datacenter": "", "members": {}},
    }
    found[component] = {
        "rabbitmq": {"nodes": {}},
        "redis": {"nodes": [], "cluster": False, "data_bytes": 0},
        "postgresql": {"clusters": [], "scope": ""},
    }[component]
    return found


def platform() -> tuple[dict, dict]:
    component = {"db": "postgresql", "redis": "redis", "rabbitmq": "rabbitmq"}
    plans = {name: plan(name, component[name[:-2]]) for name in MEMBERS}
    results = {name: {"state": state(component[name[:-2]]), "clock": {"low": -0.02, "high": 0.03}} for name in MEMBERS}
    return plans, results


def database(**values) -> dict:
    return {"path": "/var/lib/postgresql/17/main", "version": "17", "identifier": "7301", "patroni": True} | values


#: title, host, where in the result or plan, value, phrases
CASES = [
    (
        "a Debian version that isn't supported",
        "db-1",
        ("state", "release"),
        {"distribution": "debian", "release": "11", "name": "Debian GNU/Linux 11 (bullseye)"},
        ("db-1 runs Debian GNU/Linux 11 (bullseye), which isn't supported", "Install Debian 12 or 13"),
    ),
    (
        "another distribution",
        "db-1",
        ("state", "release"),
        {"distribution": "ubuntu", "release": "24.04", "name": "Ubuntu 24.04 LTS"},
        ("db-1 runs Ubuntu 24.04 LTS", "Install Debian 12 or 13"),
    ),
    (
        "less memory than the host's roles need",
        "redis-1",
        ("state", "memory_mb"),
        512,
        ("redis-1 has 512 MB of memory; its roles need 640 MB (base 128, redis 512)", "preflight_memory_needs_mb"),
    ),
    (
        "a full disk",
        "db-2",
        ("state", "disk_free_mb"),
        900,
        ("db-2 has 900 MB free in /var/lib; at least 2048 MB", "preflight_disk_required_mb"),
    ),
    (
        "a port that something else holds",
        "db-1",
        ("state", "listeners"),
        {"5432": "nginx nginx: master process"},
        ("Port 5432 of db-1, which postgresql needs, is held by nginx", "preflight_accept_ports"),
    ),
    (
        "a certificate that isn't that of its key",
        "redis-1",
        ("state", "certificates"),
        {"redis_tls_cert_file": "isn't that of the key /srv/redis.key"},
        (
            "The certificate /srv/redis.crt on redis-1 isn't that of the key /srv/redis.key.",
            "host redis-1, variable redis_tls_cert_file",
            "or remove redis_tls_cert_file to use the platform's own",
        ),
    ),
    (
        "a certificate that has expired",
        "redis-1",
        ("state", "certificates"),
        {"redis_tls_cert_file": "has expired on Nov 24 10:00:00 2026 GMT"},
        ("The certificate /srv/redis.crt on redis-1 has expired on Nov 24", "Bring a valid certificate and the key"),
    ),
    (
        "clock skew between hosts",
        "rabbitmq-2",
        ("clock",),
        {"low": 6.9, "high": 7.2},
        (
            "The clock of rabbitmq-2 is at least 6.9 s ahead of the other hosts'",
            "preflight_clock_skew_limit_seconds",
            "timedatectl",
        ),
    ),
    (
        "a clock that is behind",
        "redis-2",
        ("clock",),
        {"low": -4.0, "high": -3.5},
        ("The clock of redis-2 is at least 3.5 s behind the other hosts'",),
    ),
    (
        "the data of another Consul datacenter",
        "db-1",
        ("state", "consul"),
        {"version": "", "datacenter": "paris", "members": {}},
        (
            "db-1 holds the data of Consul datacenter paris; the inventory says main",
            "never overwrite",
            "platform_datacenter",
        ),
    ),
    (
        "the data of another Consul cluster",
        "db-1",
        ("state", "consul"),
        {"version": "", "datacenter": "main", "members": {"db-1": "10.20.0.41", "old-1": "10.9.0.1"}},
        (
            "db-1 holds the data of another Consul cluster: it knows old-1 (10.9.0.1)",
            "/var/lib/consul",
            "never overwrite",
        ),
    ),
    (
        "the data of another RabbitMQ cluster",
        "rabbitmq-1",
        ("state", "rabbitmq"),
        {"nodes": {"rabbit@rabbitmq-1": ["rabbit@rabbitmq-1", "rabbit@mq-old"]}},
        (
            "rabbitmq-1 holds the data of another RabbitMQ cluster: it knows rabbit@mq-old",
            "/var/lib/rabbitmq/mnesia",
            "never overwrite",
        ),
    ),
    (
        "the data of a RabbitMQ node of another name",
        "rabbitmq-1",
        ("state", "rabbitmq"),
        {"nodes": {"rabbit@rabbitmq-2": ["rabbit@rabbitmq-2"]}},
        ("rabbitmq-1 holds the data of rabbit@rabbitmq-2, but would be rabbit@rabbitmq-1",),
    ),
    (
        "the data of another Redis cluster",
        "redis-1",
        ("state", "redis"),
        {"nodes": ["10.20.0.32", "10.9.0.7"], "cluster": True, "data_bytes": 10},
        (
            "redis-1 holds the data of another Redis cluster: it knows 10.9.0.7, which is not in the inventory",
            "never overwrite",
        ),
    ),
    (
        "the data of a Redis outside any cluster",
        "redis-1",
        ("state", "redis"),
        {"nodes": [], "cluster": False, "data_bytes": 90000},
        ("redis-1 holds 90000 bytes of a Redis that isn't in cluster mode", "never overwrite"),
    ),
    (
        "the data of Redis in the other mode",
        "redis-1",
        ("state", "redis"),
        {"nodes": [], "cluster": False, "replication": True, "data_bytes": 10},
        ("redis-1 has Redis in sentinel mode, and redis_mode is cluster", "Set redis_mode to sentinel"),
    ),
    (
        "a PostgreSQL that Patroni didn't make",
        "db-1",
        ("state", "postgresql"),
        {"clusters": [database(patroni=False)], "scope": ""},
        (
            "db-1 holds a PostgreSQL 17 database that Patroni didn't make",
            "/var/lib/postgresql/17/main",
            "never overwrite",
        ),
    ),
    (
        "the data of another Patroni scope",
        "db-1",
        ("state", "postgresql"),
        {"clusters": [database()], "scope": "billing"},
        (
            "db-1 holds the data of the Patroni cluster billing; the inventory says postgresql",
            "patroni_scope",
            "never overwrite",
        ),
    ),
    (
        "PostgreSQL data of another major version",
        "db-1",
        ("state", "postgresql"),
        {"clusters": [database(version="15")], "scope": "postgresql"},
        ("db-1 holds PostgreSQL 15 data, but PostgreSQL 17 would run", "major upgrade"),
    ),
    (
        "a Consul downgrade",
        "db-1",
        ("state", "consul"),
        {"version": "1.21.0", "datacenter": "main", "members": {}},
        ("db-1 runs Consul 1.21.0; it can't go to 1.20.6", "consul_version", "can't be downgraded"),
    ),
    (
        "a Consul upgrade over too many versions",
        "db-1",
        ("state", "consul"),
        {"version": "1.16.3", "datacenter": "main", "members": {}},
        ("db-1 runs Consul 1.16.3; it can't go to 1.20.6", "Go by 1.18 first"),
    ),
    (
        "RabbitMQ 3.10 to 4.0 in one step",
        "rabbitmq-1",
        ("state", "packages"),
        {"rabbitmq-server": "3.10.8-1.1"},
        ("rabbitmq-1 runs RabbitMQ 3.10.8-1.1; it can't go to 4.0", "Upgrade to 3.13"),
    ),
    (
        "mirrored queues where RabbitMQ 4.0 runs",
        "rabbitmq-1",
        ("plan", "expect", "rabbitmq", "mirroring"),
        ["ha-all"],
        ("rabbitmq-1 runs RabbitMQ 4.0, which has no mirrored queues", "asked for by ha-all", "rabbitmq_policies"),
    ),
    (
        "a host that can't be reached",
        "redis-2",
        (),
        {"unreachable": True, "msg": "ssh: connect to host 10.20.0.32 port 22: No route to host"},
        ("redis-2 can't be reached: ssh: connect to host 10.20.0.32", "SSH settings", "--limit"),
    ),
]


def found_in(case) -> list:
    _title, host, path, value, _phrases = case
    plans, results = platform()
    if not path:
        results[host] = value
    else:
        tree = {"plan": plans[host], "state": results[host]["state"], "clock": results[host]["clock"]}
        *inner, last = path
        for key in inner:
            tree = tree[key]
        if path == ("clock",):
            results[host]["clock"] = value
        else:
            tree[last] = value
    return check(plans, results, MEMBERS, 2.0)[0]


def test_fit_hosts_pass():
    plans, results = platform()
    assert check(plans, results, MEMBERS, 2.0) == ([], [])


def test_a_running_platform_passes():
    plans, results = platform()
    for name in ("db-1", "db-2"):
        found = results[name]["state"]
        found["postgresql"] = {"clusters": [database()], "scope": "postgresql"}
        found["listeners"] = {"5432": "postgres /usr/lib/postgresql/17/bin/postgres -D"}
        found["consul"] = {"version": "1.20.6", "datacenter": "main", "members": MEMBERS}
    for name in ("redis-1", "redis-2"):
        results[name]["state"]["redis"] = {
            "nodes": ["10.20.0.31", "10.20.0.32"],
            "cluster": True,
            "data_bytes": 1 << 30,
        }
        results[name]["state"]["listeners"] = {"6379": "redis-server /usr/bin/redis-server 10.20.0.31:0 [cluster]"}
    nodes = ["rabbit@rabbitmq-1", "rabbit@rabbitmq-2"]
    for name in ("rabbitmq-1", "rabbitmq-2"):
        results[name]["state"]["rabbitmq"] = {"nodes": {f"rabbit@{name}": nodes}}
        results[name]["state"]["packages"] = {"rabbitmq-server": "4.0.5-8"}
        results[name]["state"]["listeners"] = {"5671": "beam.smp /usr/lib/erlang/erts-15/bin/beam.smp"}
    assert check(plans, results, MEMBERS, 2.0) == ([], [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_an_unfit_host_is_refused(case):
    problems = found_in(case)
    assert len(problems) == 1
    text = " ".join((problems[0].what, problems[0].where, problems[0].remedy))
    for phrase in case[4]:
        assert phrase in text


STRANGER = "02:42:0a:00:00:63"


def load_balancers(answers: str) -> tuple[dict, dict]:
    """Two hosts that are to hold an address; what answers for it, as both see it."""
    plans, results = platform()
    for name in ("db-1", "db-2"):
        plans[name]["look"] = {**LOOK, "virtual_address": "10.20.0.9"}
        results[name]["state"]["virtual_address"] = {"answers": answers, "own": f"02:42:0a:00:00:4{name[-1]}"}
    return plans, results


def test_a_virtual_address_that_answers_is_refused():
    problems, _warnings = check(*load_balancers(STRANGER), MEMBERS, 2.0)
    assert [problem.what for problem in problems] == [
        f"The virtual address 10.20.0.9 already answers on the network of db-1: {STRANGER} has it, no load balancer. "
        "Two hosts with one address lose each other's connections."
    ]
    assert "variable keepalived_virtual_address, by default platform_vip" in problems[0].where


@pytest.mark.parametrize("answers", ["", "02:42:0a:00:00:41", "02:42:0a:00:00:42"])
def test_a_virtual_address_that_is_free_or_a_load_balancers_is_right(answers):
    assert check(*load_balancers(answers), MEMBERS, 2.0) == ([], [])


def test_whose_it_is_is_not_judged_where_not_all_load_balancers_were_looked_at():
    plans, results = load_balancers(STRANGER)
    del results["db-2"]
    assert check(plans, results, MEMBERS, 2.0) == ([], [])


def test_databases_that_were_initialised_apart_are_refused():
    plans, results = platform()
    for name, identifier in (("db-1", "7301"), ("db-2", "7302")):
        results[name]["state"]["postgresql"] = {"clusters": [database(identifier=identifier)], "scope": "postgresql"}
    problems, _warnings = check(plans, results, MEMBERS, 2.0)
    assert [problem.what for problem in problems] == [
        "The PostgreSQL members hold databases that were initialised apart (system identifiers: db-1 has 7301; "
        "db-2 has 7302)."
    ]


def test_data_is_accepted_where_the_inventory_says_so():
    plans, results = platform()
    results["db-1"]["state"]["postgresql"] = {"clusters": [database(patroni=False)], "scope": ""}
    plans["db-1"]["accept_data"] = ["postgresql"]
    assert check(plans, results, MEMBERS, 2.0)[0] == []


def test_a_node_that_is_to_leave_is_no_stranger():
    plans, results = platform()
    plans["redis-1"]["expect"]["redis"]["leaving"] = ["10.20.0.33"]
    nodes = ["10.20.0.31", "10.20.0.32", "10.20.0.33"]
    results["redis-1"]["state"]["redis"] = {"nodes": nodes, "cluster": True, "data_bytes": 100}
    plans["rabbitmq-1"]["expect"]["rabbitmq"]["leaving"] = ["rabbit@rabbitmq-3"]
    nodes = ["rabbit@rabbitmq-1", "rabbit@rabbitmq-2", "rabbit@rabbitmq-3"]
    results["rabbitmq-1"]["state"]["rabbitmq"] = {"nodes": {"rabbit@rabbitmq-1": nodes}}
    assert check(plans, results, MEMBERS, 2.0)[0] == []


def test_a_slow_connection_is_not_a_wrong_clock():
    plans, results = platform()
    results["redis-2"]["clock"] = {"low": -9.0, "high": 0.5}
    assert check(plans, results, MEMBERS, 2.0)[0] == []


def test_the_controllers_clock_is_a_warning():
    plans, results = platform()
    for result in results.values():
        result["clock"] = {"low": 30.0, "high": 30.1}
    problems, warnings = check(plans, results, MEMBERS, 2.0)
    assert problems == []
    assert warnings[0].what.startswith("The controller's clock is at least 30.0 s behind")


def test_a_quick_answer_narrows_a_slow_one():
    slow = clock.offset(100.0, 101.0, 104.0)
    assert slow == (-3.0, 1.0)
    quick = clock.offset(110.0, 110.1, 110.1)
    assert clock.narrowed(slow, quick) == pytest.approx((0.0, 0.1))
    assert clock.narrowed((5.0, 6.0), (0.0, 1.0)) is None


def test_certificates_that_were_given_are_looked_at_with_their_keys():
    values = {
        "haproxy_tls_cert_file": "/srv/edge.crt",
        "redis_tls_cert_file": "/srv/redis.crt",
        "redis_tls_key_file": "/srv/private/redis.key",
        "rabbitmq_tls_cert_file": "/srv/other.crt",  # of a role that this host doesn't have
        "platform_tls_cert_file": "/etc/sutazai/pki/host.crt",
    }
    assert given_certificates(Host("lb-1", roles=("haproxy", "redis"), values=values)) == {
        "haproxy_tls_cert_file": {"certificate": "/srv/edge.crt", "key": "/srv/edge.key"},
        "redis_tls_cert_file": {"certificate": "/srv/redis.crt", "key": "/srv/private/redis.key"},
    }
