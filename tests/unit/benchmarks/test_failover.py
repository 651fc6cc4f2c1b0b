from __future__ import annotations

from benchmarks import failover
from benchmarks.failover import ROWS, median, summary, table


def entry(gap, lost=0, healthy=9.0):
    series = [{"acknowledged": 100, "duplicated": 1}, {"acknowledged": 90, "duplicated": 0}]
    return {
        "longest_gap_seconds": gap,
        "lost": lost,
        "lost_where_allowed": 2,
        "healthy_after_fault_seconds": healthy,
        "load_of_the_machine": [1.5, 1, 1, 2, 2, 2],
        "series": series,
    }


def test_a_row_is_the_median_of_its_runs_and_the_sum_of_its_losses():
    found = summary(ROWS["redis-killed"], [entry(6.0), entry(9.5, lost=1, healthy=None), entry(6.2)])
    assert (found["gap_median_seconds"], found["gap_worst_seconds"], found["within_the_bar"]) == (6.2, 9.5, 2)
    assert (found["lost"], found["lost_where_allowed"], found["duplicated"], found["acknowledged"]) == (1, 6, 3, 570)
    assert found["healthy_median_seconds"] == 9.0 and found["bar_seconds"] == 7


def test_the_median_of_nothing_is_nothing():
    assert median([None]) is None
    assert median([3.0, None, 1.0]) == 2.0


def test_the_table_has_a_line_per_row():
    rows = {name: summary(ROWS[name], [entry(1.0)]) for name in ("redis-killed", "consul-killed")}
    lines = table(rows).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| Redis master killed | 1 | 1.0 s (1.0 s) | ≤ 7 s | 190 | 0 | 2 |")
    assert lines[3].startswith("| Consul leader killed | 1 | 1.0 s (1.0 s) | ≤ 5 s | 190 | 0 |  |")
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_a_restart_and_a_scaling_are_commands(tmp_path, monkeypatch):
    monkeypatch.setattr(failover, "ROOT", tmp_path)
    strategy, restart = ROWS["redis-restart"].command(["a", "b"])[-1].splitlines()
    assert strategy.startswith("export ANSIBLE_STRATEGY=")
    assert restart == "ansible-playbook -i a -i b playbooks/rolling_restart.yml -e rolling_restart_component=redis"
    _strategy, out, back = ROWS["postgresql-scaled"].command(["a"])[-1].splitlines()
    assert out.endswith("postgresql-out.yml site.yml")
    assert back.endswith("postgresql-in.yml playbooks/scale.yml")
    added = (tmp_path / ".cache/benchmarks/postgresql-in.yml").read_text()
    assert "postgresql_removed" in added and "postgresql-4" in added
    assert ROWS["redis-killed"].command(["a"]) == []


def test_a_replaced_host_is_removed_and_made_anew(monkeypatch):
    monkeypatch.setenv("LAB_NAME", "test")
    _strategy, removed, made, put_in = ROWS["redis-replaced"].command(["a"])[-1].splitlines()
    assert removed == "docker rm --force --volumes test-redis-1"
    assert made.startswith("HOSTS=redis-1 ") and made.endswith("-m lab hosts")
    assert put_in == "ansible-playbook -i a playbooks/replace_host.yml -e replace_host=redis-1"
