"""Let apt take its packages from a bundle."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bundle_packages
short_description: Let apt take its packages from a bundle
version_added: "0.1.0"
description:
  - Unpacks the part of a bundle made by C(playbooks/bundle.yml) that holds the Debian packages for this host's release, and
    makes it apt's only source through C(/etc/apt/apt.conf.d/99sutazai-bundle). The host's own sources stay as they are and are
    not asked.
  - Without a bundle, takes this back and has apt read its own sources again. When these can't be read, it fails and leaves the bundle
    in use.
  - An action plugin brings the file; the module only works through it.
options:
  bundle:
    description: The bundle on the controller. Empty means none.
    type: str
    default: ""
  repository_sha256:
    description: SHA-256 of the packages' part. Set by the action plugin.
    type: str
  local_file:
    description: On the host, the packages' part. Set by the action plugin.
    type: path
attributes:
  check_mode:
    description: Says whether it would change the sources.
    support: full
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Take packages from the bundle, if there is one
  sutazai.platform.bundle_packages:
    bundle: "{{ platform_artifact_bundle | default('') }}"
"""

RETURN = r"""
release:
  description: Code name and architecture of the host, such as C(trixie-amd64).
  type: str
  returned: always
active:
  description: Whether apt reads the bundle after this task.
  type: bool
  returned: always
"""

import os
import shutil
import tarfile
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import artifact as lib
from ansible_collections.sutazai.platform.plugins.module_utils import host

REPOSITORY = "/var/cache/sutazai/packages"
# The last to come and the last to go: while it is there, something is left to be taken back.
CONFIGURATION = "/etc/apt/apt.conf.d/99sutazai-bundle"
SOURCES = "/etc/apt/sutazai-bundle.d"
FILES = {
    f"{SOURCES}/bundle.sources": (
        "# Packages from the bundle (platform_artifact_bundle). `Trusted`: each file was verified against the bundle's\n"
        "# manifest when it was unpacked, and the signatures of Debian's archive were checked when the bundle was made.\n"
        f"Types: deb\nURIs: file:{REPOSITORY}\nSuites: ./\nTrusted: yes\n"
    ),
    CONFIGURATION: (
        "// While this file is here, apt reads the bundle only, not the host's own sources.\n"
        f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{SOURCES}";\n'
    ),
}

UPDATE = ["apt-get", "update", "-o", "APT::Update::Error-Mode=any"]
# Whatever CONFIGURATION says.
OF_OWN_SOURCES = ["-o", "Dir::Etc::sourcelist=sources.list", "-o", "Dir::Etc::sourceparts=sources.list.d"]


def release(module):
    values = {}
    with open("/etc/os-release", encoding="utf-8") as handle:
        for line in handle:
            key, _equals, value = line.strip().partition("=")
            values[key] = value.strip('"')
    _rc, architecture, _err = module.run_command(["dpkg", "--print-architecture"], check_rc=True)
    return f"{values.get('VERSION_CODENAME', 'unknown')}-{architecture.strip()}"


def write(path, text):
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".")
    with os.fdopen(handle, "w", encoding="utf-8") as target:
        target.write(text)
    os.chmod(scratch, 0o644)
    os.replace(scratch, path)


def unpack(path, sha256):
    """Replace the repository by the one in the file at `path`."""
    got = lib.sha256_of(path)
    if got != sha256:
        raise lib.ArtifactError(f"The packages arrived damaged: SHA-256 {got} instead of {sha256}. Run again.")
    parent = os.path.dirname(REPOSITORY)
    os.makedirs(parent, mode=0o755, exist_ok=True)
    lib.require_space(parent, os.path.getsize(path), "Unpacking the packages")
    incoming = tempfile.mkdtemp(prefix=".incoming-", dir=parent)
    try:
        os.chmod(incoming, 0o755)  # noqa: S103 - everyone may read it
        with tarfile.open(path, "r:") as archive:
            for entry in archive:
                if not entry.isreg() or "/" in entry.name:
                    raise lib.ArtifactError(
                        f"The packages hold the unexpected entry {entry.name!r}; nothing was changed."
                    )
                target = os.path.join(incoming, entry.name)
                with open(target, "wb") as handle:
                    shutil.copyfileobj(archive.extractfile(entry), handle, lib.CHUNK_BYTES)
                os.chmod(target, 0o644)
        write(os.path.join(incoming, ".sha256"), sha256)
        if os.path.exists(REPOSITORY):
            shutil.rmtree(REPOSITORY)
        os.rename(incoming, REPOSITORY)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def restore(module):
    """Have apt read the host's own sources again."""
    if os.path.exists(CONFIGURATION):
        rc, _out, err = module.run_command([*UPDATE, *OF_OWN_SOURCES])
        if rc:
            raise lib.ArtifactError(
                "No bundle is set any more (platform_artifact_bundle, base_package_bundle), but the host's own apt sources can't be read: "
                f"{err.strip()} apt keeps reading the bundle that was unpacked in {REPOSITORY}. Mend the sources in /etc/apt, or set the "
                "bundle again."
            )
    for name in (REPOSITORY, SOURCES):
        if os.path.isdir(name):
            shutil.rmtree(name)
    if os.path.exists(CONFIGURATION):
        os.unlink(CONFIGURATION)


def run(module, result):
    bundle, sha256, path = module.params["bundle"], module.params["repository_sha256"], module.params["local_file"]
    result["release"] = release(module)
    if not bundle:
        result["changed"] = any(os.path.exists(name) for name in (CONFIGURATION, SOURCES, REPOSITORY))
        if result["changed"] and not module.check_mode:
            result["active"] = os.path.exists(CONFIGURATION)  # should this fail
            restore(module)
            result["active"] = False
        return
    result["active"] = True
    unpacked = bool(sha256) and host.text(f"{REPOSITORY}/.sha256") == sha256
    configured = all(host.text(name) == text for name, text in FILES.items())
    result["changed"] = not (unpacked and configured)
    result["needs_file"] = not unpacked and not path
    if module.check_mode or not result["changed"] or result["needs_file"]:
        return
    if not unpacked:
        unpack(path, sha256)
    for name, text in FILES.items():
        write(name, text)
    rc, _out, err = module.run_command(UPDATE)
    if rc:
        raise lib.ArtifactError(f"apt can't read the bundle's packages in {REPOSITORY}: {err.strip()}")


def main():
    module = AnsibleModule(
        argument_spec={
            "bundle": {"type": "str", "default": ""},
            "repository_sha256": {"type": "str"},
            "local_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    result = {"changed": False, "release": "", "active": False, "needs_file": False}
    os.umask(0o022)
    try:
        run(module, result)
    except lib.ArtifactError as error:
        module.fail_json(msg=str(error), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
