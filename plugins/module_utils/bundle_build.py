"""Making a bundle on a controller with network: resolve and download packages, verify, write the tarball."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile

from ansible_collections.sutazai.platform.plugins.module_utils.artifact import sha256_of
from ansible_collections.sutazai.platform.plugins.module_utils.bundle_file import FORMAT, MANIFEST

MAJORS = {"bookworm": "12", "trixie": "13"}
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class BuildError(Exception):
    """Something a person has to be told."""


def _deb822(text):
    for stanza in re.split(r"\n\s*\n", text):
        fields, key = {}, None
        for line in stanza.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t" and key:
                fields[key] += " " + line.strip()
            elif ":" in line:
                key, _colon, value = line.partition(":")
                key = key.strip().lower()
                fields[key] = value.strip()
        if fields:
            yield fields


def sources_for(release, own_release, files):
    """One-line apt sources of `release`: a Debian host's own (`files`: {name: text}) with the release exchanged."""
    found = []

    def add(uri, suite, components, options):
        same = re.fullmatch(rf"{re.escape(own_release)}(-updates|-security|/updates)?", suite)
        if same and "main" in components:
            shown = f"[{' '.join(options)}] " if options else ""
            found.append(f"deb {shown}{uri} {release}{same[1] or ''} {' '.join(components)}")

    for name, text in sorted(files.items()):
        if name.endswith(".sources"):
            for fields in _deb822(text):
                if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
                    continue
                key = fields.get("signed-by", "")
                options = [f"signed-by={key}"] if key.startswith("/") else []
                for uri in fields.get("uris", "").split():
                    for suite in fields.get("suites", "").split():
                        add(uri, suite, fields.get("components", "").split(), options)
            continue
        for line in text.splitlines():
            match = re.match(r"^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s+(.+?)\s*(?:#.*)?$", line)
            if match:
                options = [option for option in (match[1] or "").split() if option.startswith("signed-by=")]
                add(match[2], match[3], match[4].split(), options)
    return list(dict.fromkeys(found))


def own_sources():
    """This machine's release and its apt sources, to be had for other releases from the same place."""
    release, files = "", {}
    try:
        with open("/etc/os-release", encoding="utf-8") as handle:
            match = re.search(r"^VERSION_CODENAME=(\S+)", handle.read(), re.MULTILINE)
            release = match[1] if match else ""
        places = ["/etc/apt/sources.list"]
        if os.path.isdir("/etc/apt/sources.list.d"):
            places += [os.path.join("/etc/apt/sources.list.d", name) for name in os.listdir("/etc/apt/sources.list.d")]
        for path in places:
            if path.endswith((".list", ".sources")) and os.path.exists(path):
                with open(path, encoding="utf-8") as handle:
                    files[path] = handle.read()
    except OSError:
        pass
    return release, files


class Apt:
    """apt for a release that isn't this machine's, with nothing installed, in a directory of its own; needs no root."""

    def __init__(self, directory, release, architecture, sources, proxy=""):
        self.directory, self.release, self.architecture = directory, release, architecture
        for name in ("etc", "state/lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(directory, name), exist_ok=True)
        with open(os.path.join(directory, "etc", "sources.list"), "w", encoding="utf-8") as handle:
            handle.write("\n".join(sources) + "\n")
        with open(os.path.join(directory, "status"), "w", encoding="utf-8"):
            pass
        settings = {
            "Dir::State": f"{directory}/state",
            "Dir::State::status": f"{directory}/status",
            "Dir::State::extended_states": f"{directory}/extended_states",
            "Dir::Cache": f"{directory}/cache",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::archives": "archives/",
            "Dir::Etc::sourcelist": f"{directory}/etc/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "",
            "APT::Keep-Downloaded-Packages": "true",
            "APT::Get::Allow-Downgrades": "true",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Debug::NoLocking": "true",
            "pkgCacheFile::Generate": "true",
        }
        if proxy:
            settings["Acquire::http::Proxy"] = proxy
        self._options = [part for key, value in settings.items() for part in ("-o", f"{key}={value}")]

    def _run(self, *arguments, what):
        answer = subprocess.run(
            ["apt-get", *self._options, *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )
        if answer.returncode:
            said = "\n".join(
                line
                for line in (answer.stdout + answer.stderr).splitlines()
                if line.startswith(("E:", "W:", "Err", " "))
            )
            raise BuildError(f"{what} for {self.release} ({self.architecture}) failed:\n{said.strip()[-2000:]}")
        return answer.stdout

    def update(self):
        self._run("update", "-o", "APT::Update::Error-Mode=any", what="Reading the package lists (bundle_apt_sources)")

    def closure(self, packages, recommends):
        """{file name: {url, size}} of the packages with everything that they depend on, the essential ones included."""
        chosen = "true" if recommends else "false"
        text = self._run(
            "install",
            "--print-uris",
            "--yes",
            "-o",
            f"APT::Install-Recommends={chosen}",
            "?essential",
            *sorted(packages),
            what=f"Resolving {', '.join(sorted(packages))}",
        )
        found = {}
        for match in re.finditer(r"^'([^']+)' (\S+) (\d+) (\S*)$", text, re.MULTILINE):
            found[match[2]] = {"url": match[1], "size": int(match[3])}
        return found

    def download(self, packages, recommends):
        chosen = "true" if recommends else "false"
        self._run(
            "install",
            "--download-only",
            "--yes",
            "-o",
            f"APT::Install-Recommends={chosen}",
            "?essential",
            *sorted(packages),
            what="Downloading the packages",
        )

    def path(self, name):
        return os.path.join(self.directory, "cache", "archives", name)


def repository(debs):
    """A flat apt repository for the .deb files at `debs`: {name: bytes} of its index files, and the packages' versions.

    The entries come from the packages themselves (`dpkg-deb`)."""
    entries, versions = [], {}
    for path in sorted(debs, key=os.path.basename):
        answer = subprocess.run(["dpkg-deb", "-f", path], capture_output=True, text=True, check=False)
        if answer.returncode:
            raise BuildError(f"{os.path.basename(path)} can't be read: {answer.stderr.strip()}")
        fields = {m[1]: m[2] for m in re.finditer(r"^(\S+): (.*)$", answer.stdout, re.MULTILINE)}
        versions[fields["Package"]] = fields["Version"]
        entries.append(
            answer.stdout.rstrip("\n")
            + f"\nFilename: ./{os.path.basename(path)}\nSize: {os.path.getsize(path)}\nSHA256: {sha256_of(path)}\n"
        )
    packages = "\n".join(entries).encode()
    compressed = io.BytesIO()
    with gzip.GzipFile(fileobj=compressed, mode="wb", mtime=0) as handle:
        handle.write(packages)
    index = {"Packages": packages, "Packages.gz": compressed.getvalue()}
    hashes = "".join(f" {hashlib.sha256(body).hexdigest()} {len(body)} {name}\n" for name, body in index.items())
    index["Release"] = (
        "Origin: sutazai.platform\nLabel: Packages of a bundle\nSuite: bundle\n"
        f"Date: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n{hashes}"
    ).encode()
    return index, versions


def _add(archive, name, path=None, body=None):
    """One file, the same whoever makes it and whenever."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.mtime, entry.uid, entry.gid = 0o644, 0, 0, 0
    entry.size = os.path.getsize(path) if path else len(body)
    if path:
        with open(path, "rb") as source:
            archive.addfile(entry, source)
    else:
        archive.addfile(entry, io.BytesIO(body))


def write_repository(target, debs):
    """Write the repository as a plain tar at `target`; returns the packages' versions."""
    index, versions = repository(debs)
    with tarfile.open(target, "w:", format=tarfile.GNU_FORMAT) as archive:
        for name, body in sorted(index.items()):
            _add(archive, name, body=body)
        for path in sorted(debs, key=os.path.basename):
            _add(archive, os.path.basename(path), path=path)
    return versions


def write_bundle(directory, name, files, about):
    """Write the bundle; `files` is {path in the bundle: (path here, facts for the manifest)}. Returns (path, manifest).

    Its name ends with a digest of what is in it: the same contents make the same file."""
    manifest = {"format": FORMAT, **about, "files": []}
    for inside, (path, facts) in sorted(files.items()):
        manifest["files"].append({"path": inside, "sha256": sha256_of(path), "bytes": os.path.getsize(path), **facts})
    body = json.dumps(manifest, indent=1, sort_keys=True).encode()
    target = os.path.join(directory, f"{name}-{hashlib.sha256(body).hexdigest()[:12]}.tar")
    scratch = f"{target}.part"
    try:
        with tarfile.open(scratch, "w:", format=tarfile.GNU_FORMAT) as archive:
            _add(archive, MANIFEST, body=body)
            for inside, (path, _facts) in sorted(files.items()):
                _add(archive, inside, path=path)
        os.replace(scratch, target)
    finally:
        if os.path.exists(scratch):
            os.unlink(scratch)
    with open(f"{target}.sha256", "w", encoding="utf-8") as handle:
        handle.write(f"{sha256_of(target)}  {os.path.basename(target)}\n")
    return target, manifest
