"""Feature flags for gradual rollout, kept in Consul's KV store below `sutazai/flags/`, one JSON object for each:

    consul kv put sutazai/flags/new-agents '{"enabled": true, "percent": 5, "allow": ["tenant-7"]}'

A blocking query in a thread keeps a copy up to date; asking for a flag touches no network. While Consul is away the last copy holds, and
without one every flag has the default of who asks.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sutazai_runtime.settings import ConsulSettings, read_secret

PREFIX = "sutazai/flags/"
# How long Consul holds a query when nothing changes; it adds up to a sixteenth.
WAIT_SECONDS = 60
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0

log = logging.getLogger(__name__)

# What a flag means ------------------------------------------------------------------------------


class Flag(BaseModel):
    """As it is in Consul. What isn't understood is refused: a misspelt `percent` must not turn a flag on for everybody."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    enabled: bool = Field(description="false turns it off for everybody")
    percent: float = Field(0, ge=0, le=100, description="share of the subjects that have it")
    allow: tuple[str, ...] = Field((), strict=False, description="subjects that have it whatever the percentage")
    deny: tuple[str, ...] = Field((), strict=False, description="subjects that don't have it whatever the percentage")


def position(flag: str, subject: str) -> float:
    """Where a subject stands between 0 and 100: always the same for one flag, another place for another flag."""
    digest = hashlib.sha256(f"{flag}\0{subject}".encode()).digest()
    return int.from_bytes(digest[:6], "big") * 100 / 2**48


def is_on(name: str, flag: Flag, subject: str) -> bool:
    """A larger percentage adds subjects and takes it from none."""
    if not flag.enabled or subject in flag.deny:
        return False
    return subject in flag.allow or position(name, subject) < flag.percent


def parse(entries: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Flag], dict[str, str]]:
    """(flags by name, what is wrong with the others by name) of the answer of Consul's KV store."""
    flags: dict[str, Flag] = {}
    problems: dict[str, str] = {}
    for entry in entries:
        name = str(entry["Key"]).removeprefix(PREFIX)
        if not name or name.endswith("/"):
            continue
        try:
            flags[name] = Flag.model_validate_json(base64.b64decode(entry["Value"] or ""))
        except ValidationError as error:
            found = "; ".join(
                ".".join(map(str, each["loc"])) + f" {each['msg']}".rstrip() for each in error.errors(include_url=False)
            )
            problems[name] = f"the flag {PREFIX}{name} isn't used: {found.strip()}. Write JSON such as {EXAMPLE}"
    return flags, problems


EXAMPLE = json.dumps({"enabled": True, "percent": 5, "allow": ["tenant-7"]})

# The copy ----------------------------------------------------------------------------------------


class Flags:
    """`with Flags(ConsulSettings.load()) as flags: flags.is_on("new-agents", "tenant-7")`"""

    def __init__(self, settings: ConsulSettings, wait_seconds: int = WAIT_SECONDS) -> None:
        self._wait_seconds = wait_seconds
        headers = (
            {"X-Consul-Token": read_secret(settings.token_file, "SUTAZAI_CONSUL_TOKEN_FILE")}
            if settings.token_file
            else {}
        )
        trusted: Any = True
        if settings.ca_file:
            trusted = httpx.create_ssl_context(verify=str(settings.ca_file))
        self._api = httpx.Client(
            base_url=settings.url, headers=headers, verify=trusted, trust_env=False, timeout=wait_seconds * 17 / 16 + 10
        )
        self._flags: dict[str, Flag] | None = None
        self._problems: dict[str, str] = {}
        self._read_at = 0.0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="feature flags", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The thread ends with its query, which nobody waits for."""
        self._stopping.set()
        self._api.close()

    def is_on(self, name: str, subject: str, default: bool = False) -> bool:
        """Never waits. The default is for flags that nobody knows: there is none, it is malformed, or Consul never answered."""
        flag = (self._flags or {}).get(name)
        return default if flag is None else is_on(name, flag, subject)

    @property
    def age_seconds(self) -> float | None:
        """Since Consul last answered; None if it never did."""
        return time.monotonic() - self._read_at if self._flags is not None else None

    def wait_until_read(self, seconds: float) -> bool:
        """For a program that would rather start with flags than with defaults."""
        with self._changed:
            return self._changed.wait_for(lambda: self._flags is not None, seconds)

    def _follow(self) -> None:
        index, pause = 0, FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            try:
                index = self._read(index)
                pause = FIRST_PAUSE_SECONDS
            except (httpx.HTTPError, ValueError, KeyError, RuntimeError) as error:
                # RuntimeError: the client was closed meanwhile.
                if self._stopping.is_set():
                    return
                log.warning("feature flags stay as they are: Consul at %s: %s", self._api.base_url, error)
                index = 0
                # Not all at once when it is back.
                self._stopping.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 spreads load, protects nothing
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _read(self, index: int) -> int:
        """One query, which Consul answers when something has changed since `index`. Answers the next one's index."""
        parameters = {"recurse": "true", "index": str(index), "wait": f"{self._wait_seconds}s"}
        answer = self._api.get(f"/v1/kv/{PREFIX}", params=parameters)
        if answer.status_code != 404:  # no flag at all
            answer.raise_for_status()
        flags, problems = parse(answer.json() if answer.status_code == 200 else [])
        for name, problem in problems.items():
            if self._problems.get(name) != problem:
                log.warning("%s", problem)
        self._problems = problems
        with self._changed:
            self._flags, self._read_at = flags, time.monotonic()
            self._changed.notify_all()
        following = int(answer.headers["X-Consul-Index"])
        # An index that went back is of a restored or new cluster: start over. Zero would not wait.
        return max(following, 1) if following >= index else 0
