"""Settings and secrets."""

from __future__ import annotations

import pytest

from sutazai_runtime.settings import CannotStart, RedisSettings, host_and_port, read_secret


def test_settings_come_from_the_environment_and_a_file(monkeypatch, tmp_path):
    file = tmp_path / "settings"
    file.write_text("SUTAZAI_REDIS_USERNAME=from-the-file\nSUTAZAI_REDIS_RETRIES=2\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("SUTAZAI_SETTINGS_FILE", str(file))
    monkeypatch.setenv("SUTAZAI_REDIS_NODES", "a:1, b:2")
    monkeypatch.setenv("SUTAZAI_REDIS_RETRIES", "3")
    settings = RedisSettings.load()
    assert settings.nodes == ["a:1", "b:2"]
    assert settings.username == "from-the-file"
    assert settings.retries == 3, "the environment comes first"


def test_a_secret_is_the_first_line_of_a_file_that_not_everybody_may_read(tmp_path):
    file = tmp_path / "password"
    file.write_text("once upon a time\n")
    file.chmod(0o640)
    assert read_secret(file, "X_FILE") == "once upon a time"
    file.chmod(0o644)
    with pytest.raises(CannotStart, match=r"everybody may read or change .*X_FILE.*chmod 0640"):
        read_secret(file, "X_FILE")


@pytest.mark.parametrize(("content", "said"), [("", "is empty"), ("\n", "is empty"), (None, "can't be read")])
def test_a_secret_that_is_missing_is_said(tmp_path, content, said):
    file = tmp_path / "password"
    if content is not None:
        file.touch(0o600)
        file.write_text(content)
    with pytest.raises(CannotStart, match=said):
        read_secret(file, "X_FILE")
    with pytest.raises(CannotStart, match="X_FILE isn't set"):
        read_secret(None, "X_FILE")


@pytest.mark.parametrize("address", ["redis", "redis:", ":6379", "redis:0", "redis:x", "redis:70000"])
def test_an_address_without_host_or_port_is_refused(address):
    with pytest.raises(CannotStart, match="write host:port"):
        host_and_port(address, "X_NODES")


def test_addresses_may_be_ipv6():
    assert host_and_port("[::1]:6379", "X_NODES") == ("::1", 6379)
