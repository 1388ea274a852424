"""The rows that a worker has put into the staging area as the answer to a query."""

from __future__ import annotations

import pyarrow as pa

from deltaq.tasks.errors import StagedDataMissing
from deltaq.tasks.outcome import Outcome
from deltaq.tasks.staging import StagingArea


def take_rows(staging: StagingArea, outcome: Outcome, *, kept: float) -> pa.Table:
    """Read the rows that answer a query, and remove them.

    Args:
        staging: The staging area.
        outcome: The answer.
        kept: How long workers keep rows that nobody takes, seconds.

    Raises:
        StagedDataMissing: They are gone, or the worker's staging area is another one.
    """
    import pyarrow.dataset  # not needed by those who only write

    folder = staging.read_path(outcome.request_id)
    files = sorted(str(f) for f in folder.glob("*.parquet"))
    if not files:
        raise StagedDataMissing(
            f"{folder}: the result is gone; it is kept for read_ttl ({kept:g} s), and in the same "
            "staging area for clients and workers",
            request_id=outcome.request_id,
            table=outcome.table,
        )
    rows = pyarrow.dataset.dataset(files, format="parquet").to_table()
    staging.remove(folder)
    return rows.replace_schema_metadata(None)
