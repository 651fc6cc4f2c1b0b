import base64
import io
import stat
import tarfile
import uuid

import pytest
import yaml

from lab import engine, keys, nodes, settings, variables
from lab.console import Console
from lab.inventory import Host


@pytest.fixture
def lab(tmp_path):
    return settings.load(tmp_path, {})


def test_a_host_is_never_privileged(lab):
    arguments = nodes.create_arguments(lab, Host("redis-1", 31, ("redis",)), "image")
    assert "--privileged" not in arguments
    assert arguments[arguments.index("--ip") + 1] == "10.203.0.31"
    assert f"{lab.directory}/hosts/redis-1/resolv.conf:/etc/resolv.conf" in arguments
    assert "sutazai.lab=sutazai-lab" in arguments
    assert arguments[arguments.index("--memory") + 1] == "2048m"
    assert arguments[-1] == "image"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["nameserver 192.0.2.53\nnameserver 192.0.2.54\n"], ["192.0.2.53", "192.0.2.54"]),
        (["nameserver 127.0.0.53\n", "nameserver 192.0.2.53\n"], ["192.0.2.53"]),
        (["# nothing\n", "nameserver ::1\n"], ["127.0.0.11"]),
        ([], ["127.0.0.11"]),
    ],
)
def test_hosts_get_name_servers_that_they_can_reach(texts, expected):
    assert nodes.nameservers(texts) == expected


def test_keys_are_root_s_and_private():
    content = nodes.files_archive({"root/.ssh/authorized_keys": (b"key", 0o600), "etc/ssh/key": (b"secret", 0o600)})
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        members = {member.name: member for member in archive}
    assert members["root/.ssh"].mode == 0o700
    assert members["root/.ssh"].isdir()
    assert members["etc/ssh/key"].mode == 0o600
    assert "etc/ssh" not in members
    assert all(member.uid == member.gid == 0 for member in members.values())


def test_a_host_whose_keys_are_gone_is_made_anew(lab, tmp_path, monkeypatch):
    """A checkout that was removed and cloned again has other keys; one with its keys starts the hosts that it has."""
    hosts = [Host("redis-1", 31, ("redis",)), Host("redis-2", 32, ("redis",))]
    commands: list[list[str]] = []
    lab.directory.mkdir()
    keys.host_key(lab, hosts[1])
    left = [
        nodes.Container(f"lab-{host.name}", "exited", "host", host.name, "image", str(lab.checkout)) for host in hosts
    ]
    monkeypatch.setattr(nodes, "containers", lambda settings: left)
    monkeypatch.setattr(nodes.kernel, "ensure", lambda console: None)
    monkeypatch.setattr(nodes, "run", lambda console, command, **_: commands.append(command[:2] + command[-1:]))
    nodes.ensure(Console(tmp_path, "hosts", 1), lab, hosts, {host.name: "image" for host in hosts})
    assert ["docker", "rm", "lab-redis-1"] in commands
    assert ["docker", "create", "image"] in commands
    assert sum(command[1] == "start" for command in commands) == 2
    assert not any("redis-2" in command[-1] and command[1] in ("rm", "create") for command in commands)


def test_known_hosts_has_name_and_address():
    assert keys.known_hosts([("a", "10.0.0.1", "ssh-ed25519 AAAA comment\n")]) == "a,10.0.0.1 ssh-ed25519 AAAA\n"


def test_secrets_are_made_once_and_added_to(tmp_path):
    path = tmp_path / "secrets.yml"
    assert variables.write_secrets(path)
    first = yaml.safe_load(path.read_text())
    assert first.keys() == variables.SECRETS.keys()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not variables.write_secrets(path)

    del first["pki_ca_passphrase"]
    first["my_own_secret"] = "kept"
    path.write_text(yaml.safe_dump(first))
    assert variables.write_secrets(path)
    second = yaml.safe_load(path.read_text())
    assert {**second, "pki_ca_passphrase": None} == {**first, "pki_ca_passphrase": None}
    assert second["pki_ca_passphrase"]


def test_secrets_have_their_forms():
    made = variables.complete_secrets({})
    uuid.UUID(made.pop("platform_consul_management_token"))
    assert len(base64.b64decode(made.pop("consul_gossip_key"))) == 32
    assert all(len(value) >= 32 and value.isalnum() for value in made.values())
    assert len(set(made.values())) == len(made)


def test_generated_variables_are_written_whole(tmp_path):
    path = tmp_path / "generated.yml"
    variables.write_generated(path, {"lab_subnet": "10.203.0.0/24"})
    assert yaml.safe_load(path.read_text()) == {"lab_subnet": "10.203.0.0/24"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["generated.yml"]


@pytest.mark.parametrize(
    ("pid", "state", "expected"),
    [
        ("12\n", "12 (dockerd) S 1 12", False),
        ("12\n", "12 (dockerd) Z 1 12", True),
        ("12\n", "12 (bash) S 1 12", True),
        ("12\n", None, True),
        ("", None, True),
    ],
)
def test_a_pid_file_of_another_life_is_stale(tmp_path, pid, state, expected):
    pid_file = tmp_path / "docker.pid"
    pid_file.write_text(pid)
    if state:
        (tmp_path / "12").mkdir()
        (tmp_path / "12" / "stat").write_text(state)
    assert engine.stale(pid_file, "dockerd", proc=tmp_path) is expected


def test_no_pid_file_is_not_stale(tmp_path):
    assert not engine.stale(tmp_path / "docker.pid", "dockerd", proc=tmp_path)
