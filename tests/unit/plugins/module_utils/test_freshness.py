"""What counts as newer than a running process."""

import os

from ansible_collections.sutazai.platform.plugins.module_utils.freshness import modified, newer_than


def aged(path, when):
    os.utime(path, (when, when), follow_symlinks=False)
    return str(path)


def test_a_missing_path_is_never_newer(tmp_path):
    assert modified(str(tmp_path / "none")) is None
    assert newer_than([str(tmp_path / "none")], 0.0) == []


def test_a_file_is_newer_only_when_it_changed_after_the_moment(tmp_path):
    path = tmp_path / "conf"
    path.write_text("x")
    aged(path, 1000)
    assert newer_than([str(path)], 999.9) == [str(path)]
    assert newer_than([str(path)], 1000.0) == []


def test_a_switched_link_counts_although_its_target_is_old(tmp_path):
    target, link = tmp_path / "consul-1", tmp_path / "consul"
    target.write_text("x")
    aged(target, 10)
    link.symlink_to(target)
    aged(link, 1000)
    assert newer_than([str(link)], 500) == [str(link)]


def test_a_changed_target_counts_although_the_link_is_old(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("x")
    link.symlink_to(target)
    aged(link, 10)
    aged(target, 1000)
    assert newer_than([str(link)], 500) == [str(link)]


def test_a_directory_is_as_young_as_its_youngest_file(tmp_path):
    child = tmp_path / "a.conf"
    child.write_text("x")
    aged(child, 1000)
    aged(tmp_path, 10)
    assert newer_than([str(tmp_path)], 500) == [str(tmp_path)]


def test_order_is_kept(tmp_path):
    paths = [tmp_path / name for name in "cab"]
    for path in paths:
        path.write_text("x")
    assert newer_than([str(path) for path in paths], 0.0) == [str(path) for path in paths]
