"""The role pki's steps from one authority to another, on the controller alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import time

import pytest
import yaml

from tests.integration.modules import ROOT, run_ansible

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl on PATH")

PLAY = [
    {
        "name": "Take steps",
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Take a step",
                "ansible.builtin.include_role": {"name": "sutazai.platform.pki", "tasks_from": "rotate_authority"},
                "vars": {"pki_rotate_step": "{{ item }}"},
                "loop": "{{ steps }}",
            }
        ],
    }
]


class Authority:
    def __init__(self, directory):
        self.directory = directory
        self.state = directory / "pki"
        (directory / "play.yml").write_text(yaml.safe_dump(PLAY))
        (directory / "variables.yml").write_text(
            yaml.safe_dump(
                {
                    "platform_state_directory": str(directory),
                    "platform_name": "test",
                    "pki_ca_passphrase": "correct horse battery",
                }
            )
        )

    def take(self, *steps, before=0):
        done = run_ansible(
            "ansible-playbook",
            "--inventory=localhost,",
            f"--extra-vars=@{self.directory / 'variables.yml'}",
            f"--extra-vars={json.dumps({'steps': steps, 'pki_reissue_before': before})}",
            str(self.directory / "play.yml"),
            ANSIBLE_CALLBACKS_ENABLED="ansible.builtin.default",
            ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".ansible" / "collections"),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return "changed=0" not in done.stdout

    def there(self):
        return sorted(path.name for path in self.state.iterdir())

    def fingerprint(self, name="ca.crt"):
        command = ["openssl", "x509", "-in", str(self.state / name), "-noout", "-fingerprint", "-sha256"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def pair(self):
        """Whether key and certificate belong together."""
        key = ["openssl", "pkey", "-in", str(self.state / "ca.key"), "-passin", "pass:correct horse battery", "-pubout"]
        certificate = ["openssl", "x509", "-in", str(self.state / "ca.crt"), "-noout", "-pubkey"]
        of_key, of_certificate = (
            subprocess.run(command, capture_output=True, text=True, check=True).stdout for command in (key, certificate)
        )
        return of_key == of_certificate


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_one_authority_follows_another_step_by_step(authority):
    authority.take("keep")
    first = authority.fingerprint()
    assert authority.there() == ["ca.crt", "ca.key"]
    assert not authority.take("begin", "switch", "end"), "it isn't too old"

    moment = int(time.time()) + 1
    time.sleep(2)
    assert authority.take("begin", before=moment)
    assert authority.there() == ["ca.crt", "ca.key", "next-ca.crt", "next-ca.key"]
    following = authority.fingerprint("next-ca.crt")
    assert not authority.take("begin", "keep", before=moment)
    assert authority.fingerprint() == first != following

    # Interrupted between the key and the certificate.
    shutil.copy(authority.state / "ca.crt", authority.state / "previous-ca.crt")
    (authority.state / "next-ca.key").rename(authority.state / "ca.key")
    assert authority.take("keep", before=moment)
    assert authority.there() == ["ca.crt", "ca.key", "previous-ca.crt"]
    assert (authority.fingerprint(), authority.fingerprint("previous-ca.crt")) == (following, first)
    assert authority.pair()

    assert not authority.take("begin", "switch", before=int(time.time()) + 60), "not while hosts still change"
    assert authority.take("end", before=moment)
    assert authority.there() == ["ca.crt", "ca.key"]
    assert not authority.take("begin", "switch", "end", before=moment)
    assert authority.fingerprint() == following
