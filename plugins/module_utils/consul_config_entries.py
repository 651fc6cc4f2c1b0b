# Apache License 2.0 (see LICENSE)
"""Consul's configuration entries: what is wrong with those asked for, and which differ from what the cluster has. No input or output here.

An entry is a dictionary as Consul's API has it: `{"Kind": "service-defaults", "Name": "web", "Protocol": "http"}`.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

Entry = dict[str, Any]

# In the order in which Consul takes them: a router needs its service to speak HTTP, which service-defaults or proxy-defaults say.
KINDS = (
    "proxy-defaults",
    "mesh",
    "service-defaults",
    "service-resolver",
    "service-splitter",
    "service-router",
    "service-intentions",
)
# These exist once, under a name of Consul's.
ONLY_NAME = {"proxy-defaults": "global", "mesh": "mesh"}
# What Consul adds when it is asked.
ADDED = frozenset({"Hash", "CreateIndex", "ModifyIndex", "Precedence"})
# What Consul's community edition fills in where nothing was given.
FILLED_IN = {"Type": "consul", "Namespace": "default", "Partition": "default"}
# Below these, keys are names that an operator chose, or Envoy's settings, in whatever spelling they have.
FREE_KEYS = frozenset({"Config", "Meta", "Subsets", "Failover", "JSON", "Add", "Set"})

NANOSECONDS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_DURATION = re.compile(rf"(?:{_PART.pattern})+")


def key_of(entry: Entry) -> tuple[str, str]:
    return entry["Kind"], entry["Name"]


def title(entry: Entry) -> str:
    return " ".join(key_of(entry))


def body_of(entry: Entry) -> Entry:
    """What the API takes: the only one of its kind that has no name there is called like the kind here."""
    return {key: value for key, value in entry.items() if not (key == "Name" and entry["Kind"] == "mesh")}


def _misspelled(value: Any) -> set[str]:
    """Keys that the API doesn't have: it takes `protocol` for `Protocol` too, but answers with the latter."""
    if isinstance(value, list):
        return set().union(*(_misspelled(item) for item in value))
    if not isinstance(value, dict):
        return set()
    wrong = {key for key in value if not re.match(r"[A-Z]", str(key))}
    return wrong.union(*(_misspelled(item) for key, item in value.items() if key not in FREE_KEYS))


def _problem(entry: Entry) -> str:
    """What is wrong with one entry; "" if nothing is."""
    kind, name = entry.get("Kind"), entry.get("Name")
    if kind not in KINDS:
        return f"{kind or 'an entry without Kind'} isn't one of the kinds {', '.join(KINDS)}"
    if not isinstance(name, str) or not name:
        return f"a {kind} has no Name"
    if kind in ONLY_NAME and name != ONLY_NAME[kind]:
        return f"{kind} {name}: the only one that Consul has is called {ONLY_NAME[kind]}"
    wrong = _misspelled(entry)
    if wrong:
        return f"{kind} {name} has the keys {', '.join(sorted(wrong))}: write them as the API does, such as Protocol or ConnectTimeout"
    if kind == "service-intentions" and not entry.get("Sources"):
        return f"{kind} {name} has no Sources: it would say nothing"
    return ""


def problems(wanted: list[Entry], unwanted: list[Entry]) -> list[str]:
    """What is wrong with the entries, in sentences without a stop."""
    found = [text for text in (_problem(entry) for entry in wanted) if text]
    keys = [(entry.get("Kind"), entry.get("Name")) for entry in (*wanted, *unwanted)]
    found += [f"{kind} {name} is there twice" for kind, name in dict.fromkeys(keys) if keys.count((kind, name)) > 1]
    found += [
        f"{entry.get('Kind')} {entry.get('Name')} isn't the kind and name of an entry that can be removed"
        for entry in unwanted
        if entry.get("Kind") not in KINDS or not entry.get("Name") or set(entry) - {"Kind", "Name"}
    ]
    return found


def ordered(entries: list[Entry]) -> list[Entry]:
    """In the order in which Consul takes them; the other way round, it lets go of them."""
    return sorted(entries, key=lambda entry: (KINDS.index(entry["Kind"]), entry["Name"]))


def nanoseconds(text: str) -> int:
    return int(sum(Decimal(number) * NANOSECONDS[unit] for number, unit in _PART.findall(text)))


def canonical(value: Any) -> Any:
    """A form in which two entries that mean the same are equal.

    Consul answers 90s with 1m30s, some durations with nanoseconds, and leaves out or fills in what is empty, zero or false. So an
    explicit 0 and nothing count as the same; that matters only for a limit that is to become 0 where there was none.
    """
    if isinstance(value, dict):
        cleaned = {
            key: canonical(item)
            for key, item in value.items()
            if key not in ADDED and not (key in FILLED_IN and FILLED_IN[key] == item)
        }
        return {key: item for key, item in sorted(cleaned.items()) if item not in (None, "", 0, {}, [])}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    if isinstance(value, str) and _DURATION.fullmatch(value):
        return nanoseconds(value)
    return value


def _sorted_sources(entry: Entry) -> Entry:
    """Consul keeps intentions by precedence, in its own order."""
    if "Sources" not in entry:
        return entry
    return {**entry, "Sources": sorted(entry["Sources"], key=lambda source: source.get("Name", ""))}


def differs(current: Entry, wanted: Entry) -> bool:
    return shown(current) != shown(body_of(wanted))


def shown(entry: Entry | None) -> Entry:
    """For a diff: without what Consul adds."""
    return _sorted_sources(canonical(entry)) if entry else {}
