"""Install a third-party binary from a verified file."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: artifact
short_description: Install a third-party binary from a verified file
version_added: "0.1.0"
description:
  - Takes a file from a bundle on the controller, a mirror, or its own URL (the first of these that is given, and no other),
    verifies its SHA-256, unpacks it to O(root)/O(name)/O(version) and points O(destination) to the member in it.
  - The version's directory gets its name only when it is complete; the link is switched in one step. A run that was killed
    in between can be repeated.
  - A second run reads one small file and changes nothing.
options:
  name:
    description: Name of the artifact; the directory below O(root).
    type: str
    required: true
  version:
    description: Version; the directory below the name.
    type: str
    required: true
  sha256:
    description: SHA-256 of the file, 64 hexadecimal digits.
    type: str
    required: true
  file:
    description: Name of the file on the mirror and in the bundle.
    type: str
    required: true
  member:
    description: Path inside the archive (zip, tar with any compression). Empty when the file is the binary itself.
    type: str
    default: ""
  destination:
    description: Path that becomes a symbolic link to the member.
    type: path
    required: true
  bundle:
    description: On the controller, a tarball made by C(playbooks/bundle.yml). Empty means none.
    type: str
    default: ""
  mirror:
    description: URL below which the file is found by its name. Empty means none.
    type: str
    default: ""
  url:
    description: The file's own URL.
    type: str
    default: ""
  switch:
    description:
      - Whether O(destination) becomes a link to it. V(false) only has it on the host, verified and unpacked, beside the version that is
        in use.
    type: bool
    default: true
  keep_versions:
    description: How many versions stay installed, this one included.
    type: int
    default: 2
  timeout_seconds:
    description: How long to wait for the server's answer, each time.
    type: int
    default: 60
  root:
    description: Directory that holds all artifacts.
    type: path
    default: /opt/sutazai
  local_file:
    description: On the host, the file itself. Set by the action plugin that brings it from the bundle.
    type: path
attributes:
  check_mode:
    description: Says whether it would install; downloads nothing.
    support: full
  diff_mode:
    description: Shows the version that the link points to.
    support: full
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Install Consul
  sutazai.platform.artifact:
    name: consul
    version: 1.20.6
    sha256: "{{ consul_sha256 }}"
    file: consul_1.20.6_linux_amd64.zip
    member: consul
    url: https://releases.hashicorp.com/consul/1.20.6/consul_1.20.6_linux_amd64.zip
    destination: /usr/local/bin/consul
"""

RETURN = r"""
path:
  description: The member in its version's directory.
  type: str
  returned: always
source:
  description: Where the file came from, without credentials.
  type: str
  returned: when it was installed now
previous:
  description: What the link pointed to before; empty when there was none.
  type: str
  returned: always
removed_versions:
  description: Older versions that were removed.
  type: list
  elements: str
  returned: always
needs_file:
  description: Whether the bundle's file is needed on the host.
  type: bool
  returned: always
"""

import hashlib
import os
import shutil
import tempfile
import time
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import SSLValidationError, open_url
from ansible_collections.sutazai.platform.plugins.module_utils import artifact as lib

ATTEMPTS = 3


def without_credentials(url):
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def download(url, base, timeout, set_by):
    """Download into `base`; returns (path, sha256). Tries again when the connection or the server fails."""
    shown = without_credentials(url)
    for attempt in range(1, ATTEMPTS + 1):
        handle, path = tempfile.mkstemp(prefix=".download-", dir=base)
        try:
            with os.fdopen(handle, "wb") as target:
                answer = open_url(url, timeout=timeout, http_agent="sutazai.platform", use_proxy=True)
                length = int(answer.headers.get("Content-Length") or 0)
                lib.require_space(base, length, f"Downloading {shown}")
                digest, received = hashlib.sha256(), 0
                while chunk := answer.read(lib.CHUNK_BYTES):
                    digest.update(chunk)
                    target.write(chunk)
                    received += len(chunk)
                if received < length:
                    raise URLError(f"the connection ended after {received} of {length} bytes")
            return path, digest.hexdigest()
        except BaseException as error:
            os.unlink(path)
            if not isinstance(error, (OSError, SSLValidationError, UrlsConnectionError)):
                raise
            if isinstance(error, HTTPError) and error.code < 500:
                raise lib.ArtifactError(
                    f"{shown} answers {error.code} {error.reason}. The address comes from {set_by}; "
                    "does the file exist there under that name?"
                ) from error
            if attempt == ATTEMPTS:
                raise lib.ArtifactError(
                    f"{shown} could not be downloaded, {ATTEMPTS} times tried: {getattr(error, 'reason', None) or error}. "
                    f"The address comes from {set_by}. Can this host reach it (routes, firewall, proxy, trusted CA)? "
                    "Without a way out, use platform_artifact_mirror or platform_artifact_bundle."
                ) from error
            time.sleep(2 * attempt)
    raise AssertionError("unreachable")


def run(module, result):
    p = module.params
    sha256 = p["sha256"].lower()
    problems = lib.check_input(
        p["name"],
        p["version"],
        sha256,
        p["file"],
        p["member"],
        p["destination"],
        p["bundle"],
        p["mirror"],
        p["url"],
    )
    if problems:
        raise lib.ArtifactError(" ".join(problems))
    base = os.path.join(p["root"], p["name"])
    final = os.path.join(base, p["version"])
    member = os.path.normpath(p["member"] or p["file"])
    target = os.path.normpath(os.path.join(final, member))
    result["path"] = target
    result["previous"] = os.readlink(p["destination"]) if os.path.islink(p["destination"]) else ""
    installed = lib.is_installed(final, sha256, member)
    linked = lib.is_linked(p["destination"], target)
    result["changed"] = not (installed and (linked or not p["switch"]))
    result["diff"] = {
        "before": f"{p['destination']} -> {result['previous'] or 'nothing'}\n",
        "after": f"{p['destination']} -> {target if p['switch'] else result['previous'] or 'nothing'}\n",
    }
    if not installed and p["bundle"] and not p["local_file"]:
        result["needs_file"] = True
        return
    if module.check_mode or not result["changed"]:
        return
    os.makedirs(base, mode=0o755, exist_ok=True)
    for name in lib.leftovers(base):
        path = os.path.join(base, name)
        shutil.rmtree(path, ignore_errors=True) if os.path.isdir(path) else os.unlink(path)
    if not installed:
        if p["local_file"]:
            path, got, result["source"] = p["local_file"], lib.sha256_of(p["local_file"]), p["bundle"]
        else:
            url = lib.source_url(p["file"], p["mirror"], p["url"])
            set_by = "platform_artifact_mirror" if p["mirror"] else "artifact_url"
            result["source"] = without_credentials(url)
            path, got = download(url, base, p["timeout_seconds"], set_by)
        try:
            if got != sha256:
                raise lib.ArtifactError(lib.mismatch(p["file"], sha256, got, result["source"]))
            lib.install(path, base, p["version"], sha256, p["member"], p["file"])
        finally:
            if os.path.exists(path):
                os.unlink(path)
    if not p["switch"]:
        return
    lib.link(p["destination"], target)
    result["removed_versions"] = lib.superfluous(base, p["version"], p["keep_versions"])
    for name in result["removed_versions"]:
        shutil.rmtree(os.path.join(base, name), ignore_errors=True)


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "sha256": {"type": "str", "required": True},
            "file": {"type": "str", "required": True},
            "member": {"type": "str", "default": ""},
            "destination": {"type": "path", "required": True},
            "bundle": {"type": "str", "default": ""},
            "mirror": {"type": "str", "default": ""},
            "url": {"type": "str", "default": ""},
            "switch": {"type": "bool", "default": True},
            "keep_versions": {"type": "int", "default": 2},
            "timeout_seconds": {"type": "int", "default": 60},
            "root": {"type": "path", "default": "/opt/sutazai"},
            "local_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    result = {"changed": False, "path": "", "previous": "", "removed_versions": [], "needs_file": False}
    os.umask(0o022)
    try:
        run(module, result)
    except lib.ArtifactError as error:
        result["changed"] = False
        module.fail_json(msg=str(error), **result)
    except OSError as error:
        result["changed"] = False
        module.fail_json(msg=f"{module.params['name']} {module.params['version']} was not installed: {error}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
