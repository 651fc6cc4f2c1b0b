#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Have an image in this host's Docker engine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_image
short_description: Have an image in this host's Docker engine
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Loads it from a file that C(docker save) has written, or gets it from a registry. Nothing is done when the engine has it.
  - What a tag means in a registry is asked at each run; the image is then got, and named in RV(reference), by its digest.
options:
  socket:
    description: The engine's socket.
    type: path
    default: /run/docker.sock
  path:
    description: On this host, the file. One of this and O(name) is required.
    type: path
  name:
    description: The image in a registry, with its tag or its digest, V(registry.example/agent:1.0) or V(registry.example/agent@sha256:…).
    type: str
  username:
    description: Who the registry is asked as; empty is nobody in particular.
    type: str
    default: ""
  password:
    description: The user's password.
    type: str
    default: ""
  keep_versions:
    description: How many images of its repository stay, this one included. Those that containers use stay in any case; 0 keeps all.
    type: int
    default: 0
  timeout_seconds:
    description: How long the engine may take.
    type: int
    default: 600
attributes:
  check_mode: {support: full, description: Says whether it would be loaded.}
"""

EXAMPLES = r"""
- name: Load the agents' image
  sutazai.platform.docker_image:
    path: /opt/sutazai/sutazai-agent/current
  register: __agent_image

- name: Get it from the platform's registry
  sutazai.platform.docker_image:
    name: registry.service.consul:5000/sutazai/agent:0.1.0-46b2f3963436
    username: reader
    password: "{{ agent_registry_password }}"
  register: __agent_image
"""

RETURN = r"""
id:
  description: The image's id, the same in every engine that has loaded the file. Empty in check mode when there is no file yet.
  returned: always
  type: str
reference:
  description:
    - What a Swarm service is told so that a node which has the image asks nobody for it; its id, or its name with the digest.
    - In check mode the name as it was given, where the registry can't say yet what its tag means.
  returned: always
  type: str
deleted:
  description: Images that were taken out, by name.
  returned: always
  type: list
  elements: str
"""

import os
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import docker_image as model
from ansible_collections.sutazai.platform.plugins.module_utils.docker_engine import (
    CONNECTION_ARGUMENTS,
    Engine,
    EngineRefused,
    EngineUnreachable,
    load_image,
    pull_image,
)


def inspect(engine: Engine, reference: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = engine.get(f"/images/{quote(reference, safe=':@/')}/json")
    except EngineRefused as refused:
        if refused.status == 404:
            return None
        raise
    return found


def resolve(engine: Engine, name: str, login: dict[str, str]) -> str:
    """The name with the digest. The engine itself asks the registry, as it would when it gets the image."""
    wanted = model.parse(name)
    if not wanted.digest:
        found = engine.get(f"/distribution/{quote(name, safe=':/')}/json", headers=login)
        return wanted.pinned(found["Descriptor"]["digest"])
    return wanted.pinned(wanted.digest)


def clean(engine: Engine, image: dict[str, Any], keep: int) -> list[str]:
    """What a container uses, the engine doesn't take out."""
    taken = []
    names = [name for key in ("RepoTags", "RepoDigests") for name in image.get(key) or ()]
    for repository in {model.repository_of(name) for name in names}:
        for name in model.superfluous(engine.get("/images/json"), repository, image["Id"], keep):
            try:
                engine.request("DELETE", f"/images/{quote(name, safe=':/@')}")
            except EngineRefused as refused:
                if refused.status not in (404, 409):  # with its tag, the name by its digest is gone too
                    raise
            else:
                taken.append(name)
    return taken


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "path": {"type": "path"},
            "name": {"type": "str"},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "keep_versions": {"type": "int", "default": 0},
            "timeout_seconds": {"type": "int", "default": 600},
        },
        required_one_of=[("path", "name")],
        mutually_exclusive=[("path", "name")],
        supports_check_mode=True,
    )
    given, engine = module.params, Engine(module.params["socket"])
    result: dict[str, Any] = {"changed": False, "id": "", "reference": "", "deleted": []}
    name, path = given["name"], given["path"]
    if module.check_mode and (not engine.there() or (path and not os.path.exists(path))):
        # A fresh host: what would bring the engine and the file has only said so.
        module.exit_json(**{**result, "changed": True, "reference": name or ""})
    try:
        login = model.login(name, given["username"], given["password"]) if name else {}
        try:
            reference = resolve(engine, name, login) if name else model.id_of(path)
        except EngineRefused as refused:
            if not module.check_mode:
                raise
            # What would publish the image has only said so, perhaps.
            module.warn(f"what {name} means can't be asked now: {refused}")
            module.exit_json(**{**result, "changed": True, "reference": name})
        image = inspect(engine, reference)
        result.update(
            changed=image is None, reference=reference, id=image["Id"] if image else "" if name else reference
        )
        if image is None and not module.check_mode:
            if path:
                load_image(engine, path, given["timeout_seconds"])
            else:
                pull_image(engine, reference, login, given["timeout_seconds"])
            image = inspect(engine, reference)
            if image is None:
                hint = "its store keeps images under other ids; set agent_image_source to registry, or the engine's image store to overlay2"
                module.fail_json(
                    msg=f"the engine took {path or name}, but has no image {reference} now"
                    + (f": {hint}" if path else ""),
                    **result,
                )
            result["id"] = image["Id"]
        if image and given["keep_versions"] and not module.check_mode:
            result["deleted"] = clean(engine, image, given["keep_versions"])
            result["changed"] = result["changed"] or bool(result["deleted"])
    except (EngineRefused, EngineUnreachable, model.NoImage) as failure:
        module.fail_json(msg=str(failure), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
