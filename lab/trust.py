"""Certificate authorities that this machine trusts beyond Debian's own set: networks that inspect TLS need them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
PACKAGED = Path("/usr/share/ca-certificates")


def certificates(text: str) -> list[str]:
    """The PEM blocks in a text, with their white space made alike."""
    return ["\n".join(line.strip() for line in block.strip().splitlines()) for block in PEM.findall(text)]


def additional(bundle: str, packaged: Iterable[str]) -> list[str]:
    """Certificates of the bundle that no packaged file has."""
    known = {certificate for text in packaged for certificate in certificates(text)}
    found: list[str] = []
    for certificate in certificates(bundle):
        if certificate not in known and certificate not in found:
            found.append(certificate)
    return found


def discover() -> list[str]:
    packaged = [path.read_text(errors="replace") for path in sorted(PACKAGED.rglob("*.crt"))]
    if not packaged:
        return []  # not a Debian layout: can't tell which are extra
    bundles = [BUNDLE, Path(os.environ.get("SSL_CERT_FILE", BUNDLE))]
    text = "\n".join(path.read_text(errors="replace") for path in dict.fromkeys(bundles) if path.is_file())
    return additional(text, packaged)
