"""What the role agent makes of an image in a registry, and what it refuses."""

from __future__ import annotations

import pytest

from tests.unit.roles.rendering import Role

DIGEST = "@sha256:" + "0" * 64
INVENTORY = {
    "inventory_hostname": "manager-1",
    "groups": {"swarm_managers": ["manager-1"], "consul_servers": ["consul-1"]},
    "ansible_play_hosts": ["manager-1"],
    "agent_execution": "local",
    "agent_image": "registry.service.consul:5000/sutazai/agent:0.1.0-46b2f3963436",
    "agent_image_source": "registry",
    "agent_registry_password": "of-those-who-read",
    "__agent_image": {"reference": f"registry.service.consul:5000/sutazai/agent{DIGEST}"},
}


def role(**variables) -> Role:
    return Role("agent", {**INVENTORY, **variables})


def refused(**variables) -> list[str]:
    """What tasks/preflight.yml says."""
    rendered = role(**variables)
    path = str(rendered.directory / "tasks/preflight.yml")
    cases = rendered.loader.load_from_file(path, trusted_as_template=True)[0]["loop"]
    return [
        rendered.templar.template(case["otherwise"]) for case in cases if not rendered.templar.template(case["holds"])
    ]


def test_the_service_gets_the_login_with_a_registry_only():
    service = role().value("__agent_service")
    assert (service["registry_username"], service["registry_password"]) == ("reader", "of-those-who-read")
    assert service["image"].endswith(DIGEST)
    assert not [
        key for key in role(agent_image_source="artifact").value("__agent_service") if key.startswith("registry")
    ]


@pytest.mark.parametrize(
    "image",
    ["registry.example/agent:1", "registry.service.consul:5000/sutazai/agent:0.1.0-a", f"registry:5000/agent{DIGEST}"],
)
def test_a_tag_or_a_digest_says_which_image(image):
    assert refused(agent_image=image) == []


@pytest.mark.parametrize("image", ["agent:1", f"agent{DIGEST}", "registry:5000/agent", "registry:5000/agent@sha256:0"])
def test_an_image_without_its_registry_or_version_is_refused(image):
    (said,) = refused(agent_image=image)
    assert said.startswith(f"agent_image ({image}) has to name the registry")


def test_a_user_needs_a_password():
    (said,) = refused(agent_registry_password="")
    assert said.startswith("agent_registry_password has to be set") and "user reader" in said
    assert refused(agent_registry_password="", agent_registry_user="") == []
