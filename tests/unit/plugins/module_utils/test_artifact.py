"""Archives of every kind, damaged and hostile ones included, and installations that were interrupted."""

from __future__ import annotations

import io
import json
import os
import pathlib
import stat
import tarfile
import zipfile

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import artifact as lib

BODY = b"#!/bin/sh\necho hello\n"


def make_zip(path, entries):
    with zipfile.ZipFile(path, "w") as archive:
        for name, body in entries.items():
            archive.writestr(name, body)
    return str(path)


def make_tar(path, entries, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, body in entries.items():
            entry = tarfile.TarInfo(name)
            if isinstance(body, tarfile.TarInfo):
                body.name = name
                archive.addfile(body)
                continue
            entry.size, entry.mode = len(body), 0o755
            archive.addfile(entry, io.BytesIO(body))
    return str(path)


def link(target, kind=tarfile.SYMTYPE):
    entry = tarfile.TarInfo()
    entry.type, entry.linkname = kind, target
    return entry


def install(tmp_path, archive, member="tool", version="1.0", file="tool.zip"):
    base = tmp_path / "tool"
    base.mkdir(exist_ok=True)
    sha256 = lib.sha256_of(archive)
    lib.install(archive, str(base), version, sha256, member, file)
    return base / version, sha256


@pytest.mark.parametrize(
    "make", [make_zip, make_tar, lambda p, e: make_tar(p, e, "w:xz"), lambda p, e: make_tar(p, e, "w")]
)
def test_archives(tmp_path, make):
    directory, sha256 = install(tmp_path, make(tmp_path / "a", {"tool": BODY, "LICENSE": b"x", "lib/part": b"y"}))
    assert (directory / "tool").read_bytes() == BODY
    assert (directory / "tool").stat().st_mode & 0o777 == 0o755
    assert (directory / "lib" / "part").read_bytes() == b"y"
    assert lib.is_installed(str(directory), sha256, "tool")
    assert lib.leftovers(str(directory.parent)) == []


def test_a_plain_binary(tmp_path):
    path = tmp_path / "download"
    path.write_bytes(BODY)
    directory, sha256 = install(tmp_path, str(path), member="", file="tool")
    assert lib.is_installed(str(directory), sha256, "tool")


def test_the_binary_in_a_directory(tmp_path):
    directory, sha256 = install(
        tmp_path, make_tar(tmp_path / "a", {"tool-1.0/bin/tool": BODY}), member="tool-1.0/bin/tool"
    )
    assert lib.is_installed(str(directory), sha256, "tool-1.0/bin/tool")


@pytest.mark.parametrize(
    "make",
    [
        lambda p: make_zip(p, {"../evil": BODY, "tool": BODY}),
        lambda p: make_zip(p, {"/tmp/evil": BODY, "tool": BODY}),
        lambda p: make_zip(p, {"a/../../evil": BODY, "tool": BODY}),
        lambda p: make_tar(p, {"../evil": BODY, "tool": BODY}),
        lambda p: make_tar(p, {"/evil": BODY, "tool": BODY}),
        lambda p: make_tar(p, {"out": link("../../.."), "out/evil": BODY, "tool": BODY}),
        lambda p: make_tar(p, {"tool": link("/etc/passwd")}),
        lambda p: make_tar(p, {"a": link("../x", tarfile.LNKTYPE), "tool": BODY}),
        lambda p: make_tar(p, {"null": link("", tarfile.CHRTYPE), "tool": BODY}),
        lambda p: make_tar(p, {"pipe": link("", tarfile.FIFOTYPE), "tool": BODY}),
    ],
)
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path, make):
    with pytest.raises(lib.ArtifactError):
        install(tmp_path, make(tmp_path / "a"))
    assert [path.name for path in (tmp_path / "tool").iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "tool"]


def test_links_inside_the_archive_work(tmp_path):
    directory, sha256 = install(
        tmp_path, make_tar(tmp_path / "a", {"bin/tool-1.0": BODY, "tool": link("bin/tool-1.0")})
    )
    assert (directory / "tool").read_bytes() == BODY
    assert lib.is_installed(str(directory), sha256, "tool")


def test_setuid_is_not_taken_over(tmp_path):
    entry = tarfile.TarInfo("tool")
    entry.size, entry.mode = len(BODY), 0o6755
    with tarfile.open(tmp_path / "a", "w") as archive:
        archive.addfile(entry, io.BytesIO(BODY))
    directory, _sha256 = install(tmp_path, str(tmp_path / "a"))
    assert stat.S_IMODE((directory / "tool").stat().st_mode) == 0o755


@pytest.mark.parametrize("member", ["other", "lib/tool"])
def test_a_missing_member_names_what_there_is(tmp_path, member):
    with pytest.raises(lib.ArtifactError, match=r"holds no .* It holds: LICENSE, tool\."):
        install(tmp_path, make_zip(tmp_path / "a", {"tool": BODY, "LICENSE": b""}), member=member)


def test_no_archive_at_all(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(lib.ArtifactError, match="neither a zip nor a tar"):
        install(tmp_path, str(path))


def test_a_truncated_archive(tmp_path):
    path = pathlib.Path(make_tar(tmp_path / "a", {"tool": os.urandom(100000)}))
    path.write_bytes(path.read_bytes()[:50000])
    with pytest.raises(lib.ArtifactError, match="could not be unpacked"):
        install(tmp_path, str(path))


def test_an_interrupted_installation_is_none(tmp_path):
    directory = tmp_path / "tool" / "1.0"
    directory.mkdir(parents=True)
    (directory / "tool").write_bytes(BODY)
    assert not lib.is_installed(str(directory), "0" * 64, "tool")
    (directory / lib.RECEIPT).write_text('{"sha256": "000')
    assert not lib.is_installed(str(directory), "0" * 64, "tool")


@pytest.mark.parametrize("damage", ["sha", "gone", "size", "mode"])
def test_a_changed_installation_is_repaired(tmp_path, damage):
    archive = make_zip(tmp_path / "a", {"tool": BODY})
    directory, sha256 = install(tmp_path, archive)
    if damage == "sha":
        receipt = json.loads((directory / lib.RECEIPT).read_text())
        (directory / lib.RECEIPT).write_text(json.dumps({**receipt, "sha256": "1" * 64}))
    elif damage == "gone":
        (directory / "tool").unlink()
    elif damage == "size":
        (directory / "tool").write_bytes(b"x")
    else:
        (directory / "tool").chmod(0o644)
    assert not lib.is_installed(str(directory), sha256, "tool")
    install(tmp_path, archive)
    assert lib.is_installed(str(directory), sha256, "tool")
    assert [path.name for path in directory.parent.iterdir()] == ["1.0"]


def test_the_link_replaces_what_was_there(tmp_path):
    target, destination = tmp_path / "target", tmp_path / "bin" / "tool"
    target.write_bytes(BODY)
    os.utime(target, (1, 1))
    lib.link(str(destination), str(target))
    assert lib.is_linked(str(destination), str(target))
    assert target.stat().st_mtime > 1  # processes that run something older want a restart
    destination.unlink()
    destination.write_text("put here by hand")
    lib.link(str(destination), str(target))
    assert lib.is_linked(str(destination), str(target))
    assert [path.name for path in destination.parent.iterdir()] == ["tool"]


def test_a_directory_is_not_replaced(tmp_path):
    with pytest.raises(lib.ArtifactError, match="is a directory"):
        lib.link(str(tmp_path), "/opt/x")


@pytest.mark.parametrize(("keep", "left"), [(1, []), (2, ["3"]), (3, ["2", "3"]), (9, ["1", "2", "3"])])
def test_old_versions(tmp_path, keep, left):
    for number in ("1", "2", "3", "4"):
        (tmp_path / number).mkdir()
        (tmp_path / number / lib.RECEIPT).write_text(json.dumps({"installed_at": int(number)}))
    (tmp_path / ".incoming-x").mkdir()
    gone = lib.superfluous(str(tmp_path), "4", keep)
    assert sorted({"1", "2", "3"} - set(gone)) == left


def test_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr(lib.shutil, "disk_usage", lambda _path: type("Usage", (), {"free": 1000})())
    with pytest.raises(lib.ArtifactError, match="Make room there"):
        install(tmp_path, make_zip(tmp_path / "a", {"tool": BODY}))


GOOD = {
    "name": "consul",
    "version": "1.20.6",
    "sha256": "a" * 64,
    "file": "consul_1.20.6.zip",
    "member": "consul",
    "destination": "/usr/local/bin/consul",
    "url": "https://x",
}


def test_good_input():
    assert lib.check_input(**GOOD) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"name": "../x"}, "artifact_name"),
        ({"version": ""}, "artifact_version"),
        ({"sha256": ""}, "64 hexadecimal"),
        ({"sha256": "g" * 64}, "64 hexadecimal"),
        ({"file": "a/b"}, "artifact_file"),
        ({"member": "../x"}, "artifact_member"),
        ({"member": "/x"}, "artifact_member"),
        ({"destination": "bin/x"}, "artifact_destination"),
        ({"url": ""}, "nowhere to take"),
    ],
)
def test_wrong_input(wrong, told):
    (problem,) = lib.check_input(**{**GOOD, **wrong})
    assert told in problem


def test_the_mirror_comes_before_the_url():
    assert lib.source_url("a.zip", "http://mirror/x/", "http://origin/a.zip") == "http://mirror/x/a.zip"
    assert lib.source_url("a.zip", "", "http://origin/a.zip") == "http://origin/a.zip"


def test_a_tar_that_ends_with_a_wheel_is_a_tar(tmp_path):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as wheel:
        wheel.writestr("module.py", "")
    archive = tmp_path / "wheels.tar"
    with tarfile.open(archive, "w") as out:
        entry = tarfile.TarInfo("wheels/last.whl")
        entry.size = len(inner.getvalue())
        out.addfile(entry, io.BytesIO(inner.getvalue()))
    (tmp_path / "root").mkdir()
    lib.unpack(str(archive), str(tmp_path / "root"), "wheels", "wheels.tar")
    assert (tmp_path / "root" / "wheels" / "last.whl").read_bytes() == inner.getvalue()
