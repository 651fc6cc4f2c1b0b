import base64
import io
import json
import tarfile

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import docker_image as model

IDENTITY = "0123456789abcdef" * 4


def saved(path, manifest):
    with tarfile.open(path, "w") as archive:
        for name, content in (("layer.tar", b"x" * 2000), ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return str(path)


@pytest.mark.parametrize("config", [f"{IDENTITY}.json", f"blobs/sha256/{IDENTITY}"])
def test_the_id_is_what_older_and_newer_engines_write(tmp_path, config):
    assert model.id_of(saved(tmp_path / "image.tar", [{"Config": config}])) == f"sha256:{IDENTITY}"


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [([], "holds 0 images"), ([{}, {}], "holds 2 images"), ({}, "no list"), ([{"Config": "x.json"}], "which image")],
)
def test_a_file_that_is_not_one_image_is_refused(tmp_path, manifest, complaint):
    with pytest.raises(model.NoImage, match=complaint):
        model.id_of(saved(tmp_path / "image.tar", manifest))


def test_a_file_that_is_no_image_is_refused(tmp_path):
    (tmp_path / "image.tar").write_text("<html>404</html>")
    with pytest.raises(model.NoImage, match="no image as"):
        model.id_of(str(tmp_path / "image.tar"))


IMAGES = [
    {"Id": f"sha256:{number}", "Created": number, "RepoTags": [f"sutazai/agent:{number}"]} for number in (1, 2, 3, 4)
] + [{"Id": "sha256:9", "Created": 0, "RepoTags": ["sutazai/agent-of-another:1"]}, {"Id": "sha256:8", "Created": 0}]


@pytest.mark.parametrize(
    ("wanted", "keep", "gone"),
    [(4, 2, [2, 1]), (4, 1, [3, 2, 1]), (4, 9, []), (1, 2, [3, 2]), (1, 1, [4, 3, 2])],
)
def test_the_wanted_one_stays_and_the_newest_of_the_others(wanted, keep, gone):
    found = model.superfluous(IMAGES, "sutazai/agent", f"sha256:{wanted}", keep)
    assert found == [f"sutazai/agent:{number}" for number in gone]


DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("name", "repository", "tag", "digest", "registry"),
    [
        ("agent:1.0", "agent", "1.0", "", ""),
        ("sutazai/agent:1.0-a_b", "sutazai/agent", "1.0-a_b", "", ""),
        ("registry.example/agent:1", "registry.example/agent", "1", "", "registry.example"),
        ("registry:5000/sutazai/agent:1", "registry:5000/sutazai/agent", "1", "", "registry:5000"),
        (f"registry:5000/agent@{DIGEST}", "registry:5000/agent", "", DIGEST, "registry:5000"),
        (f"localhost/agent:1@{DIGEST}", "localhost/agent", "1", DIGEST, "localhost"),
    ],
)
def test_a_name_has_parts(name, repository, tag, digest, registry):
    assert model.parse(name) == model.Name(repository, tag, digest)
    assert model.repository_of(name) == repository
    assert model.registry_of(name) == registry


@pytest.mark.parametrize(
    "name", ["", "agent", "registry:5000/agent", "agent@sha256:0", "agent:1@sha256:0", "two words:1"]
)
def test_a_name_that_does_not_say_which_image_is_refused(name):
    with pytest.raises(model.NoImage, match="which image"):
        model.parse(name)


def test_the_login_is_what_the_engines_api_wants():
    (name, value), *_more = model.login("registry:5000/agent:1", "reader", "ÿ?>").items()
    assert name == "X-Registry-Auth"
    assert json.loads(base64.urlsafe_b64decode(value)) == {
        "username": "reader",
        "password": "ÿ?>",
        "serveraddress": "registry:5000",
    }
    assert model.login("registry:5000/agent:1", "", "") == {}


def test_an_image_of_a_registry_goes_with_all_its_names():
    images = [
        {
            "Id": f"sha256:{number}",
            "Created": number,
            "RepoTags": [f"registry:5000/agent:{number}"],
            "RepoDigests": [f"registry:5000/agent@sha256:{str(number) * 64}"],
        }
        for number in (1, 2)
    ] + [{"Id": "sha256:3", "Created": 3, "RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}]
    assert model.superfluous(images, "registry:5000/agent", "sha256:2", 1) == [
        "registry:5000/agent:1",
        f"registry:5000/agent@sha256:{'1' * 64}",
    ]
