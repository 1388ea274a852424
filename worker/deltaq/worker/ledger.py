"""How far a table got, told by the table itself.

The ledger is a Delta transaction identifier (``txn``): its appId names the epoch and the
lane, its version is the last committed sequence. Beside it every commit carries a note that
names its requests, so that a commit whose acknowledgement was lost can be told from one that
never was, and each request gets the version it is in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from deltaq.tasks.errors import CommitConflict
from deltaq.tasks.request import Lane
from deltaq.worker.groups import CommitGroup

#: The ledger of a table that has none: every sequence is above it.
NOTHING = -1


def app_id(epoch: str, lane: Lane) -> str:
    """Name the ledger of a lane in one life of its sequence counter."""
    return f"deltaq/{epoch}/{lane}"


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """What a commit says of the requests in it, as JSON in Delta's ``userMetadata``."""

    #: The ledger it moves.
    deltaq: str
    #: Sequence and request id of each request, in order.
    requests: list[tuple[int, str]]


@dataclass(frozen=True, kw_only=True)
class Committed:
    """Where a request was found in the table's log."""

    sequence: int
    version: int


class _CommitInfo(msgspec.Struct):
    userMetadata: str | None = None


class _Action(msgspec.Struct):
    commitInfo: _CommitInfo | None = None


_note_encoder = msgspec.json.Encoder()
_note_decoder = msgspec.json.Decoder(Note)
_action_decoder = msgspec.json.Decoder(_Action)


def note(group: CommitGroup) -> str:
    """Write the note of a group's commit."""
    requests = [(m.sequence, m.request.request_id) for m in group.members]
    return _note_encoder.encode(Note(deltaq=group.app_id, requests=requests)).decode()


def moved(group: CommitGroup, reached: int) -> CommitConflict:
    """Make the error for a group that somebody else has committed, in whole or in part."""
    return CommitConflict(
        f"table {group.table}: sequence {reached} was committed by another worker while this one "
        f"was about to commit {group.members[0].sequence} to {group.sequence}",
        table=group.table,
    )


def find_committed(table: Path, ledger: str, request_ids: Iterable[str]) -> dict[str, Committed]:
    """Find requests in a table's log, newest commit first.

    Args:
        table: Folder of the table.
        ledger: appId of the ledger under which they were committed.
        request_ids: What to look for.

    Returns:
        Those found; the log may have been cleaned of older commits.
    """
    missing, found = set(request_ids), {}
    for entry in sorted((table / "_delta_log").glob("*.json"), reverse=True):
        if not missing:
            break
        if not entry.stem.isdigit():
            continue
        for sequence, request_id in _requests_in(entry, ledger):
            if request_id in missing:
                missing.discard(request_id)
                found[request_id] = Committed(sequence=sequence, version=int(entry.stem))
    return found


def _requests_in(entry: Path, ledger: str) -> list[tuple[int, str]]:
    for line in entry.read_bytes().splitlines():
        info = _action_decoder.decode(line).commitInfo
        if info is None or info.userMetadata is None:
            continue
        try:
            written = _note_decoder.decode(info.userMetadata)
        except msgspec.DecodeError:
            return []  # a commit of somebody else, with a note of its own
        return written.requests if written.deltaq == ledger else []
    return []
