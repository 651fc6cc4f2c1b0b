# Apache License 2.0 (see LICENSE)
"""In which steps a running Envoy is brought from one set of watched files to another. Pure functions.

Envoy reads each file for itself. Were they all replaced at once, a route could lead to a cluster that isn't there yet, or whose hosts
haven't been checked yet, or that is gone already; its requests would be answered with 503. So what is new comes first, then the routes
are changed, and what nothing leads to any more goes last.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.gateway_envoy import (
    CERTIFICATE_FILE,
    CLUSTERS_FILE,
    LISTENERS_FILE,
    ROUTE_TABLE,
    ROUTES_FILE,
    resources,
    text_of,
)

#: Names of files that are ours to remove when nothing asks for them any more.
OURS = re.compile(r"^(eds-[a-z0-9_-]+|sds|lds|rds|cds)\.json$")
VERSIONS_QUERY = "/stats?format=json&type=TextReadouts&filter=version_text$"
WARMING_QUERY = (
    "/stats?format=json&filter=^(cluster_manager.warming_clusters|listener_manager.total_listeners_warming)$"
)


@dataclass(frozen=True)
class Stage:
    """Files that are replaced together, in this order; Envoy has to have taken them before the next stage."""

    write: dict[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


def plan(current: dict[str, str], wanted: dict[str, str]) -> list[Stage]:
    """The stages from the one to the other; none when they are the same. Files that aren't ours are left alone."""
    changed = {name: text for name, text in wanted.items() if current.get(name) != text}
    stale = tuple(sorted(name for name in current if name not in wanted and OURS.fullmatch(name)))
    added = {
        name: text for name, text in sorted(changed.items()) if name.startswith("eds-") or name == CERTIFICATE_FILE
    }
    if CLUSTERS_FILE in changed:
        both = with_former(current.get(CLUSTERS_FILE), changed[CLUSTERS_FILE])
        if both != current.get(CLUSTERS_FILE):
            added[CLUSTERS_FILE] = both
    routes = {name: changed[name] for name in (ROUTES_FILE, LISTENERS_FILE) if name in changed}
    last = {}
    if CLUSTERS_FILE in changed and added.get(CLUSTERS_FILE) != changed[CLUSTERS_FILE]:
        last = {CLUSTERS_FILE: changed[CLUSTERS_FILE]}
    stages = (Stage(added), Stage(routes), Stage(last, stale))
    return [stage for stage in stages if stage.write or stage.remove]


def with_former(former: str | None, text: str) -> str:
    """The clusters, and those that were there before and aren't wanted any more."""
    wanted = json.loads(text)["resources"]
    try:
        before = json.loads(former or "{}").get("resources", [])
    except ValueError:
        before = []  # somebody else's, or half a file: Envoy has refused it, too
    names = {cluster["name"] for cluster in wanted}
    kept = [cluster for cluster in before if cluster["name"] not in names]
    return text_of(resources(wanted + kept)) if kept else text


def version_stat(file: str) -> str | None:
    """Envoy's statistic that says which version of the file it has. It has none for certificates."""
    if file.startswith("eds-"):
        return f"cluster.{file.removeprefix('eds-').removesuffix('.json')}.version_text"
    return {
        CLUSTERS_FILE: "cluster_manager.cds.version_text",
        LISTENERS_FILE: "listener_manager.lds.version_text",
        ROUTES_FILE: f"http.gateway.rds.{ROUTE_TABLE}.version_text",
    }.get(file)


def expected(stage: Stage, current: dict[str, str]) -> dict[str, str]:
    """File -> version that Envoy has to report after the stage. A cluster without its own in the clusters' file has none."""
    clusters = _clusters(stage.write.get(CLUSTERS_FILE) or current.get(CLUSTERS_FILE))
    return {
        file: json.loads(text)["version_info"]
        for file, text in stage.write.items()
        if version_stat(file)
        and (not file.startswith("eds-") or file.removeprefix("eds-").removesuffix(".json") in clusters)
    }


def _clusters(text: str | None) -> set[str]:
    try:
        return {cluster["name"] for cluster in json.loads(text or "{}").get("resources", [])}
    except ValueError:
        return set()


def not_taken(versions: dict[str, str], answer: dict[str, Any]) -> list[str]:
    """Files of which Envoy reports another version, or none."""
    reported = {entry["name"]: entry["value"] for entry in answer.get("stats", []) if "name" in entry}
    return [file for file, version in versions.items() if reported.get(version_stat(file)) != version]


def is_warming(answer: dict[str, Any]) -> bool:
    """Whether a cluster or listener isn't in use yet, because its hosts are still being found or checked."""
    return any(entry.get("value") for entry in answer.get("stats", []) if "name" in entry)
