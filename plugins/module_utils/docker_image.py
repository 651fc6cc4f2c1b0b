# Apache License 2.0 (see LICENSE)
"""Images as files of `docker save` and by name, and which of a repository's images nobody needs. Pure, but for reading the file."""

from __future__ import annotations

import base64
import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

IDENTITY = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.json)?$")
# A tag has no slash; what is behind a registry's colon, its port, is followed by one.
NAME = re.compile(r"^(?P<repository>[^@\s]+?)(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?$")


class NoImage(Exception):
    """The file isn't what it ought to be. The message is for people."""


def id_of(path: str) -> str:
    """The id that the image in a file has in every engine: what its configuration's name is a digest of."""
    try:
        with tarfile.open(path) as archive:
            manifest = archive.extractfile("manifest.json")
            images = json.load(manifest) if manifest else []
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        raise NoImage(f"{path} is no image as `docker save` writes it: {error}") from error
    return id_in(images, path)


def id_in(images: Any, path: str) -> str:
    if not isinstance(images, list) or len(images) != 1:
        number = len(images) if isinstance(images, list) else "no list of"
        raise NoImage(f"{path} holds {number} images: save one image into it")
    found = IDENTITY.search(str(images[0].get("Config") or ""))
    if not found:
        raise NoImage(f"{path} doesn't say which image it holds: save it anew with `docker save`")
    return f"sha256:{found.group(1)}"


@dataclass(frozen=True)
class Name:
    """An image's name, `registry:port/repository:tag` or `…@sha256:…`."""

    repository: str
    tag: str
    digest: str

    def pinned(self, digest: str) -> str:
        return f"{self.repository}@{digest}"


def parse(name: str) -> Name:
    found = NAME.match(name)
    if not found or not (found["tag"] or found["digest"]):
        raise NoImage(f"{name} doesn't say which image: write it with its tag, name:tag, or its digest, name@sha256:…")
    return Name(found["repository"], found["tag"] or "", found["digest"] or "")


def repository_of(name: str) -> str:
    return NAME.sub(r"\g<repository>", name)


def registry_of(name: str) -> str:
    """Who has it; empty for the engine's own default."""
    first, slash, _rest = repository_of(name).partition("/")
    return first if slash and (set(first) & set(".:") or first == "localhost") else ""


def login(image: str, username: str, password: str) -> dict[str, str]:
    """The header that tells the engine who asks the image's registry, as its API wants it; none without a user.

    With the registry's address: an engine whose image store is containerd's gives the password to no other host.
    """
    if not username:
        return {}
    content = {"username": username, "password": password, "serveraddress": registry_of(image)}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(content).encode()).decode()}


def superfluous(images: Iterable[Mapping[str, Any]], repository: str, wanted: str, keep: int) -> list[str]:
    """Names of a repository's images beyond the newest `keep`, of which the wanted one is the first."""
    others = []
    for each in images:
        names = [name for key in ("RepoTags", "RepoDigests") for name in each.get(key) or ()]
        mine = [name for name in names if repository_of(name) == repository]
        if mine and each["Id"] != wanted:
            others.append((each["Created"], each["Id"], mine))
    return [name for _created, _id, names in sorted(others, reverse=True)[max(0, keep - 1) :] for name in names]
