#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Have an image in this host's registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_image
short_description: Have an image in this host's registry
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Publishes an image out of a file that C(docker save) has written. Nothing is done when the registry has that image under that name already.
  - The registry itself takes no uploads. Another unit of the same storage does, which this module starts before and stops after.
  - Layers are published as they are in the file. So the digest depends on the file alone, and is the same on every host and with every
    version of C(skopeo), which does the copying.
options:
  name:
    description: What it is to be called there, C(repository:tag).
    type: str
    required: true
  path:
    description: On this host, the file.
    type: path
    required: true
  url:
    description: Where the registry answers.
    type: str
    required: true
  publish_unit:
    description: The systemd unit that takes uploads.
    type: str
    required: true
  publish_address:
    description: Where that one answers, C(address:port).
    type: str
    required: true
  auth_file:
    description: On this host, a file of logins (C(containers-auth.json)) with one for O(publish_address), which is good for O(url) too.
    type: path
    required: true
  ca_file:
    description: CA certificates that both are checked with.
    type: path
    required: true
  wait_seconds:
    description: How long both may take to answer, in seconds.
    type: int
    default: 60
attributes:
  check_mode: {support: full, description: Says whether it would be published.}
"""

EXAMPLES = r"""
- name: Publish the agents' image
  sutazai.platform.registry_image:
    name: sutazai/agent:0.1.0-46b2f3963436
    path: /opt/sutazai/image-sutazai-agent/current.tar
    url: https://10.20.0.61:5000
    publish_unit: sutazai-registry-publish
    publish_address: 127.0.0.1:5001
    auth_file: /etc/sutazai/registry/auth.json
    ca_file: /etc/sutazai/pki/ca.crt
"""

RETURN = r"""
id:
  description: The image's id, which engines call it by. Empty in check mode when there is no file yet.
  returned: always
  type: str
digest:
  description: The digest by which it can be got. Empty in check mode when it would be published.
  returned: always
  type: str
"""

import os
import time
from contextlib import suppress
from urllib.error import HTTPError, URLError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.sutazai.platform.plugins.module_utils import docker_image, registry


class Unreachable(Exception):
    """Nothing answers there. The message is for people."""


class Publisher:
    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.given = module, module.params
        self.name = docker_image.parse(self.given["name"])
        with open(self.given["auth_file"], encoding="utf-8") as file:
            self.authorization = registry.authorization(file.read(), self.given["publish_address"])

    def ask(self, url: str, headers: dict[str, str]) -> tuple[str, str]:
        """The answer, and the digest that it is about."""
        answer = open_url(url, headers=headers, ca_path=self.given["ca_file"], use_proxy=False, timeout=10)
        return answer.read().decode(), answer.headers.get("Docker-Content-Digest") or ""

    def published(self) -> tuple[str, str]:
        """The image that the registry has under the name, and the digest; both empty when there is none."""
        url = f"{self.given['url']}/v2/{self.name.repository}/manifests/{self.name.tag}"
        headers = {"Accept": registry.MANIFESTS, "Authorization": self.authorization}
        until = time.monotonic() + (0 if self.module.check_mode else self.given["wait_seconds"])
        while True:
            try:
                manifest, digest = self.ask(url, headers)
                return registry.image_of(manifest), digest
            except HTTPError as error:
                if error.code == 404:
                    return "", ""
                raise registry.WrongAnswer(f"{url} answers {error.code} {error.reason}") from None
            except (URLError, OSError) as error:
                if time.monotonic() >= until:
                    raise Unreachable(f"no registry answers on {self.given['url']}: {error}") from None
            time.sleep(0.5)

    def systemctl(self, verb: str) -> None:
        code, _out, said = self.module.run_command(["systemctl", verb, self.given["publish_unit"]])
        if code:
            raise Unreachable(f"systemctl {verb} {self.given['publish_unit']} failed: {said.strip()}")

    def wait_for_publisher(self) -> None:
        until = time.monotonic() + self.given["wait_seconds"]
        while True:
            with suppress(URLError, OSError):
                self.ask(f"https://{self.given['publish_address']}/", {})
                return
            if time.monotonic() >= until:
                unit = self.given["publish_unit"]
                raise Unreachable(
                    f"{unit} doesn't answer on {self.given['publish_address']}: see `journalctl -u {unit}`"
                )
            time.sleep(0.2)

    def publish(self) -> None:
        """What the file is has been checked by its SHA-256 when it came: it needs no signature for this host's policy of images."""
        try:
            self.systemctl("start")
            self.wait_for_publisher()
            options = ["--quiet", "--preserve-digests", "--authfile", self.given["auth_file"]]
            places = [
                f"docker-archive:{self.given['path']}",
                f"docker://{self.given['publish_address']}/{self.name.repository}:{self.name.tag}",
            ]
            code, out, said = self.module.run_command(
                ["skopeo", "--insecure-policy", "copy", *options, *places],
                environ_update={"SSL_CERT_FILE": self.given["ca_file"]},
            )
            if code:
                raise registry.WrongAnswer(
                    f"skopeo can't publish {self.given['path']}: {(said or out).strip()[-1000:]}"
                )
        finally:
            self.systemctl("stop")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "url": {"type": "str", "required": True},
            "publish_unit": {"type": "str", "required": True},
            "publish_address": {"type": "str", "required": True},
            "auth_file": {"type": "path", "required": True, "no_log": False},
            "ca_file": {"type": "path", "required": True},
            "wait_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    given = module.params
    result = {"changed": True, "id": "", "digest": ""}
    if module.check_mode and not (os.path.exists(given["path"]) and os.path.exists(given["auth_file"])):
        # A fresh host: what would bring both has only said so.
        module.exit_json(**result)
    try:
        publisher = Publisher(module)
        result["id"] = docker_image.id_of(given["path"])
        try:
            found, result["digest"] = publisher.published()
        except Unreachable:
            if not module.check_mode:
                raise
            module.exit_json(**result)  # it would be started
        result["changed"] = found != result["id"]
        if result["changed"] and module.check_mode:
            result["digest"] = ""
        elif result["changed"]:
            publisher.publish()
            found, result["digest"] = publisher.published()
            if found != result["id"]:
                module.fail_json(
                    msg=f"{given['name']} was published, but {given['url']} has {found or 'none'} under that name",
                    **result,
                )
    except (OSError, Unreachable, registry.WrongAnswer, docker_image.NoImage) as failure:
        module.fail_json(msg=str(failure), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
