"""What a query may ask of a table; both engines check it here, in these words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from deltaq.tasks.errors import InvalidRequest, SchemaMismatch, VersionNotFound
from deltaq.tasks.query import Read
from deltaq.tasks.suggest import did_you_mean

#: As DESCRIBE HISTORY names them; what it gives as a map is JSON text.
_HISTORY = pa.schema(
    [
        ("version", pa.int64()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("operation", pa.string()),
        ("operationParameters", pa.string()),
        ("userMetadata", pa.string()),
        ("engineInfo", pa.string()),
        ("operationMetrics", pa.string()),
    ]
)


def check_version(version: int, newest: int, *, name: str) -> int:
    """Return a version that a table may have.

    Raises:
        VersionNotFound: It has not come to it yet.
    """
    if not 0 <= version <= newest:
        raise VersionNotFound(
            f"table {name} has no version {version}; the newest is {newest}",
            table=name,
            details={"newest": newest},
        )
    return version


def moment(text: str, *, name: str) -> datetime:
    """Read a time; one without a zone is UTC.

    Raises:
        InvalidRequest: It is none.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidRequest(
            f"timestamp={text!r} is not in ISO 8601, as 2024-05-31T12:00:00Z is", table=name
        ) from exc
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def too_early(text: str, *, name: str) -> VersionNotFound:
    """Make the error for a time before the first version that a table keeps."""
    return VersionNotFound(
        f"table {name} was not there at {text}; its log begins later", table=name
    )


def asked_columns(query: Read, names: Sequence[str]) -> list[str]:
    """List the columns that a query asks for.

    Raises:
        InvalidRequest: It asks for none.
        SchemaMismatch: Some are not there; they are named.
    """
    if query.columns is None:
        return list(names)
    if not query.columns:
        raise InvalidRequest("columns=[] asks for nothing", table=query.table)
    if unknown := [c for c in query.columns if c not in names]:
        told = "; ".join(f"{c!r}{did_you_mean(c, names)}" for c in unknown)
        raise SchemaMismatch(
            f"table {query.table} has no column {told}",
            table=query.table,
            details={"columns": unknown},
        )
    return list(query.columns)


def history_table(commits: Iterable[dict[str, Any]]) -> pa.Table:
    """Make a table of what a log says of commits."""
    rows = [dict(commit) for commit in commits]
    for row in rows:
        for name in ("operationParameters", "operationMetrics"):
            if row.get(name) is not None:
                row[name] = json.dumps(dict(row[name]))
    return pa.Table.from_pylist(rows, schema=_HISTORY)
