"""What our modules return doesn't use names that mean something else to Ansible."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

MODULES = sorted((Path(__file__).resolve().parents[2] / "plugins" / "modules").glob("*.py"))
RESERVED = {"failed", "unreachable", "skipped", "rc", "exception", "ansible_facts", "invocation", "warnings"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_no_documented_result_is_taken_for_a_failure(path):
    documented = re.search(r'^RETURN = r?"""(.*?)^"""', path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert documented, f"{path.name} documents no results"
    assert not RESERVED & set(yaml.safe_load(documented[1]) or {})
