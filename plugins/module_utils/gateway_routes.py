# Apache License 2.0 (see LICENSE)
"""Reads and checks the gateway's table of upstreams, services and routes, as the inventory has it. Pure functions."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.sutazai.platform.plugins.module_utils.gateway_model import (
    HIGHEST_WEIGHT,
    METHODS,
    PERIOD_SECONDS,
    ActiveCheck,
    Host,
    PassiveCheck,
    RateLimit,
    Route,
    Service,
    Share,
    Table,
    Tls,
    Upstream,
    is_address,
    same_match,
)
from ansible_collections.sutazai.platform.plugins.module_utils.preflight.model import nearest

#: Where the table is set, for messages.
VARIABLE = "gateway_routes"
#: Services and upstreams name clusters, files and Kong's upstreams, which have to be host names.
NAME = re.compile(r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")
LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
HOST_NAME = re.compile(rf"^(?!.*\.[0-9]+$)(?=.{{1,253}}$){LABEL}(\.{LABEL})*$")
WILDCARD = re.compile(rf"^\*\.{LABEL}(\.{LABEL})*$")
#: No percent signs: engines differ in when they decode them. No empty segments: both engines merge slashes before they match.
PATH = re.compile(r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*/?)?$")
HEADER = re.compile(r"^[A-Za-z0-9-]+$")
#: Kong's limit for the interval of checks.
LONGEST_SECONDS = 65535


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `what` and `remedy` are sentences, `where` is the place in the table."""

    what: str
    where: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what} ({self.where}) {self.remedy}"


class WrongTable(Exception):
    """The table can't be used. All that is wrong with it is in `problems`."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(f"{VARIABLE} can't be used:\n" + "\n".join(f"- {problem}" for problem in problems))


def read(table: Any, where: str = VARIABLE) -> Table:
    """The table as objects. Raises WrongTable with everything that is wrong."""
    found, problems = examine(table, where)
    if problems:
        raise WrongTable(problems)
    return found


def examine(table: Any, where: str = VARIABLE) -> tuple[Table, list[Problem]]:
    """What could be read of the table, and everything that is wrong with it."""
    reader = Reader()
    entry = reader.mapping(table, where, "gateway_routes", required=("upstreams", "services", "routes"))
    upstreams = {each.name: each for each in reader.several(entry, "upstreams", where, reader.upstream)}
    services = {each.name: each for each in reader.several(entry, "services", where, reader.service)}
    routes = tuple(reader.several(entry, "routes", where, reader.route))
    found = Table(upstreams, services, routes)
    reader.problems += [
        *unknown_upstreams(found, reader.names["upstreams"], where),
        *idle_services(found, where),
        *unknown_services(found, reader.names["services"], where),
        *ambiguous_routes(found, where),
    ]
    if "routes" in entry and isinstance(entry["routes"], list) and not entry["routes"]:
        reader.say("There are no routes: the gateway would answer nothing.", f"{where}.routes", "Declare at least one.")
    return found, reader.problems


# Rules about the whole table ---------------------------------------------------------------------


def unknown_upstreams(table: Table, names: set[str], where: str) -> Iterator[Problem]:
    for service in table.services.values():
        for share in service.shares:
            if share.upstream not in names:
                routes = [route.name for route in table.routes if route.service == service.name]
                through = f", and so the route {', '.join(routes)}," if routes else ""
                yield Problem(
                    f"The service {service.name}{through} leads to the upstream {share.upstream}, which isn't declared.",
                    f"{where}.services[{service.name}].upstreams",
                    _meant(share.upstream, names, "upstreams"),
                )


def unknown_services(table: Table, names: set[str], where: str) -> Iterator[Problem]:
    for route in table.routes:
        if route.service and route.service not in names:
            yield Problem(
                f"The route {route.name} leads to the service {route.service}, which isn't declared.",
                f"{where}.routes[{route.name}].service",
                _meant(route.service, names, "services"),
            )


def idle_services(table: Table, where: str) -> Iterator[Problem]:
    """Services that no host would serve."""
    for service in table.services.values():
        place = f"{where}.services[{service.name}].upstreams"
        if service.shares and not any(share.weight for share in service.shares):
            yield Problem(
                f"All weights of the service {service.name} are zero: no upstream would get its requests.",
                place,
                "Give at least one of its upstreams a weight above 0.",
            )
        for share in service.shares:
            upstream = table.upstreams.get(share.upstream)
            if not share.weight or upstream is None or any(host.weight for host in upstream.hosts):
                continue
            why = "whose hosts all have the weight zero" if upstream.hosts else "which has no hosts"
            yield Problem(
                f"The service {service.name} sends requests to the upstream {upstream.name}, {why}.",
                f"{where}.upstreams[{upstream.name}].hosts",
                f"Give the upstream a host with a weight above 0, or {upstream.name} the weight 0 in {service.name}.",
            )


def ambiguous_routes(table: Table, where: str) -> Iterator[Problem]:
    alike: dict[tuple[str, bool], list[Route]] = {}
    for route in table.routes:
        alike.setdefault((route.path, route.exact), []).append(route)
    for routes in alike.values():
        for one, other in itertools.combinations(routes, 2):
            if same_match(one, other):
                yield Problem(
                    f"The routes {one.name} and {other.name} have the same match: {_common(one, other)}.",
                    f"{where}.routes",
                    "Remove one, or give them different hosts, paths or methods; a route for some methods stands before one for any.",
                )


def _common(one: Route, other: Route) -> str:
    hosts = [host for host in one.hosts if host in other.hosts]
    methods = [method for method in one.methods if method in other.methods]
    kind = "exactly" if one.exact else "and below"
    path = f"the path {one.path} {kind}" if one.exact or one.path != "/" else "every path"
    return f"{', '.join(methods) or 'any method'}, {', '.join(hosts) or 'any host'}, {path}"


def _meant(name: str, names: set[str], kind: str) -> str:
    meant = nearest(name, names)
    if meant:
        return f"Did you mean {meant}?"
    return f"Declare it, or name one of: {', '.join(sorted(names)) or f'there are no {kind}'}."


# Reading -----------------------------------------------------------------------------------------


KEYS: dict[str, tuple[str, ...]] = {
    "gateway_routes": ("upstreams", "services", "routes"),
    "upstream": ("name", "hosts"),
    "host": ("address", "port", "weight"),
    "service": (
        "name",
        "upstreams",
        "protocol",
        "balance",
        "connect_timeout_seconds",
        "idle_timeout_seconds",
        "retries",
        "tls",
        "active_check",
        "passive_check",
    ),
    "upstream of a service": ("name", "weight"),
    "tls": ("server_name", "verify"),
    "active_check": ("path", "interval_seconds", "timeout_seconds", "healthy_after", "unhealthy_after", "statuses"),
    "passive_check": ("failures", "ejection_seconds"),
    "route": ("name", "service", "path", "path_match", "hosts", "methods", "strip_path", "repeatable", "rate_limit"),
    "rate_limit": ("requests", "per", "by", "header"),
}


class Reader:
    """Reads parts of the table and notes what is wrong. What is wrong is read as its default, so that the rest can be looked at."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        #: All names that are there, of what couldn't be read too: whatever refers to them isn't wrong.
        self.names: dict[str, set[str]] = {"upstreams": set(), "services": set(), "routes": set()}

    def say(self, what: str, where: str, remedy: str) -> None:
        self.problems.append(Problem(what, where, remedy))

    # Parts

    def upstream(self, value: Any, where: str) -> Upstream | None:
        entry = self.mapping(value, where, "upstream", required=("name", "hosts"))
        name, hosts = self.name(entry, where), []
        for number, each in enumerate(self.sequence(entry, "hosts", where)):
            place = f"{where}.hosts[{number}]"
            part = self.mapping(each, place, "host", required=("address", "port"))
            if not part:
                continue
            host = Host(
                self.address(part, place),
                self.whole(part, "port", place, 0, 1, 65535) if "port" in part else 0,
                self.whole(part, "weight", place, 1, 0, HIGHEST_WEIGHT),
            )
            if any((host.address, host.port) == (other.address, other.port) for other in hosts):
                self.say(
                    f"The host {host.target} is listed twice.", place, "List it once; weight gives it more requests."
                )
            hosts.append(host)
        return Upstream(name, tuple(hosts)) if name else None

    def service(self, value: Any, where: str) -> Service | None:
        entry = self.mapping(value, where, "service", required=("name", "upstreams"))
        name, shares = self.name(entry, where), []
        for number, each in enumerate(self.sequence(entry, "upstreams", where)):
            place = f"{where}.upstreams[{number}]"
            part = self.mapping(each, place, "upstream of a service", required=("name",))
            if "name" not in part:
                continue
            share = Share(str(part["name"]), self.whole(part, "weight", place, 100, 0, HIGHEST_WEIGHT))
            if any(share.upstream == other.upstream for other in shares):
                self.say(f"The upstream {share.upstream} is listed twice.", place, "List it once, with its weight.")
            shares.append(share)
        if isinstance(entry.get("upstreams"), list) and not entry["upstreams"]:
            self.say(f"The service {name} has no upstreams.", f"{where}.upstreams", "Name at least one.")
        protocol = self.choice(entry, "protocol", where, ("http", "https"))
        active = self.active_check(entry, where)
        return (
            Service(
                name,
                tuple(shares),
                protocol,
                self.choice(entry, "balance", where, ("round_robin", "least_requests")),
                self.seconds(entry, "connect_timeout_seconds", where, Service.connect_timeout_seconds),
                self.seconds(entry, "idle_timeout_seconds", where, Service.idle_timeout_seconds),
                self.whole(entry, "retries", where, Service.retries, 0, 10),
                self.tls(entry, where, protocol),
                active,
                self.passive_check(entry, where),
            )
            if name
            else None
        )

    def tls(self, service: dict, where: str, protocol: str) -> Tls | None:
        place = f"{where}.tls"
        if protocol != "https":
            if service.get("tls") is not None:
                self.say(
                    "TLS settings are given for a service that is talked to in plain text: they would be ignored.",
                    place,
                    "Set protocol to https, or remove tls.",
                )
            return None
        entry = self.mapping(service.get("tls") or {}, place, "tls")
        verify = self.boolean(entry, "verify", place, True)
        name = str(entry.get("server_name") or "")
        if name and not HOST_NAME.fullmatch(name):
            self.say(
                f"server_name is {name!r}, which is no host name.",
                f"{place}.server_name",
                "Give a name that the hosts' certificates have, such as agents.service.consul.",
            )
        elif not name and verify:
            self.say(
                "The hosts' certificates are to be verified, but nothing says which name they must have.",
                place,
                "Set tls.server_name, or tls.verify to false where anybody on the way may be trusted.",
            )
        return Tls(name, verify)

    def active_check(self, service: dict, where: str) -> ActiveCheck | None:
        if service.get("active_check") is None:
            return None
        place = f"{where}.active_check"
        entry = self.mapping(service["active_check"], place, "active_check", required=("path",))
        statuses = [
            self.number(status, f"{place}.statuses[{number}]", 200, 100, 599, whole=True)
            for number, status in enumerate(self.sequence(entry, "statuses", place, [200]))
        ]
        if not statuses:
            self.say("No status counts as healthy.", f"{place}.statuses", "Name at least one, such as 200.")
        check = ActiveCheck(
            self.path(entry, place),
            self.seconds(entry, "interval_seconds", place, ActiveCheck.interval_seconds),
            self.seconds(entry, "timeout_seconds", place, ActiveCheck.timeout_seconds),
            self.whole(entry, "healthy_after", place, ActiveCheck.healthy_after, 1, 100),
            self.whole(entry, "unhealthy_after", place, ActiveCheck.unhealthy_after, 1, 100),
            tuple(int(status) for status in statuses),
        )
        if check.timeout_seconds > check.interval_seconds:
            self.say(
                f"A check may take {check.timeout_seconds:g} s, but the next one is due after {check.interval_seconds:g} s.",
                f"{place}.timeout_seconds",
                "Set timeout_seconds to interval_seconds or less.",
            )
        return check

    def passive_check(self, service: dict, where: str) -> PassiveCheck | None:
        if service.get("passive_check") is None:
            return None
        place = f"{where}.passive_check"
        entry = self.mapping(service["passive_check"], place, "passive_check")
        if service.get("active_check") is None:
            self.say(
                "Hosts are taken out by what becomes of requests, but nothing would take them in again.",
                place,
                "Declare an active_check too: Kong takes a host back only after one.",
            )
        return PassiveCheck(
            self.whole(entry, "failures", place, PassiveCheck.failures, 1, 255),
            self.seconds(entry, "ejection_seconds", place, PassiveCheck.ejection_seconds),
        )

    def route(self, value: Any, where: str) -> Route | None:
        entry = self.mapping(value, where, "route", required=("name", "service"))
        name = self.name(entry, where)
        exact = self.choice(entry, "path_match", where, ("prefix", "exact")) == "exact"
        path = self.path(entry, where)
        if not exact and path != "/" and path.endswith("/"):
            self.say(
                f"The prefix {path} ends with a slash.",
                f"{where}.path",
                f"Write {path.rstrip('/')}, which takes {path.rstrip('/')} and everything below it.",
            )
        strip = self.boolean(entry, "strip_path", where, False)
        methods = []
        for number, each in enumerate(self.sequence(entry, "methods", where, [])):
            method = str(each)
            if method not in METHODS:
                remedy = (
                    f"Write {method.upper()}." if method.upper() in METHODS else f"Use one of {', '.join(METHODS)}."
                )
                self.say(f"The method {method!r} is unknown.", f"{where}.methods[{number}]", remedy)
            methods.append(method)
        return (
            Route(
                name,
                str(entry.get("service") or ""),
                path,
                exact,
                self.route_hosts(entry, where),
                tuple(dict.fromkeys(methods)),
                strip,
                self.boolean(entry, "repeatable", where, False),
                self.rate_limit(entry, where),
            )
            if name
            else None
        )

    def route_hosts(self, route: dict, where: str) -> tuple[str, ...]:
        hosts = []
        for number, each in enumerate(self.sequence(route, "hosts", where, [])):
            host = str(each).lower()
            if not (HOST_NAME.fullmatch(host) or WILDCARD.fullmatch(host)):
                self.say(
                    f"{each!r} is no host that requests could be for.",
                    f"{where}.hosts[{number}]",
                    "Give a host name, or *. and a domain; leave hosts out to take requests for any host.",
                )
            hosts.append(host)
        if len(hosts) > 1 and any(host.startswith("*") for host in hosts):
            self.say(
                "A route has a wildcard beside other hosts.",
                f"{where}.hosts",
                "Make a route of its own for each wildcard: what stands before what would depend on the engine.",
            )
        return tuple(dict.fromkeys(hosts))

    def rate_limit(self, route: dict, where: str) -> RateLimit | None:
        if route.get("rate_limit") is None:
            return None
        place = f"{where}.rate_limit"
        entry = self.mapping(route["rate_limit"], place, "rate_limit", required=("requests",))
        requests = entry.get("requests", 1)
        if _number(requests) == 0:
            self.say(
                "A rate limit of 0 would refuse every request.",
                f"{place}.requests",
                "Give the requests that are allowed, or remove rate_limit (no limit) or the route (no requests).",
            )
            requests = 1
        requests = self.number(requests, f"{place}.requests", 1, 1, 10**9, whole=True)
        by = self.choice(entry, "by", place, ("client", "route", "header"))
        header = str(entry.get("header") or "")
        if by == "header" and not HEADER.fullmatch(header):
            self.say(
                "Requests are to be counted by a header, but none is named."
                if not header
                else f"{header!r} is no name of a header.",
                f"{place}.header",
                "Set it, such as X-API-Key. Requests without the header are counted by the client's address.",
            )
        elif by != "header" and header:
            self.say(
                f"A header is named, but requests are counted by {by}: it would be ignored.",
                f"{place}.header",
                "Set by to header, or remove header.",
            )
        return RateLimit(int(requests), self.choice(entry, "per", place, tuple(PERIOD_SECONDS)), by, header)

    # Values

    def several(self, entry: dict, key: str, where: str, read_one: Any) -> list[Any]:
        """The entries of a list, called by their names. One name stands for one entry."""
        found, seen = [], self.names[key]
        for number, value in enumerate(self.sequence(entry, key, where)):
            name = str(value["name"]) if isinstance(value, dict) and value.get("name") else ""
            place = f"{where}.{key}[{name or number}]"
            if name and name in seen:
                self.say(f"{name} is declared twice.", place, "Give each a name of its own, or remove one.")
                continue
            seen.add(name)
            one = read_one(value, place)
            if one is not None:
                found.append(one)
        seen.discard("")
        return found

    def mapping(self, value: Any, where: str, kind: str, required: tuple[str, ...] = ()) -> dict:
        if not isinstance(value, dict):
            self.say(f"{_shown(value)} is no mapping.", where, f"Give a mapping of {', '.join(KEYS[kind])}.")
            return {}
        for key in value:
            if key not in KEYS[kind]:
                meant = nearest(str(key), KEYS[kind], cutoff=0.6)
                self.say(
                    f"The key {key} is unknown and would be ignored.",
                    where,
                    f"Did you mean {meant}?" if meant else f"Known are {', '.join(KEYS[kind])}.",
                )
        for key in required:
            if value.get(key) in (None, ""):
                self.say(f"{key} is missing.", where, f"Set {key}.")
        return value

    def sequence(self, entry: dict, key: str, where: str, default: Any = None) -> list:
        value = entry.get(key)
        if value is None:
            return default or []
        if not isinstance(value, (list, tuple)):
            self.say(f"{key} is {_shown(value)}, which is no list.", f"{where}.{key}", "Give a list.")
            return default or []
        return list(value)

    def name(self, entry: dict, where: str) -> str:
        name = str(entry.get("name") or "")
        if name and not NAME.fullmatch(name):
            self.say(
                f"{name!r} is no name.",
                where,
                "Use up to 63 lower-case letters, digits and hyphens, such as agents-blue.",
            )
        return name

    def address(self, entry: dict, where: str) -> str:
        address = str(entry.get("address") or "")
        if address and not (is_address(address) or HOST_NAME.fullmatch(address)):
            self.say(
                f"{address!r} is neither an IP address nor a host name.",
                f"{where}.address",
                "Give the address alone; the port has its own key.",
            )
        return address

    def path(self, entry: dict, where: str) -> str:
        path = str(entry.get("path") or "/")
        if not PATH.fullmatch(path) or "/../" in f"{path}/" or "/./" in f"{path}/":
            self.say(
                f"{path!r} is no path that is taken literally.",
                f"{where}.path",
                "Begin with a slash and use letters, digits, -, ., _, ~ and single slashes.",
            )
            return "/"
        return path

    def choice(self, entry: dict, key: str, where: str, choices: tuple[str, ...]) -> str:
        """The first choice is the default."""
        value = entry.get(key)
        if value is None:
            return choices[0]
        if value not in choices:
            self.say(f"{key} is {_shown(value)}.", f"{where}.{key}", f"Use one of {', '.join(choices)}.")
            return choices[0]
        return str(value)

    def boolean(self, entry: dict, key: str, where: str, default: bool) -> bool:
        value = entry.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.say(f"{key} is {_shown(value)}.", f"{where}.{key}", "Use true or false.")
            return default
        return value

    def seconds(self, entry: dict, key: str, where: str, default: float) -> float:
        """Unit and meaning are in the key's name, so it is a number."""
        value = entry.get(key)
        if value is None:
            return default
        number = _number(value)
        if number is None or not 0.001 <= number <= LONGEST_SECONDS:
            self.say(
                f"{key} is {_shown(value)}, which is no duration in seconds.",
                f"{where}.{key}",
                f"Give a number above 0 and up to {LONGEST_SECONDS} without a unit, such as {default:g}.",
            )
            return default
        return number

    def whole(self, entry: dict, key: str, where: str, default: int, lowest: int, highest: int) -> int:
        value = entry.get(key)
        return default if value is None else int(self.number(value, f"{where}.{key}", default, lowest, highest, True))

    def number(self, value: Any, where: str, default: float, lowest: int, highest: int, whole: bool = False) -> float:
        number = _number(value)
        if number is None or not lowest <= number <= highest or (whole and number != int(number)):
            key = re.sub(r"\[\d+\]$", "", where).rsplit(".", 1)[-1]
            self.say(
                f"{key} is {_shown(value)}.",
                where,
                f"Give a {'whole ' if whole else ''}number from {lowest} to {highest}.",
            )
            return default
        return number


def _number(value: Any) -> float | None:
    """A number; of text too, because that is what comes from the command line."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and not re.fullmatch(r"-?\d+(\.\d+)?", value):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "nothing" if value is None else repr(str(value) if isinstance(value, str) else value)
