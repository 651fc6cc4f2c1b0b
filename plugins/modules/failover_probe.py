#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Write numbered records into a cluster as a client does, at a constant rate, and write down what becomes of each."""

from __future__ import annotations

DOCUMENTATION = r"""
module: failover_probe
short_description: Write numbered records into a cluster at a constant rate, and keep account of each
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Runs on a client's host and uses the addresses that clients use. With O(state=started) it makes a place of its own for its records, writes
    until it is told to stop, reads everything back and removes it. Run it with C(async), as it lasts as long as the test.
  - The rate doesn't depend on the answers. While a cluster is silent, attempts go on being made on further connections. Each has a
    deadline, none is repeated, and a connection that failed is made anew.
  - PostgreSQL gets rows of a table without a key, inserted through the pooler. Redis gets keys, of one slot in a cluster, written with C(WAIT)
    and without. RabbitMQ gets messages to a quorum queue with confirms, consumed at the same time. Consul gets keys that are only made
    if they aren't there (check-and-set).
  - What happened is in C(records.jsonl) in O(directory), for M(sutazai.platform.failover_check) to judge.
options:
  state:
    description:
      - V(started) writes, until V(stopped) is asked for or O(max_seconds) are over, and returns when everything is read back.
      - V(writing) waits until a probe that was started elsewhere has its first writes behind it.
      - V(stopped) tells it to stop, and doesn't wait for it.
    type: str
    choices: [started, writing, stopped]
    default: started
  directory:
    description: Where the records are written, and how the states talk to each other. Made with mode 0700.
    type: path
    required: true
  run:
    description: Name of the run, which its table, keys and queue get. At most 40 lower-case letters, digits and underscores.
    type: str
    required: true
  component:
    description: What to write to. Required with O(state=started).
    type: str
    choices: [postgresql, redis, rabbitmq, consul]
  host:
    description: Name or address that clients use. For Consul the agent's, as C(http://127.0.0.1:8500).
    type: str
  port:
    description: Its port. For Consul it is part of O(host).
    type: int
    default: 0
  username:
    description: Who connects.
    type: str
    default: ""
  password:
    description: Password of O(username).
    type: str
    default: ""
  database:
    description: PostgreSQL's database; O(username) must be able to make a table in it.
    type: str
    default: ""
  token:
    description: Consul's token; it must be allowed to write keys below C(sutazai/failover/).
    type: str
    default: ""
  ca_file:
    description: CA certificates that the server's certificate is checked against. Without it the connection needn't be encrypted.
    type: path
  rate_per_second:
    description: How many records of each series are attempted a second.
    type: float
    default: 10
  deadline_seconds:
    description: How long an attempt may take, connecting included.
    type: float
    default: 3
  max_seconds:
    description: Ends the writing, should nobody ask for V(stopped).
    type: float
    default: 900
  redis_slots:
    description: Slots that the records' slot is to be one of, such as C(0-5460). Empty for any.
    type: str
    default: ""
  redis_master_name:
    description:
      - What sentinels call the master. O(host) and O(port) are the sentinels' then.
      - Empty for Redis Cluster.
    type: str
    default: ""
  redis_replicas:
    description: How many replicas C(WAIT) waits for.
    type: int
    default: 1
  wait_seconds:
    description: How long V(writing) waits, and how long reading back may take while the cluster heals.
    type: int
    default: 60
attributes:
  check_mode: {support: full, description: Writes nothing.}
  diff_mode: {support: none, description: Nothing to compare.}
requirements:
  - psycopg (3), redis or pika on the host, for PostgreSQL, Redis or RabbitMQ
"""

EXAMPLES = r"""
- name: Write into PostgreSQL while something is done to it
  sutazai.platform.failover_probe:
    component: postgresql
    run: example_1
    directory: /run/sutazai-failover/example_1
    host: postgresql-rw.service.consul
    port: 6432
    username: application
    password: "{{ patroni_application_password }}"
    database: application
    ca_file: /etc/sutazai/pki/ca.crt
  async: 1200
  poll: 0
  register: probe

- name: Wait until it writes
  sutazai.platform.failover_probe:
    state: writing
    run: example_1
    directory: /run/sutazai-failover/example_1
"""

RETURN = r"""
records:
  description: Path of the records.
  returned: always
  type: str
target:
  description: Where the records are; the table, hash tag, queue or prefix.
  returned: when the probe writes or has written
  type: str
"""

import json
import logging
import os
import time
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.sutazai.platform.plugins.module_utils import failover_rabbitmq, failover_targets
from ansible_collections.sutazai.platform.plugins.module_utils.failover_probe import Driver, Log, sentence

LIBRARIES = {
    "postgresql": ("psycopg", failover_targets.PSYCOPG_ERROR),
    "redis": ("redis", failover_targets.REDIS_ERROR),
    "rabbitmq": ("pika", failover_rabbitmq.PIKA_ERROR),
    "consul": ("", None),
}
TARGETS: dict[str, Any] = {
    "postgresql": failover_targets.Postgresql,
    "redis": failover_targets.Redis,
    "redis_sentinel": failover_targets.RedisSentinel,
    "rabbitmq": failover_rabbitmq.Rabbitmq,
    "consul": failover_targets.Consul,
}
FIRST_WRITES = 3  # bytes in the records say little; so many lines make sure that something was acknowledged
Answer = TypeVar("Answer")


class Place:
    """The run's directory: records, a stop sign, and what went wrong."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.records = os.path.join(directory, "records.jsonl")
        self.stop = os.path.join(directory, "stop")
        self.status = os.path.join(directory, "status.json")

    def make(self) -> None:
        os.makedirs(os.path.dirname(self.directory), mode=0o755, exist_ok=True)
        os.mkdir(self.directory, 0o700)

    def say(self, **status: Any) -> None:
        partial = self.status + ".partial"
        with open(partial, "w", encoding="utf-8") as file:
            json.dump(status, file)
        os.rename(partial, self.status)

    def said(self) -> dict[str, Any]:
        try:
            with open(self.status, encoding="utf-8") as file:
                return json.load(file)
        except OSError:
            return {}

    def acknowledged(self) -> int:
        try:
            with open(self.records, encoding="utf-8") as file:
                return sum(1 for line in file if '"acknowledged": true' in line)
        except OSError:
            return 0


def again(what: Callable[[], Answer], seconds: float) -> Answer:
    """Until it succeeds or the time is over: a cluster that heals may refuse for a while."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return what()
        except Exception:  # pylint: disable=broad-except
            # The last failure is raised as it is.
            if time.monotonic() >= deadline:
                raise
            time.sleep(1)


def settings_of(wanted: dict[str, Any]) -> failover_targets.Settings:
    return failover_targets.Settings(
        run=wanted["run"],
        host=wanted["host"],
        port=wanted["port"],
        user=wanted["username"],
        password=wanted["password"],
        database=wanted["database"],
        ca_file=wanted["ca_file"] or "",
        token=wanted["token"],
        deadline=wanted["deadline_seconds"],
        slots=failover_targets.parse_slots(wanted["redis_slots"]),
        replicas=wanted["redis_replicas"],
        master_name=wanted["redis_master_name"],
    )


def where(target: Any) -> str:
    for name in ("table", "tag", "queue", "prefix"):
        if hasattr(target, name):
            return getattr(target, name)
    return ""


def probe(wanted: dict[str, Any], place: Place) -> dict[str, Any]:
    component = "redis_sentinel" if wanted["redis_master_name"] else wanted["component"]
    target = TARGETS[component](settings_of(wanted))
    rate, deadline = wanted["rate_per_second"], wanted["deadline_seconds"]

    def stop() -> bool:
        return os.path.exists(place.stop)

    place.say(state="preparing", target=where(target))
    again(target.prepare, wanted["wait_seconds"])
    try:
        # Line by line: what is written down survives this process.
        with open(place.records, "w", encoding="utf-8") as file:
            log = Log(file)
            log.begin(wanted["component"], list(target.series), rate, deadline)
            place.say(state="writing", target=where(target))
            if hasattr(target, "drive"):
                target.drive(log, rate, stop, wanted["max_seconds"], log.end)
            else:
                names = [one["name"] for one in target.series]
                Driver(target.connect, names, log, rate, deadline).run(stop, wanted["max_seconds"])
                log.end()
            place.say(state="reading", target=where(target))
            for series, numbers in again(target.found, wanted["wait_seconds"]).items():
                log.put("found", series=series, numbers=numbers)
    finally:
        again(target.remove, wanted["wait_seconds"])
    place.say(state="done", target=where(target))
    return {"target": where(target)}


def started(module: AnsibleModule, place: Place) -> dict[str, Any]:
    wanted = module.params
    library, error = LIBRARIES[wanted["component"]]
    if error:
        module.fail_json(msg=missing_required_lib(library), exception=error)
    if os.path.exists(place.directory):
        module.fail_json(
            msg=f"{place.directory} is there already: a run of the name {wanted['run']} was made before. Take another name (run)."
        )
    place.make()
    # The libraries log each lost connection; what matters of it is in the records.
    logging.disable(logging.CRITICAL)
    try:
        return probe(wanted, place)
    except Exception as failure:  # pylint: disable=broad-except
        # Whoever waits for the writing reads it from the directory: this module runs asynchronously.
        message = f"The probe of {wanted['component']} at {wanted['host']} failed: {sentence(failure)}"
        place.say(state="failed", message=message)
        module.fail_json(msg=message, records=place.records, exception=traceback.format_exc())


def writing(module: AnsibleModule, place: Place) -> dict[str, Any]:
    deadline = time.monotonic() + module.params["wait_seconds"]
    while True:
        said = place.said()
        if said.get("state") == "failed":
            module.fail_json(msg=said["message"])
        if said.get("state") == "writing" and place.acknowledged() >= FIRST_WRITES:
            return {"target": said["target"]}
        if time.monotonic() >= deadline:
            state = said.get("state", "not there")
            module.fail_json(
                msg=f"After {module.params['wait_seconds']} s the probe of the run {module.params['run']} has no {FIRST_WRITES} writes "
                f"acknowledged (it is {state}). See {place.directory} on this host, and whether the cluster takes writes."
            )
        time.sleep(0.2)


def main() -> None:
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "writing", "stopped"], "default": "started"},
            "directory": {"type": "path", "required": True},
            "run": {"type": "str", "required": True},
            "component": {"type": "str", "choices": list(LIBRARIES)},
            "host": {"type": "str"},
            "port": {"type": "int", "default": 0},
            "username": text,
            "password": {**text, "no_log": True},
            "database": text,
            "token": {**text, "no_log": True},
            "ca_file": {"type": "path"},
            "rate_per_second": {"type": "float", "default": 10},
            "deadline_seconds": {"type": "float", "default": 3},
            "max_seconds": {"type": "float", "default": 900},
            "redis_slots": text,
            "redis_master_name": text,
            "redis_replicas": {"type": "int", "default": 1},
            "wait_seconds": {"type": "int", "default": 60},
        },
        required_if=[("state", "started", ("component", "host"))],
        supports_check_mode=True,
    )
    wanted = module.params
    if not failover_targets.RUN.match(wanted["run"]):
        module.fail_json(msg=f"run is {wanted['run']!r}: give 1 to 40 lower-case letters, digits and underscores.")
    if wanted["rate_per_second"] <= 0 or wanted["deadline_seconds"] <= 0:
        module.fail_json(msg="rate_per_second and deadline_seconds must be more than 0.")
    place = Place(wanted["directory"])
    if module.check_mode:
        module.exit_json(changed=wanted["state"] != "writing", records=place.records)
    if wanted["state"] == "started":
        result = started(module, place)
    elif wanted["state"] == "writing":
        result = writing(module, place)
    else:
        running = os.path.isdir(place.directory)
        if running:
            with open(place.stop, "w", encoding="utf-8"):
                pass  # that it is there says it all
        module.exit_json(changed=running, records=place.records)
    module.exit_json(changed=wanted["state"] == "started", records=place.records, **result)


if __name__ == "__main__":
    main()
