"""What a playbook would install on which hosts, read from the very tasks that would do it. Pure functions over YAML.

Nothing here knows a component: a role that installs packages with `sutazai.platform.packages` or `ansible.builtin.apt`,
or binaries with the `artifact` role is found, whatever its name is.
"""

from __future__ import annotations

import os

APT = ("ansible.builtin.apt", "apt", "ansible.builtin.package", "package")
PACKAGES = "sutazai.platform.packages"  # of this collection: it installs nothing that is only recommended
ROLE = ("ansible.builtin.include_role", "ansible.builtin.import_role", "include_role", "import_role")
IMPORT_PLAYBOOK = ("ansible.builtin.import_playbook", "import_playbook")
# What would fetch something from elsewhere in a way that no bundle can serve.
OTHER_DOWNLOADS = (
    "ansible.builtin.get_url",
    "ansible.builtin.pip",
    "ansible.builtin.git",
    "ansible.builtin.apt_repository",
    "ansible.builtin.deb822_repository",
    "community.docker.docker_image_pull",
)
BLOCKS = ("block", "rescue", "always")
ARTIFACT_ROLE = "artifact"


def short_name(role):
    return str(role).rpartition(".")[2]


def flatten(tasks):
    """All tasks of a list, those in blocks included, each with the conditions and variables of its blocks."""
    for task in tasks or []:
        if not isinstance(task, dict):
            continue
        inner = [key for key in BLOCKS if key in task]
        if not inner:
            yield task
            continue
        for key in inner:
            for child in flatten(task[key]):
                merged = dict(child)
                merged["when"] = _as_list(task.get("when")) + _as_list(child.get("when"))
                merged["vars"] = {**(task.get("vars") or {}), **(child.get("vars") or {})}
                yield merged


def _as_list(value):
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _of(task, names):
    return next(((name, task[name]) for name in names if name in task), (None, None))


def wants(tasks):
    """({kind, …} of what is installed, names of roles that are used) by a list of tasks."""
    found, roles = [], []
    for task in flatten(tasks):
        common = {
            "when": _as_list(task.get("when")),
            "vars": task.get("vars") or {},
            "loop": task.get("loop", task.get("with_items")),
            "loop_var": (task.get("loop_control") or {}).get("loop_var", "item"),
            "task": task.get("name", ""),
        }
        module, arguments = _of(task, (*APT, PACKAGES))
        if isinstance(arguments, dict) and arguments.get("state", "present") not in ("absent", "build-dep"):
            packages = arguments.get("name", arguments.get("pkg", arguments.get("package")))
            if packages is not None:
                recommends = module != PACKAGES and arguments.get("install_recommends", True)
                found.append({"kind": "packages", "names": packages, "recommends": recommends, **common})
        _module, arguments = _of(task, ROLE)
        if isinstance(arguments, dict) and "name" in arguments:
            if short_name(arguments["name"]) != ARTIFACT_ROLE:
                roles.append(arguments["name"])
            elif arguments.get("tasks_from", "main").removesuffix(".yml") == "main":
                found.append({"kind": "artifact", **common})
        if "sutazai.platform.artifact" in task and isinstance(task["sutazai.platform.artifact"], dict):
            arguments = {f"artifact_{key}": value for key, value in task["sutazai.platform.artifact"].items()}
            found.append({"kind": "artifact", **common, "vars": {**common["vars"], **arguments}})
        module, arguments = _of(task, OTHER_DOWNLOADS)
        if module:
            found.append({"kind": "other", "module": module, **common})
    return found, roles


def plays_of(path, load):
    """The plays of a playbook, imported ones included, as (hosts pattern, play)."""
    for entry in load(path) or []:
        if not isinstance(entry, dict):
            continue
        _name, imported = _of(entry, IMPORT_PLAYBOOK)
        if imported:
            imported = str(imported)
            if not imported.endswith((".yml", ".yaml")):  # collection.namespace.playbook
                imported = f"{imported.rpartition('.')[2]}.yml"
            yield from plays_of(os.path.join(os.path.dirname(path), imported), load)
        elif "hosts" in entry:
            yield entry["hosts"], entry


def roles_of(play):
    """(tasks of the play itself, names of the roles it uses)."""
    roles = []
    for role in play.get("roles") or []:
        roles.append(role.get("role", role.get("name")) if isinstance(role, dict) else role)
    tasks = [task for key in ("pre_tasks", "tasks", "post_tasks", "handlers") for task in play.get(key) or []]
    found, included = wants(tasks)
    return found, [role for role in roles + included if role]


def read_role(directory, load, majors=()):
    """A role of this collection: what it installs, the roles it uses, its defaults and variables per Debian version."""
    role = {"wants": [], "roles": [], "defaults": {}, "vars": {}, "release_vars": {}}

    def optional(*parts):
        path = os.path.join(directory, *parts)
        return (load(path) or {}) if os.path.exists(path) else {}

    role["defaults"], role["vars"] = optional("defaults", "main.yml"), optional("vars", "main.yml")
    for major in majors:
        role["release_vars"][str(major)] = optional("vars", f"debian-{major}.yml")
    for dependency in (optional("meta", "main.yml") or {}).get("dependencies") or []:
        role["roles"].append(
            dependency.get("role", dependency.get("name")) if isinstance(dependency, dict) else dependency
        )
    for kind in ("tasks", "handlers"):
        for parent, _directories, files in sorted(os.walk(os.path.join(directory, kind))):
            for name in sorted(files):
                if name.endswith((".yml", ".yaml")):
                    found, included = wants(load(os.path.join(parent, name)))
                    role["wants"] += found
                    role["roles"] += included
    return role


def hosts_of(pattern, groups):
    """The hosts of a pattern of groups and hosts with `:`, `,`, `!` and `&`; unknown names are no hosts."""
    chosen = []
    parts = []
    for piece in pattern if isinstance(pattern, (list, tuple)) else [pattern]:
        parts += [part.strip() for part in str(piece).replace(",", ":").split(":") if part.strip()]
    every = groups.get("all", [])
    for part in sorted(parts, key=lambda p: p[0] in "!&"):
        name = part.lstrip("!&")
        members = every if name in ("all", "*") else groups.get(name, [name] if name in every else [])
        if part[0] == "!":
            chosen = [host for host in chosen if host not in members]
        elif part[0] == "&":
            chosen = [host for host in chosen if host in members]
        else:
            chosen += [host for host in members if host not in chosen]
    return chosen


def all_roles(names, read):
    """Those roles and all that they use, each once, the used ones first: {short name: role}."""
    found = {}

    def visit(name):
        name = short_name(name)
        if name in found:
            return
        role = read(name)
        if role is None:
            return
        found[name] = role
        for other in role["roles"]:
            if "{{" not in str(other):
                visit(other)

    for name in names:
        visit(name)
    return found
