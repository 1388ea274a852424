"""What a query may ask of a table; both engines check it here, in these words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from deltaq.tasks.errors import (
    InvalidRequest,
    ResultTooLarge,
    SchemaMismatch,
    VersionNotFound,
)
from deltaq.tasks.location import Location
from deltaq.tasks.query import Read
from deltaq.tasks.suggest import did_you_mean
from deltaq.worker.commits import changed_rows, engine_of
from deltaq.worker.ledger import log_entries, log_entry, parse_note

#: As DESCRIBE HISTORY names them, and ours; what it gives as a map is JSON text.
_HISTORY = pa.schema(
    [
        ("version", pa.int64()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("operation", pa.string()),
        # Read from those below, which each engine writes in its own way.
        ("rows", pa.int64()),
        ("engine", pa.string()),
        ("request_ids", pa.list_(pa.string())),
        # Who submitted them.
        ("user", pa.string()),
        ("operationParameters", pa.string()),
        ("userMetadata", pa.string()),
        ("engineInfo", pa.string()),
        ("operationMetrics", pa.string()),
        # Null unless the writer told.
        ("userId", pa.string()),
        ("userName", pa.string()),
        ("readVersion", pa.int64()),
        ("isolationLevel", pa.string()),
        ("isBlindAppend", pa.bool_()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Most:
    """How large the result of a query may be; bytes are counted uncompressed."""

    rows: int
    bytes: int

    def check(self, rows: int, size_bytes: int) -> None:
        """Refuse a result that is larger.

        Raises:
            ResultTooLarge: It is.
        """
        for name, found, limit in (
            ("max_rows", rows, self.rows),
            ("max_bytes", size_bytes, self.bytes),
        ):
            if found > limit:
                raise ResultTooLarge(
                    f"the result has more than {name}={limit}; select less, or call with a larger "
                    f"{name}=",
                    details={name: limit},
                )


def check_version(version: int, newest: int, *, name: str, path: Location) -> int:
    """Return a version that a table has, and whose log it still keeps.

    Raises:
        VersionNotFound: It has not come to it yet, or no longer keeps it.
    """
    oldest = oldest_version(path)
    if oldest <= version <= newest:
        return version
    kept = f"the newest is {newest}" if not oldest else f"it keeps versions {oldest} to {newest}"
    raise VersionNotFound(
        f"table {name} has no version {version}; {kept}",
        table=name,
        details={"oldest": oldest, "newest": newest},
    )


def oldest_version(path: Location) -> int:
    """Find the oldest version that a table's log still tells of completely.

    Once commits have been cleaned away, that is the first checkpoint with all commits after it.
    """
    first = min((int(e.stem) for e in log_entries(path)), default=0)
    if first == 0:
        return 0
    names = (f.name for f in (path / "_delta_log").glob("*.checkpoint*"))
    checkpoints = {int(name.partition(".")[0]) for name in names if name[:1].isdigit()}
    return min((c for c in checkpoints if c >= first - 1), default=first)


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


def too_early(text: str, *, name: str, path: Location) -> VersionNotFound:
    """Make the error for a time before the first version that a table keeps."""
    oldest = oldest_version(path)
    entry = log_entry(path, oldest)
    since = ""
    if entry.is_file():
        began = datetime.fromtimestamp(entry.stat().st_mtime, UTC).isoformat(timespec="seconds")
        since = f", with version {oldest} at {began}"
    return VersionNotFound(
        f"table {name} was not there at {text}; its log begins later{since}",
        table=name,
        details={"oldest": oldest},
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
        note = parse_note(row.get("userMetadata") or "")
        row["rows"] = changed_rows(row["operation"], dict(row.get("operationMetrics") or {}), note)
        row["engine"] = engine_of(row.get("engineInfo"))
        row["request_ids"] = [request_id for _, request_id in note.requests] if note else []
        row["user"] = ", ".join(note.users) if note and note.users else row.get("userName")
        for name in ("operationParameters", "operationMetrics"):
            if row.get(name) is not None:
                row[name] = json.dumps(dict(row[name]))
    return pa.Table.from_pylist(rows, schema=_HISTORY)
