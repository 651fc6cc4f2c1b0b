"""RabbitMQ: one cluster of all nodes, TLS only, no guest, quorum queues by default."""

from __future__ import annotations

import json

import pytest

pytestmark = [pytest.mark.hosts("rabbitmq"), pytest.mark.unit("rabbitmq-server")]


def test_the_node_runs_and_starts_with_the_host(node):
    service = node.host.service("rabbitmq-server")
    assert service.is_running
    assert service.is_enabled


def test_every_node_sees_the_whole_cluster(node, platform):
    status = json.loads(node.run("rabbitmqctl --quiet cluster_status --formatter json"))
    expected = sorted(f"rabbit@{name}" for name in platform.groups["rabbitmq"])
    assert sorted(status["running_nodes"]) == expected
    assert sorted(status["disk_nodes"]) == expected
    assert status["partitions"] in ({}, [])
    assert status["alarms"] == []


def test_clients_find_tls_ports_only(node):
    assert node.exposed("beam.smp") <= {5671, 15671, 15691, 25672}
    assert 5671 in node.exposed("beam.smp")
    everything = {port for program, _, port in node.listeners if program == "beam.smp"}
    assert not everything & {5672, 15672}


@pytest.mark.parametrize("port", [5671, 15671])
def test_tls_verifies_for_the_services_name(node, port):
    name = "rabbitmq.service.consul"
    assert "Verification: OK" in node.certificate_for(port, name)


def test_secrets_are_not_readable_to_others(node):
    cookie = node.host.file("/var/lib/rabbitmq/.erlang.cookie")
    assert (cookie.user, cookie.mode) == ("rabbitmq", 0o400)
    assert node.run("find /etc/rabbitmq -type f -perm /007").strip() == ""


def test_guest_is_gone(member):
    users = json.loads(member.run("rabbitmqctl --quiet list_users --formatter json"))
    assert "guest" not in {user["user"] for user in users}


def test_wanted_plugins_run(node):
    running = set(node.run("rabbitmq-plugins --quiet list --enabled --minimal").split())
    assert {"rabbitmq_management", "rabbitmq_prometheus", "rabbitmq_consistent_hash_exchange"} <= running


def test_all_stable_feature_flags_are_on(member):
    flags = json.loads(member.run("rabbitmqctl --quiet list_feature_flags name state stability --formatter json"))
    off = [flag["name"] for flag in flags if flag.get("stability", "stable") == "stable" and flag["state"] != "enabled"]
    assert off == []


def queues_of(member):
    columns = "name type members arguments policy"
    return {
        queue["name"]: queue
        for queue in json.loads(member.run(f"rabbitmqctl --quiet list_queues --formatter json {columns}"))
    }


def test_the_agents_queues_are_there_with_a_member_on_three_nodes(member, platform):
    found = queues_of(member)
    wanted = {"inference", "training", "processing", "health", "dead-letters", *(f"ai.tasks.{n}" for n in range(10))}
    assert wanted <= set(found)
    for name in wanted:
        assert found[name]["type"] in ("quorum", "rabbit_quorum_queue")
        assert len(found[name]["members"]) == min(3, len(platform.groups["rabbitmq"]))
        assert found[name]["policy"].startswith("sutazai-")


def test_each_partition_is_bound_once(member):
    rows = json.loads(member.run("rabbitmqctl --quiet list_bindings --formatter json"))
    bound = [(row["destination_name"], row["routing_key"]) for row in rows if row["source_name"] == "ai.tasks"]
    assert sorted(bound) == sorted((f"ai.tasks.{number}", "1") for number in range(10))


def test_a_backup_is_taken_and_nobody_else_reads_it(node):
    timer = node.host.service("rabbitmq-backup.timer")
    assert timer.is_running
    assert timer.is_enabled
    node.run("systemctl start rabbitmq-backup.service")
    newest = node.run("ls -1 /var/backups/rabbitmq/*.json | tail -n 1").strip()
    assert node.host.file("/var/backups/rabbitmq").mode == 0o700
    assert node.host.file(newest).mode == 0o600
    about = json.loads(node.run(f"cat {newest}.about"))
    assert about["queues"] >= 15
    assert about["users"] >= 2
