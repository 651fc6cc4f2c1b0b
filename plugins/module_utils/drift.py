"""What differs between the inventory and the live system. Pure functions.

Both sides are the same role variables: `intended` as the inventory and the role's defaults give them, `live` as the role's
`export` reads them back. Order never matters, and secrets are never compared: they can't be read back.
"""

from __future__ import annotations

import json

from ansible_collections.sutazai.platform.plugins.module_utils.redaction import MARK, is_secret_name

NOT_SET = "(not set)"
MISSING, EXTRA, DIFFERENT = "missing", "extra", "different"
IDENTITIES = (("vhost", "name"), ("name",), ("user", "database"), ("id",), ("vhost",))
# Words that say the same in a configuration file and in YAML.
_WORDS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


def plain(value):
    """A value as it compares: `"1"` is 1 and `"yes"` is true, whoever quoted it."""
    if isinstance(value, str):
        folded = value.strip()
        if folded.lower() in _WORDS:
            return _WORDS[folded.lower()]
        try:
            return int(folded)
        except ValueError:
            pass
        try:
            return float(folded)
        except ValueError:
            return folded
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _identity(items):
    """The keys by which all these mappings can be told apart, or None."""
    if not items or not all(isinstance(item, dict) for item in items):
        return None
    for keys in IDENTITIES:
        if all(all(key in item for key in keys) for item in items):
            names = [tuple(str(item[key]) for key in keys) for item in items]
            if len(set(names)) == len(names):
                return keys
    return None


def _without_secrets(value):
    if isinstance(value, dict):
        return {str(key): _without_secrets(inner) for key, inner in value.items() if not is_secret_name(key)}
    if isinstance(value, (list, tuple)):
        return [_without_secrets(inner) for inner in value]
    return plain(value)


def _canonical(value):
    if isinstance(value, dict):
        return ["d", sorted((key, _canonical(inner)) for key, inner in value.items())]
    if isinstance(value, (list, tuple)):
        return ["l", sorted((_canonical(inner) for inner in value), key=lambda c: json.dumps(c, default=str))]
    return ["b", value] if isinstance(value, bool) else ["v", str(plain(value)) if value is not None else ""]


def same(one, other):
    """Whether two values say the same, whatever their order; nothing, an empty text, list and mapping are the same."""
    if one in (None, "", [], {}) and other in (None, "", [], {}):
        return not isinstance(one, bool) and not isinstance(other, bool)
    return json.dumps(_canonical(plain(one)), default=str) == json.dumps(_canonical(plain(other)), default=str)


def _row(path, kind, intended=None, live=None):
    return {"variable": path, "kind": kind, "intended": intended, "live": live}


def _compare(path, intended, live, named=False):
    if isinstance(intended, dict) and isinstance(live, dict):
        rows = []
        for key in sorted(set(intended) | set(live)):
            inner = f"{path}.{key}" if path else key
            if key in intended and key in live:
                rows += _compare(inner, intended[key], live[key])
            elif named:
                continue  # of a named object, what one side doesn't tell is a default
            elif key in intended and intended[key] not in (None, "", [], {}):
                rows.append(_row(inner, MISSING, intended=intended[key]))
            elif key in live and live[key] not in (None, "", [], {}):
                rows.append(_row(inner, EXTRA, live=live[key]))
        return rows
    if isinstance(intended, list) and isinstance(live, list):
        keys = _identity([*intended, *live]) if not (intended and live) else (_identity(intended) or ())
        if keys and _identity(live or intended) == keys:
            return _compare_named(path, keys, intended, live)
        if all(not isinstance(item, (dict, list)) for item in [*intended, *live]):
            rows = [_row(path, MISSING, intended=item) for item in _less(intended, live)]
            return rows + [_row(path, EXTRA, live=item) for item in _less(live, intended)]
    return [] if same(intended, live) else [_row(path, DIFFERENT, intended, live)]


def _less(items, others):
    """The items that others hasn't got, counting equal ones."""
    rest = list(others)
    left = []
    for item in items:
        found = next((index for index, other in enumerate(rest) if same(item, other)), None)
        if found is None:
            left.append(item)
        else:
            rest.pop(found)
    return left


def _compare_named(path, keys, intended, live):
    def by_name(items):
        return {tuple(str(item[key]) for key in keys): item for item in items}

    wanted, there, rows = by_name(intended), by_name(live), []
    for name in sorted(set(wanted) | set(there)):
        inner = f"{path}[{'/'.join(name)}]"
        if name not in there:
            rows.append(_row(inner, MISSING, intended=wanted[name]))
        elif name not in wanted:
            rows.append(_row(inner, EXTRA, live=there[name]))
        else:
            rows += _compare(inner, wanted[name], there[name], named=True)
    return rows


def differences(intended, live):
    """Rows of {variable, kind, intended, live}: what the inventory has and the system hasn't is `missing`, the other way
    round `extra`. Only variables that `live` has are compared: what an export doesn't read isn't known."""
    rows = []
    for name in sorted(live):
        if is_secret_name(name) or intended.get(name, NOT_SET) == NOT_SET:
            continue
        rows += _compare(name, _without_secrets(intended[name]), _without_secrets(live[name]))
    return rows


def merged(rows):
    """Rows of several hosts, {component, host, …}, the same difference once with all its hosts."""
    found = {}
    for row in rows:
        key = json.dumps(
            [row.get("component", ""), row["variable"], row["kind"], row["intended"], row["live"]],
            sort_keys=True,
            default=str,
        )
        entry = found.setdefault(key, {**row, "hosts": []})
        entry.pop("host", None)
        if row.get("host") and row["host"] not in entry["hosts"]:
            entry["hosts"].append(row["host"])
    return sorted(found.values(), key=lambda row: (row.get("component", ""), row["variable"], row["kind"]))


def _shown(value, width):
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def table(rows, width=36):
    """The differences as lines of a table for a person."""
    head = ("component", "variable", "drift", "inventory", "live", "hosts")
    body = []
    for row in merged(rows):
        hosts = row["hosts"]
        shown = ", ".join(hosts[:3]) + (f" +{len(hosts) - 3}" if len(hosts) > 3 else "")
        body.append(
            (
                row.get("component", ""),
                row["variable"],
                row["kind"],
                _shown(row["intended"], width),
                _shown(row["live"], width),
                shown,
            )
        )
    if not body:
        return []
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
    lines = [head, tuple("-" * size for size in widths), *body]
    return ["  ".join(cell.ljust(size) for cell, size in zip(line, widths)).rstrip() for line in lines]


def inventory_shape(exports):
    """{host: {variable: value}} of one group as (variables that all hosts share, {host: its own}).

    Secrets aren't written, only that there are some."""
    hosts = sorted(exports)
    common, own = {}, {host: {} for host in hosts}
    for name in sorted({name for values in exports.values() for name in values}):
        having = [host for host in hosts if name in exports[host]]
        value = _masked(name, exports[having[0]][name])
        if len(having) == len(hosts) and all(same(exports[host][name], exports[having[0]][name]) for host in having):
            common[name] = value
        else:
            for host in having:
                own[host][name] = _masked(name, exports[host][name])
    return common, {host: values for host, values in own.items() if values}


def _masked(name, value):
    if is_secret_name(name) and not isinstance(value, (dict, list)):
        return MARK
    if isinstance(value, dict):
        return {str(key): _masked(key, inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(name if not isinstance(inner, (dict, list)) else "", inner) for inner in value]
    return value
