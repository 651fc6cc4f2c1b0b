"""No secret and nothing of one person's machine is in git."""

from __future__ import annotations

import math
import re

import pytest

from tests.quality.project import CHECKOUT, text_of, tracked

FILES = [name for name in tracked() if not name.endswith(("requirements.txt", "requirements-bootstrap.txt"))]
PRIVATE_KEY = re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----\s*\n[A-Za-z0-9+/=\s]{100,}")
KNOWN = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[baprs]-[A-Za-z0-9-]{10,}|glpat-[\w-]{20}|hvs\.[A-Za-z0-9_-]{24,})\b"
)
ASSIGNED = re.compile(
    r"""(?ix) (?:password|passwd|passphrase|secret|token|cookie|api_?key|gossip_key) \w* ["']? \s* [:=] \s* ["']?
        (?P<value>[A-Za-z0-9+/=_.-]{16,})["']?\s*(?:,|$|\#|\})"""
)
BITS = 3.5
ENTROPY_TESTED = (".yml", ".yaml", ".py", ".j2", ".cfg", ".toml", ".ini", ".json", ".sh", ".md", ".mk")


def bits_per_character(value: str) -> float:
    frequencies = [value.count(character) / len(value) for character in set(value)]
    return -sum(frequency * math.log2(frequency) for frequency in frequencies)


def looks_random(value: str) -> bool:
    kinds = sum(bool(re.search(kind, value)) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return kinds >= 2 and bool(re.search("[0-9]", value)) and bits_per_character(value) > BITS


@pytest.mark.parametrize("name", FILES)
def test_no_file_holds_a_secret(name):
    text = text_of(name)
    assert not PRIVATE_KEY.search(text), "a private key"
    assert not KNOWN.search(text), "an access token"
    if name.startswith("tests/") or not name.endswith(ENTROPY_TESTED):
        return
    found = [
        match["value"]
        for line in text.splitlines()
        for match in ASSIGNED.finditer(line)
        if looks_random(match["value"]) and not match["value"].startswith("change-me")
    ]
    assert found == [], "values that look like secrets"


def test_the_scan_finds_what_it_should():
    assert looks_random("k3Jf92LsPq0ZxV7bNw4T")
    assert not looks_random("platform_consul_management_token")
    assert ASSIGNED.search("redis_admin_password: k3Jf92LsPq0ZxV7bNw4T")["value"] == "k3Jf92LsPq0ZxV7bNw4T"
    assert not ASSIGNED.search('redis_admin_password: "{{ vault_redis_admin_password }}"')


def test_generated_secrets_are_ignored_by_git():
    ignored = (CHECKOUT / ".gitignore").read_text().splitlines()
    assert "/inventories/lab/group_vars/all/secrets.yml" in ignored
    assert not [name for name in tracked() if name.endswith("/secrets.yml") or name.startswith((".lab/", ".cache/"))]


MACHINE = re.compile(r"(?<![\w.])/(?:work|home/\w+|tmp/w)/|\b[\w-]+\.(?:corp|intra|lan)\b")


@pytest.mark.parametrize("name", [name for name in FILES if name != "tests/quality/test_secrets.py"])
def test_no_file_names_a_path_or_server_of_one_machine(name):
    found = [
        f"{name}:{number}: {line.strip()}"
        for number, line in enumerate(text_of(name).splitlines(), 1)
        if MACHINE.search(line)
    ]
    assert found == []
