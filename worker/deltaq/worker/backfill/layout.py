"""Writes rows as the files that a table will have: partitioned, sorted, of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deltaq.tasks.backfill import PreparedFile
from deltaq.tasks.location import Location, sync_file, sync_folder
from deltaq.worker.backfill.names import (
    file_name,
    partition_folder,
    partition_value,
    temporary_name,
)
from deltaq.worker.backfill.statistics import file_statistics

#: As the native engine writes: its comment says why.
FORMAT: dict[str, Any] = {
    "compression": "snappy",
    "dictionary_pagesize_limit": 64 * 1024,
    "store_schema": False,
}
#: Rows, and bytes in memory, of a row group; a file may end after each.
GROUP_ROWS, GROUP_BYTES = 1 << 20, 64 << 20
#: Rows, on average, of the stretches of one partition that are copied as a whole.
_LONG_RUN = 64


class Layout:
    """Writes the files of one part, one at a time.

    Args:
        table: Folder of the table.
        backfill_id: Of which backfill.
        part: Number of the part.
        partition_by: Columns that are not in the files, but in the names of their folders.
        sort_by: Order of the rows within each file; nulls last.
        target_bytes: Bytes of a file, about.
        work: Folder on a disk, for files on their way to S3.
        resumed: How often the backfill was resumed.
    """

    def __init__(
        self,
        table: Location,
        backfill_id: str,
        part: int,
        *,
        partition_by: Sequence[str],
        sort_by: Sequence[str],
        target_bytes: int,
        work: Path,
        resumed: int = 0,
    ) -> None:
        self._table = table
        self._backfill_id = backfill_id
        self._part = part
        self._partition_by = list(partition_by)
        self._sort_by = [(column, "ascending") for column in sort_by]
        self._target_bytes = target_bytes
        self._work = work
        self._resumed = resumed
        self._folders: set[Location] = set()
        self._unsynced: list[Path] = []
        self.files: list[PreparedFile] = []

    def write(self, rows: pa.Table) -> None:
        """Write rows, which are held in memory, as files of their own."""
        for values, some in self._partitioned(rows):
            folder, left = partition_folder(values), self._sorted(some)
            while left.num_rows:
                left = left.slice(self._write_file(folder, values, left))

    def sync(self) -> None:
        """Make all files and their names durable: at once, for live writers sync to the same disk."""
        for file in self._unsynced:
            sync_file(file)
        for folder in sorted(self._folders):
            sync_folder(folder)

    def _partitioned(self, rows: pa.Table) -> Iterator[tuple[dict[str, str | None], pa.Table]]:
        if not self._partition_by:
            yield {}, rows
            return
        kept = [column for column in rows.column_names if column not in self._partition_by]
        codes, columns = _codes(rows, self._partition_by)
        bare = rows.select(kept)
        for code, some in _groups(bare, codes):
            values: dict[str, str | None] = {}
            for name, distinct in reversed(columns.items()):
                code, place = divmod(code, len(distinct))
                values[name] = partition_value(distinct[place].as_py(), distinct.type)
            yield {name: values[name] for name in self._partition_by}, some

    def _sorted(self, rows: pa.Table) -> pa.Table:
        keys = [key for key in self._sort_by if key[0] not in self._partition_by]
        if not keys or (len(keys) == 1 and _is_sorted(rows.column(keys[0][0]))):
            return rows
        return rows.take(pc.sort_indices(rows, sort_keys=keys))

    def _write_file(self, folder: str, values: dict[str, str | None], rows: pa.Table) -> int:
        """Write a file of the first rows, and return how many."""
        name = file_name(self._backfill_id, self._part, len(self.files), resumed=self._resumed)
        place = self._make_folder(folder)
        temporary = self._temporary(place, name)
        try:
            written = self._write_rows(temporary, rows)
            rows = rows.slice(0, written)
            self.files.append(
                PreparedFile(
                    path=f"{folder}/{name}" if folder else name,
                    size_bytes=temporary.stat().st_size,
                    rows=written,
                    partition_values=values,
                    stats=file_statistics(rows, pq.read_metadata(temporary)),
                )
            )
            self._publish(temporary, place / name)
        finally:
            temporary.unlink(missing_ok=True)
        return written

    def _write_rows(self, path: Path, rows: pa.Table) -> int:
        """Write the first rows, as many as make a file, and return how many."""
        size = _group_rows(rows)
        written = 0
        with path.open("xb") as file, pq.ParquetWriter(file, rows.schema, **FORMAT) as writer:
            while written < rows.num_rows and file.tell() < self._target_bytes:
                group = rows.slice(written, size)
                writer.write_table(group, row_group_size=size)
                written += group.num_rows
            writer.close()
        return written

    def _temporary(self, place: Location, name: str) -> Path:
        """Name the file that is written first: on a disk in the same folder, so that it can move."""
        if isinstance(place, Path):
            return place / temporary_name(name)
        self._work.mkdir(parents=True, exist_ok=True)
        return self._work / temporary_name(name)

    def _publish(self, file: Path, place: Location) -> None:
        """Put a whole file in its place, where it replaces the same one of another try."""
        if isinstance(place, Path):
            file.replace(place)
            self._unsynced.append(place)
        else:
            place.upload(file)

    def _make_folder(self, folder: str) -> Location:
        table = self._table
        if not isinstance(table, Path):
            return table / folder if folder else table
        place = table / folder
        if place not in self._folders:
            if not place.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                above = [f for f in place.parents if f.is_relative_to(table)]
                self._folders.update((*above, table.parent))
            self._folders.add(place)
        return place


def _codes(rows: pa.Table, names: Sequence[str]) -> tuple[pa.Array, dict[str, pa.Array]]:
    """Number the combinations of values that columns may have.

    Returns:
        Each row's number, and the different values by column: with as many as ``n`` in the last
        column, the number modulo ``n`` is the place of the value there, and so on.
    """
    codes: pa.Array | None = None
    columns: dict[str, pa.Array] = {}
    for name in names:
        column = rows.column(name).combine_chunks()
        encoded = column.dictionary_encode(null_encoding="encode")
        columns[name] = encoded.dictionary
        places = encoded.indices.cast(pa.int64())
        size = pa.scalar(len(encoded.dictionary), pa.int64())
        codes = places if codes is None else pc.add(pc.multiply(codes, size), places)
    assert codes is not None
    return codes, columns


def _groups(rows: pa.Table, codes: pa.Array) -> Iterator[tuple[int, pa.Table]]:
    """Gather the rows of each number, in their order."""
    runs = pc.run_end_encode(codes)
    if len(runs.values) * _LONG_RUN <= len(codes):
        # Much faster than row by row; what is sorted by time or name comes in runs.
        pieces: dict[int, list[pa.Table]] = {}
        for code, begin, end in _bounds(runs):
            pieces.setdefault(code, []).append(rows.slice(begin, end - begin))
        for code in sorted(pieces):
            yield code, pa.concat_tables(pieces[code])
        return
    order = pc.sort_indices(codes)  # stable
    for code, begin, end in _bounds(pc.run_end_encode(codes.take(order))):
        yield code, rows.take(order[begin:end])


def _bounds(runs: pa.RunEndEncodedArray) -> Iterator[tuple[int, int, int]]:
    """Tell the stretches of equal numbers: the number, begin and end."""
    begin = 0
    for code, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield code, begin, end
        begin = end


def _is_sorted(column: pa.ChunkedArray) -> bool:
    if column.null_count or len(column) < 2:
        return not column.null_count
    return bool(pc.all(pc.less_equal(column.slice(0, len(column) - 1), column.slice(1))).as_py())


def _group_rows(rows: pa.Table) -> int:
    per_row = max(1, rows.nbytes // max(1, rows.num_rows))
    return int(max(1, min(GROUP_ROWS, GROUP_BYTES // per_row)))
