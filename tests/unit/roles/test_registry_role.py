"""What the role registry writes, rendered as Ansible does it from its defaults and an inventory's variables."""

from __future__ import annotations

import base64
import json
import re
import shutil

import pytest
from passlib.hash import bcrypt

from tests.unit.roles.rendering import Role, by_path, complaints

PASSWORD = "of-those-who-read"
IMAGE = {"name": "sutazai/agent:0.1.0-46b2f3963436", "artifact_file": "agent.tar", "artifact_sha256": "0" * 64}
INVENTORY = {
    "inventory_hostname": "registry-1",
    "groups": {"registry": ["registry-1", "registry-2"], "consul_servers": ["consul-1"]},
    "platform_name": "test",
    "platform_address": "10.20.0.61",
    "registry_password": PASSWORD,
    "registry_images": [IMAGE],
}
DROP_IN = "/etc/systemd/system/docker-registry.service.d/sutazai.conf"
PUBLISH_UNIT = "/etc/systemd/system/sutazai-registry-publish.service"


def role(**variables) -> Role:
    return Role("registry", {**INVENTORY, **variables})


def files(**variables) -> dict:
    return by_path(role(**variables).value("__registry_files"))


def settings(name: str, **variables) -> dict:
    return json.loads(files(**variables)[f"/etc/sutazai/registry/{name}"]["content"])


def test_nobody_uploads_or_deletes_over_the_network():
    read, publish = settings("config.yml"), settings("publish.yml")
    assert (read["http"]["addr"], publish["http"]["addr"]) == ("10.20.0.61:5000", "127.0.0.1:5001")
    assert (read["storage"]["maintenance"], publish["storage"]["maintenance"]) == (
        {"readonly": {"enabled": True}},
        {"readonly": {"enabled": False}},
    )
    for one in (read, publish):
        assert one["storage"]["delete"] == {"enabled": False}
        assert one["auth"]["htpasswd"]["path"] == "/etc/sutazai/registry/htpasswd"
        assert one["http"]["tls"]["minimumtls"] == "tls1.2"
    assert settings("config.yml", platform_address="fd00::61")["http"]["addr"] == "[fd00::61]:5000"


def test_the_password_is_hashed_and_its_hash_is_the_same_at_each_run():
    def line(**variables) -> str:
        return files(**variables)["/etc/sutazai/registry/htpasswd"]["content"].strip()

    user, _colon, hashed = line().partition(":")
    assert (user, bcrypt.verify(PASSWORD, hashed)) == ("reader", True)
    assert line() == line()
    assert (
        len({line(), line(inventory_hostname="registry-2"), line(platform_name="other"), line(registry_user="x")}) == 4
    )


def test_the_password_itself_is_only_roots():
    login = base64.b64encode(f"reader:{PASSWORD}".encode()).decode()
    written = files()
    holders = [name for name, entry in written.items() if re.search(f"{PASSWORD}|{login}", entry.get("content", ""))]
    assert holders == ["/etc/sutazai/registry/auth.json"]
    assert (written[holders[0]].get("owner", "root"), written[holders[0]]["mode"]) == ("root", "0600")
    assert written["/etc/sutazai/registry/htpasswd"]["mode"] == "0640"


def test_the_defaults_pass():
    assert role().passes()
    assert role(registry_images=[]).passes()


@pytest.mark.parametrize(
    "wrong",
    [
        {"registry_password": "too-short"},
        {"registry_password": "more-than-bcrypt-knows-of" * 3},
        {"registry_user": "a:b"},
        {"registry_publish_port": 5000},
        {"registry_images": [{**IMAGE, "name": "sutazai/agent"}]},
        {"registry_images": [{**IMAGE, "name": "registry.service.consul:5000/sutazai/agent:1"}]},
        {"registry_images": [{**IMAGE, "artifact_sha256": ""}]},
        {"registry_images": [IMAGE, {**IMAGE, "name": "sutazai/agent:0.2.0"}]},
    ],
)
def test_what_cannot_work_is_refused(wrong):
    assert not role(**wrong).passes()


def test_an_images_file_has_a_place_of_its_own():
    rendered = role(item={**IMAGE, "name": "team/one/image:1"})
    assert rendered.value("__registry_publication")["path"] == "/opt/sutazai/image-team-one-image/current.tar"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_systemd_understands_the_units(tmp_path):
    written = files()
    units = {
        # Debian's, as far as it matters here.
        "docker-registry.service": "[Service]\nExecStart=/usr/bin/docker-registry serve /etc/docker/registry/config.yml\n",
        "docker-registry.service.d/sutazai.conf": written[DROP_IN]["content"],
        "sutazai-registry-publish.service": written[PUBLISH_UNIT]["content"],
    }
    here = {name: text.replace("/usr/bin/docker-registry", "/usr/bin/env") for name, text in units.items()}
    assert complaints(tmp_path, here, ["docker-registry.service", "sutazai-registry-publish.service"]) == ""


def test_only_who_takes_uploads_may_write():
    assert "ReadWritePaths" not in files()[DROP_IN]["content"]
    unit = files(registry_data_directory="/srv/images")[PUBLISH_UNIT]["content"]
    assert "ReadWritePaths=/srv/images\n" in unit
    assert "[Install]" not in unit  # nothing but a run starts it
