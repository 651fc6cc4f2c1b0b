"""What is generated is what its source says."""

from __future__ import annotations

import re
import subprocess
import tarfile

import yaml

from tests.quality.project import CHECKOUT, load_yaml, roles, tracked
from tests.tools import docs
from tests.tools.molecule import role_of


def test_reference_pages_are_up_to_date():
    assert docs.stale() == [], "run `make docs`"


def test_changelog_is_that_of_its_releases():
    """CHANGELOG.md is made by `antsibull-changelog release`; between releases the fragments wait."""
    releases = (load_yaml(CHECKOUT / "changelogs/changelog.yaml") or {}).get("releases") or {}
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert [version for version in releases if f"v{version}" not in text.replace("\\", "")] == []


def test_fragments_are_well_formed():
    result = subprocess.run(["antsibull-changelog", "lint"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_collections_are_named_once_and_alike():
    """galaxy.yml's dependencies and requirements.yml are for different readers and must agree."""
    galaxy = load_yaml(CHECKOUT / "galaxy.yml")["dependencies"]
    listed = {entry["name"]: entry["version"] for entry in load_yaml(CHECKOUT / "requirements.yml")["collections"]}
    assert listed == galaxy


def test_every_collection_that_is_used_is_a_dependency():
    galaxy = set(load_yaml(CHECKOUT / "galaxy.yml")["dependencies"]) | {"ansible.builtin", "sutazai.platform"}
    used = set()
    for name in tracked():
        if name.endswith(".yml") and name.startswith(("roles/", "playbooks/", "inventories/production/")):
            text = (CHECKOUT / name).read_text(encoding="utf-8")
            used |= set(re.findall(r"\b((?:ansible|community|grafana|prometheus)\.[a-z]+)\.[a-z_]+\b", text))
    used -= {"ansible.cfg"}
    assert sorted(used - galaxy) == []


def test_a_scenario_is_variables_only_and_every_role_has_one():
    scenarios = {path.parent.name for path in CHECKOUT.glob("molecule/*/molecule.yml")}
    assert {role_of(scenario) for scenario in scenarios} == set(roles()) == scenarios & set(roles())
    for scenario in scenarios:
        files = [name for name in tracked() if name.startswith(f"molecule/{scenario}/")]
        assert files == [f"molecule/{scenario}/molecule.yml"]
        content = yaml.safe_load((CHECKOUT / files[0]).read_text(encoding="utf-8"))
        assert set(content) <= {"platforms", "provisioner"}


def test_the_built_collection_holds_nothing_that_git_ignores(tmp_path):
    """`ansible-galaxy collection build` packs the working tree: secrets of a lab must not go with it."""
    command = ["ansible-galaxy", "collection", "build", "--output-path", str(tmp_path)]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {member.name for member in archive if not member.isdir()}
    assert sorted(names - set(tracked()) - {"MANIFEST.json", "FILES.json"}) == []
