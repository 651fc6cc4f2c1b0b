import re
import tarfile

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils.python_environment import unpinned

from lab import runtime
from lab.errors import LabError


@pytest.mark.parametrize("debian", runtime.PYTHONS)
def test_what_hosts_get_is_pinned_and_the_same_as_in_the_tests(debian):
    text = runtime.requirements(debian).read_text(encoding="utf-8")
    assert unpinned(text) == []
    tested = (runtime.RUNTIME / "requirements.txt").read_text(encoding="utf-8")
    versions = re.findall(r"^[a-z0-9._-]+==\S+", text, re.MULTILINE)
    assert versions
    assert [version for version in versions if f"{version} " not in tested] == []


def test_an_archive_is_the_same_for_the_same_wheels(tmp_path):
    wheels = []
    for name in ("b.whl", "a.whl"):
        (tmp_path / name).write_bytes(name.encode())
        wheels.append(tmp_path / name)
    runtime.pack(wheels, "a==1\n", tmp_path / "one.tar")
    runtime.pack(wheels[::-1], "a==1\n", tmp_path / "other.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "other.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        assert archive.getnames() == ["requirements.txt", "wheels/a.whl", "wheels/b.whl"]


def test_other_sources_or_pins_are_another_archive():
    made = {
        runtime.recipe(files, pinned) for files in ({"a": b"1"}, {"a": b"2"}, {"b": b"1"}) for pinned in (b"x", b"y")
    }
    assert len(made) == 6


def test_only_wheels_for_the_releases_python_are_taken(tmp_path):
    arguments = runtime.download_arguments("13", tmp_path)
    assert "--require-hashes" in arguments
    assert arguments[arguments.index("--only-binary") + 1] == ":all:"
    assert arguments[arguments.index("--python-version") + 1] == "3.13"
    with pytest.raises(LabError, match="Debian 11"):
        runtime.make("11", tmp_path)
