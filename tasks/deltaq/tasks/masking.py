"""How secrets are kept out of what is shown: by the names of settings, and within URLs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

MASK = "***"
#: Spark settings whose values are secrets; as spark.redaction.regex, with keys of storage.
_SECRET = re.compile(r"secret|password|token|credential|access[._-]?key|account[._-]?key", re.I)


def masked_values(values: Mapping[str, str]) -> dict[str, str]:
    """Write settings of Spark without the secrets among them."""
    return {name: MASK if _SECRET.search(name) else value for name, value in values.items()}


def secret_values(values: Mapping[str, str]) -> list[str]:
    """List the secrets among settings of Spark."""
    return [value for name, value in values.items() if _SECRET.search(name)]


def masked_url(url: str) -> str:
    """Write a URL without its passwords, wherever they stand."""
    parts = urlsplit(url)
    login, at, host = parts.netloc.rpartition("@")
    user, colon, _ = login.partition(":")
    netloc = f"{user}{colon}{MASK if colon else ''}{at}{host}"
    query = re.sub(r"(?i)((?:^|&)[^=&]*password=)[^&]*", rf"\g<1>{MASK}", parts.query)
    start = f"{parts.scheme}://{netloc}{parts.path}"
    return f"{start}?{query}" if query else start
