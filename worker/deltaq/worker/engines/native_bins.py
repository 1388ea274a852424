"""Puts some files of a table together into one, where delta-rs would take all of a partition.

Rows, and their order, stay as they are: one commit removes the files and adds the one, as data
that has not changed.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from deltalake.transaction import AddAction, RemoveAction

from deltaq.tasks.batches import gather
from deltaq.tasks.errors import SchemaMismatch
from deltaq.tasks.location import Location, create_unsynced, fetch, source_of
from deltaq.tasks.s3_path import S3Path
from deltaq.worker.backfill.layout import FORMAT, GROUP_BYTES, GROUP_ROWS
from deltaq.worker.backfill.rows import completed
from deltaq.worker.backfill.statistics import Statistics
from deltaq.worker.engines.delta_types import plain_type
from deltaq.worker.engines.fit import fit_batch

#: Rows that are read at once; files with more are worth waking threads for.
_BATCH_ROWS = 65_536
#: Files of S3 that are being read at the same time: one after the other would wait for each call.
_AHEAD = 8


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """A file of a table.

    Attributes:
        path: In the table's folder.
        size_bytes: Of it.
        rows: In it; None if the log does not tell.
    """

    path: str
    size_bytes: int
    rows: int | None


class Unlike(Exception):
    """The files are not such that their rows can be copied as they are. Nothing was written."""


def data_files(actions: pa.Table) -> list[DataFile]:
    """List files in the order in which they came, from the actions that added them."""
    ordered = actions.sort_by([("modification_time", "ascending"), ("path", "ascending")])
    columns = (ordered[name].to_pylist() for name in ("path", "size_bytes", "num_records"))
    return [
        DataFile(path=unquote(path), size_bytes=size, rows=rows)
        for path, size, rows in zip(*columns, strict=True)
    ]


def put_together(
    table: DeltaTable,
    path: Location,
    files: Sequence[DataFile],
    values: dict[str, str | None],
    *,
    seconds: float,
    **commit: Any,
) -> int:
    """Make one file of several in one commit, and bring the table to its version.

    Args:
        table: The table, at the version that has the files.
        path: Its folder.
        files: Files of one partition, none with a deletion vector.
        values: Of the partition, as the log has them.
        seconds: After which no further one is begun with, once there are two.
        **commit: How delta-rs commits; without a second try, for the files are known by version.

    Returns:
        How many were put together, the first ones.

    Raises:
        Unlike: They cannot be put together so.
        OSError: The storage refused.
    """
    whole = pa.schema(table.schema().to_arrow())
    schema = pa.schema(
        [pa.field(f.name, plain_type(f.type)) for f in whole if f.name not in values]
    )
    folder = PurePosixPath(files[0].path).parent
    name = str(folder / f"part-00000-{uuid.uuid4()}-c000.snappy.parquet")
    taken: list[DataFile] = []
    try:
        stats = _copy(path, _in_time(files, taken, seconds), name, schema)
        count_rows([stats], taken)
    except BaseException:
        (path / name).unlink(missing_ok=True)
        raise
    now = time.time_ns() // 1_000_000
    added = AddAction(
        path=name,
        size=(path / name).stat().st_size,
        partition_values=values,
        modification_time=now,
        data_change=False,
        stats=stats,
    )
    removed = [removal(file, values, at_ms=now) for file in taken]
    table.create_write_transaction(
        [added, *removed], "append", Schema.from_arrow(whole), list(values), **commit
    )
    table.update_incremental()
    return len(taken)


def removal(file: DataFile, values: dict[str, str | None], *, at_ms: int) -> RemoveAction:
    """Make the action that takes a file out of a table whose rows stay."""
    return RemoveAction(
        path=file.path,
        data_change=False,
        deletion_timestamp=at_ms,
        size=file.size_bytes,
        partition_values=values,
    )


def count_rows(statistics: Iterable[str], files: Sequence[DataFile]) -> None:
    """Make sure that new files have as many rows as those that they are made of.

    Raises:
        Unlike: They have not.
    """
    told = [file.rows for file in files if file.rows is not None]
    written = sum(msgspec.json.decode(text)["numRecords"] for text in statistics)
    if len(told) == len(files) and written != sum(told):
        raise Unlike(f"{written} rows where the log tells of {sum(told)}")


def _in_time(
    files: Iterable[DataFile], taken: list[DataFile], seconds: float
) -> Iterator[DataFile]:
    """Take files one after the other as long as there is time; note which."""
    until = time.monotonic() + seconds
    for file in files:
        if len(taken) > 1 and time.monotonic() > until:
            return
        taken.append(file)
        yield file


def _copy(path: Location, files: Iterable[DataFile], name: str, schema: pa.Schema) -> str:
    """Write the rows of files as a new one; return its statistics."""
    statistics = Statistics(schema)
    try:
        with (
            create_unsynced(path / name) as file,
            pq.ParquetWriter(file, schema, **FORMAT) as writer,
            closing(_one_ahead(_groups(path, files, schema))) as groups,
        ):
            for rows in groups:
                writer.write_table(rows, row_group_size=GROUP_ROWS)
                statistics.add(rows)
    except SchemaMismatch as exc:
        raise Unlike(exc.message) from exc
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as exc:
        raise Unlike(str(exc)) from exc
    with pq.ParquetFile(source_of(path / name)) as made:
        return statistics.finish(made.metadata)


def _groups(path: Location, files: Iterable[DataFile], schema: pa.Schema) -> Iterator[pa.Table]:
    return gather(_batches(path, files, schema), GROUP_BYTES, most_rows=GROUP_ROWS)


def _one_ahead(groups: Iterator[pa.Table]) -> Generator[pa.Table, None, None]:
    """Have a thread read the next rows while the last ones are written."""
    with ThreadPoolExecutor(1, "deltaq-bin") as thread:
        soon = thread.submit(next, groups, None)
        while (group := soon.result()) is not None:
            soon = thread.submit(next, groups, None)
            yield group


def _batches(
    path: Location, files: Iterable[DataFile], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    for place in _read_ahead(path / file.path for file in files):
        with pq.ParquetFile(source_of(place)) as parquet:
            inside = parquet.schema_arrow.names
            _check_names(inside, schema.names)
            present = pa.schema([field for field in schema if field.name in inside])
            many = parquet.metadata.num_rows > _BATCH_ROWS
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=present.names, use_threads=many):
                # Columns that came to the table after the file are null in its rows.
                yield completed(fit_batch(batch, present), schema)


def _read_ahead(places: Iterable[Location]) -> Iterator[Location]:
    """Begin to read those of the next files that are in S3, before one is given back."""
    soon: deque[Location] = deque()
    for place in places:
        fetch([place])
        soon.append(place)
        if len(soon) == _AHEAD or not isinstance(place, S3Path):
            yield soon.popleft()
    yield from soon


def _check_names(inside: Sequence[str], names: Sequence[str]) -> None:
    """Make sure that what a file lacks is not there under a name that Spark takes for the same."""
    absent = {name.lower() for name in set(names).difference(inside)}
    if absent & {name.lower() for name in inside}:
        raise Unlike(f"columns {inside} beside {names}")
