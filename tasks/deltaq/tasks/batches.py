"""Many small batches of rows as fewer, larger pieces."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa


def gather(batches: Iterator[pa.RecordBatch], size_bytes: int) -> Iterator[pa.Table]:
    """Gather batches, in order, until they have a size in memory; the last piece has what is left."""
    gathered: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        gathered.append(batch)
        size += batch.nbytes
        if size >= size_bytes:
            yield pa.Table.from_batches(gathered)
            gathered, size = [], 0
    if gathered:
        yield pa.Table.from_batches(gathered)
