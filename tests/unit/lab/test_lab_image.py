from pathlib import Path

import pytest

from lab import aptsources, image, mirror, trust

MIRRORS = aptsources.Mirrors("http://deb.example/debian", "http://deb.example/debian-security")


def test_the_mirrors_are_those_of_this_machines_apt():
    lines = [
        "https://packages.example/apt/|cloud-sdk|main",
        "http://deb.example/debian/|bookworm|main",
        "http://deb.example/debian/|bookworm-updates|main",
        "http://deb.example/debian-security/|bookworm-security|main",
        "file:/srv/debian/|bookworm|main",
    ]
    assert aptsources.parse(lines) == MIRRORS


@pytest.mark.parametrize(
    "lines", [[], ["http://archive.example/ubuntu/|noble|main"], ["cdrom://disc/|bookworm|main"], ["garbage"]]
)
def test_a_machine_without_a_debian_mirror(lines):
    assert aptsources.parse(lines) is None


def test_sources_of_another_release():
    assert aptsources.sources(MIRRORS, "trixie") == [
        "deb http://deb.example/debian trixie main",
        "deb http://deb.example/debian trixie-updates main",
        "deb http://deb.example/debian-security trixie-security main",
    ]


def test_hosts_use_plain_http_and_the_cache_fetches_over_tls():
    mirrors = aptsources.Mirrors("https://deb.example/debian")
    assert aptsources.plain(mirrors.main) == "http://deb.example/debian"
    assert aptsources.remaps(mirrors) == ["Remap-lab0: http://deb.example/debian ; https://deb.example/debian"]
    assert aptsources.remaps(MIRRORS) == []


def test_a_changed_recipe_is_another_image():
    keys = {
        image.recipe("trixie", MIRRORS, []),
        image.recipe("bookworm", MIRRORS, []),
        image.recipe("trixie", aptsources.Mirrors("http://other.example/debian"), []),
        image.recipe("trixie", MIRRORS, ["a certificate"]),
    }
    assert len(keys) == 4
    assert image.recipe("trixie", MIRRORS, []) == image.recipe("trixie", MIRRORS, [])


def test_mmdebstrap_is_given_a_proxy_only_when_there_is_one():
    paths = (Path("/authorities"), Path("/script"), Path("/out.tar"))
    without = image.mmdebstrap_arguments("trixie", MIRRORS, "", *paths)
    assert not [argument for argument in without if "Proxy" in argument]
    assert without[-5:-3] == ["trixie", "/out.tar"]
    assert [a for a in image.mmdebstrap_arguments("trixie", MIRRORS, "http://p:1", *paths) if "http://p:1" in a]


def certificate(text):
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


def test_only_authorities_that_debian_does_not_ship_are_extra():
    bundle = certificate("debians") + certificate("the company's") * 2 + certificate("another")
    assert trust.additional(bundle, [certificate("debians"), "no certificate"]) == [
        certificate("the company's").strip(),
        certificate("another").strip(),
    ]


def test_the_package_cache_uses_the_machines_own_proxy():
    assert "Proxy:" not in mirror.configuration(MIRRORS, "")
    assert "Proxy: http://p:1\n" in mirror.configuration(MIRRORS, "http://p:1")
