"""How far a table got, told by the table itself.

The ledger is a Delta transaction identifier (``txn``): its appId names the epoch and the
lane, its version is the last committed sequence. Beside it every commit carries a note that
names its requests, so that a commit whose acknowledgement was lost can be told from one that
never was, and each request gets the version it is in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import msgspec

from deltaq.tasks.errors import CommitConflict, DeltaqError, StorageUnavailable
from deltaq.tasks.location import Location
from deltaq.tasks.request import Adopt, Lane, operation_of
from deltaq.worker.groups import CommitGroup

#: Users that the note of one commit names.
_MOST_USERS = 20
#: Newest commits among which one of ours is looked for.
_LOOKED_THROUGH = 1000
#: appId of a ledger, as :func:`app_id` writes it.
_APP_ID = re.compile(rf"deltaq/[^/]+/({'|'.join(Lane)})")
#: In the appId of ledgers that no queue gives sequences for: see ``deltaq.worker.local``.
LOCAL_EPOCH = "local"
#: The ledger of a table that has none: every sequence is above it.
NOTHING = -1


def app_id(epoch: str, lane: Lane) -> str:
    """Name the ledger of a lane in one life of its sequence counter."""
    return f"deltaq/{epoch}/{lane}"


def lane_of(ledger: str) -> Lane:
    """Tell the lane of a ledger from its appId."""
    return Lane(ledger.rpartition("/")[2])


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a commit says of the requests in it, as JSON in Delta's ``userMetadata``."""

    #: The ledger it moves.
    deltaq: str
    #: Sequence and request id of each request, in order.
    requests: list[tuple[int, str]]
    #: What all of them are: append, merge ...
    operation: str = ""
    #: Who submitted them, each once; not more than there is room for.
    users: list[str] = []
    #: Rows that it adds, of a backfill: delta-rs has no metrics of files that it did not write.
    rows: int | None = None


@dataclass(frozen=True, kw_only=True)
class Committed:
    """What a table's log says of a request."""

    request_id: str
    operation: str
    ledger: str
    sequence: int
    version: int


class _CommitInfo(msgspec.Struct):
    userMetadata: str | None = None


class _Action(msgspec.Struct):
    commitInfo: _CommitInfo | None = None


_note_encoder = msgspec.json.Encoder()
_note_decoder = msgspec.json.Decoder(Note)
_action_decoder = msgspec.json.Decoder(_Action)


def note(group: CommitGroup, *, unmoved: bool = False) -> str:
    """Write the note of a group's commit.

    Args:
        group: The group.
        unmoved: The commit is a slice before the last one: it moves no ledger, so no request
            is in it.
    """
    requests = [] if unmoved else [(m.sequence, m.request.request_id) for m in group.members]
    users = dict.fromkeys(m.request.submitted_by for m in group.members if m.request.submitted_by)
    written = Note(
        deltaq=group.app_id,
        operation=operation_of(group.first),
        requests=requests,
        users=list(islice(users, _MOST_USERS)),
        rows=group.first.rows if isinstance(group.first, Adopt) else None,
    )
    return _note_encoder.encode(written).decode()


def moved(group: CommitGroup, reached: int) -> CommitConflict:
    """Make the error for a group that somebody else has committed, in whole or in part."""
    return CommitConflict(
        f"table {group.table}: sequence {reached} was committed by another worker while this one "
        f"was about to commit {group.members[0].sequence} to {group.sequence}",
        table=group.table,
        details={"reached": reached},
    )


def was_moved(error: DeltaqError) -> bool:
    """Tell whether an error says that somebody else moved the ledger."""
    return isinstance(error, CommitConflict) and "reached" in error.details


def find_committed(
    table: Location, ledger: str | None, request_ids: Iterable[str], *, since: float = 0.0
) -> dict[str, Committed]:
    """Find requests in a table's log, newest commit first.

    Args:
        table: Folder of the table.
        ledger: appId of the ledger under which they were committed; None for any.
        request_ids: What to look for.
        since: Commits that are older, by the time of their file, are not looked at.

    Returns:
        Those found; the log may have been cleaned of older commits.

    Raises:
        StorageUnavailable: The log cannot be read.
    """
    missing, found = set(request_ids), {}
    for entry in log_entries(table) if missing else ():
        if not missing or is_older(entry, since):
            break
        for committed in committed_in(entry, ledger):
            if committed.request_id in missing:
                missing.discard(committed.request_id)
                found[committed.request_id] = committed
    return found


def last_epoch(table: Location) -> str | None:
    """Tell under which epoch the newest of our commits was made; None if it is too long ago.

    Raises:
        StorageUnavailable: The log cannot be read.
    """
    for entry in islice(log_entries(table), _LOOKED_THROUGH):
        written = _read_note(entry)
        if written is not None and (epoch := written.deltaq.split("/")[1]) != LOCAL_EPOCH:
            return epoch
    return None


def log_entries(table: Location) -> list[Location]:
    """List the entries of a table's log, newest first; none if there is no table.

    Raises:
        StorageUnavailable: The log cannot be read.
    """
    log = table / "_delta_log"
    try:
        return sorted((e for e in log.glob("*.json") if e.stem.isdigit()), reverse=True)
    except OSError as exc:
        raise StorageUnavailable(f"{log}: cannot be read: {exc.strerror}") from exc


def log_entry(table: Location, version: int) -> Location:
    """Name the entry of a version in a table's log."""
    return table / "_delta_log" / f"{version:020d}.json"


def is_older(entry: Location, since: float) -> bool:
    """Tell whether an entry was written before a time, seconds since 1970."""
    try:
        return entry.stat().st_mtime < since
    except FileNotFoundError:
        return True  # cleaned from the log meanwhile, as the oldest are


def committed_in(entry: Location, ledger: str | None = None) -> list[Committed]:
    """Read which requests are in a commit, in order; none if it is somebody else's.

    Args:
        entry: The commit's entry in the log.
        ledger: appId of the ledger under which they were committed; None for any.

    Raises:
        StorageUnavailable: The entry cannot be read.
    """
    written = _read_note(entry)
    if written is None or ledger not in (None, written.deltaq):
        return []
    return [
        Committed(
            request_id=request_id,
            operation=written.operation,
            ledger=written.deltaq,
            sequence=sequence,
            version=int(entry.stem),
        )
        for sequence, request_id in written.requests
    ]


def _read_note(entry: Location) -> Note | None:
    try:
        lines = entry.read_bytes().splitlines()
    except FileNotFoundError:
        return None  # cleaned from the log meanwhile
    except OSError as exc:
        raise StorageUnavailable(f"{entry}: cannot be read: {exc.strerror}") from exc
    for line in lines:
        try:
            info = _action_decoder.decode(line).commitInfo
            if info is not None and info.userMetadata is not None:
                return parse_note(info.userMetadata)
        except msgspec.MsgspecError:
            return None  # an entry that no engine could read
    return None


def parse_note(text: str) -> Note | None:
    """Read what a commit's ``userMetadata`` says; None if it is somebody else's."""
    try:
        written = _note_decoder.decode(text)
    except msgspec.MsgspecError:
        return None
    return written if _APP_ID.fullmatch(written.deltaq) else None
