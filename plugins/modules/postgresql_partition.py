#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Keep a table partitioned by range, and make an ordinary one so while it is used."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_partition
short_description: Keep a PostgreSQL table partitioned by range
version_added: 0.1.0
author: SutazAI platform team (@sutazai)
description:
  - Makes a table that is partitioned by ranges of a whole number (a tenant's, say) and its partitions, listed one by one in O(partitions),
    by a O(rule), or both. Adds, attaches, detaches, and drops only what is declared V(absent). What isn't declared stays.
  - A partition is made apart and attached, so readers and writers don't wait. It is detached concurrently, unless there is a default
    partition, with which PostgreSQL doesn't do that.
  - Refuses overlapping, inverted and empty ranges, bounds that differ from those of an existing partition, a primary key without the
    partition key, and what the key's type can't hold, all of it in one message and before anything is changed.
  - With O(convert) an ordinary table becomes a partitioned one while it is read and written. A partitioned copy is filled beside it in
    batches, changes are followed by means of a trigger and a log, and a short transaction at the end exchanges the two. It locks no rows. A run
    that was killed is continued by the next one. The table that was is kept under the name C(<table>__unpartitioned).
  - No lock that others would wait for is waited for longer than O(lock_timeout_ms) at a time, nor held longer than O(max_lock_ms).
options:
  login_db:
    description: The database.
    type: str
    required: true
  login_unix_socket:
    description: Directory of the server's socket. It comes before O(login_host).
    type: str
    default: ""
  login_host:
    description:
      - Host of the leader. Of several, separated by commas, the leader is taken.
      - On a host of the cluster, the socket is the better way.
    type: str
    default: ""
  login_port:
    description: Port of the server, also with the socket.
    type: int
    default: 5432
  login_user:
    description: User, who must own the table or be superuser.
    type: str
    default: postgres
  login_password:
    description: The user's password. Without one, the server must let the user in otherwise (peer).
    type: str
    default: ""
  ca_file:
    description: CA certificates that the server's certificate is checked against, with its name. Without it no certificate is checked.
    type: path
  schema:
    description: Schema of the table and of its partitions.
    type: str
    default: public
  table:
    description: The table.
    type: str
    required: true
  owner:
    description: Owner of a new table and of its partitions. By default the one who makes it.
    type: str
  columns:
    description: Columns of a new table. Those of an existing one are compared by name and type, and not changed.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the column.
        type: str
        required: true
      type:
        description: Its type, such as V(bigserial) or V(jsonb).
        type: str
        required: true
      not_null:
        description: Whether it must have a value.
        type: bool
        default: false
      default:
        description: Its default, an SQL expression.
        type: str
  primary_key:
    description: Columns of the primary key. The partition key must be one of them. Needed for O(convert).
    type: list
    elements: str
    default: []
  key:
    description: Column by which the table is partitioned. It must be a smallint, integer or bigint.
    type: str
    required: true
  partitions:
    description: Partitions, each a range.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the partition. Without one, a new one is called C(<table>_<from>) and an existing one may have any name.
        type: str
      from:
        description: First value of the range, or V(MINVALUE).
        type: str
        required: true
      to:
        description: End of the range, which doesn't belong to it, or V(MAXVALUE).
        type: str
        required: true
      state:
        description:
          - V(present) makes it, or attaches a table of this name that has the same columns.
          - V(detached) makes it a table of its own, V(absent) drops it with its rows.
        type: str
        choices: [present, detached, absent]
        default: present
  rule:
    description: Partitions of equal width, after those that are listed. One that is listed with the same bounds overrules it.
    type: dict
    suboptions:
      from:
        description: Where the first begins. By default at the end of the listed ranges.
        type: int
      width:
        description: How many key values each holds.
        type: int
        required: true
      count:
        description: How many there are at least.
        type: int
        default: 0
      keep_ahead:
        description: How many there are at least behind the one that holds the table's highest key.
        type: int
        default: 0
      name:
        description: Their names. C({from}), C({to}) and C({number}) (counted on from the listed ones) are filled in, and C({table}).
        type: str
        default: "{table}_{from}"
  gaps:
    description: Whether values between two partitions may belong to none.
    type: str
    choices: [allow, forbid]
    default: allow
  default_partition:
    description: The partition of rows that belong into no other. Best without one, as it forbids to detach concurrently.
    type: dict
    suboptions:
      state:
        description: Whether there is one; left as it is by default. One that goes must be empty.
        type: str
        choices: [present, absent]
      name:
        description: Its name; C(<table>_default) by default.
        type: str
      move_rows:
        description:
          - Whether a new partition takes its rows out of the default one, in one transaction that locks the default partition.
          - Otherwise a range that has rows there is refused, with their number.
        type: bool
        default: false
      move_limit_rows:
        description: A range with more rows in the default partition than this is refused; 0 for no limit.
        type: int
        default: 100000
  convert:
    description:
      - Whether an ordinary table is converted. It must have a unique key that lies within O(primary_key), which is that key with the partition key
        added; the key alone is unique no longer.
      - Foreign keys, triggers, policies, views on it and other things that a conversion would lose are refused.
      - Needs the table's size on the disk a second time. A transaction of the level REPEATABLE READ that began before the exchange and
        first looks at the table after it may miss rows, as after other DDL that rewrites a table.
    type: bool
    default: false
  convert_drop_old:
    description: Whether C(<table>__unpartitioned), what the table was before its conversion, is dropped.
    type: bool
    default: false
  batch_rows:
    description: How many rows one batch of a conversion copies.
    type: int
    default: 5000
  batch_pause_ms:
    description: Pause after each batch, to leave the server to others.
    type: int
    default: 0
  lock_timeout_ms:
    description: How long to wait for a lock at a time. Others wait behind it, so it is short, and tried again.
    type: int
    default: 200
  max_lock_ms:
    description: How long a lock may be held that others wait for. Work that takes longer is undone.
    type: int
    default: 500
  lock_wait_seconds:
    description: How long to go on trying for a lock.
    type: int
    default: 300
  exact_rows:
    description: Whether rows are counted. Otherwise partitions over 1 MiB are given by PostgreSQL's estimate.
    type: bool
    default: false
attributes:
  check_mode: {support: full, description: Plans and refuses as it would otherwise.}
  diff_mode: {support: full, description: Shows the SQL.}
notes:
  - Needs psycopg or psycopg2 on the host that runs it.
  - A conversion must not go through a pooler.
"""

EXAMPLES = r"""
- name: Partition the agents' data by tenant
  sutazai.platform.postgresql_partition:
    login_db: application
    login_unix_socket: /var/run/postgresql
    table: agent_data
    owner: application
    columns:
      - {name: id, type: bigserial}
      - {name: agent_id, type: uuid}
      - {name: tenant_id, type: int}
      - {name: data, type: jsonb}
      - {name: created_at, type: timestamp}
    primary_key: [tenant_id, id]
    key: tenant_id
    partitions:
      - {name: agent_data_tenant_1, from: 1, to: 1000}
      - {name: agent_data_tenant_2, from: 1000, to: 2000}
    rule: {width: 1000, keep_ahead: 2, name: "{table}_tenant_{number}"}
    gaps: forbid
  become: true
  become_user: postgres

- name: Convert the ordinary table that an older release has made
  sutazai.platform.postgresql_partition:
    login_db: application
    login_unix_socket: /var/run/postgresql
    table: events
    key: tenant_id
    primary_key: [tenant_id, id]
    rule: {from: 0, width: 100, keep_ahead: 1}
    convert: true
  become: true
  become_user: postgres
"""

RETURN = r"""
steps:
  description: What was done, or would be, in order.
  returned: always
  type: list
  elements: dict
  contains:
    says: {description: In words., type: str}
    sql: {description: The statements., type: str}
    lock: {description: The lock that others could wait for; empty for none., type: str}
partitions:
  description: The partitions there are, in the order of their ranges. Of a table that isn't partitioned yet, the table.
  returned: always
  type: list
  elements: dict
  contains:
    name: {description: Name of the partition., type: str}
    from: {description: First value; null for the default partition., type: raw}
    to: {description: "End, which doesn't belong to it.", type: raw}
    default: {description: Whether it is the default partition., type: bool}
    rows: {description: Its rows., type: int}
    rows_exact: {description: Whether they were counted; otherwise it is PostgreSQL's estimate., type: bool}
    bytes: {description: "What it takes on the disk, with its indexes.", type: int}
default_rows:
  description: Rows that were found in the default partition, by the declared range that they belong into.
  returned: always
  type: dict
conversion:
  description: Figures of a conversion; empty when there was none.
  returned: always
  type: dict
  contains:
    resumed: {description: Whether an earlier run had begun., type: bool}
    rows_copied: {description: Rows that this run has copied., type: int}
    rows_copied_before: {description: Rows that earlier runs had copied., type: int}
    changes_followed: {description: Changed rows that were brought up to date., type: int}
    batches: {description: Number of batches., type: int}
    seconds: {description: How long it took., type: float}
    longest_lock_ms: {description: The longest that a lock was held which others could wait for., type: int}
"""

import getpass

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_apply import (
    Work,
    default_rows,
    perform,
    prepare,
    report,
)
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_ranges import Refused
from ansible_collections.sutazai.platform.plugins.module_utils.postgresql_session import (
    DRIVER_ERROR,
    DatabaseError,
    Limits,
    Session,
    driver,
)

ARGUMENTS = {
    "login_db": {"type": "str", "required": True},
    "login_unix_socket": {"type": "str", "default": ""},
    "login_host": {"type": "str", "default": ""},
    "login_port": {"type": "int", "default": 5432},
    "login_user": {"type": "str", "default": "postgres"},
    "login_password": {"type": "str", "default": "", "no_log": True},
    "ca_file": {"type": "path"},
    "schema": {"type": "str", "default": "public"},
    "table": {"type": "str", "required": True},
    "owner": {"type": "str"},
    "columns": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "type": {"type": "str", "required": True},
            "not_null": {"type": "bool", "default": False},
            "default": {"type": "str"},
        },
    },
    "primary_key": {"type": "list", "elements": "str", "default": [], "no_log": False},
    "key": {"type": "str", "required": True, "no_log": False},
    "partitions": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str"},
            "from": {"type": "str", "required": True},
            "to": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "detached", "absent"], "default": "present"},
        },
    },
    "rule": {
        "type": "dict",
        "options": {
            "from": {"type": "int"},
            "width": {"type": "int", "required": True},
            "count": {"type": "int", "default": 0},
            "keep_ahead": {"type": "int", "default": 0},
            "name": {"type": "str", "default": "{table}_{from}"},
        },
    },
    "gaps": {"type": "str", "choices": ["allow", "forbid"], "default": "allow"},
    "default_partition": {
        "type": "dict",
        "options": {
            "state": {"type": "str", "choices": ["present", "absent"]},
            "name": {"type": "str"},
            "move_rows": {"type": "bool", "default": False},
            "move_limit_rows": {"type": "int", "default": 100000},
        },
    },
    "convert": {"type": "bool", "default": False},
    "convert_drop_old": {"type": "bool", "default": False},
    "batch_rows": {"type": "int", "default": 5000},
    "batch_pause_ms": {"type": "int", "default": 0},
    "lock_timeout_ms": {"type": "int", "default": 200},
    "max_lock_ms": {"type": "int", "default": 500},
    "lock_wait_seconds": {"type": "int", "default": 300},
    "exact_rows": {"type": "bool", "default": False},
}


def connect(wanted: dict) -> Session:
    return Session(
        host=wanted["login_unix_socket"] or wanted["login_host"],
        port=wanted["login_port"],
        user=wanted["login_user"],
        password=wanted["login_password"],
        dbname=wanted["login_db"],
        sslmode="verify-full" if wanted["ca_file"] and not wanted["login_unix_socket"] else "",
        sslrootcert=wanted["ca_file"],
        target_session_attrs="" if wanted["login_unix_socket"] or "," not in wanted["login_host"] else "read-write",
        application_name="sutazai.platform.postgresql_partition",
        connect_timeout=10,
    )


def result(session: Session, wanted: dict, work: Work, diff: bool) -> dict:
    told = {
        "changed": bool(work.steps),
        "steps": [{"says": step.says, "sql": step.sql, "lock": step.lock} for step in work.steps],
        "partitions": report(session, wanted, wanted["exact_rows"]),
        "default_rows": default_rows(work.table),
        "conversion": {"resumed": work.resumed, **work.figures} if work.conversion else {},
    }
    if diff and work.steps:
        told["diff"] = {"prepared": "".join(f"-- {step.says}\n{step.sql}\n" for step in work.steps)}
    return told


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    wanted = module.params
    if driver is None:
        module.fail_json(msg=missing_required_lib("psycopg or psycopg2"), exception=DRIVER_ERROR)
    limits = Limits(wanted["lock_timeout_ms"], wanted["max_lock_ms"], wanted["lock_wait_seconds"])
    try:
        session = connect(wanted)
        if session.replica():
            module.fail_json(
                msg=f"The server is a replica, where nothing can be changed: run this on the leader (asked as {getpass.getuser()} for {wanted['login_db']})"
            )
        work = prepare(session, wanted)
        if work.steps and not module.check_mode:
            work = perform(session, wanted, limits)
        told = result(session, wanted, work, module._diff)
        left = told["default_rows"].get("no declared range")
        if left:
            module.warn(f"The default partition of {wanted['table']} holds {left} rows for which no range is declared")
        session.close()
    except Refused as refusal:
        module.fail_json(msg=str(refusal), problems=refusal.problems)
    except DatabaseError as error:
        module.fail_json(msg=str(error))
    except driver.Error as error:
        module.fail_json(
            msg=f"PostgreSQL refused a query about {wanted['table']} in {wanted['login_db']}: {str(error).strip()}"
        )
    module.exit_json(**told)


if __name__ == "__main__":
    main()
