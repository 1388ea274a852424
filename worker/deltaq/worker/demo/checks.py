"""The demo's proof: every row once, every request once and in order."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from deltaq.tasks.request import Lane
from deltaq.worker.demo.data import KEYS
from deltaq.worker.ledger import Note, lane_of


class CheckFailed(Exception):
    """The tables or their logs are not what was written."""


def check_rows(what: str, actual: pa.Table, expected: pa.Table) -> None:
    """Compare two tables row by row, in whatever order their rows are.

    Raises:
        CheckFailed: A row is missing, doubled, foreign or differs in a value.
    """
    actual = actual.select(expected.column_names).cast(expected.schema)
    order = [(key, "ascending") for key in KEYS]
    if actual.sort_by(order).equals(expected.sort_by(order)):
        return
    keys = list(KEYS)
    counts = actual.group_by(keys).aggregate([([], "count_all")])
    doubled = counts.filter(pc.greater(counts["count_all"], 1)).num_rows
    missing = expected.select(keys).join(actual.select(keys), keys, join_type="left anti")
    foreign = actual.select(keys).join(expected.select(keys), keys, join_type="left anti")
    raise CheckFailed(
        f"{what}: {actual.num_rows:,} rows, {expected.num_rows:,} expected; "
        f"{missing.num_rows:,} keys are missing, {doubled:,} doubled, {foreign.num_rows:,} foreign"
        + ("" if missing or doubled or foreign else "; the keys are right, values differ")
    )


def check_log(table: str, history: pa.Table, request_ids: Iterable[str]) -> None:
    """Compare the notes in a table's log with the requests that were accepted.

    What workers do to keep the table in shape, on the maintenance lane, is nobody's request.

    Args:
        table: The table's name.
        history: All its commits, newest first.
        request_ids: Of every request that was accepted for the table.

    Raises:
        CheckFailed: A request is not named exactly once, or out of sequence.
    """
    written = [
        msgspec.json.decode(text, type=Note)
        for text in reversed(history["userMetadata"].to_pylist())
        if text is not None
    ]
    notes = [note for note in written if lane_of(note.deltaq) is not Lane.MAINTENANCE]
    named = [request_id for note in notes for _, request_id in note.requests]
    if sorted(named) != sorted(request_ids):
        raise CheckFailed(f"{table}: the log names {len(named)} requests, others than were sent")
    sequences = [sequence for note in notes for sequence, _ in note.requests]
    if any(later <= earlier for earlier, later in pairwise(sequences)):
        raise CheckFailed(f"{table}: the log's sequences do not rise: {sequences}")
