"""What goes into a bundle, and what comes out of it."""

from __future__ import annotations

import json
import tarfile

import pytest
import yaml
from ansible_collections.sutazai.platform.plugins.module_utils import bundle_build, bundle_contents, bundle_file

TASKS = yaml.safe_load("""
- name: Prepare
  when: a
  vars: {x: 1}
  block:
    - ansible.builtin.apt: {name: [one, two], install_recommends: false}
      when: b
  rescue:
    - ansible.builtin.apt: {name: three}
- sutazai.platform.packages: {name: four}
- ansible.builtin.apt: {name: gone, state: absent}
- ansible.builtin.apt: {update_cache: true}
- ansible.builtin.include_role: {name: sutazai.platform.artifact}
  vars: {artifact_name: consul}
- ansible.builtin.include_role: {name: sutazai.platform.artifact, tasks_from: packages}
- ansible.builtin.import_role: {name: sutazai.platform.pki}
- ansible.builtin.get_url: {url: "http://x", dest: /x}
  name: Fetch
- ansible.builtin.command: "true"
""")


def test_what_tasks_want():
    found, roles = bundle_contents.wants(TASKS)
    assert [(want["kind"], want.get("names")) for want in found] == [
        ("packages", ["one", "two"]),
        ("packages", "three"),
        ("packages", "four"),
        ("artifact", None),
        ("other", None),
    ]
    assert found[0]["when"] == ["a", "b"]
    assert found[0]["vars"] == {"x": 1}
    assert found[0]["recommends"] is False
    assert found[1]["recommends"] is True
    assert found[2]["recommends"] is False
    assert found[3]["vars"] == {"artifact_name": "consul"}
    assert roles == ["sutazai.platform.pki"]


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data))


def load(path):
    with open(path, encoding="utf-8") as handle:
        return yaml.safe_load(handle)


def test_plays_and_roles(tmp_path):
    write(tmp_path / "site.yml", [{"import_playbook": "playbooks/base.yml"}, {"hosts": "redis", "tasks": TASKS}])
    write(tmp_path / "playbooks" / "base.yml", [{"hosts": "all", "roles": ["sutazai.platform.base", {"role": "pki"}]}])
    plays = list(bundle_contents.plays_of(str(tmp_path / "site.yml"), load))
    assert [hosts for hosts, _play in plays] == ["all", "redis"]
    assert bundle_contents.roles_of(plays[0][1])[1] == ["sutazai.platform.base", "pki"]
    write(tmp_path / "roles" / "base" / "tasks" / "install.yml", TASKS)
    write(tmp_path / "roles" / "base" / "vars" / "debian-12.yml", {"p": "old"})
    write(tmp_path / "roles" / "base" / "meta" / "main.yml", {"dependencies": [{"role": "common"}]})
    role = bundle_contents.read_role(str(tmp_path / "roles" / "base"), load, ["12", "13"])
    assert len(role["wants"]) == 5
    assert role["release_vars"] == {"12": {"p": "old"}, "13": {}}
    assert role["roles"] == ["common", "sutazai.platform.pki"]
    found = bundle_contents.all_roles(["x.y.base"], lambda name: role if name == "base" else None)
    assert list(found) == ["base"]


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("all", ["a", "b", "c"]),
        ("one:two", ["a", "c"]),
        ("all:!one", ["b", "c"]),
        ("!one:all", ["b", "c"]),
        ("one:&two", ["a"]),
        (["two", "b"], ["a", "c", "b"]),
        ("b,c", ["b", "c"]),
        ("localhost", []),
        ("nobody", []),
    ],
)
def test_patterns(pattern, hosts):
    assert bundle_contents.hosts_of(pattern, {"all": ["a", "b", "c"], "one": ["a"], "two": ["a", "c"]}) == hosts


DEB822 = """\
Types: deb
# a comment
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main contrib

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""


def test_sources_for_another_release():
    files = {
        "debian.sources": DEB822,
        "x.list": "deb http://tools.example/apt cloud-sdk-bookworm main\n# deb http://c/ bookworm main\n",
    }
    key = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
    assert bundle_build.sources_for("trixie", "bookworm", files) == [
        f"deb {key}http://mirror.example/debian trixie main",
        f"deb {key}http://mirror.example/debian trixie-updates main",
        "deb http://mirror.example/debian-security trixie-security main contrib",
    ]
    assert bundle_build.sources_for("trixie", "jammy", files) == []
    lines = {"sources.list": "deb [arch=amd64 signed-by=/k.gpg] http://m/debian bookworm main non-free # note\n"}
    assert bundle_build.sources_for("bookworm", "bookworm", lines) == [
        "deb [signed-by=/k.gpg] http://m/debian bookworm main non-free"
    ]


def bundle(tmp_path, name="b", body=b"binary"):
    source = tmp_path / "source"
    source.write_bytes(body)
    return bundle_build.write_bundle(
        str(tmp_path), name, {"artifacts/tool": (str(source), {"version": "1"})}, {"playbook": "site.yml"}
    )


def test_a_bundle_can_be_read_back(tmp_path):
    path, manifest = bundle(tmp_path)
    assert bundle_file.read_manifest(path) == manifest
    assert bundle_file.find(manifest, "artifacts/tool")["version"] == "1"
    (tmp_path / "out").mkdir()
    copy = bundle_file.fetch(path, "artifacts/tool", str(tmp_path / "out"))
    with open(copy, "rb") as handle:
        assert handle.read() == b"binary"
    assert bundle_file.fetch(path, "artifacts/tool", str(tmp_path / "out")) == copy
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_the_same_contents_make_the_same_bundle(tmp_path):
    one, _manifest = bundle(tmp_path)
    with open(one, "rb") as handle:
        body = handle.read()
    (tmp_path / "source").touch()
    assert bundle(tmp_path)[0] == one
    with open(one, "rb") as handle:
        assert handle.read() == body
    assert bundle(tmp_path, body=b"other")[0] != one


def test_what_is_not_in_it_is_told(tmp_path):
    path, _manifest = bundle(tmp_path)
    with pytest.raises(bundle_file.BundleError, match="artifacts/envoy is not in the bundle"):
        bundle_file.fetch(path, "artifacts/envoy", str(tmp_path))


def test_damage_is_noticed(tmp_path):
    path, _manifest = bundle(tmp_path)
    with open(path, "r+b") as handle:
        body = handle.read()
        handle.seek(body.index(b"binary"))
        handle.write(b"hacked")
    with pytest.raises(bundle_file.BundleError, match="is damaged"):
        bundle_file.fetch(path, "artifacts/tool", str(tmp_path))
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith("bundle-")]


def test_no_bundle(tmp_path):
    with pytest.raises(bundle_file.BundleError, match="doesn't exist"):
        bundle_file.read_manifest(str(tmp_path / "none"))
    (tmp_path / "text").write_text("hello" * 500)
    with pytest.raises(bundle_file.BundleError, match="can't be read"):
        bundle_file.read_manifest(str(tmp_path / "text"))
    (tmp_path / "x").write_text("x")
    with tarfile.open(tmp_path / "tar", "w") as archive:
        archive.add(tmp_path / "x", "x")
    with pytest.raises(bundle_file.BundleError, match="is not a bundle"):
        bundle_file.read_manifest(str(tmp_path / "tar"))


def test_another_format(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 99, "files": []}))
    with tarfile.open(tmp_path / "tar", "w") as archive:
        archive.add(tmp_path / "manifest.json", "manifest.json")
    with pytest.raises(bundle_file.BundleError, match="format 99"):
        bundle_file.read_manifest(str(tmp_path / "tar"))
