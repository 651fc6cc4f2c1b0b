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
