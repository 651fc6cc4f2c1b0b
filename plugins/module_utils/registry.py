# Apache License 2.0 (see LICENSE)
"""What a registry is asked with, and what it answers. Pure."""

from __future__ import annotations

import json
from typing import Any

#: The kinds of manifest that name one image. A list of them for several machines isn't what an archive holds.
MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


class WrongAnswer(Exception):
    """A file or an answer isn't what it ought to be. The message is for people."""


def authorization(auth_file: str, address: str) -> str:
    """What a file of logins (containers-auth.json) has for a registry, as the header Authorization."""
    try:
        return f"Basic {json.loads(auth_file)['auths'][address]['auth']}"
    except (ValueError, KeyError, TypeError):
        raise WrongAnswer(f"the file of logins has none for {address}") from None


def image_of(manifest: str) -> str:
    """The id of the image that a manifest is about: the digest of its configuration."""
    try:
        read: Any = json.loads(manifest)
        return str(read["config"]["digest"])
    except (ValueError, KeyError, TypeError):
        raise WrongAnswer("the registry's answer is no manifest of one image") from None
