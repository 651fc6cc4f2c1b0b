"""The modules against a real agent. CONSUL_BIN names the binary."""

import json
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from .consul_server import BINARY, running

COLLECTIONS = Path(__file__).resolve().parents[2] / ".ansible" / "collections"
TOKEN = str(uuid.uuid4())

pytestmark = pytest.mark.skipif(not BINARY, reason="no Consul binary: set CONSUL_BIN to the path of one")


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    with running(tmp_path_factory.mktemp("consul")) as address:
        yield address


def run(name, check=False, **arguments):
    """The module as a process, as Ansible runs it: arguments in, JSON out."""
    script = (
        "import json, sys; from ansible.module_utils.testing import patch_module_args; "
        "from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder as F; "
        f"F(paths=[{str(COLLECTIONS)!r}])._install(); import importlib; arguments = json.load(sys.stdin)\n"
        f"with patch_module_args(arguments): importlib.import_module('ansible_collections.sutazai.platform.plugins.modules.{name}').main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps({**arguments, "_ansible_check_mode": check}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


WANTED = {
    "autopilot": {"min_quorum": 1, "server_stabilization_time": "20s"},
    "policies": [{"name": "keys", "description": "Some keys", "rules": 'key_prefix "a/" { policy = "write" }'}],
    "tokens": [
        {"name": "agent/alone", "node_identities": [{"name": "alone", "datacenter": "test"}]},
        {"name": "dns", "templated_policies": ["builtin/dns"]},
        {"name": "keys", "policies": ["keys"], "service_identities": ["web"]},
    ],
}


def test_check_mode_without_an_agent_would_make_everything():
    result = run("consul_cluster", check=True, url="http://127.0.0.1:9", token=TOKEN, bootstrap=True, **WANTED)
    assert result["changed"] and not result["reachable"]
    assert result["tokens"]["dns"]["secret_id"] == ""


def test_the_first_run_makes_everything_and_the_second_nothing(agent):
    first = run("consul_cluster", url=agent, token=TOKEN, bootstrap=True, **WANTED)
    assert first["bootstrapped"] and first["changed"], first
    assert all(token["secret_id"] for token in first["tokens"].values())
    second = run("consul_cluster", url=agent, token=TOKEN, bootstrap=True, **WANTED)
    assert not second["changed"], second["changes"]
    assert second["tokens"] == first["tokens"]
    assert not run("consul_cluster", check=True, url=agent, token=TOKEN, bootstrap=True, **WANTED)["changed"]


def test_a_changed_token_keeps_its_secret(agent):
    before = run("consul_cluster", url=agent, token=TOKEN, **WANTED)["tokens"]["keys"]
    changed = {"tokens": [{"name": "keys", "policies": ["keys"]}]}
    assert run("consul_cluster", check=True, url=agent, token=TOKEN, **changed)["changed"]
    after = run("consul_cluster", url=agent, token=TOKEN, **changed)
    assert after["changes"] == ["token keys"]
    assert after["tokens"]["keys"] == before


def test_a_token_can_be_removed(agent):
    gone = {"tokens": [{"name": "keys", "state": "absent"}]}
    assert run("consul_cluster", url=agent, token=TOKEN, **gone)["changed"]
    assert not run("consul_cluster", url=agent, token=TOKEN, **gone)["changed"]


def test_a_policy_is_removed_when_no_token_has_it(agent):
    made = {"name": "short", "rules": 'key_prefix "b/" { policy = "write" }'}
    tokens = [{"name": name, "policies": ["short"]} for name in ("first", "second")]
    run("consul_cluster", url=agent, token=TOKEN, policies=[made], tokens=tokens)
    first, both = [
        {
            "policies": [{"name": "short", "state": "absent"}],
            "tokens": [{"name": name, "state": "absent"} for name in go],
        }
        for go in (["first"], ["first", "second"])
    ]
    assert run("consul_cluster", url=agent, token=TOKEN, **first)["changes"] == ["token first removed"]
    last = ["token second removed", "policy short removed"]
    assert run("consul_cluster", check=True, url=agent, token=TOKEN, **both)["changes"] == last
    assert run("consul_cluster", url=agent, token=TOKEN, **both)["changes"] == last
    assert not run("consul_cluster", url=agent, token=TOKEN, **both)["changed"]


def test_a_policy_needs_rules(agent):
    assert "rules" in run("consul_cluster", url=agent, token=TOKEN, policies=[{"name": "none"}])["msg"]


def test_a_token_gets_a_follower_and_both_are_valid_until_it_is_retired(agent):
    def valid(secret):
        return "msg" not in run("consul_cluster_info", url=agent, token=secret) and bool(
            run("consul_cluster_info", url=agent, token=secret, node="alone")["healthy"]
        )

    wanted = {"url": agent, "token": TOKEN, "tokens": WANTED["tokens"][:1]}
    first = run("consul_cluster", **wanted)["tokens"]["agent/alone"]
    moment = int(time.time()) + 1
    time.sleep(2)
    assert run("consul_cluster", check=True, **wanted, reissue_before=moment)["changes"] == [
        "token agent/alone made anew"
    ]
    second = run("consul_cluster", **wanted, reissue_before=moment)["tokens"]["agent/alone"]
    assert second["secret_id"] not in ("", first["secret_id"])
    assert run("consul_cluster", **wanted)["tokens"]["agent/alone"] == second, "from now on it is the follower"
    again = run("consul_cluster", **wanted, reissue_before=int(time.time()) + 60)
    assert not again["changed"], "while there are two, no third one"
    assert valid(first["secret_id"]) and valid(second["secret_id"])
    retired = run("consul_cluster", **wanted, reissue_before=moment, retire_former=True)
    assert retired["changes"] == ["the former token agent/alone removed"]
    assert not run("consul_cluster", **wanted, reissue_before=moment, retire_former=True)["changed"]
    assert valid(second["secret_id"]) and not valid(first["secret_id"])


def test_the_management_token_gets_a_follower(agent):
    new = str(uuid.uuid4())
    wanted = {"url": agent, "token": new, "former_token": TOKEN, "bootstrap": True}
    assert run("consul_cluster", check=True, **wanted)["changes"] == ["the new management token"]
    assert run("consul_cluster", **wanted)["changes"] == ["the new management token"]
    assert not run("consul_cluster", **wanted)["changed"]
    back = {**wanted, "token": TOKEN, "former_token": new}
    assert run("consul_cluster", **back, retire_former=True)["changes"] == ["the former management token removed"]
    assert not run("consul_cluster", **back, retire_former=True)["changed"]
    assert run("consul_cluster", url=agent, token=new)["failed"]


def test_another_management_token_is_refused_with_the_way_out(agent):
    result = run("consul_cluster", url=agent, token=str(uuid.uuid4()), bootstrap=True)
    assert result["failed"]
    assert "bootstrapped with another management token" in result["msg"]
    assert "acl-bootstrap-reset" in result["msg"]


def test_a_token_that_manages_nothing_is_refused(agent):
    dns = run("consul_cluster", url=agent, token=TOKEN, tokens=WANTED["tokens"][1:2])["tokens"]["dns"]["secret_id"]
    assert "lacks the policy global-management" in run("consul_cluster", url=agent, token=dns)["msg"]


def test_a_healthy_cluster_is_told_from_an_incomplete_one(agent):
    result = run(
        "consul_cluster_info", url=agent, token=TOKEN, node="alone", expected_servers=["alone"], wait_seconds=30
    )
    assert result["healthy"], result["problems"]
    assert result["leader"] == "alone" and result["is_leader"]
    assert result["members"]["alive"] == ["alone"]
    assert result["failure_tolerance"] == 0
    incomplete = run(
        "consul_cluster_info", url=agent, token=TOKEN, expected_servers=["alone", "other"], minimum_failure_tolerance=1
    )
    assert not incomplete["healthy"]
    assert len(incomplete["problems"]) == 2


def test_an_agents_token_from_its_file_sees_its_own_node(agent, tmp_path):
    secret = run("consul_cluster", url=agent, token=TOKEN, tokens=WANTED["tokens"][:1])["tokens"]["agent/alone"][
        "secret_id"
    ]
    file = tmp_path / "tokens.json"
    file.write_text(json.dumps({"acl": {"tokens": {"agent": secret}}}))
    result = run("consul_cluster_info", url=agent, token_file=str(file), node="alone", wait_seconds=10)
    assert result["healthy"], result["problems"]
    assert "holds no token" in run("consul_cluster_info", url=agent, token_file=str(tmp_path / "none"))["problems"][0]


def test_an_agent_that_does_not_answer_is_a_problem_not_an_error():
    result = run("consul_cluster_info", url="http://127.0.0.1:9")
    assert not result["reachable"] and not result["healthy"] and not result.get("failed")


def test_a_refused_question_is_a_problem(agent):
    assert "operator:read" in run("consul_cluster_info", url=agent, expected_servers=["alone"])["problems"][0]


# ------------------------------------------------------------------------------------------------------------- snapshots


def consul(agent, token, *arguments):
    command = [BINARY, *arguments[:2], f"-http-addr={agent}", f"-token={token}", *arguments[2:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def take_backup(agent, token, directory):
    """As the role's timer does on a server."""
    directory.mkdir()
    root = Path(__file__).resolve().parents[2]
    for source in ("roles/consul/files/take-backup", "plugins/module_utils/backup_files.py"):
        shutil.copy(root / source, directory)
    (directory / "token").write_text(token)
    command = [sys.executable, "-B", directory / "take-backup", directory, "3", BINARY, agent, directory / "token"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return str(next(directory.glob("*.snap")))


def test_a_snapshot_brings_deleted_keys_back_and_live_data_is_not_overwritten(agent, tmp_path):
    run("consul_cluster", url=agent, token=TOKEN, bootstrap=True)
    for number in range(5):
        consul(agent, TOKEN, "kv", "put", f"proof/{number}", f"value {number}")
    before = consul(agent, TOKEN, "kv", "export", "proof/")
    path = take_backup(agent, TOKEN, tmp_path / "backups")
    wanted = {"url": agent, "token": TOKEN, "path": path, "binary": BINARY}

    refused = run("consul_snapshot_restore", **wanted)
    assert refused["failed"]
    assert "the cluster has data (5 keys, by their first part proof/ (5))" in refused["msg"]
    assert "The snapshot holds 5 keys" in refused["msg"]

    consul(agent, TOKEN, "kv", "delete", "-recurse", "proof/")
    consul(agent, TOKEN, "kv", "put", "later", "x")
    assert run("consul_snapshot_restore", check=True, replace_data=True, **wanted)["changed"]
    assert consul(agent, TOKEN, "kv", "get", "later").strip() == "x"
    restored = run("consul_snapshot_restore", replace_data=True, **wanted)
    assert (restored["keys_before"], restored["keys_after"]) == (1, 5), restored
    assert consul(agent, TOKEN, "kv", "export", "proof/") == before
    assert "later" not in consul(agent, TOKEN, "kv", "export")


def test_what_is_no_snapshot_is_refused(agent, tmp_path):
    (tmp_path / "broken.snap").write_text("no snapshot")
    wanted = {"url": agent, "token": TOKEN, "binary": BINARY, "replace_data": True}
    assert "There is no snapshot" in run("consul_snapshot_restore", path=str(tmp_path / "none"), **wanted)["msg"]
    assert "can be restored" in run("consul_snapshot_restore", path=str(tmp_path / "broken.snap"), **wanted)["msg"]


def test_a_snapshot_with_another_management_token_says_so(agent, tmp_path):
    other = str(uuid.uuid4())
    (tmp_path / "other").mkdir()
    with running(tmp_path / "other") as address:
        assert run("consul_cluster", url=address, token=other, bootstrap=True)["bootstrapped"]
        result = run(
            "consul_snapshot_restore",
            url=address,
            token=other,
            path=take_backup(agent, TOKEN, tmp_path / "backups"),
            binary=BINARY,
            replace_data=True,
        )
        assert result["failed"]
        assert "the management token" in result["msg"] and "is not among them" in result["msg"]
        # With the one of that time it is a cluster like the other.
        assert not run("consul_cluster", url=address, token=TOKEN)["bootstrapped"]


ENTRIES = {
    "entries": [
        {
            "Kind": "service-intentions",
            "Name": "inference",
            "Sources": [{"Name": "celery-worker", "Action": "allow"}, {"Name": "*", "Action": "deny"}],
        },
        {
            "Kind": "service-router",
            "Name": "inference",
            "Routes": [
                {"Match": {"HTTP": {"PathPrefix": "/v1"}}, "Destination": {"RequestTimeout": "600s", "NumRetries": 2}}
            ],
        },
        {"Kind": "service-resolver", "Name": "inference", "ConnectTimeout": "90s"},
        {
            "Kind": "service-defaults",
            "Name": "inference",
            "Protocol": "http",
            "LocalRequestTimeoutMs": 600000,
            "UpstreamConfig": {"Defaults": {"PassiveHealthCheck": {"Interval": "30s", "MaxFailures": 5}}},
        },
        {"Kind": "proxy-defaults", "Name": "global", "Config": {"envoy_prometheus_bind_addr": "127.0.0.1:9102"}},
        {"Kind": "mesh", "Name": "mesh", "TLS": {"Incoming": {"TLSMinVersion": "TLSv1_2"}}},
    ]
}


def test_configuration_entries_are_kept_as_wanted(agent):
    wanted = {"url": agent, "token": TOKEN, **ENTRIES}
    assert len(run("consul_config_entries", check=True, **wanted)["changes"]) == 6
    first = run("consul_config_entries", **wanted)
    assert not first.get("msg"), first["msg"]
    assert len(first["changes"]) == 6
    # Protocols before what depends on them.
    assert first["changes"].index("service-defaults inference made") < first["changes"].index(
        "service-router inference made"
    )
    second = run("consul_config_entries", **wanted)
    assert not second["changed"], second["changes"]

    other = {"entries": [{**ENTRIES["entries"][2], "ConnectTimeout": "5s"}]}
    changed = run("consul_config_entries", check=True, **{**wanted, **other})
    assert changed["changes"] == ["service-resolver inference changed"]
    assert changed["diff"][0]["before"] != changed["diff"][0]["after"]
    assert run("consul_config_entries", **{**wanted, **other})["changed"]
    assert not run("consul_config_entries", **{**wanted, **other})["changed"]


def test_configuration_entries_that_consul_refuses_say_why(agent):
    # The router still goes by the protocol that this would take away.
    tcp = {"entries": [{"Kind": "service-defaults", "Name": "inference", "Protocol": "tcp"}]}
    answer = run("consul_config_entries", url=agent, token=TOKEN, **tcp)
    assert "service-defaults inference isn't accepted" in answer["msg"]
    assert "protocol" in answer["msg"]
    misspelled = {"entries": [{"Kind": "service-defaults", "Name": "inference", "protocol": "http"}]}
    assert "write them as the API does" in run("consul_config_entries", url=agent, token=TOKEN, **misspelled)["msg"]


def test_configuration_entries_can_be_removed(agent):
    gone = {"absent": [{"Kind": entry["Kind"], "Name": entry["Name"]} for entry in ENTRIES["entries"]]}
    removed = run("consul_config_entries", url=agent, token=TOKEN, **gone)
    assert len(removed.get("changes", [])) == 6, removed
    assert not run("consul_config_entries", url=agent, token=TOKEN, **gone)["changed"]
