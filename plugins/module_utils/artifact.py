"""Third-party binaries on a host: verify, unpack, switch. No Ansible in here; the module of the same name talks."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tarfile
import tempfile
import time
import zipfile

RECEIPT = ".receipt.json"
CHUNK_BYTES = 1024 * 1024
RESERVE_BYTES = 64 * 1024 * 1024
SHA256 = re.compile(r"^[0-9a-f]{64}$")
SAFE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._+~-]*$")


class ArtifactError(Exception):
    """Something a person has to be told; the message says what is wrong and what to do."""


def check_input(name, version, sha256, file, member, destination, bundle="", mirror="", url=""):
    """All problems of the input as sentences."""
    problems = []
    if not SAFE_NAME.match(name):
        problems.append(f"artifact_name is {name!r}: letters, digits and . _ + ~ - only.")
    if not SAFE_NAME.match(version):
        problems.append(f"artifact_version of {name} is {version!r}: letters, digits and . _ + ~ - only.")
    if not SHA256.match(sha256.lower()):
        problems.append(
            f"artifact_sha256 of {name} {version} is {sha256!r}, not 64 hexadecimal digits. "
            "Take it from the publisher's SHA256SUMS."
        )
    if not SAFE_NAME.match(file):
        problems.append(f"artifact_file of {name} is {file!r}: a file name without a directory is expected.")
    if member and (os.path.isabs(member) or ".." in member.split("/")):
        problems.append(f"artifact_member of {name} is {member!r}: a path inside the archive is expected.")
    if not os.path.isabs(destination):
        problems.append(f"artifact_destination of {name} is {destination!r}: an absolute path is expected.")
    if not (bundle or mirror or url):
        problems.append(
            f"There is nowhere to take {name} {version} from: set platform_artifact_bundle, "
            "platform_artifact_mirror or its own URL."
        )
    return problems


def source_url(file, mirror="", url=""):
    """Where to download from: the mirror if there is one (then nowhere else), or the artifact's own URL."""
    return f"{mirror.rstrip('/')}/{file}" if mirror else url


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def mismatch(what, expected, got, where):
    return (
        f"{what} is not the file that was expected: its SHA-256 is {got}, expected is {expected} (artifact_sha256, set by "
        f"the role's version variables or the inventory). It came from {where}. Either that copy is damaged or was "
        "replaced (fetch it again, compare it with the publisher's checksum), or version and checksum were not changed "
        "together. Nothing was installed."
    )


def read_receipt(directory):
    """What was installed there; {} when nothing is, or when an installation did not finish."""
    try:
        with open(os.path.join(directory, RECEIPT), encoding="utf-8") as handle:
            receipt = json.load(handle)
    except (OSError, ValueError):
        return {}
    return receipt if isinstance(receipt, dict) else {}


def is_installed(directory, sha256, member):
    """Whether `directory` is a finished installation of that very file and still has the member."""
    receipt = read_receipt(directory)
    if receipt.get("sha256") != sha256:
        return False
    sizes = receipt.get("sizes") or {}
    path = os.path.join(directory, member)
    try:
        status = os.stat(path)
    except OSError:
        return False
    if stat.S_ISDIR(status.st_mode):
        return True
    return bool(status.st_mode & 0o111) and status.st_size == sizes.get(os.path.normpath(member), status.st_size)


def require_space(directory, needed_bytes, what):
    """`needed_bytes` and a reserve must be free on the file system of `directory`."""
    free = shutil.disk_usage(directory).free
    if free < needed_bytes + RESERVE_BYTES:
        raise ArtifactError(
            f"{what} needs {needed_bytes / 1e6:.0f} MB and {RESERVE_BYTES / 1e6:.0f} MB of reserve in {directory}, "
            f"where {free / 1e6:.0f} MB are free. Make room there and run again."
        )


def _inside(root, relative):
    """The absolute path of an archive's entry; refuses whatever would land outside of `root`."""
    if os.path.isabs(relative) or "\\" in relative or "\0" in relative or ".." in relative.split("/"):
        raise ArtifactError(f"The archive holds the unsafe path {relative!r}; it was not unpacked.")
    target = os.path.join(root, relative)
    real_root = os.path.realpath(root)
    if os.path.commonpath([real_root, os.path.realpath(os.path.dirname(target))]) != real_root:
        raise ArtifactError(f"The archive's entry {relative!r} leads outside through a link; it was not unpacked.")
    return target


def _symlink(root, relative, link):
    target = _inside(root, relative)
    if os.path.isabs(link):
        raise ArtifactError(
            f"The archive's link {relative!r} points to the absolute path {link!r}; it was not unpacked."
        )
    real_root = os.path.realpath(root)
    if os.path.commonpath([real_root, os.path.realpath(os.path.join(os.path.dirname(target), link))]) != real_root:
        raise ArtifactError(f"The archive's link {relative!r} points outside, to {link!r}; it was not unpacked.")
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.symlink(link, target)


def _write(root, relative, source, mode):
    target = _inside(root, relative)
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    if os.path.islink(target):
        raise ArtifactError(f"The archive holds {relative!r} twice, once as a link; it was not unpacked.")
    with open(target, "wb") as handle:
        shutil.copyfileobj(source, handle, CHUNK_BYTES)
    os.chmod(target, 0o755 if mode & 0o111 else 0o644)


def _unpack_zip(path, root):
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        require_space(root, sum(entry.file_size for entry in entries), "Unpacking it")
        for entry in entries:
            mode = entry.external_attr >> 16
            if entry.is_dir():
                os.makedirs(_inside(root, entry.filename), exist_ok=True)
            elif stat.S_ISLNK(mode):
                _symlink(root, entry.filename, archive.read(entry).decode())
            else:
                with archive.open(entry) as source:
                    _write(root, entry.filename, source, mode)


def _unpack_tar(path, root):
    with tarfile.open(path, "r:*") as archive:
        entries = archive.getmembers()
        require_space(root, sum(entry.size for entry in entries), "Unpacking it")
        for entry in entries:
            name = os.path.normpath(entry.name)
            if entry.isdir():
                os.makedirs(_inside(root, entry.name), exist_ok=True)
            elif entry.issym():
                _symlink(root, name, entry.linkname)
            elif entry.isreg() or entry.islnk():
                _inside(root, entry.linkname or name)
                with archive.extractfile(entry) as source:
                    _write(root, name, source, entry.mode)
            else:
                raise ArtifactError(
                    f"The archive holds {entry.name!r}, which is a device or a pipe; it was not unpacked."
                )


def unpack(path, root, member, file):
    """Unpack the archive at `path` into the empty directory `root`; a plain binary is copied there as `file`."""
    try:
        if not member:
            require_space(root, os.path.getsize(path), "Copying it")
            with open(path, "rb") as source:
                _write(root, file, source, 0o755)
        # A tar first: one whose last file is a zip, such as a wheel, looks like a zip from its end.
        elif tarfile.is_tarfile(path):
            _unpack_tar(path, root)
        elif zipfile.is_zipfile(path):
            _unpack_zip(path, root)
        else:
            raise ArtifactError(
                f"{file} is neither a zip nor a tar archive, but artifact_member asks for {member!r} inside it. "
                "Leave artifact_member empty if the file is the binary itself."
            )
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ArtifactError(f"{file} could not be unpacked: {error}.") from error
    wanted = os.path.join(root, member or file)
    if not os.path.exists(wanted):
        names = sorted(
            os.path.relpath(os.path.join(parent, name), root)
            for parent, _dirs, files in os.walk(root)
            for name in files
        )
        shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        raise ArtifactError(f"{file} holds no {member!r} (artifact_member). It holds: {shown or 'nothing'}.")
    if os.path.isfile(wanted):
        os.chmod(wanted, 0o755)  # noqa: S103 - everyone may run it


def _sync(root):
    """Everything on disk before the directory gets its final name."""
    for parent, _dirs, files in os.walk(root):
        for path in [parent] + [os.path.join(parent, name) for name in files]:
            if os.path.islink(path):
                continue
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EROFS):
                    raise
            finally:
                os.close(handle)


def install(path, base, version, sha256, member, file):
    """Unpack into a nameless directory, then give it its name: an interrupted run leaves nothing that looks complete."""
    incoming = tempfile.mkdtemp(prefix=".incoming-", dir=base)
    try:
        os.chmod(incoming, 0o755)  # noqa: S103 - everyone may read it
        unpack(path, incoming, member, file)
        sizes = {}
        for parent, _dirs, files in os.walk(incoming):
            for name in files:
                full = os.path.join(parent, name)
                if not os.path.islink(full):
                    sizes[os.path.relpath(full, incoming)] = os.path.getsize(full)
        receipt = {"file": file, "sha256": sha256, "installed_at": int(time.time()), "sizes": sizes}
        with open(os.path.join(incoming, RECEIPT), "w", encoding="utf-8") as handle:
            json.dump(receipt, handle)
        _sync(incoming)
        final = os.path.join(base, version)
        if os.path.lexists(final):
            replaced = tempfile.mkdtemp(prefix=".replaced-", dir=base)
            os.rename(final, os.path.join(replaced, version))
            os.rename(incoming, final)
            shutil.rmtree(replaced, ignore_errors=True)
        else:
            os.rename(incoming, final)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def is_linked(destination, target):
    return os.path.islink(destination) and os.readlink(destination) == target


def link(destination, target):
    """Point `destination` to `target` in one step, whatever file or link was there."""
    if os.path.isdir(destination) and not os.path.islink(destination):
        raise ArtifactError(f"{destination} (artifact_destination) is a directory; a link can't take its place.")
    os.makedirs(os.path.dirname(destination), mode=0o755, exist_ok=True)
    scratch = os.path.join(os.path.dirname(destination), f".{os.path.basename(destination)}.{os.getpid()}")
    if os.path.lexists(scratch):
        os.unlink(scratch)
    os.symlink(target, scratch)
    os.replace(scratch, destination)
    if os.path.isfile(target):
        os.utime(target)  # newer than the processes that run what was linked before: they want a restart


def leftovers(base):
    """What interrupted runs left: directories and files that never got their name."""
    try:
        return sorted(name for name in os.listdir(base) if name.startswith((".incoming-", ".replaced-", ".download-")))
    except FileNotFoundError:
        return []


def superfluous(base, version, keep):
    """Versions to remove: all but this one and the `keep - 1` that were installed last."""
    found = []
    for name in os.listdir(base):
        if name.startswith(".") or name == version or not os.path.isdir(os.path.join(base, name)):
            continue
        found.append((read_receipt(os.path.join(base, name)).get("installed_at", 0), name))
    return [name for _when, name in sorted(found, reverse=True)[max(keep - 1, 0) :]]
