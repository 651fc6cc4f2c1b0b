"""Reading a bundle on the controller.

A bundle is a plain tar (what it holds is compressed already): any file in it can be had without reading the rest.
`manifest.json` comes first and says what there is."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile

MANIFEST = "manifest.json"
FORMAT = 1


class BundleError(Exception):
    """Something a person has to be told."""


def read_manifest(bundle):
    try:
        with tarfile.open(bundle, "r:") as archive:
            first = archive.next()
            if first is None or first.name != MANIFEST:
                raise BundleError(
                    f"{bundle} is not a bundle: it doesn't begin with {MANIFEST}. Make one with playbooks/bundle.yml."
                )
            manifest = json.load(archive.extractfile(first))
    except FileNotFoundError as error:
        raise BundleError(f"The bundle {bundle} (platform_artifact_bundle) doesn't exist on the controller.") from error
    except (OSError, tarfile.TarError, ValueError) as error:
        raise BundleError(
            f"The bundle {bundle} (platform_artifact_bundle) can't be read: {error}. Copy or make it again."
        ) from error
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{bundle} has format {manifest.get('format')!r}; this version of the collection reads format {FORMAT}."
        )
    return manifest


def find(manifest, path):
    """The manifest's entry of one file, or None."""
    return next((entry for entry in manifest.get("files", []) if entry["path"] == path), None)


def require(bundle, path):
    """The manifest's entry of one file that has to be there."""
    entry = find(read_manifest(bundle), path)
    if entry is None:
        raise BundleError(
            f"{path} is not in the bundle {bundle} (platform_artifact_bundle). It was made for another inventory or "
            "other versions: make it again with playbooks/bundle.yml, or unset platform_artifact_bundle."
        )
    return entry


def fetch(bundle, path, directory):
    """Copy one file out of the bundle into `directory`, verified against the manifest; once per directory.

    Returns the path of the copy."""
    entry = require(bundle, path)
    copy = os.path.join(directory, f"bundle-{entry['sha256']}")
    if os.path.exists(copy):
        return copy
    handle, scratch = tempfile.mkstemp(prefix="bundle-", dir=directory)
    digest = hashlib.sha256()
    try:
        with os.fdopen(handle, "wb") as target, tarfile.open(bundle, "r:") as archive:
            shutil.copyfileobj(archive.extractfile(path), target, 1024 * 1024)
        with open(scratch, "rb") as source:
            while chunk := source.read(1024 * 1024):
                digest.update(chunk)
        if digest.hexdigest() != entry["sha256"]:
            raise BundleError(
                f"{path} in {bundle} is damaged: SHA-256 {digest.hexdigest()}, by the manifest {entry['sha256']}. "
                "Copy the bundle again and compare its checksum with the .sha256 file beside it."
            )
        os.replace(scratch, copy)
    except (KeyError, tarfile.TarError) as error:
        raise BundleError(f"{bundle} is damaged: {path} can't be read ({error}). Copy the bundle again.") from error
    finally:
        if os.path.exists(scratch):
            os.unlink(scratch)
    return copy
