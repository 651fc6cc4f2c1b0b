"""Make a bundle of everything that a playbook would download."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: bundle
short_description: Make a bundle of everything that a playbook would download
version_added: "0.1.0"
description:
  - Reads the playbook's tasks and the roles that it uses, evaluates them for every host of the inventory, and collects
    the artifacts (with their checksums) and the Debian packages with all their dependencies, down to the essential
    ones, for every release and architecture. Writes one plain tar whose first member is C(manifest.json).
  - Runs on the controller. Connects to no host, so that it can be made on a machine that has network but can't reach
    them.
  - Packages are resolved and verified by apt with an empty state of its own. Needs C(apt-get) and C(dpkg-deb), no root.
options:
  playbook:
    description: Playbook whose installations are collected.
    type: path
    required: true
  directory:
    description: Where the bundle is written.
    type: path
    required: true
  cache:
    description: Where downloads are kept for the next bundle.
    type: path
    required: true
  name:
    description: First part of the bundle's file name; a digest of the contents follows.
    type: str
    required: true
  releases:
    description: "C({host: release}) with the code name of each host's Debian release."
    type: dict
    required: true
  architectures:
    description: "C({host: architecture}) in Debian's words, such as V(amd64)."
    type: dict
    required: true
  apt_sources:
    description:
      - "C({release: [lines]}) as in C(sources.list). For a release that isn't here, the controller's own sources of
        Debian's archive are used with the release exchanged."
    type: dict
    default: {}
  apt_proxy:
    description: URL of an apt proxy that the controller can reach. Empty means none.
    type: str
    default: ""
attributes:
  check_mode:
    description: Says what would be in the bundle; downloads nothing and reads no package lists.
    support: full
author:
  - SutazAI platform team (@sutazai)
"""

EXAMPLES = r"""
- name: Make a bundle
  sutazai.platform.bundle:
    playbook: site.yml
    directory: .cache/bundles
    cache: .cache/bundle
    name: sutazai-platform-bundle-production
    releases: {redis-1: trixie}
    architectures: {redis-1: amd64}
"""

RETURN = r"""
path:
  description: The bundle. C(<path>.sha256) beside it holds its checksum.
  type: str
  returned: when made
bytes:
  description: Its size.
  type: int
  returned: when made
artifacts:
  description: The artifacts' file names.
  type: list
  elements: str
  returned: always
packages:
  description: By release and architecture, the packages that tasks ask for.
  type: dict
  returned: always
closures:
  description: By release and architecture, how many packages that comes to with dependencies.
  type: dict
  returned: when made
not_bundled:
  description: Tasks that fetch something that no bundle serves.
  type: list
  elements: str
  returned: always
"""
