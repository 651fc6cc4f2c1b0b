"""The modules against a real agent. CONSUL_BIN names the binary."""

import json
import os
import shutil
import socket
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

BINARY = os.environ.get("CONSUL_BIN") or shutil.which("consul")
COLLECTIONS = Path(__file__).resolve().parents[2] / ".ansible" / "collections"
TOKEN = str(uuid.uuid4())

pytestmark = pytest.mark.skipif(not BINARY, reason="no Consul binary: set CONSUL_BIN to the path of one")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    http, server, serf, serf_wan, dns = free_ports(5)
    directory = tmp_path_factory.mktemp("consul")
    (directory / "consul.json").write_text(
        json.dumps(
            {
                "server": True,
                "bootstrap_expect": 1,
                "node_name": "alone",
                "datacenter": "test",
                "bind_addr": "127.0.0.1",
                "data_dir": str(directory / "data"),
                "performance": {"raft_multiplier": 1},
                "acl": {"enabled": True, "default_policy": "deny"},
                "ports": {
                    "http": http,
                    "server": server,
                    "serf_lan": serf,
                    "serf_wan": serf_wan,
                    "dns": dns,
                    "grpc": -1,
                    "grpc_tls": -1,
                },
            }
        )
    )
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [BINARY, "agent", f"-config-file={directory / 'consul.json'}"], stdout=log, stderr=log
        )
    yield f"http://127.0.0.1:{http}"
    process.terminate()
    process.wait(20)


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
