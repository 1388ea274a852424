"""Several merges as one: what they would leave behind, applied one after another.

Only for merges that update whole rows (``groups.may_follow`` says which): then of all rows
with one key the last one wins, whoever brought it. Rows with a null key match nothing and
are inserted every time, so each of them stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from deltaq.tasks.errors import DuplicateKeys
from deltaq.tasks.location import Location
from deltaq.worker.engines.fit import comparable_keys, fitted_batches

#: Names that no column of a frame is grouped under: keys are renamed by position.
_ROW, _FILE = "row", "file"


def last_rows(
    paths: Sequence[Location], schema: pa.Schema, keys: Sequence[str], *, name: str
) -> Iterator[pa.RecordBatch]:
    """Read the staged files of merges in order, and keep the last row of each key.

    Args:
        paths: One file for each merge.
        schema: To which they are fitted.
        keys: Columns of the merge.
        name: The table's name, for messages.

    Raises:
        DuplicateKeys: One of the merges has a key twice.
        SchemaMismatch: A value does not fit.
        StagedDataMissing, StorageUnavailable: A file cannot be read.
    """
    frames = [pa.Table.from_batches(fitted_batches([path], schema), schema) for path in paths]
    rows = pa.concat_tables(frames)
    files = pa.concat_arrays([pa.repeat(n, len(frame)) for n, frame in enumerate(frames)])
    numbered = comparable_keys(rows.select(list(keys)).rename_columns(_positions(keys)))
    numbered = numbered.append_column(_ROW, pa.array(range(len(rows)), pa.int64()))
    numbered = numbered.append_column(_FILE, files)
    whole = numbered.drop_null()
    last = whole.group_by(_positions(keys), use_threads=False).aggregate([(_ROW, "max")])
    _check_unique(whole, keys, name)
    keyless = pc.invert(pc.is_in(numbered[_ROW], value_set=whole[_ROW]))
    kept = pa.chunked_array(
        [*last[f"{_ROW}_max"].chunks, *numbered[_ROW].filter(keyless).chunks], pa.int64()
    )
    yield from rows.take(kept.sort()).to_batches()


def _check_unique(rows: pa.Table, keys: Sequence[str], name: str) -> None:
    grouped = rows.group_by([*_positions(keys), _FILE], use_threads=False)
    counted = grouped.aggregate([([], "count_all")])
    if pc.any(pc.greater(counted["count_all"], 1)).as_py():
        # Found again, and its key named, when the merge that has it is tried alone.
        raise DuplicateKeys(
            f"cannot merge into table {name}: a request has more than one row with the same "
            f"{', '.join(keys)}; keep one row for each key",
            table=name,
        )


def _positions(keys: Sequence[str]) -> list[str]:
    return [f"key {n}" for n in range(len(keys))]
