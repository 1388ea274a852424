"""Reads the sources of a part: batches of rows in the types that the table has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from deltaq.tasks.errors import DeltaqError, StagedDataMissing, StorageUnavailable
from deltaq.tasks.manifest import Csv, Part, Slice
from deltaq.worker.backfill import csv_source, json_source, parquet_source
from deltaq.worker.backfill.rows import with_values


def read_part(
    part: Part, folder: Path, schema: pa.Schema, csv: Csv, *, table: str
) -> Iterator[pa.RecordBatch]:
    """Read the rows of a part in order, with all columns of a schema; lacking ones are null.

    Args:
        part: What to read.
        folder: Where relative paths begin.
        schema: Columns as :func:`~deltaq.worker.backfill.plan.plan_load` says.
        csv: How CSV is written.
        table: The table's name, for messages.

    Raises:
        SchemaMismatch, InvalidFrame: A file does not fit; it is named, and where in it.
        StagedDataMissing: A file is gone, damaged or changed since it was planned; likewise.
        StorageUnavailable: The storage cannot be read now.
    """
    for piece in part.slices:
        path = folder / piece.path
        with _told(path, table):
            _check_unchanged(path, piece)
            inside = pa.schema([field for field in schema if field.name not in piece.values])
            if part.format == "parquet":
                batches = parquet_source.read(path, piece, inside, table=table)
            elif part.format == "csv":
                batches = csv_source.read(path, piece, inside, csv)
            else:
                batches = json_source.read(path, piece, inside)
            yield from with_values(batches, piece.values, schema)


def _check_unchanged(path: Path, piece: Slice) -> None:
    size = path.stat().st_size
    if size != piece.file_bytes:
        raise StagedDataMissing(
            f"it has {size} bytes, and had {piece.file_bytes} when the backfill was planned; "
            "plan it again"
        )


@contextmanager
def _told(path: Path, table: str) -> Iterator[None]:
    """Name the file in all errors, and raise those of our tree."""
    try:
        yield
    except DeltaqError as exc:
        details = {**exc.details, "file": str(path)}
        raise type(exc)(f"{path}: {exc.message}", table=table, details=details) from exc
    except FileNotFoundError as exc:
        raise StagedDataMissing(
            f"{path}: the file is not there: it was removed, or this worker does not see it",
            table=table,
            details={"file": str(path)},
        ) from exc
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError) as exc:
        raise StagedDataMissing(
            f"{path}: cannot be read: {exc}", table=table, details={"file": str(path)}
        ) from exc
    except OSError as exc:
        if exc.errno is not None:
            raise StorageUnavailable(f"{path}: cannot be read: {exc.strerror}") from exc
        raise StagedDataMissing(
            f"{path}: damaged: {exc}", table=table, details={"file": str(path)}
        ) from exc
