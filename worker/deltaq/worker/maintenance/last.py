"""When a table was last ordered or vacuumed, told by its log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

import msgspec

from deltaq.tasks.location import Location
from deltaq.worker.ledger import log_entries, parse_note

#: Newest commits that are looked through: whoever wants to know keeps what it was told.
_LOOKED_THROUGH = 1000
#: Bytes at the head of a log entry in which commitInfo is.
_HEAD = 64 * 1024


class _CommitInfo(msgspec.Struct):
    operationParameters: dict[str, Any] = {}
    #: Of a commit that native made.
    zOrderBy: str | None = None
    userMetadata: str | None = None


class _Action(msgspec.Struct):
    commitInfo: _CommitInfo | None = None


_decoder = msgspec.json.Decoder(_Action)


def hours_since(table: Location, kinds: Iterable[str]) -> dict[str, float]:
    """Tell how many hours ago each of ``zorder`` and ``vacuum`` was last done.

    Args:
        table: Folder of the table.
        kinds: What is to be told.

    Returns:
        By kind; infinite if none of the newest commits did it.
    """
    missing, found = set(kinds), dict.fromkeys(kinds, math.inf)
    for entry in islice(log_entries(table), _LOOKED_THROUGH):
        if not missing:
            break
        kind = _kind(entry)
        if kind in missing:
            missing.discard(kind)
            found[kind] = (time.time() - entry.stat().st_mtime) / 3600
    return found


def _kind(entry: Location) -> str:
    try:
        with entry.open("rb") as file:
            line = file.readline(_HEAD)
        info = _decoder.decode(line).commitInfo
    except (FileNotFoundError, msgspec.MsgspecError):
        return ""  # cleaned from the log meanwhile, or somebody else's way to write it
    if info is None:
        return ""
    ordered_by = info.zOrderBy or info.operationParameters.get("zOrderBy")
    if ordered_by and str(ordered_by) != "[]":
        return "zorder"
    note = parse_note(info.userMetadata) if info.userMetadata else None
    return "vacuum" if note and note.operation == "vacuum" else ""
