"""Argument specs and defaults say the same, in both directions, for every entry point of every role."""

from __future__ import annotations

import pytest
import yaml

from tests.quality.project import ROLES, load_yaml, roles

ENTRY_POINTS = [
    (role, entry) for role in roles() for entry in load_yaml(ROLES / role / "meta/argument_specs.yml")["argument_specs"]
]
TYPES = {"bool", "bytes", "bits", "dict", "float", "int", "json", "list", "path", "raw", "sid", "str"}


def spec_of(role, entry):
    return load_yaml(ROLES / role / "meta/argument_specs.yml")["argument_specs"][entry]


def defaults_of(role):
    path = ROLES / role / "defaults/main.yml"
    return (load_yaml(path) or {}) if path.exists() else {}


@pytest.mark.parametrize("role", roles())
def test_every_default_is_an_option_of_some_entry_point(role):
    specs = load_yaml(ROLES / role / "meta/argument_specs.yml")["argument_specs"]
    known = {name for entry in specs.values() for name in entry.get("options") or {}}
    assert sorted(set(defaults_of(role)) - known) == [], (
        "defaults/main.yml has variables that the spec doesn't describe"
    )


@pytest.mark.parametrize("role", roles())
def test_defaults_are_in_the_order_of_the_spec(role):
    specs = load_yaml(ROLES / role / "meta/argument_specs.yml")["argument_specs"]
    order = list(dict.fromkeys(name for entry in specs.values() for name in entry.get("options") or {}))
    defaults = [name for name in defaults_of(role) if name in order]
    assert defaults == sorted(defaults, key=order.index)


@pytest.mark.parametrize(("role", "entry"), ENTRY_POINTS)
def test_an_option_is_required_exactly_when_it_has_no_default(role, entry):
    defaults = defaults_of(role)
    wrong = []
    for name, option in (spec_of(role, entry).get("options") or {}).items():
        required = option.get("required", False)
        if required and (name in defaults or "default" in option):
            wrong.append(f"{name} is required but has a default")
        if "default" in option and name not in defaults:
            wrong.append(f"{name} has a default in the spec but none in defaults/main.yml")
    assert wrong == []


@pytest.mark.parametrize(("role", "entry"), ENTRY_POINTS)
def test_a_default_in_the_spec_is_the_real_one(role, entry):
    defaults = defaults_of(role)
    wrong = []
    for name, option in (spec_of(role, entry).get("options") or {}).items():
        if "default" not in option or name not in defaults:
            continue
        if same(option["default"]) != same(defaults[name]):
            wrong.append(f"{name}: {option['default']!r} in the spec, {defaults[name]!r} in defaults/main.yml")
    assert wrong == []


def same(value):
    """White space in a template is layout."""
    return " ".join(value.split()) if isinstance(value, str) else value


@pytest.mark.parametrize(("role", "entry"), ENTRY_POINTS)
def test_a_default_has_the_type_of_its_option(role, entry):
    defaults = defaults_of(role)
    wrong = []
    expected = {"bool": bool, "dict": dict, "int": int, "list": list, "str": str, "path": str}
    for name, option in (spec_of(role, entry).get("options") or {}).items():
        value = defaults.get(name)
        if value is None or (isinstance(value, str) and "{{" in value):
            continue
        wanted = expected.get(option.get("type"))
        if wanted and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
            wrong.append(f"{name} is {type(value).__name__}, not {option['type']}")
        if "choices" in option and not isinstance(value, list) and value not in option["choices"]:
            wrong.append(f"{name}: {value!r} is not among its choices")
    assert wrong == []


@pytest.mark.parametrize(("role", "entry"), ENTRY_POINTS)
def test_every_option_has_a_type_and_a_description(role, entry):
    spec = spec_of(role, entry)
    wrong = [] if spec.get("short_description") else ["the entry point has no short_description"]

    def walk(options, above):
        for name, option in (options or {}).items():
            where = f"{above}{name}"
            if option.get("type") not in TYPES:
                wrong.append(f"{where}: type {option.get('type')!r}")
            if not option.get("description"):
                wrong.append(f"{where}: no description")
            if option.get("type") == "list" and "elements" not in option:
                wrong.append(f"{where}: a list without elements")
            walk(option.get("options"), f"{where}.")

    walk(spec.get("options"), "")
    assert wrong == []


@pytest.mark.parametrize("role", roles())
def test_every_entry_point_is_a_tasks_file_and_public_variables_have_the_roles_prefix(role):
    specs = load_yaml(ROLES / role / "meta/argument_specs.yml")["argument_specs"]
    missing = [entry for entry in specs if not (ROLES / role / f"tasks/{entry}.yml").exists()]
    assert missing == []
    names = {name for entry in specs.values() for name in entry.get("options") or {}} | set(defaults_of(role))
    assert sorted(name for name in names if not name.startswith(f"{role}_")) == []


@pytest.mark.parametrize("role", roles())
def test_vars_and_registered_names_are_private(role):
    wrong = []
    for path in (ROLES / role / "vars").glob("*.yml"):
        wrong += [f"{path.name}: {name}" for name in load_yaml(path) or {} if not name.startswith(f"__{role}_")]
    for path in (ROLES / role / "tasks").rglob("*.yml"):
        for node in walk_tasks(yaml.safe_load(path.read_text())):
            name = node.get("register")
            if name and not name.startswith(f"__{role}_"):
                wrong.append(f"{path.name}: register: {name}")
    assert wrong == []


def walk_tasks(tasks):
    for task in tasks or []:
        yield task
        for key in ("block", "rescue", "always"):
            yield from walk_tasks(task.get(key))
