#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Have a service in a Docker Swarm, updated without a gap."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_service
short_description: Have a service in a Docker Swarm, updated without a gap
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Runs on one manager. Makes the service or updates it when it isn't as described, and waits until all of its tasks run so. An update that
    Swarm pauses or rolls back is an error that says what the tasks said.
  - Secrets and configs get names that depend on their content. Another content is another one, to which the tasks are updated one after another;
    what neither the service nor its last specification needs any more is removed.
  - What is set here is compared and written. Fields of a service that this module doesn't know go back to the engine's defaults when it is updated.
options:
  socket:
    description: The engine's socket.
    type: path
    default: /run/docker.sock
  name:
    description: The service.
    type: str
    required: true
  state:
    description: Whether it is there. V(absent) removes its secrets and configs too.
    type: str
    choices: [present, absent]
    default: present
  image:
    description:
      - The image. Its id (V(sha256:…)) is one that every node has already; nothing is asked of a registry then. A name in a registry
        belongs with its digest.
      - Required unless O(state=absent).
    type: str
  registry_username:
    description:
      - Who the image's registry is asked as. The Swarm keeps it, and what a node asks that hasn't got the image is asked with it.
      - It is told nobody. What changes with the password is a label of the service, from a salted, slow digest.
    type: str
    default: ""
  registry_password:
    description: The user's password.
    type: str
    default: ""
  replicas:
    description: How many tasks. V(-1) leaves the number of a service that is there as it is, because an autoscaler sets it.
    type: int
    default: 1
  initial_replicas:
    description: With O(replicas=-1), how many tasks a new service has.
    type: int
    default: 1
  labels:
    description: Labels of the service.
    type: dict
    default: {}
  container_labels:
    description: Labels of its containers.
    type: dict
    default: {}
  command:
    description: Instead of the image's entry point.
    type: list
    elements: str
    default: []
  args:
    description: Instead of the image's command.
    type: list
    elements: str
    default: []
  environment:
    description: Environment variables. No secrets, everyone who may use the engine sees them.
    type: dict
    default: {}
  user:
    description: Instead of the image's user.
    type: str
    default: ""
  read_only:
    description: Whether the containers' file system can't be written to.
    type: bool
    default: false
  drop_capabilities:
    description: Capabilities that the containers don't have, such as V(ALL).
    type: list
    elements: str
    default: []
  init:
    description: Whether a small first process collects ended ones.
    type: bool
    default: false
  tmpfs:
    description: Directories in memory.
    type: list
    elements: str
    default: []
  extra_hosts:
    description: Lines of the containers' hosts file, V(<address> <name>).
    type: list
    elements: str
    default: []
  dns_servers:
    description: Name servers of the containers, instead of the host's.
    type: list
    elements: str
    default: []
  stop_grace_seconds:
    description: How long a task has to end before it is killed.
    type: float
    default: 10
  healthcheck:
    description: How the engine finds out whether a container is well. A task counts as running from the first success on.
    type: dict
    default: {}
    suboptions:
      test:
        description: The command, beginning with V(CMD) or V(CMD-SHELL). None means the image's own.
        type: list
        elements: str
        default: []
      interval_seconds:
        description: Between two checks.
        type: float
        default: 30
      timeout_seconds:
        description: How long one may take.
        type: float
        default: 30
      retries:
        description: After so many failures it is unwell.
        type: int
        default: 3
      start_period_seconds:
        description: Failures in this time after the start don't count.
        type: float
        default: 0
  constraints:
    description: Which nodes it may be on.
    type: list
    elements: str
    default: []
  max_replicas_per_node:
    description: How many tasks a node may have; 0 is any number.
    type: int
    default: 0
  limits:
    description: What a task may use.
    type: dict
    default: {}
    suboptions: &resources
      cpus:
        description: Processors; 0 is none.
        type: float
        default: 0
      memory_bytes:
        description: Memory; 0 is none.
        type: int
        default: 0
  reservations:
    description: What a node must have free for a task.
    type: dict
    default: {}
    suboptions: *resources
  restart_policy:
    description: What becomes of a task that ends.
    type: dict
    default: {}
    suboptions:
      condition:
        description: When it is started again.
        type: str
        choices: [none, on-failure, any]
        default: any
      delay_seconds:
        description: How long after its end.
        type: float
        default: 5
      max_attempts:
        description: How often; 0 is any number.
        type: int
        default: 0
      window_seconds:
        description: In which time the attempts are counted; 0 is for ever.
        type: float
        default: 0
  update:
    description: How an update goes.
    type: dict
    default: {}
    suboptions: &policy
      parallelism:
        description: How many tasks at a time; 0 is all.
        type: int
        default: 1
      delay_seconds:
        description: How long between two steps.
        type: float
        default: 0
      failure_action:
        description: What happens when tasks fail. A rollback can't be rolled back.
        type: str
        choices: [pause, continue, rollback]
        default: pause
      monitor_seconds:
        description: A task that fails within this time after its start has failed the update.
        type: float
        default: 5
      max_failure_ratio:
        description: Which part of the tasks may fail.
        type: float
        default: 0
      order:
        description: Whether a new task is started before an old one is stopped.
        type: str
        choices: [start-first, stop-first]
        default: stop-first
  rollback:
    description: How a rollback goes.
    type: dict
    default: {}
    suboptions: *policy
  endpoint_mode:
    description: How its name is resolved in its networks. V(vip) needs the kernel's IPVS, and is refused on a manager without.
    type: str
    choices: [vip, dnsrr]
    default: dnsrr
  ports:
    description: Ports that are published.
    type: list
    elements: dict
    default: []
    suboptions:
      target:
        description: The container's port.
        type: int
        required: true
      published:
        description: The host's port. 0 is one that is free, another for each task.
        type: int
        default: 0
      protocol:
        description: The protocol.
        type: str
        choices: [tcp, udp, sctp]
        default: tcp
      mode:
        description: V(host) is the port of the task's own host, V(ingress) that of every node, which needs IPVS, too.
        type: str
        choices: [host, ingress]
        default: host
  secrets:
    description: Files that only the service's tasks can read. Not in O(environment), a log or an argument.
    type: list
    elements: dict
    default: []
    suboptions: &file
      name:
        description: Part of its name; the service's and one for the content are added.
        type: str
        required: true
      content:
        description: What it holds. One of this and O(secrets[].path) is required.
        type: str
        default: ""
      path:
        description: A file on this host that holds it.
        type: path
      target:
        description: Path in the container; without a slash, below C(/run/secrets) for a secret and the root for a config.
        type: str
        required: true
      uid:
        description: Whose it is, by number.
        type: int
        default: 0
      gid:
        description: Whose group's it is, by number.
        type: int
        default: 0
      mode:
        description: Its mode, octal.
        type: str
        default: "0444"
  configs:
    description: Files that aren't secret.
    type: list
    elements: dict
    default: []
    suboptions: *file
  wait_seconds:
    description: How long all tasks may take until they run as described.
    type: int
    default: 600
  report_problems:
    description: Instead of failing, return what is wrong in RV(problems), for tasks whose results aren't shown.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: Says what would be done.}
  diff_mode: {support: full, description: Shows what differs. Of secrets and configs only their names.}
"""

EXAMPLES = r"""
- name: Run the agents
  sutazai.platform.swarm_service:
    name: ai-agent
    image: "{{ __agent_image_id }}"
    replicas: 10
    constraints: [node.role == worker]
    update: {parallelism: 2, delay_seconds: 10, failure_action: rollback, order: start-first}
    ports: [{target: 8080}]
    secrets:
      - {name: redis, content: "{{ agent_redis_password }}", target: redis.password, uid: 10001, mode: "0400"}
  run_once: true
  no_log: true
"""

RETURN = r"""
id:
  description: The engine's id of the service.
  returned: when it is there
  type: str
created:
  description: Whether the service was made, or would be.
  returned: always
  type: bool
differences:
  description: Paths in its specification that weren't as described.
  returned: always
  type: list
  elements: str
replicas:
  description: How many tasks it is to have.
  returned: unless O(state=absent)
  type: int
running:
  description: How many tasks run as described.
  returned: unless O(state=absent) or in check mode
  type: int
problems:
  description: Why it isn't as described, for people; empty when it is.
  returned: with O(report_problems)
  type: list
  elements: str
removed:
  description: Secrets and configs that aren't needed any more and were removed, by name.
  returned: always
  type: list
  elements: str
"""

import base64
import json
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.sutazai.platform.plugins.module_utils import swarm_service as model
from ansible_collections.sutazai.platform.plugins.module_utils.docker_engine import (
    CONNECTION_ARGUMENTS,
    Engine,
    EngineRefused,
    EngineUnreachable,
    find_service,
    has_ipvs,
    no_swarm_yet,
    tasks_of,
)
from ansible_collections.sutazai.platform.plugins.module_utils.docker_image import login

RESOURCES = {"cpus": {"type": "float", "default": 0}, "memory_bytes": {"type": "int", "default": 0}}
POLICY = {
    "parallelism": {"type": "int", "default": 1},
    "delay_seconds": {"type": "float", "default": 0},
    "failure_action": {"type": "str", "choices": ["pause", "continue", "rollback"], "default": "pause"},
    "monitor_seconds": {"type": "float", "default": 5},
    "max_failure_ratio": {"type": "float", "default": 0},
    "order": {"type": "str", "choices": ["start-first", "stop-first"], "default": "stop-first"},
}
RESTART = {
    "condition": {"type": "str", "choices": ["none", "on-failure", "any"], "default": "any"},
    "delay_seconds": {"type": "float", "default": 5},
    "max_attempts": {"type": "int", "default": 0},
    "window_seconds": {"type": "float", "default": 0},
}
HEALTHCHECK = {
    "test": {"type": "list", "elements": "str", "default": []},
    "interval_seconds": {"type": "float", "default": 30},
    "timeout_seconds": {"type": "float", "default": 30},
    "retries": {"type": "int", "default": 3},
    "start_period_seconds": {"type": "float", "default": 0},
}
PORT = {
    "target": {"type": "int", "required": True},
    "published": {"type": "int", "default": 0},
    "protocol": {"type": "str", "choices": ["tcp", "udp", "sctp"], "default": "tcp"},
    "mode": {"type": "str", "choices": ["host", "ingress"], "default": "host"},
}


def file_options(secret: bool) -> dict[str, Any]:
    return {
        "name": {"type": "str", "required": True},
        "content": {"type": "str", "default": "", "no_log": secret},
        "path": {"type": "path"},
        "target": {"type": "str", "required": True},
        "uid": {"type": "int", "default": 0},
        "gid": {"type": "int", "default": 0},
        "mode": {"type": "str", "default": "0444"},
    }


def _dict(options: dict[str, Any]) -> dict[str, Any]:
    return {"type": "dict", "default": {}, "options": options, "apply_defaults": True}


def _list(elements: str = "str", **more: Any) -> dict[str, Any]:
    return {"type": "list", "elements": elements, "default": [], **more}


ARGUMENTS = {
    **CONNECTION_ARGUMENTS,
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "image": {"type": "str"},
    "registry_username": {"type": "str", "default": ""},
    "registry_password": {"type": "str", "default": "", "no_log": True},
    "replicas": {"type": "int", "default": 1},
    "initial_replicas": {"type": "int", "default": 1},
    "labels": {"type": "dict", "default": {}},
    "container_labels": {"type": "dict", "default": {}},
    "command": _list(),
    "args": _list(),
    "environment": {"type": "dict", "default": {}},
    "user": {"type": "str", "default": ""},
    "read_only": {"type": "bool", "default": False},
    "drop_capabilities": _list(),
    "init": {"type": "bool", "default": False},
    "tmpfs": _list(),
    "extra_hosts": _list(),
    "dns_servers": _list(),
    "stop_grace_seconds": {"type": "float", "default": 10},
    "healthcheck": _dict(HEALTHCHECK),
    "constraints": _list(),
    "max_replicas_per_node": {"type": "int", "default": 0},
    "limits": _dict(RESOURCES),
    "reservations": _dict(RESOURCES),
    "restart_policy": _dict(RESTART),
    "update": _dict(POLICY),
    "rollback": _dict(POLICY),
    "endpoint_mode": {"type": "str", "choices": ["vip", "dnsrr"], "default": "dnsrr"},
    "ports": _list("dict", options=PORT),
    "secrets": _list("dict", options=file_options(True), no_log=False),
    "configs": _list("dict", options=file_options(False)),
    "wait_seconds": {"type": "int", "default": 600},
    "report_problems": {"type": "bool", "default": False},
}
KINDS = ("secrets", "configs")
# Longer than the engine needs to make tasks after a change, also beside other work.
STUCK_SECONDS = 20


class CannotBe(Exception):
    """The service can't be what is asked for. The message is for people."""


def content_of(each: dict[str, Any]) -> bytes:
    if bool(each["content"]) == bool(each["path"]):
        raise CannotBe(f"{each['name']}: give it either content or the path of a file, and no empty one")
    if each["content"]:
        return str(each["content"]).encode()
    try:
        with open(each["path"], "rb") as file:
            return file.read()
    except OSError as error:
        raise CannotBe(f"{each['name']}: {each['path']} can't be read on this host: {error.strerror}") from error


class Service:
    def __init__(self, module: AnsibleModule) -> None:
        self.module, self.given = module, module.params
        self.engine = Engine(self.given["socket"])
        self.result: dict[str, Any] = {
            "changed": False,
            "created": False,
            "differences": [],
            "removed": [],
            "problems": [],
        }
        for name in ("labels", "container_labels", "environment"):
            self.given[name] = {key: str(value) for key, value in self.given[name].items()}
        image, user, password = (self.given[name] for name in ("image", "registry_username", "registry_password"))
        self.login = login(image or "", user, password)

    def find(self) -> dict[str, Any] | None:
        return find_service(self.engine, self.given["name"])

    def have(self) -> None:
        given, present = self.given, self.find()
        if (needing := model.needing_ipvs(given)) and not has_ipvs():
            raise CannotBe(
                f"{given['name']}: this host's kernel has no IPVS, without which the service couldn't be reached by {' and '.join(needing)}. "
                "Set endpoint_mode to dnsrr and each port's mode to host, or install a kernel with the module ip_vs on all nodes."
            )
        salt = self.engine.get("/swarm")["ID"]
        contents: dict[str, tuple[str, bytes]] = {}
        names: dict[str, str] = {}
        for kind in KINDS:
            for each in given[kind]:
                content = content_of(each)
                whole = model.file_name(given["name"], each["name"], content, salt if kind == "secrets" else "")
                names[each["name"]], contents[whole] = whole, (kind, content)
        if self.login:
            # The engine tells nobody whether it has another one.
            kept = model.digest(json.dumps(self.login).encode(), f"{given['name']}-login", salt)
            given["labels"] = {**given["labels"], model.LOGIN: kept}
        replicas = model.wanted_replicas(given["replicas"], given["initial_replicas"], present and present["Spec"])
        wanted = model.specification(given, replicas, names, {})
        before = present["Spec"] if present else {}
        paused = bool(present) and ((present or {}).get("UpdateStatus") or {}).get("State") == "paused"
        # What was paused goes on when it is written again.
        paths = (model.changes(wanted, before) or (["UpdateStatus"] if paused else [])) if present else []
        self.result.update(
            created=present is None,
            differences=paths,
            changed=present is None or bool(paths),
            replicas=replicas,
            diff={
                "before": model.excerpt(before, paths) if present else {},
                "after": model.excerpt(wanted, paths) if present else wanted,
            },
        )
        if self.module.check_mode:
            return
        if present is not None and not paths:
            made = present
        else:
            ids = self._have_files(contents)
            made = self._write(model.specification(given, replicas, names, ids), present)
        self.result["id"] = made["ID"]
        self._wait(made, updated=self.result["changed"])
        self._remove_files(self.find())

    def _write(self, spec: dict[str, Any], present: dict[str, Any] | None) -> dict[str, Any]:
        if present is None:
            self.engine.request("POST", "/services/create", spec, headers=self.login)
        else:
            # Somebody may have had all tasks started anew; a lower number would do it again.
            spec["TaskTemplate"]["ForceUpdate"] = present["Spec"]["TaskTemplate"].get("ForceUpdate", 0)
            # The engine refuses a version that somebody else has replaced meanwhile: nothing is overwritten unseen.
            path = f"/services/{present['ID']}/update?version={present['Version']['Index']}"
            self.engine.request("POST", path, spec, headers=self.login)
        found = self.find()
        if found is None:
            raise CannotBe(f"{self.given['name']} was removed by somebody else at the same time")
        return found

    def _wait(self, made: dict[str, Any], updated: bool) -> None:
        deadline = time.monotonic() + self.given["wait_seconds"]
        template = made["Spec"]["TaskTemplate"]
        moving = time.monotonic()
        while True:
            service = self.engine.get(f"/services/{made['ID']}")
            tasks = tasks_of(self.engine, made["ID"])
            now = model.progress(service, tasks, updated)
            self.result["running"] = now.running
            if now.state == "done":
                return
            if now.state != "stuck":
                moving = time.monotonic()
            if now.state == "failed" or time.monotonic() >= min(deadline, moving + STUCK_SECONDS):
                break
            time.sleep(1)
        mine = [task for task in tasks if model.same_template(task.get("Spec") or {}, template)]
        hostnames = {node["ID"]: node["Description"]["Hostname"] for node in self.engine.get("/nodes")}
        said = model.complaints(mine, hostnames)
        if now.state == "failed":
            what = f"the update of {self.given['name']} failed and Swarm {model.outcome(service)}: {now.message}"
        elif now.state == "stuck":
            what = (
                f"only {now.running} of {now.wanted} tasks of {self.given['name']} run as described, and Swarm starts no more: each has failed "
                "as often as restart_policy allows (max_attempts)"
            )
        else:
            what = (
                f"only {now.running} of {now.wanted} tasks of {self.given['name']} run as described after {self.given['wait_seconds']} s"
                + (f" ({now.message})" if now.message else "")
            )
        raise CannotBe(
            "\n".join([f"{what}.", *said, f"`docker service ps --no-trunc {self.given['name']}` says more."])
        )

    def _have_files(self, contents: dict[str, tuple[str, bytes]]) -> dict[str, str]:
        """The engine's ids by name; what isn't there is made."""
        ids = {}
        there = {each["Spec"]["Name"]: each["ID"] for kind in KINDS for each in self.engine.get(f"/{kind}") or []}
        for name, (kind, content) in contents.items():
            if name not in there:
                spec = {
                    "Name": name,
                    "Labels": {model.OWNER: self.given["name"]},
                    "Data": base64.b64encode(content).decode(),
                }
                there[name] = self.engine.request("POST", f"/{kind}/create", spec)["ID"]
            ids[name] = there[name]
        return ids

    def _remove_files(self, service: dict[str, Any] | None) -> None:
        """What a rollback would need stays too."""
        specs = [service.get("Spec"), service.get("PreviousSpec")] if service else []
        for kind in KINDS:
            there = self.engine.get(f"/{kind}") or []
            for key in model.unused(there, self.given["name"], specs):
                self.engine.request("DELETE", f"/{kind}/{key}")
                self.result["removed"] += [each["Spec"]["Name"] for each in there if each["ID"] == key]
                self.result["changed"] = True

    def have_not(self) -> None:
        present = self.find()
        self.result["changed"] = present is not None
        if present is None or self.module.check_mode:
            return
        self.engine.request("DELETE", f"/services/{present['ID']}")
        self._remove_files(None)


def main() -> None:
    module = AnsibleModule(
        argument_spec=ARGUMENTS, supports_check_mode=True, required_if=[("state", "present", ("image",))]
    )
    service = Service(module)
    if module.check_mode and no_swarm_yet(service.engine):
        made = module.params["state"] == "present"
        module.exit_json(**{**service.result, "changed": made, "created": made})
    try:
        service.have() if module.params["state"] == "present" else service.have_not()
    except (CannotBe, EngineRefused, EngineUnreachable) as failure:
        if not module.params["report_problems"]:
            module.fail_json(msg=str(failure), **service.result)
        service.result["problems"] = str(failure).splitlines()
    module.exit_json(**service.result)


if __name__ == "__main__":
    main()
