"""Taking secrets out of text and data before anything is written down. Pure functions.

Three nets, one behind the other: values that are known to be secret (whatever escaping they went through), values whose
key or option name says so, and values that look like a secret (private keys, URLs with a password, tokens).
"""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote

MARK = "[redacted]"
MIN_LENGTH = 4

_WORDS = r"pass(?:word|wd|phrase)?s?|pwd|secrets?|tokens?|cookies?|credentials?"
_SECRET_NAME = re.compile(
    rf"(?:^|[^a-z])(?:[a-z0-9]*(?:password|passwd|passphrase|secret|token|apikey|privatekey)s?|{_WORDS}|keys?|encrypt|requirepass|masterauth|authorization|"
    r"secret_?id|pgpassword|userlist|vault_\w*)$"
)
_HARMLESS_NAME = re.compile(
    r"(?:_(?:file|files|path|paths|dir|directory|days|seconds|minutes|hours|bytes|bits|type|length|size|name|names|"
    r"count|policy|policies|group|mode|method|scope|ttl|url|port|enabled|required|encryption|algorithm|fingerprint|usage)"
    r"|public_?keys?|^host_?keys?|^known_hosts|^sort_?keys?|^primary_?keys?)$"
)
_SIGN = re.compile(r"[\\%&+']")
_CODE = re.compile(r"\\[uUx]|%[0-9a-fA-F]{2}")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_HARMLESS_VALUES = frozenset(
    {"true", "false", "none", "null", "yes", "no", "omit", "present", "absent", "always", "on_create", "root", MARK}
)

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)",
    re.DOTALL,
)
_PRIVATE_KEY_END = re.compile(
    r"(?:^[^\n]*?[A-Za-z0-9+/=]{16,}\s*\n)*^.*-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----", re.MULTILINE
)
_USERINFO = re.compile(
    r"(?<=://)[^/\s\"'<>@]*:[^/\s\"'<>]*@|(?<=://)[^/\s\"'<>@:]+:(?!\d+/)[^\s\"'<>@]*@|(?<=://)[^/\s\"'<>@:]{16,}@"
)
_HEADER = re.compile(
    r"((?:proxy-)?authorization|x-[a-z0-9-]*token|x-[a-z0-9-]*api-?key|set-cookie|cookie)(\\*[\"']?\s*[:=]\s*\\*[\"']?)"
    r"((?:(?:bearer|basic|digest|token)\s+)?[^\s\"'\\,;]+)",
    re.IGNORECASE,
)
_BEARER = re.compile(r"\b(bearer|basic)(\s+)(?!auth)([A-Za-z0-9._~+/-]{12,}=*)", re.IGNORECASE)
_BASE64_KEY = re.compile(r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])")
_UUID = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE)
_UUID_CONTEXT = re.compile(r"consul|token|acl|secret|accessor", re.IGNORECASE)
_QUOTED = r"\\*\"(?:[^\"\\\n]|\\+[^\"\n])*\\*\"|\\*'(?:[^'\\\n]|\\+[^'\n])*\\*'"
_PAIR = re.compile(
    r"(?<![\w.-])(?=[\w.-]*(?:pass|pwd|secret|token|cookie|credential|key|encrypt|auth|vault|userlist))([\w.-]{2,80})"
    rf"(\\*[\"']?\s*(?:[:=]|=>)\s*)(?![\w.-]+\\*[\"']?:\s)({_QUOTED}|[^\s,;}})\]&]+)",
    re.IGNORECASE,
)
_OPTION = re.compile(rf"(?<!\S)(--?[\w-]+)(\s+)(?!-)({_QUOTED}|\S+)")
_CONFIGURED = re.compile(
    r"\b(requirepass|masterauth|sentinel (?:auth-pass \S+|sentinel-pass))([ \t]+)\\*[\"']?(?!\[redacted\])[^\s\"']+"
)
_IDENTIFIED = re.compile(r"\b(IDENTIFIED BY|PASSWORD)(\s+)(E?'(?:[^'\\]|\\.|'')*')", re.IGNORECASE)


def is_secret_name(name):
    """Whether a variable, key or option of that name holds a secret."""
    folded = _CAMEL.sub("_", str(name)).lower().strip("-").replace("-", "_").replace(".", "_").replace(" ", "_")
    if _HARMLESS_NAME.search(folded):
        return False
    return bool(_SECRET_NAME.search(folded))


def _leaves(value):
    if isinstance(value, dict):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, (list, tuple, set)):
        for inner in value:
            yield from _leaves(inner)
    elif value is not None and not isinstance(value, bool):
        yield value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def secret_values(data, _secret=False):
    """The values in nested data whose key says that they are secret."""
    found = set()
    if isinstance(data, dict):
        named = data.get("name", data.get("key"))
        for key, value in data.items():
            if (
                is_secret_name(key)
                and not (isinstance(value, (dict, list)) and _structured(value))
                or key == "value"
                and isinstance(named, str)
                and is_secret_name(named)
            ):
                found.update(_leaves(value))
            else:
                found |= secret_values(value)
    elif isinstance(data, (list, tuple, set)):
        for value in data:
            found |= secret_values(value)
    return {value for value in found if _worth(value)}


def _structured(value):
    """Whether it is a collection of named things (`tokens: [{name: …, secret: …}]`), not of secrets."""
    items = value.values() if isinstance(value, dict) else value
    return any(isinstance(item, dict) for item in items)


def _worth(value):
    return len(value) >= MIN_LENGTH and value.lower() not in _HARMLESS_VALUES


_SPECIAL = {
    "\n": [r"\\+n"],
    "\r": [r"\\+r"],
    "\t": [r"\\+t"],
    "\b": [r"\\+b"],
    "\f": [r"\\+f"],
    "\0": [r"\\+0"],
    " ": [r"\+"],
    "'": [r"'\"'\"'", r"'\\''", "''", "&#0?39;", "&#[xX]27;", "&apos;"],
    '"': ["&(?:quot|#34);"],
    "&": ["&amp;"],
    "<": ["&lt;"],
    ">": ["&gt;"],
}


def _hex(digits):
    return "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in digits)


def _one(character):
    """A pattern for one character in any number of layers of JSON, Python, shell, HTML or URL escaping."""
    code = ord(character)
    ways = [r"\\*" + re.escape(character), r"\\+[uU]0*" + _hex(f"{code:x}")]
    if code < 256:
        ways.append(r"\\+x" + _hex(f"{code:02x}"))
    if code > 0xFFFF:
        ways.append("".join(r"\\+u" + _hex(half) for half in json.dumps(character)[1:-1].split("\\u")[1:]))
    ways.append("".join("%(?:25)*" + _hex(f"{byte:02x}") for byte in character.encode("utf-8", "surrogatepass")))
    ways += _SPECIAL.get(character, [])
    return "(?:" + "|".join(ways) + ")"


class Redactor:
    """Takes the given secrets, and whatever looks like one, out of text and data."""

    def __init__(self, secrets=()):
        values = set()
        for secret in secrets:
            secret = str(secret)
            if len(secret) < MIN_LENGTH:
                continue
            values.add(secret)
            values.add(secret.strip())
            if "\n" in secret:  # a log breaks it into lines
                values.update(
                    line.strip() for line in secret.splitlines() if len(line.strip()) >= 8 and "-----" not in line
                )
        values = {value for value in values if len(value) >= MIN_LENGTH and value not in MARK}
        encoded = set()
        for value in values:
            raw = value.encode("utf-8", "surrogatepass")
            encoded.add(base64.b64encode(raw).decode())
            encoded.add(base64.b64encode(raw).decode().rstrip("="))
            encoded.add(base64.urlsafe_b64encode(raw).decode().rstrip("="))
            encoded.add(quote(value, safe="", errors="surrogatepass"))
        self._literal = self._pattern(values | {value for value in encoded if len(value) >= MIN_LENGTH}, re.escape)
        # Escapes are looked for only where something is escaped: a plain value can only appear as \x41 or %41.
        self._plain = {value for value in values if value.isascii() and value.isalnum()}
        self._odd = values - self._plain
        self._compiled = {}

    @staticmethod
    def _pattern(values, how):
        return (
            re.compile("|".join(how(value) for value in sorted(values, key=lambda v: (-len(v), v)))) if values else None
        )

    def _escaped(self, values, kind):
        if kind not in self._compiled:
            self._compiled[kind] = self._pattern(values, lambda value: "".join(map(_one, value)))
        return self._compiled[kind]

    def _known(self, text):
        if self._literal is None:
            return text
        text = self._literal.sub(MARK, text)
        if self._odd and _SIGN.search(text):
            text = self._escaped(self._odd, "odd").sub(MARK, text)
        if self._plain and _CODE.search(text):
            text = "\n".join(
                self._escaped(self._plain, "plain").sub(MARK, line) if _CODE.search(line) else line
                for line in text.split("\n")
            )
        return text

    def text(self, text):
        """Text without secrets; doing it twice changes nothing more."""
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        text = self._known(str(text))
        if "PRIVATE KEY" in text:
            text = _PRIVATE_KEY.sub(MARK, text)
            text = _PRIVATE_KEY_END.sub(MARK, text)
        if "://" in text:
            text = _USERINFO.sub(f"{MARK}@", text)
        text = _HEADER.sub(rf"\1\2{MARK}", text)
        text = _BEARER.sub(rf"\1\2{MARK}", text)
        text = _CONFIGURED.sub(rf"\1\2{MARK}", text)
        text = _IDENTIFIED.sub(rf"\1\2'{MARK}'", text)
        text = _PAIR.sub(self._pair, text)
        text = _OPTION.sub(self._pair, text)
        text = _BASE64_KEY.sub(MARK, text)
        if _UUID.search(text):
            text = "\n".join(_UUID.sub(MARK, line) if _UUID_CONTEXT.search(line) else line for line in text.split("\n"))
        return text

    @staticmethod
    def _pair(match):
        name, between, value = match.groups()
        bare = value.strip("\\\"'")
        if not is_secret_name(name) or bare.lower() in _HARMLESS_VALUES or bare.startswith(("/", "{{", MARK)):
            return match[0]
        opening = re.match(r"\\*[\"']", value)
        closing = re.search(r"\\*[\"']$", value)
        if opening and closing and closing.start() >= opening.end():
            return f"{name}{between}{opening[0]}{MARK}{closing[0]}"
        return f"{name}{between}{MARK}"

    def data(self, data):
        """Nested data without secrets: by key, and every string in it as text."""
        if isinstance(data, dict):
            named = data.get("name", data.get("key"))
            clean = {}
            for key, value in data.items():
                secret = is_secret_name(key) or (key == "value" and isinstance(named, str) and is_secret_name(named))
                clean[self._known(str(key))] = self._hide(value) if secret else self.data(value)
            return clean
        if isinstance(data, (list, tuple, set, frozenset)):
            return [self.data(value) for value in data]
        if data is None or isinstance(data, bool):
            return data
        if isinstance(data, (int, float)):
            return MARK if self._known(str(data)) != str(data) else data
        return self.text(data)

    def _hide(self, value):
        if isinstance(value, dict):
            return {self._known(str(key)): self._hide(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self._hide(inner) for inner in value]
        if value is None or isinstance(value, bool) or value == "":
            return value
        return MARK
