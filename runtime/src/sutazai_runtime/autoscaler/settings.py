"""The autoscaler's file: where everything is, and the rules."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from sutazai_runtime.autoscaler.http_api import Tls
from sutazai_runtime.autoscaler.rules import Reader, ServiceRules, WrongRules, read_rules


@dataclass(frozen=True)
class ConsulSettings:
    url: str = "http://127.0.0.1:8500"
    tls: Tls = Tls()
    token_file: str = ""
    prefix: str = "autoscaler"
    #: Consul takes 10 s to a day.
    lock_ttl_seconds: int = 15
    #: So long nobody gets the lock of one that has vanished: a request of its own may still be under way.
    lock_delay_seconds: int = 15


@dataclass(frozen=True)
class RabbitMQSettings:
    urls: tuple[str, ...]
    username: str
    password_file: str
    tls: Tls = Tls()


@dataclass(frozen=True)
class Settings:
    rules: Mapping[str, ServiceRules]
    interval_seconds: int = 15
    dry_run: bool = False
    #: Empty is the standard output, which systemd keeps.
    decision_log: str = ""
    metrics_address: str = "127.0.0.1"
    #: 0 serves none.
    metrics_port: int = 9105
    docker_socket: str = "/run/docker.sock"
    consul: ConsulSettings = field(default_factory=ConsulSettings)
    rabbitmq: RabbitMQSettings | None = None


class _Loader(yaml.SafeLoader):
    """Notes a key that is there twice, of which YAML would silently take the last: two rules for one service, say."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                self.problems.append(f'Line {line}: "{key.value}" is a duplicate of line {seen[key.value]}; keep one.')
            elif isinstance(key, yaml.ScalarNode):
                seen[key.value] = line
        return super().construct_mapping(node, deep)


def load_settings(path: str | Path, needs_rules: bool = True) -> Settings:
    """Read the file; raises WrongRules with everything that is wrong with it."""
    try:
        loader = _Loader(Path(path).read_text(encoding="utf-8"))
        document = loader.get_single_data()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongRules([f"{path} can't be read: {error}"]) from error
    except yaml.YAMLError as error:
        raise WrongRules([f"{path} is no YAML: {' '.join(str(error).split())}"]) from error
    try:
        settings = parse_settings(document, needs_rules)
    except WrongRules as wrong:
        raise WrongRules([*loader.problems, *wrong.problems]) from wrong
    if loader.problems:
        raise WrongRules(loader.problems)
    return settings


KEYS = {"rules", "interval_seconds", "dry_run", "decision_log", "metrics", "docker", "consul", "rabbitmq"}


def parse_settings(document: Any, needs_rules: bool = True) -> Settings:
    reader = Reader()
    values = reader.mapping(document, "", KEYS, {"rules"} if needs_rules else ())
    dry_run = values.get("dry_run", False)
    if not isinstance(dry_run, bool):
        reader.wrong("dry_run", f"is {dry_run!r}; it must be true or false.")
    metrics = _section(reader, values, "metrics", {"address", "port"})
    docker = _section(reader, values, "docker", {"socket"})
    settings = Settings(
        read_rules(reader, values["rules"]) if "rules" in values else {},
        reader.whole(values, "interval_seconds", "", 15, least=5, most=300),
        dry_run is True,
        reader.text(values, "decision_log", ""),
        reader.text(metrics, "address", "metrics", "127.0.0.1"),
        reader.whole(metrics, "port", "metrics", 9105, most=65535),
        reader.text(docker, "socket", "docker", "/run/docker.sock"),
        _consul(reader, _section(reader, values, "consul", CONSUL_KEYS)),
        _rabbitmq(reader, values) if "rabbitmq" in values else None,
    )
    for service, rule in settings.rules.items():
        if rule.stale <= settings.interval_seconds:
            reader.wrong(
                f"rules.{service}.stale_seconds",
                f"is {rule.stale:g}, not more than interval_seconds, which is {settings.interval_seconds}: each reading would be stale.",
            )
        if "rabbitmq" not in values and any(metric.kind == "queue_length" for metric in rule.metrics):
            reader.wrong(
                f"rules.{service}.metrics", "ask for queue_length, but there is no section rabbitmq that says where."
            )
    if reader.problems:
        raise WrongRules(reader.problems)
    return settings


def _section(reader: Reader, values: Mapping[str, Any], key: str, known: set[str]) -> Mapping[str, Any]:
    return reader.mapping(values[key], key, known) if key in values else {}


TLS_KEYS = {"ca_file", "cert_file", "key_file"}
CONSUL_KEYS = {"url", "token_file", "prefix", "lock_ttl_seconds", "lock_delay_seconds"} | TLS_KEYS


def _consul(reader: Reader, values: Mapping[str, Any]) -> ConsulSettings:
    standard = ConsulSettings()
    settings = ConsulSettings(
        reader.text(values, "url", "consul", standard.url),
        _tls(reader, values, "consul"),
        reader.text(values, "token_file", "consul"),
        reader.text(values, "prefix", "consul", standard.prefix).strip("/"),
        reader.whole(values, "lock_ttl_seconds", "consul", standard.lock_ttl_seconds, 10, 3600),
        reader.whole(values, "lock_delay_seconds", "consul", standard.lock_delay_seconds, 0, 60),
    )
    _url(reader, settings.url, "consul.url")
    return settings


def _rabbitmq(reader: Reader, values: Mapping[str, Any]) -> RabbitMQSettings | None:
    required = {"urls", "username", "password_file"}
    section = reader.mapping(values["rabbitmq"], "rabbitmq", required | TLS_KEYS, required)
    urls = section.get("urls", [])
    if "urls" in section and (not isinstance(urls, list) or not urls or not all(isinstance(url, str) for url in urls)):
        reader.wrong(
            "rabbitmq.urls", f"is {urls!r}; it must list the addresses of the management API, one of each node."
        )
        return None
    for index, url in enumerate(urls):
        _url(reader, url, f"rabbitmq.urls[{index}]")
    username = reader.text(section, "username", "rabbitmq", needed=True)
    password_file = reader.text(section, "password_file", "rabbitmq", needed=True)
    return RabbitMQSettings(tuple(urls), username, password_file, _tls(reader, section, "rabbitmq"))


def _tls(reader: Reader, values: Mapping[str, Any], where: str) -> Tls:
    return Tls(**{key: reader.text(values, key, where) for key in sorted(TLS_KEYS)})


def _url(reader: Reader, url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        parts.port  # noqa: B018 it is computed here, and raises for what is no port
    except ValueError as error:
        reader.wrong(where, f'is "{url}", which is no address: {error}.')
        return
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/"):
        reader.wrong(where, f'is "{url}"; it must look like https://host:port.')
    elif parts.username or parts.password:
        reader.wrong(where, "has a user or password in it; those belong into files.")
    elif parts.scheme == "http" and not _is_loopback(host):
        reader.wrong(where, f'is "{url}": a password or token would cross the network unencrypted. Use https.')


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
