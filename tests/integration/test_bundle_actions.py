"""The actions that send a part of the bundle, as Ansible runs them: on the controller itself, as an ordinary host's module would run."""

from __future__ import annotations

import hashlib
import json
import pathlib
import sys

import pytest
from ansible_collections.sutazai.platform.plugins.module_utils import bundle_build

from tests.integration.modules import run_ansible

BODY = b"#!/bin/sh\necho tool\n"


@pytest.fixture
def bundle(tmp_path):
    source = tmp_path / "source"
    source.write_bytes(BODY)
    files = {"artifacts/tool": (str(source), {"name": "tool", "version": "1.0"})}
    return bundle_build.write_bundle(str(tmp_path), "bundle", files, {"playbook": "site.yml"})[0]


def run(module: str, *options: str, **arguments: str) -> dict:
    done = run_ansible(
        "ansible",
        "localhost",
        "--connection=local",
        f"--extra-vars=ansible_python_interpreter={sys.executable}",
        f"--module-name=sutazai.platform.{module}",
        f"--args={json.dumps(arguments)}",
        *options,
    )
    # Before it, a failure is told in words.
    _words, found, result = done.stdout.rpartition("localhost | ")
    assert found, done.stdout + done.stderr
    return json.loads(result.partition("=> ")[2])


def install(tmp_path: pathlib.Path, bundle: str, *options: str, file: str = "tool") -> dict:
    return run(
        "artifact",
        *options,
        name="tool",
        version="1.0",
        sha256=hashlib.sha256(BODY).hexdigest(),
        file=file,
        destination=str(tmp_path / "bin" / "tool"),
        root=str(tmp_path / "root"),
        bundle=bundle,
    )


def test_a_binary_comes_out_of_the_bundle_once(tmp_path, bundle):
    planned = install(tmp_path, bundle, "--check")
    assert planned["changed"]
    assert not (tmp_path / "root").exists()
    made = install(tmp_path, bundle)
    assert made["changed"]
    assert made["source"] == bundle
    assert (tmp_path / "bin" / "tool").read_bytes() == BODY
    again = install(tmp_path, bundle)
    assert not again["changed"]
    assert not again["needs_file"]


@pytest.mark.parametrize("options", [["--check"], []])
def test_a_binary_that_is_not_in_the_bundle_is_told(tmp_path, bundle, options):
    result = install(tmp_path, bundle, *options, file="another")
    assert "artifacts/another is not in the bundle" in result["msg"]
    assert not (tmp_path / "root").exists()


def test_what_the_module_refuses_is_not_sent(tmp_path, bundle):
    result = run("artifact", name="tool", version="1.0", bundle=bundle)
    assert "missing required arguments" in result["msg"]


def test_a_bundle_without_packages_for_the_host_is_told(bundle):
    assert "holds no packages for" in run("bundle_packages", bundle=bundle)["msg"]
