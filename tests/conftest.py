"""Makes `ansible_collections.sutazai.platform` importable, as ansible-core itself does it."""

from __future__ import annotations

from pathlib import Path

from ansible.utils.collection_loader import AnsibleCollectionConfig
from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder

CHECKOUT = Path(__file__).resolve().parent.parent

if AnsibleCollectionConfig.collection_finder is None:
    _AnsibleCollectionFinder(paths=[str(CHECKOUT / ".ansible" / "collections")])._install()
