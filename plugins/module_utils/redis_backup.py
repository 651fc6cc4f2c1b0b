# Apache License 2.0 (see LICENSE)
"""Which backups together make a Redis Cluster's data, and how keys are told apart. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ansible_collections.sutazai.platform.plugins.module_utils.backup_files import TIME, Problem, listing, matching
from ansible_collections.sutazai.platform.plugins.module_utils.redis_layout import SLOTS
from ansible_collections.sutazai.platform.plugins.module_utils.redis_state import slots_text


def parse_slots(text: str) -> set[int]:
    """0-5460 10000, as nodes.conf and CLUSTER NODES write it."""
    slots: set[int] = set()
    for word in text.split():
        first, _dash, last = word.partition("-")
        slots.update(range(int(first), int(last or first) + 1))
    return slots


def text_of_slots(slots: Iterable[int]) -> str:
    ranges: list[list[int]] = []
    for slot in sorted(slots):
        if ranges and slot == ranges[-1][1] + 1:
            ranges[-1][1] = slot
        else:
            ranges.append([slot, slot])
    return slots_text(tuple((first, last) for first, last in ranges))


def plan(backups: Sequence[dict], wanted: str, members: Sequence[str], staging: str = "") -> list[dict]:
    """Which backups are loaded, each on which member and for which slots. Of each slot the newest backup counts.

    With `staging` the backups are on the controller, and have to be brought to that directory of the member first.
    """
    if wanted and not staging:
        backups = up_to(backups, wanted)
    usable = [backup for backup in backups if backup["about"].get("slots")]
    missing, chosen = set(range(SLOTS)), []
    for backup in sorted(usable, key=lambda one: (one["time"], one["about"].get("role") == "master"), reverse=True):
        slots = parse_slots(backup["about"]["slots"]) & missing
        if not slots:
            continue
        missing -= slots
        here = not staging and backup["host"] in members
        chosen.append(
            {
                **{key: backup[key] for key in ("host", "name", "time", "size_bytes")},
                **{key: int(backup["about"].get(key, 0)) for key in ("key_count", "memory_bytes")},
                "slots": text_of_slots(slots),
                "on": backup["host"] if here else members[len(chosen) % len(members)],
                "source": backup["path"],
                "path": f"{staging}/{backup['host']}-{backup['name']}" if staging else backup["path"],
            }
        )
    if missing:
        raise Problem(
            f"{len(missing)} of {SLOTS} slots ({text_of_slots(missing)}) are in no backup that was found, so their keys would be lost. "
            + (
                f"Backups looked at: {listing(usable)}."
                if usable
                else "There is no usable backup on any member that was asked."
            )
            + " Make the host that has them answer, or give restore_from another time or a directory with all of them."
        )
    if not any(one["key_count"] for one in chosen):
        raise Problem(
            "The backups that would be restored are empty. They were taken after the data was lost. Give restore_from a time at which it "
            f"was there. Backups: {listing(backups)}."
        )
    return chosen


def up_to(backups: Sequence[dict], wanted: str) -> list[dict]:
    """Those until a time. One shard's file alone can't be meant: the others would be of another time."""
    if not re.fullmatch(TIME, wanted):
        raise Problem(
            f"restore_from ({wanted}) has to be a time such as 20261124T220000Z (of each shard the newest backup until then) or a "
            "directory on the controller. Redis' data is in several files, one of each shard."
        )
    return matching(backups, wanted)


def refusal(keys: dict[str, int]) -> str:
    """Why nothing is restored over what is there; "" when nothing is there."""
    there = {name: count for name, count in keys.items() if count}
    if not there:
        return ""
    return (
        f"Nothing was restored: there are {sum(there.values())} keys in the cluster "
        f"({', '.join(f'{name}: {count}' for name, count in sorted(there.items()))}). A restore replaces all of them. Stop the clients, and "
        "give restore_replace_data=true to give up what is there now (also after a restore that was interrupted)."
    )
