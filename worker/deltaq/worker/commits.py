"""Which commits a table's log has after a place, for those who follow it.

The log's entries are read one after the other, so that none is left out whoever wrote it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from deltaq.tasks.errors import StorageUnavailable, VersionNotFound
from deltaq.tasks.location import Location
from deltaq.tasks.query import Place
from deltaq.worker.ledger import Note, log_entries, log_entry, parse_note

#: Commits, and ids of requests in them, that one answer tells of at most.
_MOST_COMMITS, _MOST_REQUESTS = 200, 5000
#: Bytes at the head of a log entry that tell it from others: commitInfo has time and note.
_MARK_BYTES = 4096
#: Metrics of rows that a commit changed, in the spelling of delta-rs without underscores.
_CHANGED = {
    *("numaddedrows", "numdeletedrows", "numupdatedrows"),
    *("numtargetrowsinserted", "numtargetrowsupdated", "numtargetrowsdeleted"),
}
#: Operations of Spark whose metrics call the added rows numOutputRows.
_WRITES = ("WRITE", "CREATE", "REPLACE", "STREAMING")


class _CommitInfo(msgspec.Struct):
    timestamp: int | None = None
    operation: str = "UNKNOWN"
    operationMetrics: dict[str, Any] = {}
    engineInfo: str | None = None
    userMetadata: str | None = None


class _Action(msgspec.Struct):
    commitInfo: _CommitInfo | None = None


_decoder = msgspec.json.Decoder(_Action)


def commits_after(path: Location, table: str, place: Place | None) -> dict[str, Any]:
    """Read the next commits after a place, in order.

    Args:
        path: Folder of the table.
        table: Its name.
        place: The last commit seen; None to be told only where the table is.

    Returns:
        JSON values: ``commits``; ``place``, to ask with next; ``more``, whether there are more
        already. A table that is not there has none, and one that was replaced by another of the
        same name begins again at version 0.

    Raises:
        VersionNotFound: The log has been cleaned of the next commit, or never came to the place.
        StorageUnavailable: The log cannot be read.
    """
    if place is None:
        newest = next(iter(log_entries(path)), None)
        found = Place(version=-1) if newest is None else _place(newest)
        return {"commits": [], "place": found, "more": False}
    version = _resumed(path, table, place)
    commits: list[dict[str, Any]] = []
    requests = 0
    last = None
    while len(commits) < _MOST_COMMITS and requests < _MOST_REQUESTS:
        entry = log_entry(path, version + 1)
        commit = _read(entry, table)
        if commit is None:
            break
        version, last = version + 1, entry
        requests += len(commit["request_ids"])
        commits.append(commit)
    if last is None:
        reached = place if version == place.version and version >= 0 else Place(version=version)
        return {"commits": [], "place": reached, "more": False}
    return {
        "commits": commits,
        "place": _place(last),
        "more": log_entry(path, version + 1).is_file(),
    }


def _resumed(path: Location, table: str, place: Place) -> int:
    """Return the version after which to go on, -1 to begin at the beginning."""
    version = place.version
    if version >= 0:
        mark = _mark(log_entry(path, version))
        if mark is not None:
            return version if place.mark in ("", mark) else -1
    if log_entry(path, version + 1).is_file():
        return version
    entries = log_entries(path)
    if not entries:
        return -1
    oldest, newest = int(entries[-1].stem), int(entries[0].stem)
    if newest < version and place.mark:
        return -1  # replaced by a table that has not come as far
    raise VersionNotFound(
        f"table {table}: the commits from version {version + 1} on cannot be followed: its log "
        f"has versions {oldest} to {newest}",
        table=table,
        details={"oldest": oldest, "newest": newest, "from_version": version + 1},
    )


def _place(entry: Location) -> Place:
    return Place(version=int(entry.stem), mark=_mark(entry) or "")


def _mark(entry: Location) -> str | None:
    try:
        with entry.open("rb") as file:
            return hashlib.blake2b(file.read(_MARK_BYTES), digest_size=8).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageUnavailable(f"{entry}: cannot be read: {exc.strerror}") from exc


def _read(entry: Location, table: str) -> dict[str, Any] | None:
    """Read one commit; None if it is not there."""
    try:
        with entry.open("rb") as file:
            info = next(_infos(file), _CommitInfo())
            written_ms = int(entry.stat().st_mtime * 1000)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageUnavailable(f"{entry}: cannot be read: {exc.strerror}") from exc
    note = None if info.userMetadata is None else parse_note(info.userMetadata)
    return {
        "table": table,
        "version": int(entry.stem),
        "timestamp_ms": info.timestamp or written_ms,
        "operation": note.operation if note and note.operation else info.operation,
        "rows": changed_rows(info.operation, info.operationMetrics, note),
        "request_ids": [request_id for _, request_id in note.requests] if note else [],
        "engine": engine_of(info.engineInfo),
    }


def _infos(lines: Iterator[bytes]) -> Iterator[_CommitInfo]:
    for line in lines:
        try:
            info = _decoder.decode(line).commitInfo
        except msgspec.MsgspecError:
            continue  # an action that no reader of commits needs
        if info is not None:
            yield info


def changed_rows(operation: str, metrics: Mapping[str, Any], note: Note | None) -> int | None:
    """Count the rows that a commit added, changed or removed; None if unknown.

    Args:
        operation: As its engine names it.
        metrics: What the engine counted.
        note: Ours, which tells the rows of a backfill.
    """
    if note is not None and note.rows is not None:
        return note.rows
    known = {name.replace("_", "").lower(): value for name, value in metrics.items()}
    counted = [known[name] for name in _CHANGED & known.keys()]
    if "numoutputrows" in known and operation.startswith(_WRITES):
        counted.append(known["numoutputrows"])
    try:
        return sum(map(int, counted)) if counted else None
    except (TypeError, ValueError):
        return None  # somebody else's idea of metrics


def engine_of(engine_info: str | None) -> str | None:
    """Name the engine of a commit; what is none of ours keeps its own name."""
    told = engine_info or ""
    if told.startswith("delta-rs"):
        return "native"
    return "spark" if "Spark" in told else told or None
