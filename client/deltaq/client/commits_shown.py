"""A table's history as people look at it: what each commit did, and for whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

COLUMNS = ["version", "time (UTC)", "operation", "rows", "user", "requests"]

#: Counts by the names that the engines have for them, in lower case without underscores.
_COUNTS = {
    "+": ("numaddedrows", "numtargetrowsinserted"),
    "~": ("numupdatedrows", "numtargetrowsupdated"),
    "-": ("numdeletedrows", "numtargetrowsdeleted"),
}


def shown_commits(history: pa.Table) -> Iterator[list[str]]:
    """Turn the rows of a history into cells: rows added, updated and deleted as + ~ -."""
    for commit in history.to_pylist():
        note = _parsed(commit.get("userMetadata"))
        time = commit.get("timestamp")
        yield [
            str(commit["version"]),
            f"{time:%Y-%m-%d %H:%M:%S}" if time else "",
            str(note.get("operation") or commit.get("operation") or ""),
            _changes(_metrics(commit, note), commit.get("operation") or ""),
            commit.get("user") or "",
            _named(_requests(note)),
        ]


def _metrics(commit: dict[str, Any], note: dict[str, Any]) -> dict[str, Any]:
    """Tell what was counted: by the engine, or by deltaq where that counts nothing."""
    counted = _parsed(commit.get("operationMetrics"))
    rows = note.get("rows") if "deltaq" in note else None
    return counted if rows is None else {**counted, "numAddedRows": rows}


def _parsed(text: str | None) -> dict[str, Any]:
    """Read a JSON object; empty for what somebody else may have put there."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _requests(note: dict[str, Any]) -> list[str]:
    """List the ids that deltaq noted in a commit."""
    return [str(request_id) for _, request_id in note["requests"]] if "deltaq" in note else []


def _changes(metrics: dict[str, Any], operation: str) -> str:
    counts = {name.lower().replace("_", ""): value for name, value in metrics.items()}
    if operation.upper().startswith(("WRITE", "CREATE")):  # Spark's name for rows it added
        counts.setdefault("numaddedrows", counts.get("numoutputrows", 0))
    told = ((sign, sum(int(counts.get(n) or 0) for n in names)) for sign, names in _COUNTS.items())
    return " ".join(f"{sign}{number:,}" for sign, number in told if number)


def _named(requests: list[str]) -> str:
    return requests[0] if len(requests) == 1 else f"{len(requests):,}" if requests else ""
