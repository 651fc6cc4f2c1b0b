"""What a host holds before Patroni is set up on it."""

import struct

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import patroni_host

PATH = "/var/lib/postgresql/17/postgresql"


def make(root, files):
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content) if isinstance(content, bytes) else file.write_text(content)


def test_an_empty_directory(tmp_path):
    assert patroni_host.data_directory(str(tmp_path)) == {"present": False, "version": "", "system_identifier": ""}


def test_the_identifier_is_read_from_pg_control(tmp_path):
    make(tmp_path, {"PG_VERSION": "17\n", "global/pg_control": struct.pack("<Q", 7711562886193480413) + b"rest"})
    assert patroni_host.data_directory(str(tmp_path)) == {
        "present": True,
        "version": "17",
        "system_identifier": "7711562886193480413",
    }


@pytest.mark.parametrize("content", [b"", b"\0" * 8])
def test_a_cluster_that_initdb_did_not_finish(tmp_path, content):
    make(tmp_path, {"PG_VERSION": "17\n", "global/pg_control": content})
    assert patroni_host.data_directory(str(tmp_path))["system_identifier"] == ""


def test_debians_clusters_but_ours(tmp_path):
    make(
        tmp_path,
        {
            "17/main/postgresql.conf": "data_directory = '/var/lib/postgresql/17/main'",
            "17/ours/postgresql.conf": f"data_directory = '{PATH}'",
        },
    )
    assert patroni_host.debian_clusters(str(tmp_path), PATH) == ["17/main"]


def data(identifier="11", version="17", present=True):
    return {"present": present, "version": version, "system_identifier": identifier}


def problems(found, others=(), initialize="", peers=None):
    return patroni_host.problems(PATH, found, "17", list(others), initialize, peers or {})


def test_nothing_speaks_against_an_empty_host_or_our_own_data():
    assert problems(data("", "", False)) == []
    assert problems(data("", "", False), initialize="11", peers={"pg-2": "11"}) == []
    assert problems(data(), initialize="11", peers={"pg-1": "", "pg-2": "11"}) == []
    assert problems(data()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"found": data(), "initialize": "12"}, "system identifier is 11, that of Consul"),
        ({"found": data(), "peers": {"pg-2": "12"}}, "that of pg-2 is 12. It was not touched"),
        ({"found": data(version="15")}, "PostgreSQL 15, but this role would run 17"),
        ({"found": data("", "", False), "others": ["17/main"]}, "Debian's own PostgreSQL cluster 17/main"),
    ],
)
def test_what_is_never_overwritten(arguments, words):
    found = problems(**arguments)
    assert len(found) == 1
    assert words in found[0]


def test_a_restore_that_was_begun_keeps_patroni_from_starting():
    data = {"present": False, "version": "", "system_identifier": ""}
    assert patroni_host.problems(PATH, data, "17", [], "", {}) == []
    found = patroni_host.problems(PATH, data, "17", [], "", {}, restoring=True)
    assert "restore of the database was begun" in found[0]
    assert patroni_host.RESTORING in found[0]


def test_the_token_is_read_from_patronis_configuration():
    token = "0f6d0c1c-52b5-4d6e-9f0a-6f3f2f3b8a11"
    assert patroni_host.consul_token(f'consul:\n  url: "http://127.0.0.1:8500"\n  token: "{token}"\n') == token
    assert patroni_host.consul_token("consul:\n  register_service: true\n") == ""


def test_all_but_the_settings_is_forgotten():
    keys = [f"service/postgresql/{name}" for name in ("config", "initialize", "leader", "members/a", "sync")]
    forgotten = patroni_host.forgotten([*keys, "service/postgresql-2/leader"], "service/postgresql/")
    assert forgotten == [key for key in keys if not key.endswith("/config")]
