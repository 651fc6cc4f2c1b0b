"""What it is all for: a client's own programs reach every cluster by its Consul name, with TLS and its own credentials.

The programs are installed on the first host of the group `clients`; credentials reach them through files in memory.
"""

from __future__ import annotations

import json
import shlex
import uuid

import pytest

CA = "/etc/sutazai/pki/ca.crt"
pytestmark = pytest.mark.hosts("clients")


@pytest.fixture(scope="module", autouse=True)
def _programs(platform):
    for node in platform.group("clients")[:1]:
        node.run(
            "command -v psql redis-cli >/dev/null && python3 -c 'import pika' 2>/dev/null || DEBIAN_FRONTEND=noninteractive "
            "apt-get install -y -qq --no-install-recommends postgresql-client redis-tools python3-pika >/dev/null"
        )


def test_psql_writes_through_pgbouncer_to_the_leader(member, platform):
    marker = uuid.uuid4().hex
    script = f"""\
set -eu
export PGPASSWORD="$(head -n1)" PGCONNECT_TIMEOUT=10
dsn='host=postgresql-rw.service.consul port=6432 user=application dbname=application sslmode=verify-full sslrootcert={CA}'
psql "$dsn" -qtA -v ON_ERROR_STOP=1 <<SQL
create table if not exists e2e (marker text primary key);
insert into e2e values ('{marker}');
select count(*) || ' ' || pg_is_in_recovery() from e2e where marker = '{marker}';
SQL
"""
    answer = member.run(f"bash -c {shlex.quote(script)}", platform.secret("patroni_application_password") + "\n")
    assert answer.split() == ["1", "false"]


def test_psql_reads_from_a_replica(member, platform):
    if len(platform.groups["postgresql"]) < 2:
        pytest.skip("one PostgreSQL host has no replica")
    script = f"""\
set -eu
export PGPASSWORD="$(head -n1)" PGCONNECT_TIMEOUT=10
dsn='host=postgresql-ro.service.consul port=6432 user=application dbname=application sslmode=verify-full sslrootcert={CA}'
psql "$dsn" -qtA -c 'select pg_is_in_recovery()'
"""
    assert (
        member.run(f"bash -c {shlex.quote(script)}", platform.secret("patroni_application_password") + "\n").strip()
        == "t"
    )


def test_redis_cli_follows_the_cluster(member, platform):
    marker = uuid.uuid4().hex
    script = f"""\
set -eu
export REDISCLI_AUTH="$(head -n1)"
redis="redis-cli -c --no-auth-warning --user application --tls --cacert {CA} -h redis.service.consul -p 6379"
for n in 1 2 3 4 5 6 7 8; do $redis set e2e:{marker}:$n $n ex 60 >/dev/null; done
for n in 1 2 3 4 5 6 7 8; do $redis get e2e:{marker}:$n; done
"""
    answer = member.run(f"bash -c {shlex.quote(script)}", platform.secret("redis_application_password") + "\n")
    assert answer.split() == list("12345678")


PUBLISH = """\
import json, ssl, sys, uuid
import pika
password = sys.stdin.readline().strip()
context = ssl.create_default_context(cafile=sys.argv[1])
parameters = pika.ConnectionParameters(
    "rabbitmq.service.consul", 5671, "/", pika.PlainCredentials("application", password),
    ssl_options=pika.SSLOptions(context, "rabbitmq.service.consul"), socket_timeout=10, blocked_connection_timeout=20)
name = "e2e-" + uuid.uuid4().hex
with pika.BlockingConnection(parameters) as connection:
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
    print(name)
    for number in range(10):
        channel.basic_publish("", name, str(number).encode(), pika.BasicProperties(delivery_mode=2), mandatory=True)
    got = []
    for number in range(10):
        method, properties, body = channel.basic_get(name)
        got.append(int(body)); channel.basic_ack(method.delivery_tag)
    print(json.dumps(got))
"""


def test_a_publish_is_confirmed_by_a_quorum_queue_with_three_members(member, platform):
    member.run("cat > /run/e2e-publish.py", PUBLISH)
    answer = member.run(
        f"python3 /run/e2e-publish.py {CA}", platform.secret("rabbitmq_application_password") + "\n"
    ).split("\n")
    queue, got = answer[0], answer[1]
    broker = platform.group("rabbitmq")[0]
    try:
        assert got == str(list(range(10)))
        status = broker.run("rabbitmqctl --quiet list_queues --formatter json name type members leader")
        found = [entry for entry in json.loads(status) if entry["name"] == queue]
        assert found[0]["type"] in ("quorum", "rabbit_quorum_queue")
        assert len(found[0]["members"]) == min(3, len(platform.groups["rabbitmq"]))
    finally:
        broker.run(f"rabbitmqctl --quiet delete_queue {queue}", check=False)


def test_consul_kv_keeps_what_is_put(member, platform):
    marker = uuid.uuid4().hex
    script = f"""\
set -eu
umask 077
trap 'rm -f /run/e2e-token' EXIT
head -n1 > /run/e2e-token
export CONSUL_HTTP_TOKEN_FILE=/run/e2e-token CONSUL_HTTP_ADDR=https://consul.service.consul:8501 CONSUL_CACERT={CA}
consul kv put e2e/{marker} {marker} >/dev/null
consul kv get e2e/{marker}
consul kv delete e2e/{marker} >/dev/null
"""
    answer = member.run(f"bash -c {shlex.quote(script)}", platform.secret("platform_consul_management_token") + "\n")
    assert answer.strip() == marker
