"""The registry: over TLS, with a password, the same images on every host, and nobody who could change them from outside."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.hosts("registry"), pytest.mark.unit("docker-registry")]
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def ask(node, path: str, password: str = "", options: str = "-o /dev/null -w '%{http_code}'") -> str:
    """By default the status; the password isn't among curl's arguments."""
    user = f'user = "reader:{password}"\n' if password else ""
    url = f"https://{node.address}:5000{path}"
    return node.run(
        f"curl -sS -K - {options} -H 'Accept: {MANIFEST}' --cacert /etc/sutazai/pki/ca.crt {url}", stdin=user
    )


def manifests(node) -> list[str]:
    images = [image["name"].rpartition(":") for image in node.variables["registry_images"]]
    return [f"/v2/{repository}/manifests/{tag}" for repository, _colon, tag in images]


def test_it_runs_and_starts_with_the_host(node):
    service = node.host.service("docker-registry")
    assert service.is_running
    assert service.is_enabled


def test_uploads_are_taken_only_while_ansible_publishes(node):
    assert not node.host.service("sutazai-registry-publish").is_running
    assert node.run("systemctl is-enabled sutazai-registry-publish").strip() == "static"  # nothing starts it by itself
    assert node.exposed("docker-registry") == {5000}
    assert node.loopback("docker-registry") == set()


def test_it_shows_the_hosts_certificate(node):
    assert "Verification: OK" in node.certificate_for(5000, "registry.service.consul")


def test_only_who_has_the_password_gets_an_image(node):
    assert ask(node, "/") == "200"
    for path in ("/v2/", "/v2/_catalog", *manifests(node)):
        assert ask(node, path) == "401"
        assert ask(node, path, "not-the-password") == "401"
        assert ask(node, path, node.variables["registry_password"]) == "200"


def test_nobody_can_change_anything(node):
    password = node.variables["registry_password"]
    status = "-o /dev/null -w '%{http_code}'"
    assert ask(node, "/v2/sutazai/agent/blobs/uploads/", password, f"-X POST {status}") == "405"
    for path in manifests(node):
        assert ask(node, path, password, f"-X PUT -d '{{}}' {status}") == "405"
        assert ask(node, path, password, f"-X DELETE {status}") == "405"


def test_every_host_has_the_same_images(node):
    def digests(other) -> list[str]:
        return [
            line.split()[1]
            for path in manifests(node)
            for line in ask(other, path, node.variables["registry_password"], "-I").splitlines()
            if line.lower().startswith("docker-content-digest:")
        ]

    own = digests(node)
    assert len(own) == len(node.variables["registry_images"]) > 0
    assert [digests(other) for other in node.platform.group("registry")] == [own] * len(node.platform.group("registry"))


def test_it_is_found_in_consul(node):
    if not node.platform.has_consul:
        pytest.skip("there is no Consul")
    found = node.run("getent ahostsv4 registry.service.consul | awk '{print $1}' | sort -u").split()
    assert sorted(found) == sorted(other.address for other in node.platform.group("registry"))


def test_its_process_cannot_write_what_it_reads(node):
    data = "/var/lib/docker-registry"
    inside = f"nsenter -m -t $(systemctl show -P MainPID docker-registry) test -w {data}"
    assert (
        node.run(f"runuser -u docker-registry -- test -w {data} && ! {inside} && echo only-outside").strip()
        == "only-outside"
    )


def test_the_password_is_nowhere_to_be_seen(node):
    """Neither itself nor as it is sent."""
    assert node.run("stat -c '%U %a' /etc/sutazai/registry/auth.json").split() == ["root", "600"]
    seen = "{ ps -eo args; journalctl -u docker-registry -u sutazai-registry-publish -o cat; systemctl show docker-registry; }"
    count = f"p=$(cat); {{ printf '%s\\n' \"$p\"; printf 'reader:%s' \"$p\" | base64 -w 0; }} > /run/secret; {seen} | grep -c -F -f /run/secret; rm /run/secret"
    assert node.run(count, node.variables["registry_password"], False).strip() == "0"
