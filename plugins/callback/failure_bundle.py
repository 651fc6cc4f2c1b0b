"""Explain a failed run: collect what a person would look at, redacted, and say where it is."""

from __future__ import annotations

DOCUMENTATION = r"""
name: failure_bundle
type: aggregate
short_description: Collects a redacted bundle when a run fails
version_added: "0.1.0"
description:
  - When hosts failed or couldn't be reached (and the failure was neither ignored nor rescued), writes a directory with the
    versions, the failed tasks with their arguments and results, and from the failed hosts the last lines of the logs that
    concern the failing role, failed units, memory, disk and what needs no credentials to be asked. Prints where it is and
    the three lines that say most.
  - Values of variables, keys and options that hold secrets, private keys, tokens and passwords in URLs are taken out before
    anything is written. Files have mode 0600, the directory 0700.
  - Changes nothing on the hosts, takes O(seconds) at most, and never changes how the run ends.
requirements:
  - Enable it with C(callbacks_enabled) in C(ansible.cfg).
options:
  enabled:
    description: Whether to collect.
    type: bool
    default: true
    env: [{name: PLATFORM_FAILURE_BUNDLE}]
    ini: [{section: callback_failure_bundle, key: enabled}]
  directory:
    description: Where bundles are written; relative to the directory of C(ansible.cfg), or to the current one without such a file.
    type: str
    default: .cache/failures
    env: [{name: PLATFORM_FAILURE_DIR}]
    ini: [{section: callback_failure_bundle, key: directory}]
  seconds:
    description: How long collecting may take, in seconds.
    type: int
    default: 30
    env: [{name: PLATFORM_FAILURE_SECONDS}]
    ini: [{section: callback_failure_bundle, key: seconds}]
  keep:
    description: How many bundles stay; older ones are removed.
    type: int
    default: 20
    ini: [{section: callback_failure_bundle, key: keep}]
  hosts:
    description: From how many failed hosts logs are collected.
    type: int
    default: 8
    ini: [{section: callback_failure_bundle, key: hosts}]
author:
  - SutazAI platform team (@sutazai)
"""

import base64
import datetime
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

from ansible import constants as C
from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from ansible.template import Templar
from ansible.utils.vars import load_extra_vars
from ansible_collections.sutazai.platform.plugins.module_utils import failure_bundle as lib
from ansible_collections.sutazai.platform.plugins.module_utils.redaction import (
    MARK,
    Redactor,
    is_secret_name,
    secret_values,
)

BUNDLE_NAME = re.compile(r"^\d{8}T\d{6}Z(-\d+)?$")
MAGIC = frozenset(
    {
        "groups",
        "hostvars",
        "vars",
        "play_hosts",
        "ansible_play_hosts",
        "ansible_play_batch",
        "ansible_play_hosts_all",
        "omit",
    }
    | {
        "ansible_facts",
        "ansible_version",
        "group_names",
        "role_names",
        "ansible_play_role_names",
        "ansible_dependent_role_names",
    }
    | {
        "ansible_role_names",
        "environment",
        "ansible_run_tags",
        "ansible_skip_tags",
        "inventory_hostname",
        "playbook_dir",
    }
)
ANSWER = re.compile(
    r"^(\S+) \| (CHANGED|SUCCESS|FAILED|UNREACHABLE)!?(?: \| rc=-?\d+ >>| => .*| >>)?\s*$", re.MULTILINE
)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "sutazai.platform.failure_bundle"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self._started = time.time()
        self._playbook = self._play = None
        self._failures = []
        self._notes = []

    def v2_playbook_on_start(self, playbook):
        self._playbook = playbook

    def v2_playbook_on_play_start(self, play):
        self._play = play

    def v2_runner_on_failed(self, result, ignore_errors=False):
        if not ignore_errors:
            self._remember(result, "failed")

    def v2_runner_on_unreachable(self, result):
        self._remember(result, "unreachable")

    def v2_playbook_on_stats(self, stats):
        try:
            if not self._failures or not self.get_option("enabled") or context.CLIARGS.get("syntax"):
                return
            failures = []
            for host in dict.fromkeys(failure["host"].get_name() for failure in self._failures):
                counts = stats.summarize(host)
                final = counts.get("failures", 0) + counts.get("unreachable", 0)
                own = [failure for failure in self._failures if failure["host"].get_name() == host]
                failures += own[-final:] if final else []  # a rescued failure comes before the one that ended it
            if failures:
                self._explain(sorted(failures, key=lambda failure: failure["at"]))
        except Exception as error:  # whatever happens here, the run's own failure is what counts
            self._display.warning(f"The failure bundle could not be written: {type(error).__name__}: {error}")

    def _remember(self, result, how):
        try:
            self._failures.append(
                {
                    "host": result.host,
                    "how": how,
                    "play": self._play,
                    "task": result.task,
                    "fields": dict(result.task_fields),
                    "result": dict(result.result),
                    "at": time.time(),
                }
            )
        except Exception as error:
            self._notes.append(f"A failure could not be recorded: {type(error).__name__}: {error}")

    # --- collecting -----------------------------------------------------------------------------------------------

    def _explain(self, failures):
        deadline = time.monotonic() + max(self.get_option("seconds"), 5)
        directory = self._make_directory()
        redactor = Redactor(self._secrets(failures, deadline))
        described = [self._describe(failure) for failure in failures]
        answers = {}
        try:
            answers = self._ask_hosts(failures, directory, deadline)
        except Exception as error:
            self._notes.append(f"The hosts could not be asked: {type(error).__name__}: {error}")
        answers = {host: redactor.text(text) for host, text in answers.items()}
        clean = redactor.data(described)
        telling = self._telling(clean, answers)
        for host, text in answers.items():
            self._write(directory, f"host-{re.sub(r'[^A-Za-z0-9._-]', '_', host)}.txt", text)
        notes = [redactor.text(note) for note in self._notes]
        command = redactor.text(self._command())
        about = {
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": command,
            "seconds_until_failure": round(failures[0]["at"] - self._started, 1),
            "check_mode": bool(context.CLIARGS.get("check")),
            "versions": self._versions(),
            "failures": clean,
            "telling_lines": [f"{name}: {line}" for name, line in telling],
            "notes": notes,
        }
        self._write(directory, "failure.json", json.dumps(about, indent=2, sort_keys=False, default=str) + "\n")
        self._write(directory, "summary.txt", self._summary(about))
        self._prune(os.path.dirname(directory))
        self._say(directory, clean, telling, command, notes)

    def _make_directory(self):
        root = os.path.expanduser(self.get_option("directory"))
        if not os.path.isabs(root):
            root = os.path.join(os.path.dirname(C.CONFIG_FILE) if C.CONFIG_FILE else os.getcwd(), root)
        os.makedirs(root, mode=0o700, exist_ok=True)
        name = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        for suffix in ["", *(f"-{number}" for number in range(2, 100))]:
            try:
                os.mkdir(os.path.join(root, name + suffix), 0o700)
            except FileExistsError:
                continue
            return os.path.join(root, name + suffix)
        raise OSError(f"{root} is full of bundles of this second")

    def _secrets(self, failures, deadline):
        """The values of all variables of all hosts whose names say that they are secret, failed hosts first."""
        manager = self._play.get_variable_manager() if self._play else None
        if manager is None:
            return set()
        found, seen = set(), set()
        failed = list(dict.fromkeys(failure["host"] for failure in failures))
        others = [host for host in manager._inventory.get_hosts() if host not in failed]
        until = min(deadline, time.monotonic() + 6)
        for number, host in enumerate(failed + others):
            if time.monotonic() > until:
                self._notes.append(
                    f"Secrets were looked up in the variables of {number} of {len(failed + others)} hosts (time)."
                )
                break
            try:
                variables = manager.get_vars(play=self._play, host=host, include_hostvars=False)
            except Exception as error:
                self._notes.append(f"The variables of {host} could not be read: {type(error).__name__}.")
                continue
            templar = Templar(loader=self._play.get_loader(), variables=variables)
            for name, raw in variables.items():
                if name in MAGIC or (not is_secret_name(name) and not isinstance(raw, (dict, list))):
                    continue
                key = (name, repr(raw))
                if key in seen:
                    continue
                seen.add(key)
                value = raw
                try:
                    value = templar.template(raw)
                except Exception:
                    value = raw  # undefined here, then it isn't known here either
                found |= secret_values({name: value})
        for failure in failures:
            found |= secret_values(failure["result"])
            found |= secret_values(failure["fields"].get("args") or {})
        return {value for value in found if not value.startswith("/")}

    def _describe(self, failure):
        task, fields = failure["task"], failure["fields"]
        role = task._role.get_name() if task._role else None
        hidden = bool(fields.get("no_log")) or "censored" in failure["result"]
        return {
            "host": failure["host"].get_name(),
            "how": failure["how"],
            "play": failure["play"].get_name() if failure["play"] else None,
            "role": role,
            "task": fields.get("name") or task.get_name(),
            "action": fields.get("action"),
            "path": task.get_path(),
            "at": datetime.datetime.fromtimestamp(failure["at"], datetime.UTC).isoformat(timespec="seconds"),
            "arguments": f"{MARK} (no_log)" if hidden else _plain(fields.get("args")),
            "result": {"no_log": True, "msg": failure["result"].get("msg", "")}
            if hidden
            else _plain(failure["result"]),
        }

    def _ask_hosts(self, failures, directory, deadline):
        """{host: answer} from the failed hosts that can be reached, through one bounded ad-hoc run."""
        groups = {}
        for failure in failures:
            task, host = failure["task"], failure["host"]
            if failure["how"] == "unreachable":
                self._notes.append(f"{host.get_name()} was not asked for logs: it could not be reached.")
                continue
            if "preflight" in os.path.basename(task.get_path() or "") or self._is_local(failure):
                continue  # the message says it all; nothing has happened on a host
            role = task._role.get_name() if task._role else ""
            names = [group.get_name() for group in host.get_groups()]
            groups.setdefault(tuple(lib.components_for(role, names)), []).append(host.get_name())
        answers = {}
        limit = self.get_option("hosts")
        for components, hosts in groups.items():
            hosts = list(dict.fromkeys(hosts))
            asked = hosts[: max(limit - len(answers), 0)]
            if len(asked) < len(hosts):
                self._notes.append(f"Not asked for logs: {', '.join(hosts[len(asked) :])} (option `hosts`).")
            if asked and time.monotonic() < deadline - 3:
                answers.update(self._ask(asked, components, directory, deadline))
        return answers

    @staticmethod
    def _is_local(failure):
        fields = failure["fields"]
        return (
            fields.get("delegate_to") in ("localhost", "127.0.0.1")
            or fields.get("connection") == "local"
            or (failure["host"].get_name() in ("localhost", "127.0.0.1"))
        )

    def _ask(self, hosts, components, directory, deadline):
        encoded = base64.b64encode(lib.script(components).encode()).decode()
        output, variables = os.path.join(directory, ".answers"), os.path.join(directory, ".variables")
        args = context.CLIARGS
        command = [sys.executable, "-m", "ansible", "adhoc", ",".join(hosts), "-m", "ansible.builtin.raw"]
        command += ["-a", f"echo {encoded} | base64 -d | /bin/sh 2>&1", "--forks", str(max(len(hosts), 1))]
        for inventory in args.get("inventory") or ():
            command += ["-i", inventory]
        for option, key in (("--vault-id", "vault_ids"), ("--vault-password-file", "vault_password_files")):
            for value in args.get(key) or ():
                if "@prompt" not in value:
                    command += [option, value]
        for option, key in (
            ("--private-key", "private_key_file"),
            ("--user", "remote_user"),
            ("--connection", "connection"),
        ):
            if args.get(key):
                command += [option, str(args[key])]
        if self._play.become or args.get("become"):
            command.append("--become")
        extra = load_extra_vars(self._play.get_loader())
        if extra:
            self._write(directory, ".variables", json.dumps(_plain(extra), default=str))
            command += ["--extra-vars", f"@{variables}"]
        environment = {
            **os.environ,
            "PLATFORM_FAILURE_BUNDLE": "0",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal",
            "ANSIBLE_STRATEGY": "linear",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_TIMEOUT": "6",
            "ANSIBLE_DEPRECATION_WARNINGS": "0",
        }
        environment.pop("ANSIBLE_LOG_PATH", None)
        try:
            with os.fdopen(os.open(output, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), "wb") as sink:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    start_new_session=True,
                )
                try:
                    process.wait(timeout=max(deadline - time.monotonic(), 1))
                except subprocess.TimeoutExpired:
                    self._notes.append(
                        f"Asking {', '.join(hosts)} took too long and was broken off; the answer is partial."
                    )
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            with open(output, encoding="utf-8", errors="replace") as handle:
                text = handle.read(8 * 1024 * 1024)
        finally:
            for path in (output, variables):
                if os.path.exists(path):
                    os.unlink(path)
        answers = {}
        found = [match for match in ANSWER.finditer(text) if match[1] in hosts]
        for match, following in zip(found, [*found[1:], None]):
            body = text[match.end() : following.start() if following else len(text)].strip()
            if match[2] in ("CHANGED", "SUCCESS"):
                answers[match[1]] = re.sub(r"\n?Shared connection to \S+ closed\.$", "", body) + "\n"
            else:
                self._notes.append(f"{match[1]} gave no logs: {match[0]} {body[:500]}")
        for host in hosts:
            if host not in {match[1] for match in found}:
                self._notes.append(f"{host} gave no logs. {text.strip()[:500]}")
        return answers

    # --- saying ---------------------------------------------------------------------------------------------------

    def _telling(self, failures, answers):
        sources = [
            (f"{host} {name}", body) for host, text in answers.items() for name, body in lib.log_sections(text).items()
        ]
        lines = lib.telling_lines(sources, count=3)
        if len(lines) < 3:
            own = []
            for failure in failures:
                for part in _failed_parts(failure["result"]):
                    for key in ("stderr", "module_stderr", "stdout", "module_stdout"):
                        own.append((f"{failure['host']} {key}", str(part.get(key) or "")))
            lines += lib.telling_lines(own, count=3 - len(lines))
        return lines

    def _summary(self, about):
        out = [f"A run failed. {about['written']}", f"Command: {about['command']}", ""]
        for failure in about["failures"]:
            out += [
                f"{failure['host']} {failure['how']}: {failure['task']}",
                f"  play: {failure['play']}; role: {failure['role'] or 'none'}; {failure['path']}",
                f"  {_message(failure['result'])}",
                "",
            ]
        if about["telling_lines"]:
            out += ["The lines that say most:", *(f"  {line}" for line in about["telling_lines"]), ""]
        out += [f"{name}: {value}" for name, value in about["versions"].items()]
        out += [
            "",
            "failure.json has the arguments and results, host-*.txt what the hosts said.",
            MARK + " stands for a secret.",
        ]
        if about["notes"]:
            out += ["", "Not everything could be collected:", *(f"  {note}" for note in about["notes"])]
        return "\n".join(out) + "\n"

    def _say(self, directory, failures, telling, command, notes):
        def say(line, color=None):
            self._display.display(line, color=color)

        self._display.banner("WHY IT FAILED")
        told = {}
        for failure in failures:
            told.setdefault((failure["task"], failure["how"], _message(failure["result"])), []).append(failure["host"])
        for (task, how, message), hosts in list(told.items())[:3]:
            hosts = list(dict.fromkeys(hosts))
            shown = ", ".join(hosts[:4]) + (f" and {len(hosts) - 4} more" if len(hosts) > 4 else "")
            first = message.strip().splitlines()[0] if message.strip() else "no message"
            say(f"{shown}: {task}: {how}: {first[:300]}", C.COLOR_ERROR)
        if len(told) > 3:
            say(f"and {len(told) - 3} more", C.COLOR_ERROR)
        if telling:
            say("The lines that say most:")
            for name, line in telling:
                say(f"  {name}: {line}")
        shown = os.path.relpath(directory) if not os.path.relpath(directory).startswith("..") else directory
        say(f"Collected without secrets: {shown}/ (begin with summary.txt{'; not complete' if notes else ''})")
        if any(failure["how"] == "unreachable" for failure in failures):
            say(
                "Unreachable: does the host run, is its address right, does `ssh` to it work with the same user and key?"
            )
        say(f"Then run the same command again; what is done already stays as it is: {command}")

    def _versions(self):
        versions = {
            "ansible-core": ansible_version,
            "python": platform.python_version(),
            "controller": platform.platform(),
        }
        root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
        for name, pattern in (("galaxy.yml", r"^version:\s*(\S+)"), ("MANIFEST.json", r'"version":\s*"([^"]+)"')):
            try:
                with open(os.path.join(root, name), encoding="utf-8") as handle:
                    match = re.search(pattern, handle.read(), re.MULTILINE)
            except OSError:
                continue
            if match:
                versions["sutazai.platform"] = match[1]
                break
        try:
            answer = subprocess.run(
                ["git", "-C", root, "describe", "--always", "--dirty"],
                capture_output=True,
                text=True,
                timeout=3,
                check=False,
            )
            if answer.returncode == 0:
                versions["commit"] = answer.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
        return versions

    @staticmethod
    def _command():
        words = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
        return " ".join(
            word if re.match(r"^[\w./:=@,+-]+$", word) else "'" + word.replace("'", "'\\''") + "'" for word in words
        )

    @staticmethod
    def _write(directory, name, text):
        handle = os.open(os.path.join(directory, name), os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as target:
            target.write(text)

    def _prune(self, root):
        bundles = sorted(name for name in os.listdir(root) if BUNDLE_NAME.match(name))
        for name in bundles[: -max(self.get_option("keep"), 1)]:
            shutil.rmtree(os.path.join(root, name), ignore_errors=True)


def _plain(value):
    """Ansible's tagged values as Python's own."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value)


def _failed_parts(result):
    parts = [part for part in result.get("results") or [] if isinstance(part, dict) and part.get("failed")]
    return parts or [result]


def _message(result):
    for part in _failed_parts(result):
        for key in ("msg", "stderr", "module_stderr", "stdout", "reason"):
            if part.get(key):
                return str(part[key]).strip()
    return ""
