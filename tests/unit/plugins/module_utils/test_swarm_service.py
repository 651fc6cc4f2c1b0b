import copy

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_service as model
from ansible_collections.sutazai.platform.plugins.modules import swarm_service as module
from hypothesis import given
from hypothesis import strategies as st

FILE = {"uid": 10001, "gid": 0, "mode": "0400", "target": "redis.password"}


def defaults(options):
    """What Ansible makes of options that aren't given."""
    return {
        name: defaults(option["options"]) if option.get("apply_defaults") else copy.deepcopy(option.get("default"))
        for name, option in options.items()
    }


GIVEN = {
    **defaults(module.ARGUMENTS),
    "name": "ai-agent",
    "image": "sha256:" + "1" * 64,
    "environment": {"B": "2", "A": "1"},
    "labels": {"swarm.autoscaler": "true"},
    "constraints": ["node.role == worker"],
    "limits": {"cpus": 0.5, "memory_bytes": 2**30},
    "ports": [{"target": 8080, "published": 0, "protocol": "tcp", "mode": "host"}],
    "secrets": [{"name": "redis", **FILE}],
}
NAMES = {"redis": "ai-agent-redis-0123"}


def spec(replicas=3, ids=None, **more):
    return model.specification({**GIVEN, **more}, replicas, NAMES, ids or {"ai-agent-redis-0123": "id1"})


def told(wanted):
    """As an engine tells it again: without what is empty, with fields of its own, lists in another order."""

    def without(value):
        if isinstance(value, dict):
            return {key: without(each) for key, each in value.items() if each not in (0, "", None, False, [], {})}
        return [without(each) for each in value] if isinstance(value, list) else value

    found = without(wanted)
    container = found["TaskTemplate"]["ContainerSpec"]
    container["Isolation"] = "default"
    container["Env"] = container["Env"][::-1]
    found["TaskTemplate"]["Runtime"] = "container"
    return found


def test_what_the_engine_tells_again_is_no_difference():
    assert model.changes(spec(), told(spec())) == []


@pytest.mark.parametrize(
    ("more", "needing"),
    [
        ({}, []),
        ({"endpoint_mode": "vip"}, ["endpoint_mode (vip)"]),
        ({"ports": [{**GIVEN["ports"][0], "mode": "ingress"}]}, ["the mode of port 8080 (ingress)"]),
    ],
)
def test_what_needs_ipvs_is_told(more, needing):
    assert model.needing_ipvs({**GIVEN, **more}) == needing


def test_a_secret_that_is_not_there_yet_has_no_id_and_is_told_by_its_name():
    assert model.changes(spec(ids={"other": "x"}), told(spec())) == []
    other = model.specification(GIVEN, 3, {"redis": "ai-agent-redis-4567"}, {})
    assert model.changes(other, told(spec())) == ["TaskTemplate.ContainerSpec.Secrets.SecretName"]


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"image": "sha256:" + "2" * 64}, "TaskTemplate.ContainerSpec.Image"),
        ({"environment": {"A": "1"}}, "TaskTemplate.ContainerSpec.Env"),
        ({"environment": {"A": "1", "B": "3"}}, "TaskTemplate.ContainerSpec.Env"),
        ({"constraints": []}, "TaskTemplate.Placement.Constraints"),
        ({"limits": {"cpus": 1, "memory_bytes": 2**30}}, "TaskTemplate.Resources.Limits.NanoCPUs"),
        ({"limits": {"cpus": 0, "memory_bytes": 2**30}}, "TaskTemplate.Resources.Limits.NanoCPUs"),
        ({"labels": {}}, "Labels.swarm.autoscaler"),
        ({"labels": {"swarm.autoscaler": "true", "more": "1"}}, "Labels.more"),
        ({"read_only": True}, "TaskTemplate.ContainerSpec.ReadOnly"),
        ({"ports": []}, "EndpointSpec.Ports"),
        ({"secrets": []}, "TaskTemplate.ContainerSpec.Secrets"),
        ({"stop_grace_seconds": 75}, "TaskTemplate.ContainerSpec.StopGracePeriod"),
        (
            {"healthcheck": {**GIVEN["healthcheck"], "test": ["CMD", "true"]}},
            "TaskTemplate.ContainerSpec.Healthcheck.Test",
        ),
    ],
)
def test_a_change_is_found_both_ways(more, path):
    assert path in model.changes(spec(**more), told(spec()))
    assert model.changes(spec(), told(spec(**more))) != []


def test_a_diff_has_the_values_at_the_paths():
    paths = ["TaskTemplate.ContainerSpec.Image", "Labels.swarm.autoscaler"]
    assert model.excerpt(spec(), paths) == {paths[0]: GIVEN["image"], paths[1]: "true"}
    assert model.excerpt({}, paths) == dict.fromkeys(paths)


def test_the_number_stays_with_whoever_sets_it():
    assert model.wanted_replicas(model.KEEP, 10, None) == 10
    assert model.wanted_replicas(model.KEEP, 10, spec(replicas=23)) == 23
    assert model.wanted_replicas(model.KEEP, 10, spec(replicas=0)) == 0
    assert model.wanted_replicas(4, 10, spec(replicas=23)) == 4


@given(st.binary(min_size=1), st.binary(min_size=1))
def test_names_are_alike_for_like_contents_only(one, other):
    names = [model.file_name("ai-agent", "ca", content) for content in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert len(names[0]) <= 64


def test_a_secrets_name_can_not_be_looked_up():
    names = {model.file_name(service, name, b"a password", salt) for service, name, salt in SALTS}
    assert len(names) == len({name.rsplit("-", 1)[1] for name in names}) == len(SALTS)


SALTS = [("a", "x", "swarm1"), ("a", "x", "swarm2"), ("b", "x", "swarm1"), ("a", "y", "swarm1"), ("a", "x", "")]


def task(state="running", desired="running", template=None, **status):
    return {
        "DesiredState": desired,
        "NodeID": "n1",
        "Spec": template or spec()["TaskTemplate"],
        "Status": {"State": state, **status},
    }


def service(state="", replicas=2, message=""):
    found = {"ID": "s", "Spec": spec(replicas=replicas)}
    found["Spec"]["TaskTemplate"]["Runtime"] = "container"  # what tasks don't have
    return found | ({"UpdateStatus": {"State": state, "Message": message}} if state else {})


OLD = spec(image="sha256:" + "0" * 64)["TaskTemplate"]
MOVED = spec(constraints=[])["TaskTemplate"]


@pytest.mark.parametrize(
    ("state", "tasks", "updated", "expected"),
    [
        ("", [task(), task()], True, "done"),
        ("completed", [task(), task()], True, "done"),
        ("updating", [task(), task()], True, "waiting"),
        ("", [task(), task(template=OLD)], True, "waiting"),
        ("", [task(), task("starting")], True, "waiting"),
        ("", [task(), task("failed", desired="shutdown")], True, "stuck"),
        ("", [task(), task("failed", desired="shutdown"), task("ready", desired="ready")], True, "waiting"),
        ("", [task(), task("pending")], True, "waiting"),
        ("updating", [task("failed", desired="shutdown")], True, "waiting"),
        ("completed", [task(), task(), task()], True, "waiting"),
        ("", [task(), task(template=MOVED)], True, "done"),
        ("rollback_started", [task(), task()], True, "waiting"),
        ("rollback_completed", [task(), task()], True, "failed"),
        ("rollback_completed", [task(), task()], False, "done"),
        ("paused", [task(), task()], False, "failed"),
    ],
)
def test_how_far_it_is(state, tasks, updated, expected):
    assert model.progress(service(state), tasks, updated).state == expected


def test_what_tasks_say_is_said_once_with_the_node():
    tasks = [
        task("failed", Err="task: non-zero exit (1)", Timestamp="2", ContainerStatus={"ExitCode": 1}),
        task("failed", Err="task: non-zero exit (1)", Timestamp="3", ContainerStatus={"ExitCode": 1}),
        task("pending", Message="pending task scheduling", Err="no suitable node", Timestamp="4") | {"NodeID": ""},
        task(Message="started"),
    ]
    assert model.complaints(tasks, {"n1": "agent-1"}) == [
        "no node: no suitable node",
        "agent-1: task: non-zero exit (1)",
    ]


def test_only_its_own_files_that_nobody_needs_go():
    files = [
        {"ID": key, "Spec": {"Name": key, "Labels": {model.OWNER: owner} if owner else None}}
        for key, owner in (
            ("id1", "ai-agent"),
            ("old", "ai-agent"),
            ("previous", "ai-agent"),
            ("x", "other"),
            ("y", ""),
        )
    ]
    previous = spec(ids={"ai-agent-redis-0123": "previous"})
    assert model.unused(files, "ai-agent", [spec(), previous]) == ["old"]
    assert model.unused(files, "ai-agent", [None]) == ["id1", "old", "previous"]


def test_settings_are_what_the_specification_was_made_from_whatever_the_engine_leaves_out():
    wanted = spec(replicas=7, max_replicas_per_node=2, stop_grace_seconds=75)
    for seen in (wanted, told(wanted)):
        found = model.settings(seen)
        assert (found["replicas"], found["max_replicas_per_node"], found["stop_grace_seconds"]) == (7, 2, 75)
        assert found["constraints"] == GIVEN["constraints"]
        assert found["limits"] == {"cpus": 0.5, "memory_bytes": 2**30}
        assert found["reservations"] == {"cpus": 0, "memory_bytes": 0}
        for part in ("restart_policy", "update", "rollback"):
            assert found[part] == {name: GIVEN[part][name] for name in found[part]}
