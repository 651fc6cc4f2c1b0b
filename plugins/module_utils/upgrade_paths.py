# Apache License 2.0 (see LICENSE)
"""From which version to which a component may go in one step. Data with its source, and what a person is told of a step that isn't allowed."""

from __future__ import annotations

import re

from .preflight.model import version_tuple

Version = tuple[int, ...]

#: https://developer.hashicorp.com/consul/docs/upgrade/instructions: "each upgrade should jump at most 2 major versions", by which
#: 1.19, 1.20, … are meant; 2.0 comes after 1.22, and is reached from 1.21 on.
CONSUL_STEP = 2
CONSUL_LAST_OF_1 = 22

#: https://www.rabbitmq.com/docs/upgrade, "RabbitMQ version upgradability": the series that lead to a series, and the least version in them.
RABBITMQ_FROM: dict[Version, tuple[Version, ...]] = {
    (3, 9): ((3, 8),),
    (3, 10): ((3, 9),),
    (3, 11): ((3, 10),),
    (3, 12): ((3, 11, 18),),
    (3, 13): ((3, 12),),
    (4, 0): ((3, 13),),
    (4, 1): ((3, 13), (4, 0)),
    (4, 2): ((3, 13), (4, 0), (4, 1)),
    (4, 3): ((4, 2),),
}

#: https://redis.io/docs/latest/operate/oss_and_stack/management/scaling/#upgrade-nodes-in-a-redis-cluster upgrades replicas before their
#: masters, so each replica has to read what an older master sends; a new major version reads the one before it.
REDIS_STEP = 1


def older(one: Version, other: Version) -> bool:
    """As far as both are known: 4.0 isn't older than 4.0.5."""
    known = min(len(one), len(other))
    return one[:known] < other[:known]


def dotted(version: Version) -> str:
    return ".".join(map(str, version))


def consul_step(before: Version, after: Version) -> str:
    """Up to two minor versions at a time, never back."""
    if older(after, before):
        return f"Consul can't be downgraded in place: set consul_version to {dotted(before)} or newer."
    if _consul_ordinal(after) - _consul_ordinal(before) > CONSUL_STEP:
        reachable = _consul_ordinal(before) + CONSUL_STEP
        first = f"1.{reachable}" if reachable <= CONSUL_LAST_OF_1 else f"2.{reachable - CONSUL_LAST_OF_1 - 1}"
        return f"Go by {first} first: Consul is upgraded by at most two minor versions at a time."
    return ""


def _consul_ordinal(version: Version) -> int:
    major, minor = (*version, 0, 0)[:2]
    return minor if major < 2 else CONSUL_LAST_OF_1 + 1 + minor


def rabbitmq_step(before: Version, after: Version) -> str:
    """Series by series up to 3.13, from there to any 4.x up to 4.2, and 4.3 from 4.2 alone; never back."""
    old, new = before[:2], after[:2]
    if older(after, before):
        return f"RabbitMQ can't be downgraded: install {dotted(before)} or newer."
    if old == new:
        return ""
    if new not in RABBITMQ_FROM:
        return f"The ways to {dotted(new)} aren't known here: look them up in RabbitMQ's table and add them to upgrade_paths.py."
    ways = RABBITMQ_FROM[new]
    if any(old == way[:2] and before >= way for way in ways):
        return ""
    if old < (3, 13) < new:
        return "Upgrade to 3.13 with every feature flag enabled first, series by series, or move to a new cluster (blue-green)."
    return f"Upgrade to {' or '.join(dotted(way) for way in ways)} with every feature flag enabled first."


def redis_step(before: Version, after: Version) -> str:
    if older(after, before):
        return "Redis can't be downgraded: an older one doesn't read a newer one's files and replication."
    if after[0] - before[0] > REDIS_STEP:
        return f"Go by {before[0] + 1} first: a replica has to understand the master that isn't upgraded yet."
    return ""


def postgresql_step(before: Version, after: Version) -> str:
    """https://www.postgresql.org/support/versioning/: minor releases keep the data's format, major ones don't."""
    if after[0] != before[0]:
        return (
            "Another major version converts the data, which replacing packages doesn't: move to a new cluster by logical "
            "replication, or stop this one for pg_upgrade."
        )
    return "PostgreSQL's minor releases are never taken back." if older(after, before) else ""


def patroni_step(before: Version, after: Version) -> str:
    """https://patroni.readthedocs.io/en/latest/releases.html: 3 still talks to what 2 wrote, 4 to what 3 wrote."""
    if older(after, before):
        return "Patroni can't be downgraded: its older release may not understand what is kept in Consul."
    return f"Go by {before[0] + 1} first." if after[0] - before[0] > 1 else ""


def forward_step(before: Version, after: Version) -> str:
    return "It isn't taken back by a rolling upgrade." if older(after, before) else ""


STEPS = {
    "consul": ("Consul", consul_step),
    "rabbitmq-server": ("RabbitMQ", rabbitmq_step),
    "redis-server": ("Redis", redis_step),
    "patroni": ("Patroni", patroni_step),
    "pgbouncer": ("PgBouncer", forward_step),
}


def step(package: str, before: str, after: str) -> str:
    """What a person is told of this step of a package or an artifact; empty when it is allowed."""
    old, new = version_tuple(before), version_tuple(after)
    if not old or not new or before == after:
        return ""
    if re.fullmatch(r"postgresql(-client)?-\d+", package):
        return postgresql_step(old, new)
    return STEPS.get(package, ("", forward_step))[1](old, new)
