"""What the registrar is set to."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from sutazai_runtime.settings import Settings


class RegistrarSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="SUTAZAI_REGISTRAR_")

    address: str = Field(description="this host's address, at which others reach its published ports")
    node: str = Field(description="this host's name: who registered a service is noted with it")
    docker_socket: Path = Path("/run/docker.sock")
    interval_seconds: float = Field(10, gt=0, description="all containers are looked at so often, whatever events say")
