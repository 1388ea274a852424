"""What is measured: appends and merges, through the queue and straight to a table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from benchmarks.tables import ROWS, frame
from deltaq.client import Client, Future, Outcome
from deltaq.tasks.location import Location
from deltaq.worker.engines.urls import open_table, storage_options

#: Rows of the table that is merged into.
MERGED_ROWS = 200_000
#: Rows of a merge that are new; the others change rows that are there.
_NEW_ROWS = 100
#: Writer of the rows that are in a table first.
_NOBODY = 0


@dataclass(frozen=True, kw_only=True)
class Work:
    """One kind of write.

    Attributes:
        first: Makes the rows that the table is created with.
        frame: Makes the rows of one write, from the number of the writer and that of the write.
        submit: Does it through the queue.
        bare: Does it with delta-rs, as its documentation shows: the table is opened.
    """

    first: Callable[[], pa.Table]
    frame: Callable[[int, int], pa.Table]
    submit: Callable[[Client, str, pa.Table], Future[Outcome]]
    bare: Callable[[Location, pa.Table], object]

    def frames(self, writers: int, count: int) -> list[list[pa.Table]]:
        """Make the frames of each writer."""
        return [[self.frame(w, n) for n in range(count)] for w in range(1, writers + 1)]


def append_bare(table: Location, rows: pa.Table) -> None:
    """Append with delta-rs."""
    write_deltalake(str(table), rows, mode="append", storage_options=storage_options(table))


def _merge_bare(table: Location, rows: pa.Table) -> None:
    merger = open_table(table).merge(
        rows, "target.key = source.key", source_alias="source", target_alias="target"
    )
    merger.when_matched_update_all().when_not_matched_insert_all().execute()


def _merged_frame(writer: int, number: int) -> pa.Table:
    """Change rows all over the table, and add a few."""
    random = np.random.default_rng([writer, number])
    changed = random.choice(MERGED_ROWS, ROWS - _NEW_ROWS, replace=False)
    new = frame(writer, number, _NEW_ROWS)["key"].to_numpy()
    keys = pa.array(np.concatenate([changed, new]))
    return frame(writer, number).set_column(0, "key", keys)


APPEND = Work(
    first=lambda: frame(_NOBODY, 0),
    frame=frame,
    submit=lambda client, table, rows: client.append(table, rows),
    bare=append_bare,
)
MERGE = Work(
    first=lambda: frame(_NOBODY, 0, MERGED_ROWS),
    frame=_merged_frame,
    submit=lambda client, table, rows: client.merge(table, rows, keys=["key"]),
    bare=_merge_bare,
)
