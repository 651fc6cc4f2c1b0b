"""What the role flower writes, rendered as Ansible does it from its defaults and an inventory's variables."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.unit.roles.rendering import Role, by_path, complaints

ROOT = Path(__file__).resolve().parents[3]
OPTIONS = "/etc/sutazai/flower/flowerconfig.py"
INVENTORY = {
    "inventory_hostname": "flower-1",
    "groups": {"flower": ["flower-1"], "rabbitmq": ["mq-1", "mq-2"], "consul_servers": ["consul-1"]},
    "hostvars": {"mq-1": {"platform_address": "10.20.0.21"}, "mq-2": {"platform_address": "10.20.0.22"}},
    "platform_address": "10.20.0.91",
    "flower_password": 'of-"people"\\here',
    "flower_rabbitmq_password": "of-the-broker",
}


def role(**variables) -> Role:
    return Role("flower", {**INVENTORY, **variables})


def files(**variables) -> dict:
    return by_path(role(**variables).value("__flower_files"))


def options(**variables) -> dict:
    """As Flower reads the file: as Python."""
    read: dict = {}
    exec(files(**variables)[OPTIONS]["content"], read)  # noqa: S102  # the file is Python
    return read


def test_flower_gets_its_options():
    read = options()
    assert read["basic_auth"] == ['operator:of-"people"\\here']
    assert (read["address"], read["port"], read["read_only"]) == ("10.20.0.91", 5555, True)
    assert read["certfile"] and read["keyfile"]
    assert options(flower_read_only=False)["read_only"] is False


def test_secrets_are_only_for_flower():
    written = files()
    for secret, path in (("of-the-broker", "/etc/sutazai/flower/rabbitmq.password"), ("people", OPTIONS)):
        holders = [name for name, entry in written.items() if secret in entry.get("content", "")]
        assert holders == [path]
        assert (written[path]["owner"], written[path]["mode"]) == ("flower", "0600")


def test_the_defaults_pass():
    assert role().passes()


@pytest.mark.parametrize(
    "wrong", [{"flower_password": "short"}, {"flower_user": "a:b"}, {"flower_rabbitmq_nodes": []}, {"flower_user": ""}]
)
def test_what_cannot_work_is_refused(wrong):
    assert not role(**wrong).passes()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_understands_the_unit(tmp_path):
    unit = files()["/etc/systemd/system/flower.service"]["content"]
    assert complaints(tmp_path, {"flower.service": unit}, ["flower.service"]) == ""


def test_the_scenario_and_the_lab_give_its_user_the_documented_permissions():
    """Molecule shows that they are enough."""
    text = (ROOT / "docs/workers.md").read_text(encoding="utf-8")
    block = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "name: flower" in block)
    documented = yaml.safe_load(block)["rabbitmq_users"][0]["permissions"]
    scenario = yaml.safe_load((ROOT / "molecule/flower/molecule.yml").read_text(encoding="utf-8").replace("$$", "$"))
    (user,) = scenario["provisioner"]["inventory"]["group_vars"]["converge"]["rabbitmq_users"]
    assert user["permissions"] == documented
    lab = yaml.safe_load((ROOT / "inventories/lab/group_vars/rabbitmq.yml").read_text(encoding="utf-8"))
    assert [entry["permissions"] for entry in lab["rabbitmq_users"] if entry["name"] == "flower"] == [documented]
