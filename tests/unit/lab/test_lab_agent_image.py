"""The agents' image: what it is made from, and what the inventory is told."""

from __future__ import annotations

import json

import pytest

from lab import agent_image, aptsources, runtime
from lab.console import Console

MIRRORS = aptsources.Mirrors("http://deb.example.org/debian", "http://deb.example.org/debian-security")


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / runtime.file_name("1.2.3", "13")
    path.write_bytes(b"wheels")
    return path


def test_another_package_is_another_image(archive):
    before = agent_image.recipe(archive)
    assert agent_image.recipe(archive) == before
    archive.write_bytes(b"other wheels")
    assert agent_image.recipe(archive) != before
    assert agent_image.tag("1.2.3", before) == f"sutazai/agent:1.2.3-{before[:12]}"


def test_the_root_file_system_has_python_and_no_documentation(archive, tmp_path):
    arguments = agent_image.mmdebstrap_arguments(
        MIRRORS, "http://proxy:3142", tmp_path / "customize", archive, tmp_path / "root.tar"
    )
    assert "--include=ca-certificates,python3,python3-venv" in arguments
    assert "--dpkgopt=path-exclude=/usr/share/doc/*" in arguments
    assert '--aptopt=Acquire::http::Proxy "http://proxy:3142"' in arguments
    assert arguments[arguments.index("trixie") + 1] == str(tmp_path / "root.tar")


def test_it_asks_no_package_index_and_runs_as_nobody_special():
    assert "--no-index" in agent_image.CUSTOMIZE and "--require-hashes" in agent_image.CUSTOMIZE
    assert "USER 10001:10001" in agent_image.CONFIGURATION


def test_hosts_without_agents_need_none(tmp_path):
    assert agent_image.ensure(Console(tmp_path, "test", 1), None, {"consul_servers"}) == {}


def test_what_is_there_is_not_made_again(archive, tmp_path, monkeypatch):
    (tmp_path / "artifacts").mkdir()
    moved = archive.rename(tmp_path / "artifacts" / archive.name)
    file = tmp_path / "artifacts" / agent_image.file_name("1.2.3")
    file.write_bytes(b"image")
    content = {"recipe": agent_image.recipe(moved), "sha256": runtime.sha256(file)}
    file.with_suffix(".json").write_text(json.dumps(content))
    monkeypatch.setattr(runtime, "version", lambda: "1.2.3")
    monkeypatch.setattr(runtime, "ensure", lambda *_arguments: {})
    monkeypatch.setattr(agent_image, "make", lambda *_arguments: pytest.fail("it is there"))

    class Settings:
        cache = tmp_path

    found = agent_image.ensure(Console(tmp_path, "test", 1), Settings(), {"agents"})
    image = agent_image.tag("1.2.3", agent_image.recipe(moved))
    assert found == {
        "agent_image": image,
        "lab_agent_image": image,
        "agent_image_artifact_sha256": runtime.sha256(file),
    }
