"""Makes a bundle on the controller; the module of the same name is its documentation."""

from __future__ import annotations

import os

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase
from ansible.template import Templar, trust_as_template
from ansible_collections.sutazai.platform.plugins.module_utils import artifact as artifact_lib
from ansible_collections.sutazai.platform.plugins.module_utils import bundle_build, bundle_contents

ROLES = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__)))), "roles")
ARTIFACT_KEYS = ("name", "version", "sha256", "file", "url", "mirror")


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        result = super().run(tmp, task_vars)
        arguments = self._task.args
        missing = [
            key
            for key in ("playbook", "directory", "cache", "name", "releases", "architectures")
            if not arguments.get(key)
        ]
        if missing:
            raise AnsibleActionFail(f"These options are missing: {', '.join(missing)}.")
        try:
            wanted = self._collect(arguments, task_vars)
            result.update(
                changed=True,
                artifacts=sorted(wanted["artifacts"]),
                packages={
                    name: sorted({p for names, _r in sets for p in names}) for name, sets in wanted["packages"].items()
                },
                not_bundled=sorted(wanted["other"]),
            )
            if not self._task.check_mode:
                result.update(self._build(arguments, wanted))
        except (bundle_build.BuildError, artifact_lib.ArtifactError) as error:
            raise AnsibleActionFail(str(error)) from error
        return result

    # --- what is wanted -------------------------------------------------------------------------------------------

    def _load(self, path):
        return self._loader.load_from_file(path, cache="none", trusted_as_template=True)

    def _collect(self, arguments, task_vars):
        groups, hostvars = dict(task_vars["groups"]), task_vars["hostvars"]
        majors = sorted({bundle_build.MAJORS.get(release, "") for release in arguments["releases"].values()} - {""})
        cache = {}

        def read(name):
            if name not in cache:
                directory = os.path.join(ROLES, name)
                cache[name] = (
                    bundle_contents.read_role(directory, self._load, majors) if os.path.isdir(directory) else None
                )
            return cache[name]

        per_host = {}
        for pattern, play in bundle_contents.plays_of(os.path.abspath(arguments["playbook"]), self._load):
            own, roles = bundle_contents.roles_of(play)
            for host in bundle_contents.hosts_of(pattern, groups):
                entry = per_host.setdefault(host, {"own": [], "roles": []})
                entry["own"] += [want for want in own if want not in entry["own"]]
                entry["roles"] += [role for role in roles if role not in entry["roles"]]
        wanted = {"artifacts": {}, "packages": {}, "other": set()}
        for host, entry in sorted(per_host.items()):
            self._collect_host(host, entry, arguments, hostvars.raw_get(host), read, wanted)
        return wanted

    def _collect_host(self, host, entry, arguments, variables, read, wanted):
        release, architecture = arguments["releases"].get(host), arguments["architectures"].get(host)
        if release not in bundle_build.MAJORS or architecture not in bundle_build.MACHINES:
            raise bundle_build.BuildError(
                f"{host}: no bundle can be made for {release} ({architecture}); supported are "
                f"{', '.join(bundle_build.MAJORS)} and {', '.join(bundle_build.MACHINES)}. Set bundle_release and bundle_architecture for it."
            )
        facts = {
            "distribution": "Debian",
            "distribution_release": release,
            "distribution_major_version": bundle_build.MAJORS[release],
            "distribution_version": bundle_build.MAJORS[release],
            "os_family": "Debian",
            "architecture": bundle_build.MACHINES[architecture],
            "pkg_mgr": "apt",
            "service_mgr": "systemd",
            "hostname": host,
            "virtualization_role": "host",
            "virtualization_type": "kvm",
        }
        variables = {
            **variables,
            "ansible_facts": {**variables.get("ansible_facts", {}), **facts},
            "ansible_check_mode": False,
        }
        variables = {**variables, "inventory_hostname": host}
        packages = {True: set(), False: set()}
        roles = bundle_contents.all_roles(entry["roles"], read)
        sources = [
            ("the play", {"wants": entry["own"], "defaults": {}, "vars": {}, "release_vars": {}}),
            *roles.items(),
        ]
        for name, role in sources:
            scope = {
                **role["defaults"],
                **variables,
                **role["vars"],
                **role["release_vars"].get(bundle_build.MAJORS[release], {}),
            }
            for want in role["wants"]:
                for extra in self._items(want, scope):
                    self._collect_want(host, name, want, {**scope, **extra}, packages, wanted)
        sets = wanted["packages"].setdefault(f"{release}-{architecture}", set())
        # One resolution per kind of host: what is never on one host together need not fit together.
        for recommends, names in packages.items():
            if names:
                sets.add((frozenset(names), recommends))

    def _items(self, want, scope):
        if want["loop"] is None:
            return [{}]
        try:
            items = Templar(self._loader, variables=scope).template(want["loop"])
        except AnsibleError:
            return [{}]
        return [{want["loop_var"]: item} for item in items]

    def _collect_want(self, host, role, want, scope, packages, wanted):
        scope = {**scope, **want["vars"]}
        templar = Templar(self._loader, variables=scope)
        for condition in want["when"]:
            try:
                if not templar.evaluate_conditional(condition):
                    return
            except AnsibleError:
                continue  # only a host can tell: rather too much in the bundle than too little
        where = f"{role} ({want['task'] or want['kind']}) on {host}"
        try:
            if want["kind"] == "packages":
                names = templar.template(want["names"])
                names = [names] if isinstance(names, str) else list(names)
                recommends = str(templar.template(want["recommends"])).lower() in ("true", "yes", "1")
                packages[recommends].update(
                    str(part).strip() for name in names for part in str(name).split(",") if part.strip()
                )
            elif want["kind"] == "artifact":
                self._collect_artifact(where, templar, want, scope, wanted)
            else:
                wanted["other"].add(f"{role}: {want['task']} ({want['module']})")
        except AnsibleUndefinedVariable as error:
            raise bundle_build.BuildError(
                f"What {where} installs depends on a variable that isn't known without connecting to the host: {error}"
            ) from error

    def _collect_artifact(self, where, templar, want, scope, wanted):
        found = {key: str(templar.template(want["vars"].get(f"artifact_{key}", "")) or "") for key in ARTIFACT_KEYS}
        found["mirror"] = found["mirror"] or str(
            templar.template(trust_as_template("{{ platform_artifact_mirror | default('', true) }}"))
        )
        found["file"] = found["file"] or os.path.basename(found["url"].split("?")[0])
        found["sha256"] = found["sha256"].lower()
        problems = artifact_lib.check_input(
            found["name"], found["version"], found["sha256"], found["file"], "", "/", "", found["mirror"], found["url"]
        )
        if problems:
            raise bundle_build.BuildError(f"{where}: {' '.join(problems)}")
        known = wanted["artifacts"].setdefault(found["file"], found)
        if known["sha256"] != found["sha256"]:
            raise bundle_build.BuildError(
                f"{found['file']} is wanted with two checksums, {known['sha256']} and {found['sha256']}."
            )

    # --- making it ------------------------------------------------------------------------------------------------

    def _build(self, arguments, wanted):
        cache, directory = os.path.abspath(arguments["cache"]), os.path.abspath(arguments["directory"])
        os.makedirs(os.path.join(cache, "artifacts"), mode=0o755, exist_ok=True)
        os.makedirs(directory, mode=0o755, exist_ok=True)
        files, closures, resolved = {}, {}, []
        for name, artifact in sorted(wanted["artifacts"].items()):
            path = self._fetch(artifact, os.path.join(cache, "artifacts"))
            files[f"artifacts/{name}"] = (path, {"name": artifact["name"], "version": artifact["version"]})
        own_release, own = bundle_build.own_sources()
        for target, sets in sorted(wanted["packages"].items()):
            release, _dash, architecture = target.partition("-")
            sources = (arguments.get("apt_sources") or {}).get(release) or bundle_build.sources_for(
                release, own_release, own
            )
            if not sources:
                raise bundle_build.BuildError(
                    f"No apt sources are known for {release}: this controller isn't Debian or has none of its archive. "
                    f"Set bundle_apt_sources: {{{release}: ['deb URL {release} main', …]}}."
                )
            apt = bundle_build.Apt(
                os.path.join(cache, "apt", target), release, architecture, sources, arguments.get("apt_proxy") or ""
            )
            self._display.display(f"Reading the package lists of {target}")
            apt.update()
            names = {}
            for packages, recommends in sorted(sets, key=lambda entry: (sorted(entry[0]), entry[1])):
                names.update(apt.closure(packages, recommends))
                resolved.append((apt, packages, recommends))
            total = sum(entry["size"] for entry in names.values())
            artifact_lib.require_space(directory, 3 * total, "Making the bundle")
            self._display.display(
                f"Downloading {len(names)} packages of {target} ({total / 1e6:.0f} MB), unless they are here"
            )
            for owner, packages, recommends in resolved:
                if owner is apt:
                    apt.download(packages, recommends)
            path = os.path.join(cache, f"packages-{target}.tar")
            versions = bundle_build.write_repository(path, [apt.path(name) for name in names])
            files[f"packages/{target}.tar"] = (
                path,
                {"release": release, "architecture": architecture, "versions": versions},
            )
            closures[target] = len(names)
        path, manifest = bundle_build.write_bundle(
            directory, arguments["name"], files, {"playbook": os.path.basename(arguments["playbook"])}
        )
        return {"path": path, "bytes": os.path.getsize(path), "closures": closures, "files": len(manifest["files"])}

    def _fetch(self, artifact, directory):
        path = os.path.join(directory, artifact["file"])
        if os.path.exists(path) and artifact_lib.sha256_of(path) == artifact["sha256"]:
            return path
        url = artifact_lib.source_url(artifact["file"], artifact["mirror"], artifact["url"])
        self._display.display(f"Downloading {artifact['file']}")
        try:
            with open(f"{path}.part", "wb") as target:
                answer = open_url(url, timeout=60, http_agent="sutazai.platform")
                while chunk := answer.read(artifact_lib.CHUNK_BYTES):
                    target.write(chunk)
        except OSError as error:
            raise bundle_build.BuildError(f"{artifact['file']} could not be downloaded from {url}: {error}") from error
        got = artifact_lib.sha256_of(f"{path}.part")
        if got != artifact["sha256"]:
            raise bundle_build.BuildError(artifact_lib.mismatch(artifact["file"], artifact["sha256"], got, url))
        os.replace(f"{path}.part", path)
        return path
