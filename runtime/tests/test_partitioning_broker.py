"""That a broker's consistent hash exchange and this package mean the same partition.

RabbitMQ before 4.0 hashes a header's type with its value, but of a property only the value: on such a broker the rule is tried with a property. With
SUTAZAI_TEST_RABBITMQ_URL (…_USER, …_PASSWORD, …_CA_FILE; the management API) it is tried there, with the header that the topology names if the
version allows it; only objects of the test's own are declared and they are removed again.
"""

from __future__ import annotations

import os
import ssl
import uuid
from collections.abc import Iterator

import httpx
import pytest

from sutazai_runtime.partitioning import partition_names, partition_of
from tests.integration import rabbitmq_servers

AGENTS = [*(f"agent-{number}" for number in range(40)), "0f8fad5b-d9cb-469f-a165-70867728950e", "ä", "x" * 200]


@pytest.fixture
def management(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    url = os.environ.get("SUTAZAI_TEST_RABBITMQ_URL")
    if url:
        user, password = os.environ["SUTAZAI_TEST_RABBITMQ_USER"], os.environ["SUTAZAI_TEST_RABBITMQ_PASSWORD"]
        trusted: ssl.SSLContext | bool = ssl.create_default_context(cafile=os.environ["SUTAZAI_TEST_RABBITMQ_CA_FILE"])
    else:
        url = request.getfixturevalue("broker").url
        user, password, trusted = rabbitmq_servers.ADMINISTRATOR, rabbitmq_servers.PASSWORD, True
    with httpx.Client(base_url=f"{url}/api", auth=(user, password), verify=trusted, timeout=30, trust_env=False) as api:
        yield api


def call(api: httpx.Client, method: str, path: str, body: object = None) -> object:
    answer = api.request(method, path, json=body)
    assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
    return answer.json() if answer.content else None


def test_the_broker_chooses_the_partition_that_this_package_names(management):
    version = call(management, "GET", "/overview")["rabbitmq_version"]
    header = int(version.split(".")[0]) >= 4
    name = f"runtime-test-{uuid.uuid4().hex[:8]}"
    queues = partition_names(10, f"{name}.{{partition}}")
    source = {"hash-header": "agent_id"} if header else {"hash-property": "message_id"}
    exchange = {"type": "x-consistent-hash", "durable": True, "arguments": source}
    try:
        call(management, "PUT", f"/exchanges/%2F/{name}", exchange)
        for queue in queues:
            call(management, "PUT", f"/queues/%2F/{queue}", {"durable": True})
            call(management, "POST", f"/bindings/%2F/e/{name}/q/{queue}", {"routing_key": "1"})
        for agent in AGENTS:
            properties = {"headers": {"agent_id": agent}, "message_id": agent}
            message = {"properties": properties, "routing_key": "", "payload": agent, "payload_encoding": "string"}
            assert call(management, "POST", f"/exchanges/%2F/{name}/publish", message) == {"routed": True}
        wanted = {"count": len(AGENTS), "ackmode": "ack_requeue_false", "encoding": "auto"}
        found = {
            message["payload"]: number
            for number, queue in enumerate(queues)
            for message in call(management, "POST", f"/queues/%2F/{queue}/get", wanted)
        }
    finally:
        for queue in queues:
            management.delete(f"/queues/%2F/{queue}")
        management.delete(f"/exchanges/%2F/{name}")
    assert found == {agent: partition_of(agent) for agent in AGENTS}
