# Apache License 2.0 (see LICENSE)
"""A virtual environment for each set of pinned wheels, side by side, and a link to the one in use."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time

RECEIPT = ".receipt.json"
SAFE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+~-]*$")
PINNED = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?==\S+\s+(\\\s*)?--hash=sha256:[0-9a-f]{64}")


class EnvironmentProblem(Exception):
    """Something a person has to be told."""


def unpinned(text: str) -> list[str]:
    """Requirements that aren't pinned to one version and its hashes."""
    joined = re.sub(r"\\\n", " ", text)
    lines = (line.strip() for line in joined.splitlines())
    return [line.split()[0] for line in lines if line and not line.startswith("#") and not PINNED.match(line)]


def identity(version: str, requirements: bytes, python: str) -> str:
    """The directory's name: another set of wheels or another Python is another environment, also under the same version."""
    digest = hashlib.sha256(python.encode() + b"\0" + requirements).hexdigest()[:12]
    return f"{version}-{digest}"


def is_complete(directory: str) -> bool:
    try:
        with open(os.path.join(directory, RECEIPT), encoding="utf-8") as handle:
            receipt = json.load(handle)
    except (OSError, ValueError):
        return False
    return isinstance(receipt, dict) and os.access(os.path.join(directory, "bin", "python"), os.X_OK)


def finish(directory: str, version: str) -> None:
    """Says that it is complete; written last, in one step."""
    partial = os.path.join(directory, f"{RECEIPT}.partial")
    with open(partial, "w", encoding="utf-8") as handle:
        json.dump({"version": version, "installed_at": int(time.time())}, handle)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(partial, os.path.join(directory, RECEIPT))


def installed_at(directory: str) -> float:
    try:
        with open(os.path.join(directory, RECEIPT), encoding="utf-8") as handle:
            return float(json.load(handle).get("installed_at", 0))
    except (OSError, ValueError, AttributeError, TypeError):
        return 0.0


def is_linked(link: str, target: str) -> bool:
    return os.path.islink(link) and os.readlink(link) == target


def switch(link: str, target: str) -> None:
    """In one step, so that whoever starts meanwhile finds the one or the other."""
    if os.path.lexists(link) and not os.path.islink(link):
        raise EnvironmentProblem(f"{link} is there and no link; move it away, then run again.")
    with tempfile.TemporaryDirectory(prefix=".switch-", dir=os.path.dirname(link)) as scratch:
        made = os.path.join(scratch, "link")
        os.symlink(target, made)
        os.replace(made, link)


def superfluous(root: str, link: str, current: str, keep: int) -> list[str]:
    """Environments to remove: those that never got complete, and the oldest beyond `keep`. Never the one that the link leads to."""
    kept = {current}
    if os.path.islink(link):
        kept.add(os.path.basename(os.readlink(link)))
    try:
        names = [name for name in os.listdir(root) if os.path.isdir(os.path.join(root, name))]
    except FileNotFoundError:
        return []
    others = [name for name in names if name not in kept and not os.path.islink(os.path.join(root, name))]
    broken = [name for name in others if not is_complete(os.path.join(root, name))]
    whole = sorted(
        (name for name in others if name not in broken), key=lambda n: (installed_at(os.path.join(root, n)), n)
    )
    room = max(keep - len(kept), 0)
    return sorted(broken + (whole[: len(whole) - room] if len(whole) > room else []))


def discard(directory: str) -> None:
    """The receipt first: what is left of a removal that was killed isn't taken for an environment."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, RECEIPT))
    shutil.rmtree(directory, ignore_errors=False)
