"""The engine's API, as it is documented: what is read from it, and that nothing is lost on the way back."""

from __future__ import annotations

import copy

import pytest

from sutazai_runtime.autoscaler.engine import Changed, Engine, cpu_limit, read_service, with_replicas
from sutazai_runtime.autoscaler.http_api import Refused, Unreachable

DOCUMENT = {
    "ID": "abc",
    "Version": {"Index": 42},
    "Spec": {"Name": "ai-agent", "Labels": {"swarm.autoscaler": "true"}, "Mode": {"Replicated": {"Replicas": 3}}},
    "ServiceStatus": {"RunningTasks": 2, "DesiredTasks": 3},
}


def service(**changes):
    document = copy.deepcopy(DOCUMENT)
    document["Spec"] |= changes.pop("spec", {})
    return read_service(document | changes)


def labelled(**labels):
    return service(spec={"Labels": {"swarm.autoscaler": "true"} | labels})


def test_a_service_with_its_managed_range():
    read = labelled(**{"swarm.autoscaler.minimum": "4", "swarm.autoscaler.maximum": "9"})
    assert (read.id, read.name, read.version, read.replicas, read.running) == ("abc", "ai-agent", 42, 3, 2)
    assert (read.minimum, read.maximum, read.hold) == (4, 9, "")


@pytest.mark.parametrize(
    ("read", "why"),
    [
        (service(spec={"Labels": {}}), "no label swarm.autoscaler"),
        (service(spec={"Labels": None}), "no label swarm.autoscaler"),
        (labelled(**{"swarm.autoscaler": "false"}), "no label swarm.autoscaler"),
        (
            labelled(**{"swarm.autoscaler.minimum": "-4"}),
            'label swarm.autoscaler.minimum is "-4"; it must be a whole number',
        ),
        (labelled(**{"swarm.autoscaler.maximum": "many"}), 'label swarm.autoscaler.maximum is "many"'),
        (service(spec={"Mode": {"Global": {}}}), "the service's mode is Global"),
        (
            service(UpdateStatus={"State": "updating", "Message": "update in progress"}),
            "update is under way (update in progress)",
        ),
        (service(UpdateStatus={"State": "paused"}), "an update is paused"),
        (service(UpdateStatus={"State": "rollback_started"}), "being rolled back"),
        (service(UpdateStatus={"State": "rollback_paused"}), "a rollback is paused"),
    ],
)
def test_what_is_not_to_be_touched_says_why(read, why):
    assert why in read.hold


@pytest.mark.parametrize("state", ["completed", "rollback_completed"])
def test_an_update_that_is_over_hinders_nothing(state):
    assert service(UpdateStatus={"State": state}).hold == ""


def test_another_number_changes_nothing_else():
    spec = DOCUMENT["Spec"] | {"FieldOfTomorrow": [1]}
    assert with_replicas(spec, 9) == spec | {"Mode": {"Replicated": {"Replicas": 9}}}
    assert spec["Mode"]["Replicated"]["Replicas"] == 3


@pytest.mark.parametrize(
    ("host", "limit"),
    [
        ({"NanoCpus": 2_000_000_000}, 2),
        ({"NanoCpus": 0, "CpuQuota": 50_000, "CpuPeriod": 100_000}, 0.5),
        ({"NanoCpus": 0, "CpuQuota": 150_000, "CpuPeriod": 0}, 1.5),
        ({"NanoCpus": 0, "CpuQuota": 0, "CpuPeriod": 0}, 0),
        ({"CpuQuota": -1}, 0),
    ],
)
def test_the_limit_of_a_container(host, limit):
    assert cpu_limit({"HostConfig": host}) == limit


def test_services_are_read_and_scaled_through_the_socket(swarm):
    engine = Engine(swarm.path)
    before = copy.deepcopy(swarm.services["ai-agent"]["Spec"])
    engine.scale(engine.services()["ai-agent"], 8)
    assert swarm.requests == ["/version", "/v1.45/services?status=true"]
    before["Mode"]["Replicated"]["Replicas"] = 8
    assert swarm.updates == [("ai-agent", before)]


def test_a_service_that_somebody_else_changed_is_left_as_it_is(swarm):
    engine = Engine(swarm.path)
    read = engine.services()["ai-agent"]
    swarm.services["ai-agent"]["Version"]["Index"] += 1
    with pytest.raises(Changed, match="ai-agent was changed by somebody else"):
        engine.scale(read, 8)
    assert swarm.updates == []


def test_containers_and_what_they_use(swarm):
    filters = "%7B%22label%22%3A+%5B%22com.docker.swarm.service.name%22%5D%2C+%22status%22%3A+%5B%22running%22%5D%7D"
    labels = {"com.docker.swarm.service.name": "ai-agent", "com.docker.swarm.task.id": "t"}
    swarm.answers = {
        f"/containers/json?filters={filters}": [{"Id": "c1", "Labels": labels}],
        "/containers/c1/stats?stream=false&one-shot=true": {"cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}}},
        "/containers/c1/json": {"HostConfig": {"NanoCpus": 500_000_000}},
    }
    engine = Engine(swarm.path)
    assert engine.containers() == [("c1", "ai-agent")]
    assert engine.cpu_seconds("c1") == 1.5
    assert engine.cpu_limit("c1") == 0.5
    with pytest.raises(Refused, match="404 to /containers/c2/json: no such thing") as refused:
        engine.cpu_limit("c2")
    assert refused.value.status == 404


def test_an_engine_that_is_too_old_is_refused(swarm):
    swarm.answers["/version"] = {}
    engine = Engine(swarm.path)
    engine.api.request = lambda *_: type("Old", (), {"ok": True, "data": {"ApiVersion": "1.40"}})()
    with pytest.raises(Refused, match=r"1\.40, too old"):
        engine.services()


def test_no_engine(tmp_path):
    with pytest.raises(Unreachable, match=r"unix://.*none.sock doesn't answer"):
        Engine(str(tmp_path / "none.sock")).services()
