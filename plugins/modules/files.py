#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Write a component's files and directories in one step."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Write several files and directories in one step
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Does for a list what M(ansible.builtin.template), M(ansible.builtin.copy) and M(ansible.builtin.file) do for one file, in one execution
    on the host. A loop over M(ansible.builtin.template) costs two executions for each file, which on tens of hosts is most of a run.
  - Templates are rendered by the C(ansible.builtin.template) lookup in O(files[].content), so a file is still one template.
  - Each file is replaced atomically, and only when its content differs, so that its modification time says when it really changed.
options:
  files:
    description: What is to be there, in this order. A directory comes before the files in it.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where.
        type: path
        required: true
      state:
        description: Whether it is a file with O(files[].content), a directory, or not there at all.
        type: str
        choices: [file, directory, absent]
        default: file
      content:
        description: The whole content of the file, which ends with a line feed or gets one.
        type: str
      owner:
        description: User that owns it.
        type: str
        default: root
      group:
        description: Group that owns it.
        type: str
        default: root
      mode:
        description: Permissions, as four octal digits.
        type: str
        default: "0644"
      validate:
        description:
          - Command that checks the new file before it takes the old one's place; C(%s) is the new file.
          - A file that is refused is not installed, and the task fails with what the command said.
        type: str
      in_place:
        description: Write into the existing file instead of replacing it, for bind mounts that can't be replaced.
        type: bool
        default: false
  look_for:
    description:
      - Paths that are only looked for and returned in RV(found_paths), before anything is changed. So a task that is needed on few hosts
        can be skipped on the others, without a task that looks.
    type: list
    elements: path
    default: []
attributes:
  check_mode: {support: full, description: Says which would change.}
  diff_mode: {support: full, description: Shows the difference of each changed file. Use C(diff=false) and C(no_log=true) where content is secret.}
"""

EXAMPLES = r"""
- name: Write the configuration
  sutazai.platform.files:
    files:
      - {path: /etc/redis/acl, state: directory, group: redis, mode: "0750"}
      - path: /etc/redis/redis.conf
        content: "{{ lookup('ansible.builtin.template', 'redis.conf.j2') }}"
        group: redis
        mode: "0640"
"""

RETURN = r"""
changed_paths:
  description: What changed, in the order of O(files).
  returned: always
  type: list
  elements: str
found_paths:
  description: Those of O(look_for) that are there.
  returned: always
  type: list
  elements: str
"""

import os
import shlex
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.text.converters import to_bytes, to_text

MANAGED = {
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
    "content": {"type": "str"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0644"},
    "validate": {"type": "str"},
    "in_place": {"type": "bool", "default": False},
}


def read(path: str) -> bytes | None:
    """The content, None when there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None


def set_attributes(module: AnsibleModule, wanted: dict, changed: bool) -> bool:
    changed = module.set_owner_if_different(wanted["path"], wanted["owner"], changed)
    changed = module.set_group_if_different(wanted["path"], wanted["group"], changed)
    return module.set_mode_if_different(wanted["path"], wanted["mode"], changed)


def check_content(module: AnsibleModule, wanted: dict, candidate: str) -> None:
    rc, out, err = module.run_command([word.replace("%s", candidate) for word in shlex.split(wanted["validate"])])
    if rc != 0:
        module.fail_json(
            msg=f"{wanted['path']} was not written: its new content is refused by «{wanted['validate']}»: {(err or out).strip()}"
        )


def ensure_file(module: AnsibleModule, wanted: dict) -> tuple[bool, dict | None]:
    path, content = wanted["path"], to_bytes(wanted["content"])
    if not content.endswith(b"\n"):
        content += b"\n"
    if os.path.isdir(path):
        module.fail_json(msg=f"{path} is a directory, and a file is to be there. Move it away first.")
    before = read(path)
    if before == content:
        return set_attributes(module, wanted, False), None
    diff = {
        "before_header": path,
        "after_header": path,
        "before": to_text(before or b"", errors="surrogate_or_replace"),
        "after": to_text(content),
    }
    if module.check_mode:
        return True, diff
    handle, candidate = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    module.set_mode_if_different(candidate, wanted["mode"], False)
    module.set_owner_if_different(candidate, wanted["owner"], False)
    module.set_group_if_different(candidate, wanted["group"], False)
    if wanted["validate"]:
        check_content(module, wanted, candidate)
    if wanted["in_place"] and before is not None:
        with open(path, "wb") as file:
            file.write(content)
        os.unlink(candidate)
    else:
        # The new file has its owner and mode before it is in place: no moment in which a secret can be read.
        module.atomic_move(candidate, path, keep_dest_attrs=False)
    set_attributes(module, wanted, True)
    return True, diff


def ensure_directory(module: AnsibleModule, wanted: dict) -> bool:
    path = wanted["path"]
    if os.path.isdir(path):
        return set_attributes(module, wanted, False)
    if os.path.lexists(path):
        module.fail_json(msg=f"{path} is there and no directory. Move it away first.")
    if not module.check_mode:
        os.makedirs(path, mode=0o755)
        set_attributes(module, wanted, True)
    return True


def ensure_absent(module: AnsibleModule, wanted: dict) -> bool:
    path = wanted["path"]
    if not os.path.lexists(path):
        return False
    if not module.check_mode:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": MANAGED,
                "required_if": [("state", "file", ["content"])],
            },
            "look_for": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    found_paths = [path for path in module.params["look_for"] if os.path.lexists(path)]
    changed_paths, diffs = [], []
    for wanted in module.params["files"]:
        diff = None
        if wanted["state"] == "file":
            changed, diff = ensure_file(module, wanted)
        elif wanted["state"] == "directory":
            changed = ensure_directory(module, wanted)
        else:
            changed = ensure_absent(module, wanted)
        if changed:
            changed_paths.append(wanted["path"])
            diffs.append(diff or {"before": "", "after": f"{wanted['path']}: {wanted['state']}, {wanted['mode']}\n"})
    module.exit_json(changed=bool(changed_paths), changed_paths=changed_paths, found_paths=found_paths, diff=diffs)


if __name__ == "__main__":
    main()
