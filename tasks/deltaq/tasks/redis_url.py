"""From what is set about a Redis to the URL by which redis-py and Celery find it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, quote, urlencode, urlsplit, urlunsplit

#: What redis-py knows; the last is encrypted.
SCHEMES = ("redis", "unix", "rediss")


def with_password(url: str, password: str | None) -> str:
    """Put a password into a URL that has none."""
    parts = urlsplit(url)
    if password is None or parts.password is not None:
        return url
    login, _, host = parts.netloc.rpartition("@")
    netloc = f"{login.rstrip(':')}:{quote(password, safe='')}@{host}"
    return f"{parts.scheme}://{netloc}{url.partition('://')[2].removeprefix(parts.netloc)}"


def with_certificates(url: str, *, ca: Path | None, cert: Path | None, key: Path | None) -> str:
    """Name the files of TLS in an encrypted URL; the server's certificate is always checked."""
    parts = urlsplit(url)
    if parts.scheme != "rediss":
        return url
    files = {"ssl_ca_certs": ca, "ssl_certfile": cert, "ssl_keyfile": key}
    query = {
        "ssl_cert_reqs": ["required"],
        **{name: [str(file)] for name, file in files.items() if file is not None},
        **parse_qs(parts.query),
    }
    return urlunsplit(parts._replace(query=urlencode(query, doseq=True, safe="/")))


def for_celery(url: str) -> str:
    """Write a URL as Celery reads it: it has names of its own for a Unix socket and its database."""
    if not url.startswith("unix://"):
        return url
    place, _, query = url.removeprefix("unix://").partition("?")
    database = parse_qs(query).get("db", ["0"])[0]
    return f"redis+socket://{place}?virtual_host={database}"
