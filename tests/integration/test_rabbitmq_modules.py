"""The RabbitMQ modules against a real cluster.

Where one is reached is said by SUTAZAI_TEST_RABBITMQ_URL (https://host:15671), _USER, _PASSWORD and _CA_FILE. What the
tests make is in a virtual host of their own, and removed again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PREFIX = "SUTAZAI_TEST_RABBITMQ_"
URL = os.environ.get(f"{PREFIX}URL", "")
COLLECTIONS = Path(__file__).parents[2] / ".ansible/collections"
MODULES = "ansible_collections.sutazai.platform.plugins.modules"
VHOST, USER = "sutazai-test", "sutazai-test"

pytestmark = pytest.mark.skipif(not URL, reason=f"no RabbitMQ to test with: {PREFIX}URL isn't set")


def connection():
    return {
        "url": URL,
        "username": os.environ.get(f"{PREFIX}USER", "admin"),
        "password": os.environ[f"{PREFIX}PASSWORD"],
        "ca_file": os.environ.get(f"{PREFIX}CA_FILE") or None,
    }


def run(name, check=False, **arguments):
    """The module as a process, as Ansible runs it: arguments in, JSON out."""
    script = (
        "import json, sys, importlib; from ansible.module_utils.testing import patch_module_args; "
        "from ansible.utils.collection_loader._collection_finder import _AnsibleCollectionFinder as F; "
        f"F(paths=[{str(COLLECTIONS)!r}])._install(); arguments = json.load(sys.stdin)\n"
        f"with patch_module_args(arguments): importlib.import_module('{MODULES}.{name}').main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps({**connection(), **arguments, "_ansible_check_mode": check}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def objects():
    everywhere = [{"vhost": VHOST}]
    yield {
        "vhosts": [{"name": VHOST}],
        "users": [{"name": USER, "password": "first-password-of-the-test", "permissions": everywhere}],
        "policies": [{"name": "length", "vhost": VHOST, "apply_to": "queues", "definition": {"max-length": 10}}],
    }
    run("rabbitmq_objects", vhosts=[{"name": VHOST, "state": "absent"}], absent_users=[USER])


def test_objects_are_made_once(objects):
    assert run("rabbitmq_objects", check=True, **objects)["changed"]
    first = run("rabbitmq_objects", **objects)
    assert len(first["changes"]) == 4
    assert not run("rabbitmq_objects", **objects)["changed"]
    assert not run("rabbitmq_objects", check=True, **objects)["changed"]


def test_a_changed_password_is_noticed(objects):
    run("rabbitmq_objects", **objects)
    objects["users"][0]["password"] = "second-password-of-the-test"
    assert run("rabbitmq_objects", **objects)["changes"] == [f"change the password of {USER}"]
    assert not run("rabbitmq_objects", **objects)["changed"]


def test_wrong_credentials_are_said():
    answer = run("rabbitmq_objects", password="not the password")
    assert answer["failed"]
    assert "refuses" in answer["msg"]


def test_the_cluster_is_described():
    answer = run("rabbitmq_cluster_info", node="rabbit@nowhere", gather=["cluster"])
    assert answer["source"] == "api"
    assert answer["nodes_running"] == answer["members"]
    assert set(answer["versions"]) == set(answer["nodes_running"])
    assert answer["healthy"], answer["problems"]


def test_a_missing_member_is_a_problem():
    answer = run("rabbitmq_cluster_info", node="rabbit@nowhere", gather=["cluster"], nodes=["rabbit@nowhere"])
    assert not answer["healthy"]
    assert any("rabbit@nowhere is not in the cluster" in problem for problem in answer["problems"])


def test_an_api_that_does_not_answer_is_a_problem():
    answer = run("rabbitmq_cluster_info", node="rabbit@nowhere", gather=["cluster"], url="https://127.0.0.1:1")
    assert not answer["healthy"]
    assert "doesn't answer" in answer["problems"][0]
