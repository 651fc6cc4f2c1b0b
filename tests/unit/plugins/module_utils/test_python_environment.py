from __future__ import annotations

import json
import os

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import python_environment as environments

HASH = "--hash=sha256:" + "a" * 64


def complete(root, name, when=0):
    (root / name / "bin").mkdir(parents=True)
    (root / name / "bin" / "python").write_text("")
    (root / name / "bin" / "python").chmod(0o755)
    environments.finish(str(root / name), "1")
    (root / name / environments.RECEIPT).write_text(json.dumps({"installed_at": when}))


def test_only_versions_with_hashes_are_pinned():
    assert environments.unpinned(f"# of tests\n\na==1 {HASH}\nb[c]==2 \\\n    {HASH} \\\n    {HASH}\n") == []
    assert environments.unpinned(f"a>=1 {HASH}\nb==2\nc\n--index-url x\n") == ["a>=1", "b==2", "c", "--index-url"]


def test_other_wheels_and_another_python_are_another_environment():
    names = {environments.identity("1", text, python) for text in (b"a", b"b") for python in ("3.11", "3.13")}
    assert len(names) == 4
    assert all(environments.SAFE_NAME.match(name) for name in names)
    assert environments.identity("1", b"a", "3") == environments.identity("1", b"a", "3")


def test_what_has_no_receipt_is_not_complete(tmp_path):
    complete(tmp_path, "whole")
    assert environments.is_complete(str(tmp_path / "whole"))
    (tmp_path / "whole" / environments.RECEIPT).write_text("")
    assert not environments.is_complete(str(tmp_path / "whole"))
    assert not environments.is_complete(str(tmp_path / "none"))


def test_the_link_is_switched_and_nothing_else_replaced(tmp_path):
    link = str(tmp_path / "current")
    environments.switch(link, "a")
    environments.switch(link, "b")
    assert environments.is_linked(link, "b")
    assert os.listdir(tmp_path) == ["current"]
    os.unlink(link)
    os.mkdir(link)
    with pytest.raises(environments.EnvironmentProblem, match="is there and no link"):
        environments.switch(link, "a")


def test_broken_and_old_environments_go_but_never_the_one_in_use(tmp_path):
    for when, name in enumerate(("old", "older", "used", "new")):
        complete(tmp_path, name, when)
    (tmp_path / "broken").mkdir()
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "used")
    assert environments.superfluous(str(tmp_path), str(link), "new", 2) == ["broken", "old", "older"]
    assert environments.superfluous(str(tmp_path), str(link), "new", 1) == ["broken", "old", "older"]
    assert environments.superfluous(str(tmp_path), str(link), "new", 3) == ["broken", "old"]
    assert environments.superfluous(str(tmp_path), str(link), "used", 1) == ["broken", "new", "old", "older"]
    environments.discard(str(tmp_path / "broken"))
    assert not (tmp_path / "broken").exists()
