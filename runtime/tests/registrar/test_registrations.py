"""What containers say of themselves, and what becomes of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sutazai_runtime.registrar.registrations import change, wanted

AGENT = {
    "Id": "0123456789abcdef",
    "Labels": {
        "sutazai.service": "ai-agent",
        "sutazai.port": "8080",
        "sutazai.tags": "urlprefix-/v1/tasks, urlprefix-/v1/agents",
        "sutazai.grpc.service": "ai-agent-grpc",
        "sutazai.grpc.port": "9090",
        "sutazai.grpc.check": "grpc",
        "com.docker.swarm.service.name": "ai-agent",
        "com.docker.swarm.task.name": "ai-agent.1.x",
    },
    "Ports": [
        {"PrivatePort": 8080, "PublicPort": 32768, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": 9090, "PublicPort": 32769, "Type": "tcp", "IP": "0.0.0.0"},
    ],
}


def of(**changes: object) -> tuple[dict, list]:
    return wanted([{**AGENT, **changes}], "10.0.0.1", "node-1")


def labels(**changes: str) -> dict[str, str]:
    return {"sutazai.service": "ai-agent", "sutazai.port": "8080", **{f"sutazai.{k}": v for k, v in changes.items()}}


def test_a_container_is_registered_with_the_hosts_address_and_port():
    made, wrong = of()
    assert not wrong
    agent = made["ai-agent-0123456789ab"]
    assert (agent["Name"], agent["Address"], agent["Port"]) == ("ai-agent", "10.0.0.1", 32768)
    assert agent["Tags"] == ["urlprefix-/v1/tasks", "urlprefix-/v1/agents"]
    assert agent["Check"]["HTTP"] == "http://10.0.0.1:32768/health"
    assert (agent["Meta"]["registrar"], agent["Meta"]["task"]) == ("node-1", "ai-agent.1.x")
    assert made["ai-agent-grpc-0123456789ab"]["Check"]["GRPC"] == "10.0.0.1:32769"


def test_an_address_of_six_is_bracketed():
    made, _wrong = wanted([AGENT], "fd00::1", "node-1")
    assert made["ai-agent-0123456789ab"]["Check"]["HTTP"] == "http://[fd00::1]:32768/health"
    assert made["ai-agent-0123456789ab"]["Address"] == "fd00::1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Labels": labels(), "Ports": []}, "ai-agent is at port 8080 of the container (sutazai.port), which the host doesn't publish"),
        ({"Labels": {"sutazai.service": "ai-agent"}}, "port (none)"),
        ({"Labels": {"sutazai.port": "8080"}}, "without a name"),
        ({"Labels": labels(check="tcp")}, "checked by 'tcp' (sutazai.check): use one of http, grpc"),
        ({"Labels": labels(**{"check-path": "health"})}, "begin it with a slash"),
        ({"Labels": labels(), "Ports": [{"PrivatePort": 8080, "Type": "tcp"}]}, "doesn't publish"),
    ],
)  # fmt: skip
def test_what_cannot_be_registered_says_why(changes, reason):
    made, wrong = of(**changes)
    assert not made
    assert [reason in str(each) for each in wrong] == [True]
    assert str(wrong[0]).startswith("container 0123456789ab: ")


def test_other_containers_and_other_labels_are_nobodys():
    assert of(Labels={"com.example.port": "1", "sutazai.purpose": "database"}) == ({}, [])


def test_what_is_known_is_left_and_what_has_changed_is_registered_anew():
    made, _wrong = of()
    known = {key: {"Meta": entry["Meta"]} for key, entry in made.items()}
    assert change(made, known, "node-1") == change({}, {}, "node-1")
    moved, _wrong = wanted([AGENT], "10.0.0.2", "node-1")
    assert {entry["ID"] for entry in change(moved, known, "node-1").register} == set(made)


def test_what_was_registered_by_another_token_is_registered_anew():
    known = {key: {"Meta": entry["Meta"]} for key, entry in wanted([AGENT], "10.0.0.1", "node-1", "former")[0].items()}
    made, _wrong = wanted([AGENT], "10.0.0.1", "node-1", "new")
    assert {entry["ID"] for entry in change(made, known, "node-1").register} == set(made)
    assert "new" not in {value for entry in made.values() for value in entry["Meta"].values()}


def test_what_others_have_registered_is_left_alone():
    known = {"consul": {"Meta": None}, "agent-x": {"Meta": {"registrar": "node-2"}}, "redis": {"Meta": {}}}
    assert change({}, known, "node-1").deregister == ()
    assert change({}, {**known, "agent-y": {"Meta": {"registrar": "node-1"}}}, "node-1").deregister == ("agent-y",)


ids = st.text("0123456789abcdef", min_size=12, max_size=12)
containers = st.dictionaries(ids, st.tuples(st.integers(1, 65535), st.sampled_from(["agent", "model"])), max_size=6)


def described(some: dict) -> list[dict]:
    return [
        {
            "Id": key,
            "Labels": {"sutazai.service": name, "sutazai.port": "1"},
            "Ports": [{"PrivatePort": 1, "PublicPort": port, "Type": "tcp"}],
        }
        for key, (port, name) in some.items()
    ]


@given(containers, containers)
@settings(max_examples=60)
def test_one_change_brings_consul_in_step_and_the_next_does_nothing(before, after):
    known = {key: {"Meta": entry["Meta"]} for key, entry in wanted(described(before), "10.0.0.1", "n")[0].items()}
    want, _wrong = wanted(described(after), "10.0.0.1", "n")
    made = change(want, known, "n")
    for key in made.deregister:
        del known[key]
    known |= {entry["ID"]: {"Meta": entry["Meta"]} for entry in made.register}
    assert known.keys() == want.keys()
    assert change(want, known, "n") == change({}, {}, "n")
