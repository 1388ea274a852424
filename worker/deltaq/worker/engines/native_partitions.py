"""What the partitions of a table are, for whoever rewrites them, as delta-rs tells and names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from deltaq.worker.backfill.names import partition_value
from deltaq.worker.engines.native_bins import DataFile, data_files
from deltaq.worker.engines.native_limits import features
from deltaq.worker.maintenance.slicing import TARGET_BYTES, Partition


def partitions(table: DeltaTable, small_bytes: int) -> list[Partition]:
    """List the partitions of a table that have files.

    Args:
        table: The table.
        small_bytes: Size below which a file is small.
    """
    actions = pa.table(table.get_add_actions(flatten=True))
    names = [f"partition.{c}" for c in table.metadata().partition_columns]
    sizes = actions["size_bytes"]
    small = pc.less(sizes, small_bytes)
    counted = pa.table(
        [
            *(actions[name] for name in names),
            sizes,
            small.cast(pa.int64()),
            pc.if_else(small, sizes, 0),
        ],
        names=[*names, "size", "small", "small_size"],
    )
    grouped = counted.group_by(names).aggregate(
        [("size", "count"), ("size", "sum"), ("small", "sum"), ("small_size", "sum")]
    )
    return [
        Partition(
            values=tuple(row[name] for name in names),
            files=row["size_count"],
            size_bytes=row["size_sum"],
            small_files=row["small_sum"],
            small_bytes=row["small_size_sum"],
        )
        for row in grouped.to_pylist()
        if row["size_count"]
    ]


def files_in(table: DeltaTable, partition: Partition) -> list[DataFile]:
    """List the files of a partition in the order in which they came."""
    actions = pa.table(table.get_add_actions(flatten=True))
    for column, value in zip(table.metadata().partition_columns, partition.values, strict=True):
        there = actions[f"partition.{column}"]
        actions = actions.filter(pc.is_null(there) if value is None else pc.equal(there, value))
    return data_files(actions)


def has_vectors(table: DeltaTable) -> bool:
    """Tell whether files have deletion vectors: only delta-rs can remove them with those."""
    if "deletionVectors" not in features(table):
        return False
    return any(batch.num_rows for batch in table.deletion_vectors())


def largest_piece(table: DeltaTable, *, ordered: bool) -> int:
    """Tell the bytes of the most that a slice may have to rewrite.

    Args:
        table: The table.
        ordered: Rows are ordered as well, so that partitions are rewritten as a whole.
    """
    found = partitions(table, TARGET_BYTES)
    if ordered:
        return max((p.size_bytes for p in found), default=0)
    bounded = "deletionVectors" not in features(table)
    sizes = (min(p.small_bytes, TARGET_BYTES) if bounded else p.small_bytes for p in found)
    return max(sizes, default=0)


def can_be_named(partition: Partition) -> bool:
    """Tell whether delta-rs takes the values of a partition in a condition; no null, no bytes."""
    return not any(value is None or isinstance(value, bytes) for value in partition.values)


def filters(
    columns: Sequence[str], partitions: Sequence[Partition]
) -> list[tuple[str, str, Any]] | None:
    """Name partitions as delta-rs takes them; None for all there are."""
    if not columns or not all(map(can_be_named, partitions)):
        return None
    if len(columns) == 1:
        return [(columns[0], "in", [p.values[0] for p in partitions])]
    (partition,) = partitions
    return [(c, "=", value) for c, value in zip(columns, partition.values, strict=True)]


def log_values(
    schema: pa.Schema, columns: Sequence[str], partition: Partition
) -> dict[str, str | None]:
    """Write the values of a partition as the log has them."""
    return {
        column: partition_value(value, schema.field(column).type)
        for column, value in zip(columns, partition.values, strict=True)
    }
