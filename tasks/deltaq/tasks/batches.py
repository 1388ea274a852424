"""Many small batches of rows as fewer, larger pieces."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pyarrow as pa


def gather(
    batches: Iterator[pa.RecordBatch], size_bytes: int, *, most_rows: int = sys.maxsize
) -> Iterator[pa.Table]:
    """Gather batches, in order, until they are enough; the last piece has what is left.

    Args:
        batches: The batches.
        size_bytes: In memory, with which a piece is complete.
        most_rows: Of a piece, unless a batch has more.
    """
    gathered: list[pa.RecordBatch] = []
    size = rows = 0
    for batch in batches:
        if gathered and rows + batch.num_rows > most_rows:
            yield pa.Table.from_batches(gathered)
            gathered, size, rows = [], 0, 0
        gathered.append(batch)
        size += batch.nbytes
        rows += batch.num_rows
        if size >= size_bytes:
            yield pa.Table.from_batches(gathered)
            gathered, size, rows = [], 0, 0
    if gathered:
        yield pa.Table.from_batches(gathered)
