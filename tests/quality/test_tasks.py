"""Rules of CONTRIBUTING.md that no linter knows."""

from __future__ import annotations

import re

import pytest

from tests.quality.project import ansible_files, roles, text_of, tracked

MAXIMUM_LINES = 120
INJECTED_FACT = re.compile(
    r"\bansible_(?:distribution|os_family|hostname|fqdn|default_ipv4|processor|memtotal|memory_mb"
    r"|virtualization|architecture|kernel|service_mgr|pkg_mgr|interfaces|all_ipv4|nodename|date_time)\w*"
)
SUPPRESSION = re.compile(r"#\s*(noqa|nosec|pylint: disable|shellcheck disable|yamllint disable|type: ignore)\S*(.*)")
TEMPLATES = tuple(name for name in tracked() if name.startswith("roles/") and name.endswith(".j2"))


@pytest.mark.parametrize("name", ansible_files())
def test_a_tasks_file_has_at_most_120_lines(name):
    assert len(text_of(name).splitlines()) <= MAXIMUM_LINES


@pytest.mark.parametrize("name", [*ansible_files(), *TEMPLATES])
def test_facts_are_read_from_ansible_facts_only(name):
    found = []
    for number, line in enumerate(text_of(name).splitlines(), 1):
        if not line.lstrip().startswith("#") and INJECTED_FACT.search(line):
            found.append(f"{name}:{number}: {line.strip()}")
    assert found == []


@pytest.mark.parametrize("name", ansible_files())
def test_errors_are_never_ignored_wholesale(name):
    assert not re.search(r"^\s*(ignore_errors:|failed_when:\s*false\b)", text_of(name), re.MULTILINE)


@pytest.mark.parametrize("name", ansible_files())
def test_a_result_that_is_overruled_says_why(name):
    """`changed_when: false` has a comment, on its line or above."""
    lines = text_of(name).splitlines()
    found = []
    for index, line in enumerate(lines):
        if re.match(r"\s*changed_when:\s*false\s*$", line):
            above = next((text for text in reversed(lines[:index]) if not re.match(r"\s*\w+: \w+$", text)), "")
            if not above.lstrip().startswith("#"):
                found.append(f"{name}:{index + 1}: add a comment that says why")
    assert found == []


@pytest.mark.parametrize("name", [name for name in tracked() if name.endswith((".yml", ".yaml", ".py", ".j2", ".sh"))])
def test_a_suppressed_check_has_a_sentence(name):
    if name == "tests/quality/test_tasks.py":
        pytest.skip("names the markers that it looks for")
    lines = text_of(name).splitlines()
    found = []
    for index, line in enumerate(lines):
        marker = SUPPRESSION.search(line)
        if marker:
            # The sentence is behind the marker, or a comment above it or below.
            behind = re.sub(r"^[:=]?\s*[\w,\[\]-]+", "", marker[2])
            beside = [
                text for text in (*lines[max(index - 1, 0) : index], *lines[index + 1 : index + 2]) if "#" in text
            ]
            if len(re.findall(r"[A-Za-z][a-z']+", behind)) < 2 and not beside:
                found.append(f"{name}:{index + 1}: {line.strip()}")
    assert found == []


@pytest.mark.parametrize("role", roles())
def test_a_role_reads_no_other_roles_variables(role):
    others = [other for other in roles() if other != role]
    found = []
    for name in tracked():
        if not name.startswith(f"roles/{role}/") or not name.endswith((".yml", ".j2")):
            continue
        for number, line in enumerate(text_of(name).splitlines(), 1):
            for other in others:
                if re.search(rf"(?<![\w.]){other}_[a-z]\w*", line) and f"__{role}_" not in line:
                    found.append((name, number, other, line.strip()))
    found = [item for item in found if not passes_on(role, *item)]
    assert found == []


def passes_on(role, name, number, other, line):
    """Setting a variable for an included role is how roles talk; so is naming a module, a group, a service or a file."""
    if line.startswith("#") or not re.search(
        rf"{{{{[^}}]*(?<![\w.'\"\[/-]){other}_[a-z]\w*|when:.*(?<![\w.'\"\[/-]){other}_[a-z]", line
    ):
        return True
    return any(longer.startswith(other) and longer == role for longer in roles())
