"""Feature flags: what they mean, and a copy of those of a real Consul. CONSUL_BIN names the binary."""

from __future__ import annotations

import base64
import logging

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers_here import consul_agent

from sutazai_runtime import flags as model
from sutazai_runtime.settings import ConsulSettings
from tests.integration.ports import free_ports

subjects = st.text(min_size=1, max_size=20)


def entry(name: str, text: str) -> dict[str, str]:
    return {"Key": model.PREFIX + name, "Value": base64.b64encode(text.encode()).decode()}


@given(subjects, st.floats(0, 100), st.floats(0, 100))
@settings(max_examples=60)
def test_a_larger_percentage_takes_a_flag_from_nobody(subject, one, other):
    small, large = (model.Flag(enabled=True, percent=percent) for percent in sorted((one, other)))
    assert model.is_on("f", large, subject) >= model.is_on("f", small, subject)


@given(subjects)
@settings(max_examples=40)
def test_none_and_all_mean_it(subject):
    assert not model.is_on("f", model.Flag(enabled=True), subject)
    assert model.is_on("f", model.Flag(enabled=True, percent=100), subject)
    assert not model.is_on("f", model.Flag(enabled=False, percent=100, allow=(subject,)), subject)
    assert model.is_on("f", model.Flag(enabled=True, allow=(subject,)), subject)
    assert not model.is_on("f", model.Flag(enabled=True, percent=100, deny=(subject,)), subject)


@pytest.mark.parametrize("percent", [1, 5, 25, 50])
def test_a_percentage_is_that_share_of_the_subjects(percent):
    flag = model.Flag(enabled=True, percent=percent)
    share = sum(model.is_on("f", flag, f"tenant-{number}") for number in range(10_000)) / 100
    assert abs(share - percent) < 1.5


def test_two_flags_choose_different_subjects():
    flag = model.Flag(enabled=True, percent=50)
    both = sum(model.is_on("a", flag, str(n)) and model.is_on("b", flag, str(n)) for n in range(4000)) / 4000
    assert 0.2 < both < 0.3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "[]",
        '{"percent": 5}',
        '{"enabled": "true"}',
        '{"enabled": true, "percent": 101}',
        '{"enabled": true, "percent": -1}',
        '{"enabled": true, "percentage": 5}',
        '{"enabled": true, "allow": "tenant-7"}',
    ],
)
def test_a_flag_that_is_not_understood_is_none_and_spoils_no_other(text):
    flags, problems = model.parse([entry("wrong", text), entry("right", model.EXAMPLE)])
    assert list(flags) == ["right"]
    assert "the flag sutazai/flags/wrong isn't used: " in problems["wrong"]
    assert model.EXAMPLE in problems["wrong"]


def test_without_consul_every_flag_has_its_default(caplog):
    caplog.set_level(logging.WARNING)
    (port,) = free_ports(1)
    with model.Flags(ConsulSettings(url=f"http://127.0.0.1:{port}")) as flags:
        assert not flags.wait_until_read(0.3)
        assert not flags.is_on("f", "s")
        assert flags.is_on("f", "s", default=True)
        assert flags.age_seconds is None
    assert "feature flags stay as they are" in caplog.text


@pytest.fixture
def consul(tmp_path):
    with consul_agent(tmp_path) as running:
        yield running


def test_a_copy_follows_consul_and_outlives_it(consul):
    process, url = consul
    with model.Flags(ConsulSettings(url=url)) as flags, httpx.Client(base_url=url, trust_env=False) as api:
        assert flags.wait_until_read(60), "it asks again until Consul is up"
        assert not flags.is_on("new-agents", "tenant-7")

        def put(text: str) -> None:
            with flags._changed:
                assert api.put(f"/v1/kv/{model.PREFIX}new-agents", content=text).json()
                assert flags._changed.wait(20), "a change is heard of, long before the query would end"

        put('{"enabled": true, "allow": ["tenant-7"]}')
        assert flags.is_on("new-agents", "tenant-7")
        assert not flags.is_on("new-agents", "tenant-8", default=True)
        put('{"enabled": true, "percent": 100}')
        assert flags.is_on("new-agents", "tenant-8")
        process.kill()
        process.wait()
        assert flags.is_on("new-agents", "tenant-8"), "the last copy holds"
