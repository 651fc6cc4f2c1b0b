"""Checks the whole inventory without touching a host. The rules are in module_utils/preflight; this collects what they look at."""

from __future__ import annotations

import glob
import os
import re
from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version
from ansible.utils.display import Display
from ansible_collections.sutazai.platform.plugins.module_utils.preflight import inventory as tier
from ansible_collections.sutazai.platform.plugins.module_utils.preflight import sources
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.model import (
    CHOSEN,
    KNOWN_ROLES,
    ROLE_CHOICES,
    SETTINGS,
    Host,
    Inventory,
    RoleSpec,
    message,
    owning_role,
    roles_of,
)
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.plan import plan
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.roles import read_roles

try:
    from ansible._internal._datatag._tags import Origin
except ImportError:  # values carry no origin before ansible-core 2.19
    Origin = None

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
display = Display()

#: An expression that only names another variable; resolved without compiling it, which matters with a thousand hosts.
REFERENCE = re.compile(r"^\{\{\s*([a-zA-Z_]\w*)\s*\}\}$")


class Collector:
    """Builds the rules' model from Ansible's variables."""

    def __init__(
        self, templar: Any, loader: Any, task_vars: dict, roles: tuple[dict[str, RoleSpec], frozenset[str]]
    ) -> None:
        self.templar, self.loader, self.task_vars = templar, loader, task_vars
        self.hostvars = task_vars["hostvars"]
        self.here = os.getcwd()
        self.roles, self.platform_names = roles
        self.prefixes = tuple(f"{role}_" for role in {*KNOWN_ROLES, *self.roles}) + ("platform_", "preflight_")
        self.shared_defaults: dict[tuple, tuple[dict, dict]] = {}

    def shown(self, path: str) -> str:
        relative = os.path.relpath(path, self.here)
        return path if relative.startswith("../..") else relative

    def inventory(self) -> Inventory:
        groups = {str(name): [str(host) for host in hosts] for name, hosts in self.task_vars["groups"].items()}
        belongs: dict[str, list[str]] = {}
        for group, members in groups.items():
            for host in members:
                belongs.setdefault(host, []).append(group)
        names = [
            name for name in groups.get("all", []) if name != "localhost" or set(belongs[name]) - {"all", "ungrouped"}
        ]
        given = [str(source) for source in self.task_vars.get("ansible_inventory_sources") or []]
        files = sources.inventory_files(given)
        host_entries, group_entries = sources.read(files, {file: self.shown(file) for file in files})
        result = Inventory(
            groups=groups,
            roles=self.roles,
            host_entries=host_entries,
            group_entries=group_entries,
            sources=[self.shown(source) for source in given if "," not in source],
            platform_names=self.platform_names,
            example_values=self.example_values(given),
            ansible_version=ansible_version,
        )
        for name in names:
            result.hosts[name] = self.host(name, tuple(belongs[name]))
        first = next(iter(result.hosts.values()), None)
        result.settings = {name: first.values[name] for name in SETTINGS if first and name in first.values}
        return result

    def host(self, name: str, groups: tuple[str, ...]) -> Host:
        everything = self.hostvars.raw_get(name)
        facts = everything.get("ansible_facts")
        templar = self.templar.copy_with_new_env(
            available_variables={"ansible_facts": {}, **everything, "hostvars": self.hostvars}
        )
        roles = roles_of(
            groups,
            self.roles,
            repository=bool(self.task_vars["groups"].get("backup")),
            chosen=chosen_roles(everything, templar),
        )
        host = Host(name, groups, roles, facts=facts if isinstance(facts, dict) else {})
        for key, value in everything.items():
            if key == "ansible_host" or (key.startswith(self.prefixes) and key not in self.roles):
                host.raw[str(key)] = value
                origin = self.origin(key, value)
                if origin:
                    host.origins[str(key)] = origin
        for key, value in host.raw.items():
            try:
                host.values[key] = evaluated(value, everything, templar)
            except Exception as error:  # whatever an expression or a lookup raises is the finding
                if not about_facts(value, error):
                    host.failed[key] = reason(error)
        alike = (
            groups,
            roles,
            tuple(sorted(host.raw)),
        )  # their defaults differ in what no rule looks at, such as addresses
        if alike not in self.shared_defaults:
            self.shared_defaults[alike] = self.role_defaults(host, everything)
        host.defaults, host.missing = self.shared_defaults[alike]
        return host

    def role_defaults(self, host: Host, everything: dict) -> tuple[dict[str, Any], dict[str, str]]:
        """Values of the role defaults that the inventory leaves alone, and what they need that isn't there."""
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for role in host.roles:
            spec: RoleSpec = self.roles[role]
            variables = {
                "ansible_facts": {},
                **spec.defaults,
                **everything,
                **spec.variables,
                "hostvars": self.hostvars,
            }
            templar = self.templar.copy_with_new_env(available_variables=variables)
            for name, value in spec.defaults.items():
                if name in host.raw:
                    continue
                if isinstance(value, str) and re.search(r"\b(lookup|query|q)\s*\(", value):
                    continue  # may write or ask something; evaluated when the role runs
                try:
                    values[str(name)] = evaluated(value, variables, templar)
                except Exception as error:
                    needed = undefined_name(error)
                    known = needed and (needed.startswith("platform_") or owning_role(needed, self.roles))
                    if known and needed not in host.raw and not about_facts(value, error):
                        missing.setdefault(needed, str(name))
        return values, missing

    def origin(self, key: Any, value: Any) -> str:
        tag = Origin and (Origin.get_tag(value) or Origin.get_tag(key))
        if not tag:
            return ""
        if tag.path:
            return self.shown(tag.path) + (f":{tag.line_num}" if tag.line_num else "")
        return str(tag.description or "").strip("<>")

    def example_values(self, given: list[str]) -> frozenset[str]:
        """Values of example files beside the inventory and in the collection: whoever copied one must change them."""
        folders = [
            source if os.path.isdir(source) else os.path.dirname(source) for source in given if "," not in source
        ]
        folders.append(os.path.join(ROOT, "inventories"))
        patterns = [os.path.join(folder, "**", "*example*.yml") for folder in folders]
        files = {file for pattern in patterns for file in glob.glob(pattern, recursive=True)}
        values: set[str] = set()
        for file in sorted(files):
            try:
                content = self.loader.load_from_file(file)
            except AnsibleError:
                continue
            values |= (
                {str(value) for key, value in content.items() if isinstance(value, str)}
                if isinstance(content, dict)
                else set()
            )
        return frozenset(value for value in values if value and "{{" not in value)


def evaluated(value: Any, variables: dict, templar: Any) -> Any:
    while isinstance(value, str) and (reference := REFERENCE.match(value)) and reference.group(1) in variables:
        value = variables[reference.group(1)]
    if isinstance(value, (str, dict, list, tuple)) and "{" in str(value):
        return templar.template(value)
    return value


def chosen_roles(everything: dict, templar: Any) -> dict[str, str]:
    """What the variables say that choose between roles. What can't be evaluated is reported as such, and here as if it weren't set."""
    chosen = {}
    for variable in sorted(set(ROLE_CHOICES.values()) & set(everything)):
        try:
            chosen[variable] = str(evaluated(everything[variable], everything, templar))
        except Exception:  # as with every other variable: whatever it raises
            chosen[variable] = CHOSEN[variable]
    return chosen


def reason(error: Exception) -> str:
    """The innermost sentence of a templating error, on one line."""
    while error.__cause__ is not None and undefined_name(error) is None:
        error = error.__cause__
    text = " ".join(str(getattr(error, "message", "") or error).split())
    match = re.search(r"'[\w.]+' is undefined", text)
    return (match.group(0) if match else text).rstrip(".")[:300]


def undefined_name(error: BaseException | None) -> str | None:
    while error is not None:
        match = re.search(r"'(\w+)' is undefined", str(error))
        if match:
            return match.group(1)
        error = error.__cause__
    return None


def about_facts(value: Any, error: BaseException) -> bool:
    """Facts aren't known yet; what depends on them is left to the hosts' own check."""
    texts = [str(value)]
    while error is not None:
        texts.append(str(error))
        error = error.__cause__
    return any("ansible_facts" in text or "ansible_local" in text for text in texts)


class ActionModule(ActionBase):
    _requires_connection = False
    _VALID_ARGS = frozenset({"roles_directory", "details"})
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        result = super().run(tmp, task_vars)
        roles_directory = self._task.args.get("roles_directory") or os.path.join(ROOT, "roles")
        roles = read_roles(roles_directory, lambda path: self._loader.load_from_file(path, trusted_as_template=True))
        inventory = Collector(self._templar, self._loader, task_vars or {}, roles).inventory()
        problems, warnings = tier.check(inventory)
        for warning in warnings:
            where = f"{warning.where}, on {', '.join(warning.hosts)}" if warning.hosts else warning.where
            display.warning(f"{warning.what} {warning.remedy} ({where})")
        result.update(
            changed=False, hosts=len(inventory.hosts), problem_count=len(problems), warning_count=len(warnings)
        )
        if self._task.args.get("details"):  # for programs; a person has all of it in the message
            result.update(
                problems=[asdict(problem) for problem in problems], cautions=[asdict(problem) for problem in warnings]
            )
        if problems:
            result.update(failed=True, msg=message(problems, "The inventory can't be used", len(inventory.hosts)))
        else:
            result["members"] = {host.name: host.address for host in inventory.hosts.values()}
            result["plan"] = {host.name: plan(inventory, host) for host in inventory.hosts.values()}
            result["clock_skew_limit_seconds"] = inventory.setting("preflight_clock_skew_limit_seconds")
            result["msg"] = f"The inventory of {len(inventory.hosts)} hosts is sound."
        return result
