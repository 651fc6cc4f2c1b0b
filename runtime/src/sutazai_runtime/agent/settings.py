"""What the agent is set to."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from sutazai_runtime.settings import Settings


class AgentSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="SUTAZAI_AGENT_")

    host: str = Field("0.0.0.0", description="address that is listened on")  # noqa: S104 a container's own network
    port: int = Field(8080, ge=0, le=65535)
    grpc_port: int = Field(9090, ge=0, le=65535, description="0: no gRPC")
    execution: Literal["queue", "local"] = Field(
        "queue", description="queue: Celery's workers do the tasks; local: this process does, and keeps no queue"
    )
    max_body_bytes: int = Field(1_048_576, gt=0)
    wait_seconds: float = Field(30, gt=0, description="how long a client waits for an answer, unless it says less")
    concurrency: int = Field(1, gt=0, description="of local execution: tasks at a time")
    max_waiting: int = Field(
        100, ge=0, description="of local execution: tasks that wait for their turn; more are refused"
    )
    poll_seconds: float = Field(0.02, gt=0, description="of the queue: how often answers are looked for")
    lame_duck_seconds: float = Field(
        5,
        ge=0,
        description="after SIGTERM /health says 503 for so long before connections are refused, so that balancers notice",
    )
    drain_seconds: int = Field(60, gt=0, description="then requests that were begun have so long to end")
