from __future__ import annotations

from benchmarks import rotation
from benchmarks.failover import ROWS


def test_the_way_back_accepts_what_is_in_force_now():
    first = {"redis_admin_password": "old", "redis_replication_password": "old", "redis_application_password": "old"}
    now = dict.fromkeys(first, "new")
    back = rotation.back(first, now, "redis")
    assert {name: back[name] for name in first} == first
    assert back["redis_previous_admin_password"] == "new"
    assert rotation.back({"rabbitmq_admin_password": "old"}, {"rabbitmq_admin_password": "new"}, "rabbitmq") == {
        "rabbitmq_admin_password": "old"
    }


def test_what_a_run_did_is_read_from_its_output():
    output = "TASK [one] ****\nok: [a]\nTASK [two] ****\nPLAY RECAP ***\na : ok=2 changed=3 unreachable=0 failed=0\nb : ok=2 changed=1 unreachable=0 failed=0\n"
    assert rotation.last_task(output) == "two"
    assert rotation.changes(output) == 4
    assert rotation.last_task("") == "no task"


def test_every_row_names_what_can_be_rotated():
    rotated = [row for row in ROWS.values() if row.secrets]
    assert {row.secrets for row in rotated} <= set(rotation.COMPONENTS)
    assert all(row.command([])[-1] == row.secrets for row in rotated)
