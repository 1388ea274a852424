"""The rows that a worker has put into the staging area as the answer to a query."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.errors import StagedDataMissing
from deltaq.tasks.location import Location, open_input, source_of
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.results import result_files
from deltaq.tasks.staging import StagingArea


@contextmanager
def take_rows(staging: StagingArea, outcome: Outcome, *, kept: float) -> Iterator[pa.Table]:
    """Read the rows that answer a query; they are removed when the block ends.

    Args:
        staging: The staging area.
        outcome: The answer.
        kept: How long workers keep rows that nobody takes, seconds.

    Raises:
        StagedDataMissing: They are gone, or the worker's staging area is another one.
    """
    folder = staging.read_path(outcome.request_id)
    rows = rows_in(folder)
    if rows is None:
        raise StagedDataMissing(
            f"{folder}: the result is gone; it is kept for read_ttl ({kept:g} s), and in the same "
            "staging area for clients and workers",
            request_id=outcome.request_id,
            table=outcome.table,
        )
    yield rows
    staging.remove_folder(folder)


def rows_in(folder: Location) -> pa.Table | None:
    """Read the parts of a result: Arrow files of the native engine, Parquet of Spark."""
    files = result_files(folder)
    if not files:
        return None
    return pa.concat_tables(map(read_part, files)).replace_schema_metadata(None)


def read_part(file: Location) -> pa.Table:
    """Read a file of a result."""
    if file.suffix == ".parquet":
        return pq.read_table(source_of(file))
    with open_input(file) as source, pa.ipc.open_file(source) as batches:
        return batches.read_all()
