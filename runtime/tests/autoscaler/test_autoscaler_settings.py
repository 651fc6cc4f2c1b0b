"""The autoscaler's file, right and wrong."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sutazai_runtime.autoscaler import rules as rules_module
from sutazai_runtime.autoscaler.__main__ import main, parse_load
from sutazai_runtime.autoscaler.http_api import Tls
from sutazai_runtime.autoscaler.rules import KINDS, ServiceRules, WrongRules
from sutazai_runtime.autoscaler.settings import ConsulSettings, Settings, load_settings, parse_settings
from sutazai_runtime.autoscaler.sources import SOURCES

EXAMPLE = """
interval_seconds: 10
dry_run: true
decision_log: /var/log/sutazai/autoscaler.jsonl
metrics: {address: 127.0.0.1, port: 9106}
docker: {socket: /run/docker.sock}
consul:
  url: https://127.0.0.1:8501
  ca_file: /etc/sutazai/pki/ca.crt
  token_file: /etc/sutazai/autoscaler/consul.token
rabbitmq:
  urls: [https://mq-01:15671, https://mq-02:15671]
  ca_file: /etc/sutazai/pki/ca.crt
  username: autoscaler
  password_file: /etc/sutazai/autoscaler/rabbitmq.password
rules:
  ai-agent:
    min_replicas: 3
    max_replicas: 50
    metrics:
      - {type: cpu, target: 70, scale_up_threshold: 80, scale_down_threshold: 30}
      - {type: queue_length, target: 100, scale_up_threshold: 200, scale_down_threshold: 50, queues: [inference]}
    cooldown: {scale_up: 60, scale_down: 300}
"""


def problems(change) -> tuple[str, ...]:
    document = yaml.safe_load(EXAMPLE)
    change(document)
    with pytest.raises(WrongRules) as refused:
        parse_settings(document)
    return refused.value.problems


def test_a_whole_file(tmp_path):
    path = tmp_path / "autoscaler.yml"
    path.write_text(EXAMPLE)
    settings = load_settings(path)
    assert (settings.interval_seconds, settings.dry_run, settings.metrics_port) == (10, True, 9106)
    assert settings.consul.tls == Tls(ca_file="/etc/sutazai/pki/ca.crt")
    assert (settings.consul.prefix, settings.consul.lock_ttl_seconds) == ("autoscaler", 15)
    assert settings.rabbitmq.urls == ("https://mq-01:15671", "https://mq-02:15671")
    assert settings.rules["ai-agent"].maximum == 50


def test_the_settings_of_the_documentation_are_right(tmp_path):
    text = (Path(rules_module.__file__).parent / "README.md").read_text(encoding="utf-8")
    path = tmp_path / "autoscaler.yml"
    path.write_text(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    settings = load_settings(path)
    rules = settings.rules["ai-agent"]
    # What it shows for what needn't be said is what is so if it isn't said.
    plain = ServiceRules("ai-agent", 3, 50, rules.metrics)
    assert rules == plain
    assert replace(settings, rules={}, consul=ConsulSettings(), rabbitmq=None) == Settings({})
    standard = ConsulSettings()
    told = settings.consul
    assert (told.prefix, told.lock_ttl_seconds, told.lock_delay_seconds) == (
        standard.prefix,
        standard.lock_ttl_seconds,
        standard.lock_delay_seconds,
    )


def test_each_kind_of_metric_has_a_source():
    assert SOURCES.keys() == KINDS.keys()


def test_rules_alone_are_enough():
    document = {"rules": {"a": copy.deepcopy(yaml.safe_load(EXAMPLE)["rules"]["ai-agent"])}}
    del document["rules"]["a"]["metrics"][1]
    settings = parse_settings(document)
    assert (settings.interval_seconds, settings.dry_run, settings.decision_log) == (15, False, "")


def test_who_reports_needs_no_rules():
    assert parse_settings({"docker": {"socket": "/run/d.sock"}}, needs_rules=False).docker_socket == "/run/d.sock"
    with pytest.raises(WrongRules, match="rules is missing"):
        parse_settings({})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda file: file.update(interval_seconds=1), "interval_seconds is 1; it must be at least 5."),
        (lambda file: file.update(dry_run="yes"), "dry_run is 'yes'; it must be true or false."),
        (lambda file: file.update(colour=1), "colour is unknown; known are "),
        (lambda file: file["metrics"].update(port=70000), "metrics.port is 70000; it must be at most 65535."),
        (
            lambda file: file["consul"].update(lock_ttl_seconds=9),
            "consul.lock_ttl_seconds is 9; it must be at least 10.",
        ),
        (
            lambda file: file["consul"].update(url="10.0.0.1:8501"),
            'consul.url is "10.0.0.1:8501"; it must look like https://host:port.',
        ),
        (
            lambda file: file["consul"].update(url="https://h:port"),
            'consul.url is "https://h:port", which is no address',
        ),
        (
            lambda file: file["consul"].update(url="http://10.0.0.1:8500"),
            'consul.url is "http://10.0.0.1:8500": a password or token would cross the network unencrypted. Use https.',
        ),
        (
            lambda file: file["rabbitmq"].update(urls=["https://user:word@mq-01:15671"]),
            "rabbitmq.urls[0] has a user or password in it; those belong into files.",
        ),
        (lambda file: file["rabbitmq"].update(urls=[]), "rabbitmq.urls is []; it must list the addresses"),
        (lambda file: file["rabbitmq"].pop("password_file"), "rabbitmq.password_file is missing."),
        (
            lambda file: file.pop("rabbitmq"),
            "rules.ai-agent.metrics ask for queue_length, but there is no section rabbitmq that says where.",
        ),
        (
            lambda file: file["rules"]["ai-agent"].update(stale_seconds=10),
            "rules.ai-agent.stale_seconds is 10, not more than interval_seconds, which is 10: each reading would be stale.",
        ),
        (lambda file: file.update(rules=None), "rules is empty; it must name at least one service."),
        (
            lambda file: file.update(consul="http://127.0.0.1:8500"),
            'consul is the text "http://127.0.0.1:8500"; it must be a mapping',
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_one_sentence(change, expected):
    found = problems(change)
    assert len(found) == 1
    assert found[0].startswith(expected)


def test_plain_http_is_for_this_host_only():
    document = yaml.safe_load(EXAMPLE)
    for url in ("http://127.0.0.1:8500", "http://localhost:8500", "http://[::1]:8500"):
        document["consul"]["url"] = url
        assert parse_settings(document).consul.url == url


def test_check_lists_all_problems_and_says_when_there_are_none(tmp_path, capsys):
    path = tmp_path / "autoscaler.yml"
    path.write_text(EXAMPLE)
    assert main(["check", "--config", str(path)]) == 0
    assert "rules for ai-agent" in capsys.readouterr().out
    path.write_text(
        EXAMPLE.replace("min_replicas: 3", "min_replicas: 51").replace("interval_seconds: 10", "interval_seconds: 0")
    )
    assert main(["check", "--config", str(path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "rules.ai-agent.min_replicas is 51, more than max_replicas, which is 50; lower it.",
        "interval_seconds is 0; it must be at least 5.",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (EXAMPLE + "  ai-agent: {}\n", 'Line 24: "ai-agent" is a duplicate of line 17; keep one.'),
        ("rules: [", "is no YAML:"),
        ("rules: !!python/object:os.system {}", "is no YAML:"),
    ],
)
def test_yaml_that_means_two_things_or_nothing(tmp_path, text, expected):
    path = tmp_path / "autoscaler.yml"
    path.write_text(text)
    with pytest.raises(WrongRules) as refused:
        load_settings(path)
    assert expected in refused.value.problems[0]


def test_duplicates_do_not_hide_what_else_is_wrong(tmp_path):
    path = tmp_path / "autoscaler.yml"
    path.write_text(EXAMPLE.replace("dry_run: true", "dry_run: maybe\ninterval_seconds: 10"))
    with pytest.raises(WrongRules) as refused:
        load_settings(path)
    assert refused.value.problems == (
        'Line 4: "interval_seconds" is a duplicate of line 2; keep one.',
        "dry_run is 'maybe'; it must be true or false.",
    )


def test_no_file(tmp_path):
    with pytest.raises(WrongRules, match="can't be read"):
        load_settings(tmp_path / "none.yml")


def test_a_load_is_written_in_a_line(tmp_path, capsys):
    path = tmp_path / "autoscaler.yml"
    path.write_text(EXAMPLE)
    rules = load_settings(path).rules["ai-agent"]
    assert parse_load("60:cpu=900,queue_length=3000;0:", rules).at(61) == {"cpu": 900, "queue_length(inference)": 3000}
    command = ["simulate", "--config", str(path), "--service", "ai-agent", "--seconds", "120"]
    assert main([*command, "--load", "0:cpu=90;60:queue_length=2000"]) == 0
    assert "    60 s    13 ▲ load        queue_length(inference) is 666.7 messages" in capsys.readouterr().out
    assert main([*command, "--load", "0:memory=90"]) == 1
    assert "ai-agent has no rule about memory" in capsys.readouterr().err
