# Apache License 2.0 (see LICENSE)
"""Images as files of `docker save`, and which of a repository's images nobody needs. Pure, but for reading the file."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

IDENTITY = re.compile(r"(?:^|/)([0-9a-f]{64})(?:\.json)?$")
PINNED = re.compile(r"^[^@\s]+@sha256:[0-9a-f]{64}$")


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


def superfluous(images: Iterable[Mapping[str, Any]], repository: str, wanted: str, keep: int) -> list[str]:
    """Names of a repository's images beyond the newest `keep`, of which the wanted one is the first."""
    named = [
        (each["Created"], each["Id"], tag)
        for each in images
        for tag in each.get("RepoTags") or ()
        if tag.rpartition(":")[0] == repository
    ]
    others = sorted((each for each in named if each[1] != wanted), reverse=True)
    return [tag for _created, _id, tag in others[max(0, keep - 1) :]]
