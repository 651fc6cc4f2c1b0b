"""What the role celery writes: its units pass systemd's own check, secrets are in no file that others read."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleError

from tests.unit.roles.rendering import Role, by_path, complaints

INVENTORY = {
    "inventory_hostname": "agent-2",
    "groups": {"agents": ["agent-1", "agent-2", "agent-3"], "rabbitmq": ["mq-1", "mq-2"], "redis": ["redis-1"]},
    "hostvars": {name: {"platform_address": f"10.20.0.{n}"} for n, name in enumerate(("mq-1", "mq-2", "redis-1"), 21)},
    "celery_rabbitmq_password": "of-rabbitmq",
    "celery_redis_password": "of-redis",
    "celery_inference_backend": "echo",
}
LIMITED = [
    {
        "name": "all",
        "queues": ["inference"],
        "concurrency": 3,
        "memory_max_bytes": 900 << 20,
        "memory_per_child_bytes": 200 << 20,
    }
]
ONE = {
    "celery_queues": [{"name": "inference", "routing_key": "ai.inference", "priority": 10}],
    "celery_routes": {"ai.*": "inference"},
}


def role(**variables) -> Role:
    return Role("celery", INVENTORY, **variables)


def test_the_defaults_pass_the_roles_own_preflight():
    assert role().passes()
    assert role(celery_inference_backend="http", celery_inference_model="llama").passes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"celery_inference_backend": "http"},
        {"celery_inference_timeout_seconds": 300},
        {"celery_time_limit_seconds": 0},
        {"celery_rabbitmq_nodes": []},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    assert not role(**wrong).passes()


def test_a_route_to_nowhere_is_refused_with_what_is_wrong():
    with pytest.raises(AnsibleError, match="routed to the queue inferense, which isn't declared"):
        role(celery_routes={"ai.*": "inferense"}).passes()


def test_secrets_are_in_files_of_the_workers_only():
    files = by_path(role().value("__celery_files"))
    holding = {path for path, entry in files.items() if "of-r" in entry.get("content", "")}
    assert holding == {"/etc/sutazai/celery/rabbitmq.password", "/etc/sutazai/celery/redis.password"}
    assert {(files[path]["owner"], files[path]["mode"]) for path in holding} == {("celery", "0600")}


def test_the_settings_name_every_node():
    settings = by_path(role().value("__celery_files"))["/etc/sutazai/celery/settings.env"]["content"]
    read = dict(line.split("=", 1) for line in settings.splitlines() if not line.startswith("#"))
    assert read["SUTAZAI_RABBITMQ_NODES"] == "10.20.0.21:5671,10.20.0.22:5671"
    assert read["SUTAZAI_REDIS_NODES"] == "10.20.0.23:6379"
    assert list(json.loads(read["SUTAZAI_TASKS_ROUTES"].strip("'"))) == list(role().value("celery_routes"))


@pytest.mark.parametrize("more", [{}, {**ONE, "celery_pools": LIMITED, "celery_partitions": 0}])
def test_systemd_takes_the_units(tmp_path, more):
    made = role(**more)
    units = {
        "celery-worker@.service": by_path(made.value("__celery_files"))["/etc/systemd/system/celery-worker@.service"][
            "content"
        ]
    }
    drop_ins = [entry for entry in made.value("__celery_drop_ins") if entry.get("content")]
    units |= {entry["path"].removeprefix("/etc/systemd/system/"): entry["content"] for entry in drop_ins}
    assert len(drop_ins) == len(made.value("__celery_workers"))
    verified = [f"celery-worker@{name}.service" for name in made.value("__celery_names")]
    for name in verified:
        units[name] = (
            units["celery-worker@.service"].replace("User=celery", "User=root").replace("Group=celery", "Group=root")
        )
    assert complaints(tmp_path, units, verified) == ""
    assert complaints(
        tmp_path, {"wrong.service": "[Service]\nExecStart=/bin/true\nMemoryMax=lots\n"}, ["wrong.service"]
    )


def test_a_pools_limits():
    made = role(**ONE, celery_pools=LIMITED, celery_partitions=0)
    (entry,) = [entry for entry in made.value("__celery_drop_ins") if entry.get("content")]
    assert entry["path"] == "/etc/systemd/system/celery-worker@all.service.d/pool.conf"
    assert 'Environment="CELERY_MORE=--max-memory-per-child 204800"' in entry["content"]
    assert f"MemoryMax={900 << 20}" in entry["content"]


def test_a_unit_stops_after_the_longest_task():
    unit = by_path(role(celery_time_limit_seconds=1000).value("__celery_files"))[
        "/etc/systemd/system/celery-worker@.service"
    ]["content"]
    assert "TimeoutStopSec=1045\n" in unit and "KillMode=mixed\n" in unit
    assert "-n %i-${INVOCATION_ID}@%H" in unit


def test_workers_that_are_not_wanted_any_more():
    found = [
        {"path": f"/etc/systemd/system/celery-worker@{name}.service.d"} for name in ("inference", "bulk", "partition-8")
    ]
    made = role(__celery_found={"files": found})
    assert made.value("__celery_unwanted") == ["celery-worker@bulk.service", "celery-worker@partition-8.service"]
    assert [entry["state"] for entry in made.value("__celery_unwanted_files")] == ["absent", "absent"]
