"""Settings from the environment, or from the file that SUTAZAI_SETTINGS_FILE names (lines NAME=value). Secrets are in files of their own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

SETTINGS_FILE = "SUTAZAI_SETTINGS_FILE"


class CannotStart(Exception):
    """What is set can't work. The message is for people."""


def _split(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Addresses = Annotated[list[str], NoDecode, BeforeValidator(_split)]


class Settings(BaseSettings):
    """Base of all. A name that isn't known is refused where it can be: in the file of one program, not in the environment."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)

    @classmethod
    def load(cls, **more: Any) -> Self:
        """What is given here comes before the environment."""
        return cls(_env_file=os.environ.get(SETTINGS_FILE), **more)  # type: ignore[call-arg]  # pydantic-settings' own argument


class RedisSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="SUTAZAI_REDIS_")

    nodes: Addresses = Field(["redis.service.consul:6379"], description="host:port of some members, comma separated")
    username: str = "application"
    password_file: Path | None = Field(None, description="file that holds the ACL user's password")
    tls: bool = True
    ca_file: Path = Path("/etc/sutazai/pki/ca.crt")
    timeout_seconds: float = Field(5.0, gt=0, description="for connecting and for each answer")
    retries: int = Field(8, ge=0, description="of a command that met a failover: with growing pauses, 10 s in all")


class ConsulSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="SUTAZAI_CONSUL_")

    url: str = Field("http://127.0.0.1:8500", description="the agent on this host")
    token_file: Path | None = None
    ca_file: Path | None = None


class BrokerSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="SUTAZAI_RABBITMQ_")

    nodes: Addresses = Field(["rabbitmq.service.consul:5671"], description="host:port, tried one after another")
    username: str = "application"
    password_file: Path | None = None
    vhost: str = "/"
    tls: bool = True
    ca_file: Path = Path("/etc/sutazai/pki/ca.crt")
    server_name: str = Field("rabbitmq.service.consul", description="the name that every node's certificate has")


class InferenceSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="SUTAZAI_INFERENCE_")

    backend: Literal["echo", "http"] = Field(
        description="http asks a model server; echo says so and answers the prompt"
    )
    url: str = Field("http://127.0.0.1:11434", description="the model server, of the http backend")
    model: str = Field("", description="of the http backend")
    timeout_seconds: float = Field(240, gt=0)
    service_seconds: float = Field(0, ge=0, description="of the echo backend: how long an answer takes")


def read_secret(path: Path | None, setting: str) -> str:
    return read_secrets(path, setting)[0]


def read_secrets(path: Path | None, setting: str) -> list[str]:
    """The secret is the first line; the others are those before it. One that anyone on the host may read is refused: it isn't a secret."""
    if path is None:
        raise CannotStart(f"{setting} isn't set: name the file that holds the secret")
    try:
        mode, text = path.stat().st_mode, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"the secret that {setting} names can't be read: {error}") from error
    if mode & 0o007:
        raise CannotStart(f"everybody may read or change {path} ({setting}): chmod 0640 or 0600")
    lines = text.splitlines()
    if not lines or not lines[0].strip():
        raise CannotStart(f"{path} ({setting}) is empty: write the secret into its first line")
    return [line.strip() for line in lines if line.strip()]


def host_and_port(address: str, setting: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise CannotStart(f"{setting} has {address!r}: write host:port")
    return host.strip("[]"), int(port)
