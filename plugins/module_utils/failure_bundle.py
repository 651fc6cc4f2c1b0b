"""What a failure bundle asks a host, and which of the lines that come back say most. Pure functions."""

from __future__ import annotations

import re

# Per component: units of systemd, log files, and cheap questions that need no credentials and change nothing.
COMPONENTS = {
    "base": {"units": ["systemd-timesyncd", "chrony", "systemd-sysctl"], "packages": []},
    "consul": {
        "units": ["consul", "systemd-resolved", "dnsmasq", "unbound"],
        "packages": ["consul*"],
        "ask": [
            "curl -sS --max-time 3 http://127.0.0.1:8500/v1/status/leader",
            "curl -sS --max-time 3 http://127.0.0.1:8500/v1/status/peers",
        ],
    },
    "rabbitmq": {
        "units": ["rabbitmq-server", "epmd"],
        "logs": ["/var/log/rabbitmq/*.log"],
        "packages": ["rabbitmq-server", "erlang-base"],
        "ask": ["rabbitmq-diagnostics -q --timeout 6 cluster_status"],
    },
    "redis": {"units": ["redis-server", "redis-sentinel"], "logs": ["/var/log/redis/*.log"], "packages": ["redis*"]},
    "patroni": {
        "units": ["patroni", "postgresql@*"],
        "logs": ["/var/log/postgresql/*.log", "/var/log/patroni/*.log"],
        "packages": ["patroni", "postgresql-1*"],
        "ask": ["curl -sSk --max-time 3 https://127.0.0.1:8008/cluster"],
    },
    "pgbouncer": {"units": ["pgbouncer"], "logs": ["/var/log/postgresql/pgbouncer.log"], "packages": ["pgbouncer"]},
    "pgbackrest": {
        "units": ["pgbackrest", "pgbackrest-backup@*"],
        "logs": ["/var/log/pgbackrest/*.log"],
        "packages": ["pgbackrest"],
    },
    "haproxy": {"units": ["haproxy"], "packages": ["haproxy"]},
    "keepalived": {"units": ["keepalived"], "packages": ["keepalived"]},
    "fabio": {"units": ["fabio"], "packages": []},
    "flower": {"units": ["flower"], "packages": []},
    "registry": {"units": ["docker-registry", "sutazai-registry-publish"], "packages": ["docker-registry", "skopeo"]},
    "docker": {"units": ["docker", "containerd"], "packages": ["docker*", "containerd*"]},
    "prometheus": {"units": ["prometheus"], "packages": ["prometheus*"]},
    "alertmanager": {"units": ["prometheus-alertmanager"], "packages": []},
}
ALIASES = {
    "consul_service": "consul",
    "consul_servers": "consul",
    "postgresql": "patroni",
    "backup": "pgbackrest",
    "load_balancers": "haproxy",
    "monitoring": "prometheus",
    "swarm": "docker",
    "swarm_managers": "docker",
}
SAFE_UNIT = re.compile(r"^[A-Za-z0-9@:._*-]+$")


def components_for(role, groups=()):
    """The components whose logs may explain a failure in `role` on a host of `groups`."""
    role = (role or "").rpartition(".")[2]
    role = ALIASES.get(role, role)
    by_group = [name for name in (ALIASES.get(group, group) for group in groups) if name in COMPONENTS]
    if role in COMPONENTS and role != "base":
        found = [role] + (["pgbouncer"] if role == "patroni" else [])
    elif role and role not in ("base", "pki", "artifact"):
        found = by_group or [role]  # not known here: its unit probably has its name
    else:
        found = by_group + ["base"]
    if found != ["consul"] and role != "base" and "consul" not in found:
        found.append("consul")  # everything is found through it
    return list(dict.fromkeys(found))


def script(components, lines=150):
    """A POSIX shell script that prints what a person would look at first; bounded in time and in size."""
    units, logs, ask, packages = [], [], [], []
    for name in components:
        known = COMPONENTS.get(name, {"units": [name], "packages": [f"{name}*"]})
        units += [unit for unit in known["units"] if SAFE_UNIT.match(unit)]
        logs += known.get("logs", [])
        ask += known.get("ask", [])
        packages += [package for package in known["packages"] if SAFE_UNIT.match(package)]
    out = [
        "export LC_ALL=C.UTF-8 SYSTEMD_COLORS=0 SYSTEMD_PAGER=cat",
        'head_() { printf "\\n### %s\\n" "$1"; }',
        "head_ 'host'; uptime; cat /etc/debian_version; uname -r",
        "head_ 'failed units'; timeout 4 systemctl --failed --no-legend --plain",
        "head_ 'memory and disk'; free -m; df -hP -x tmpfs -x devtmpfs -x overlay 2>/dev/null; df -hP / ; df -iP /",
    ]
    if packages:
        quoted = " ".join(f"'{package}'" for package in packages)
        out.append(
            f"head_ 'versions'; dpkg-query -W -f '${{Package}} ${{Version}} ${{Status}}\\n' {quoted} 2>/dev/null"
        )
        out.append('for b in /opt/sutazai/*/*; do [ -d "$b" ] && echo "$b"; done')
    for unit in dict.fromkeys(units):
        name = unit if "." in unit else f"{unit}.service"
        out.append(
            f"j=$(timeout 5 journalctl -q -u '{name}' -n {lines} --no-pager -o short-iso --since -6h 2>/dev/null | grep -v ': Invoked with '); "
            f"if [ -n \"$j\" ] || systemctl is-enabled -q '{name}' 2>/dev/null; then head_ 'unit {unit}'; "
            f"timeout 4 systemctl show '{name}' -p Id,ActiveState,SubState,Result,ExecMainStatus,NRestarts; "
            f"head_ 'journal {unit}'; printf '%s\\n' \"$j\"; fi"
        )
    for log in logs:
        out.append(f'for f in $(ls -t {log} 2>/dev/null | head -n 2); do head_ "log $f"; tail -n {lines} "$f"; done')
    for question in ask:
        out.append(f"head_ '{question}'; timeout 7 {question} 2>&1 | tail -n 60")
    out += [
        "head_ 'listening'; timeout 3 ss -Hltn",
        "head_ 'kernel'; timeout 3 journalctl -k -p warning -n 15 --no-pager -o short-iso 2>/dev/null",
        "exit 0",
    ]
    return "\n".join(out) + "\n"


_WEIGHTS = [
    (re.compile(r"\b(panic|fatal|emerg|segfault|core dumped)\b", re.IGNORECASE), 6),
    (re.compile(r"out of memory|oom-kill|no space left|read-only file system|too many open files", re.IGNORECASE), 7),
    (re.compile(r"\b(crit(ical)?|alert|abort(ed|ing)?|corrupt\w*)\b", re.IGNORECASE), 5),
    (
        re.compile(
            r"permission denied|\bdenied\b|unauthori[sz]ed|forbidden|authentication failed|NOAUTH|NOPERM|WRONGPASS",
            re.IGNORECASE,
        ),
        5,
    ),
    (re.compile(r"x509|certificate|tls|ssl", re.IGNORECASE), 1),
    (
        re.compile(
            r"unknown (option|directive|key|configuration|parameter)|bad directive|syntax error|invalid|unrecognized",
            re.IGNORECASE,
        ),
        4,
    ),
    (
        re.compile(
            r"address already in use|connection refused|no route to host|\brefused\b|unreachable", re.IGNORECASE
        ),
        4,
    ),
    (re.compile(r"\berr(or)?\b|\[error\]|\bEE?\b:", re.IGNORECASE), 3),
    (
        re.compile(
            r"\bfail(ed|ure|s)?\b|cannot|can't|could not|unable to|not found|missing|mismatch|no such file",
            re.IGNORECASE,
        ),
        3,
    ),
    (re.compile(r"timed? ?out|timeout|deadline exceeded", re.IGNORECASE), 2),
    (re.compile(r"\bwarn(ing)?\b", re.IGNORECASE), 1),
]
_NOISE = [
    (
        re.compile(
            r"systemd\[1\]: .*(Failed with|Main process exited|Scheduled restart|Start request repeated|Failed to)"
        ),
        -4,
    ),
    (re.compile(r"systemd\[1\]: (Start(ed|ing)|Stopp(ed|ing)) "), -8),
    (re.compile(r"\b0 (errors|failed|failures)\b|no errors?\b|error=(nil|none)\b|without error", re.IGNORECASE), -6),
    (re.compile(r"\bINFO\b|\[info\]|\bDEBUG\b|\[debug\]|\bLOG:"), -2),
    (re.compile(r"^\s*(at |File \"|Traceback|\^)"), -3),
]
_VARYING = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.,+Z-]*|0x[0-9a-f]+|\b[0-9a-f-]{16,}\b|\d+", re.IGNORECASE)


def score(line):
    """How much a line says about a failure; 0 and less say nothing."""
    total = sum(weight for pattern, weight in _WEIGHTS if pattern.search(line))
    if total:
        total += sum(weight for pattern, weight in _NOISE if pattern.search(line))
    return total


def telling_lines(sources, count=3, width=220):
    """The lines that say most. `sources` are (name, text) in the order in which a person would trust them.

    Later lines of a source win over earlier ones, and the same thing is said once."""
    ranked = []
    for order, (name, text) in enumerate(sources):
        lines = [line.strip() for line in text.splitlines()]
        lines = [line for line in lines if line and not line.startswith("### ")]
        for position, line in enumerate(lines):
            points = score(line)
            if points > 0:
                nearness = 2.0 * (position + 1) / len(lines)
                ranked.append((points + nearness - 0.1 * order, order, position, name, line))
    chosen, seen = [], set()
    for _points, order, position, name, line in sorted(ranked, key=lambda entry: (-entry[0], entry[1], -entry[2])):
        same = _VARYING.sub("#", line)[-120:]
        if same in seen:
            continue
        seen.add(same)
        chosen.append((order, position, name, line if len(line) <= width else line[: width - 1] + "…"))
        if len(chosen) == count:
            break
    return [(name, line) for _order, _position, name, line in sorted(chosen)]


def sections(text):
    """A host's answer as {heading: text}."""
    found, current = {}, "start"
    for line in text.splitlines():
        if line.startswith("### "):
            current = line[4:].strip()
            found.setdefault(current, [])
        else:
            found.setdefault(current, []).append(line)
    return {name: "\n".join(lines).strip() for name, lines in found.items() if "".join(lines).strip()}


def log_sections(text):
    """Only what was logged: journals, log files, and the kernel's warnings."""
    return {
        name: body for name, body in sections(text).items() if name.startswith(("journal ", "log ")) or name == "kernel"
    }
