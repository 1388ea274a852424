"""Reads the sources of a part: batches of rows in the types that the table has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from deltaq.tasks.errors import DeltaqError, StagedDataMissing, StorageUnavailable
from deltaq.tasks.location import Location, below
from deltaq.tasks.manifest import Csv, Part, Slice
from deltaq.worker.backfill import csv_source, json_source, parquet_source
from deltaq.worker.backfill.confinement import source_path
from deltaq.worker.backfill.rows import with_values


class PartReader:
    """Reads the rows of a part in order, with all columns of a schema; lacking ones are null.

    Args:
        part: What to read.
        folder: Where relative paths begin.
        schema: Columns as :func:`~deltaq.worker.backfill.plan.plan_load` says.
        csv: How CSV is written.
        allowed: Folders from which workers may load.
        table: The table's name, for messages.

    Attributes:
        begun: Slices of the part that were begun.
    """

    def __init__(
        self,
        part: Part,
        folder: Location,
        schema: pa.Schema,
        csv: Csv,
        *,
        allowed: Sequence[Location],
        table: str,
    ) -> None:
        self._part = part
        self._folder = folder
        self._schema = schema
        self._csv = csv
        self._allowed = allowed
        self._table = table
        self.begun = 0

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Read the rows.

        Raises:
            SchemaMismatch, InvalidFrame: A file does not fit; it is named, and where in it.
            InvalidRequest: Workers may not load one.
            StagedDataMissing: A file is gone, damaged or changed since it was planned; likewise.
            StorageUnavailable: The storage cannot be read now.
        """
        for piece in self._part.slices:
            self.begun += 1
            path = source_path(piece, self._folder, self._allowed)
            with _told(below(self._folder, piece.path), self._table):
                _check_unchanged(path, piece)
                inside = pa.schema([f for f in self._schema if f.name not in piece.values])
                batches = self._inside(path, piece, inside)
                yield from with_values(batches, piece.values, self._schema)

    def _inside(self, path: Location, piece: Slice, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        if self._part.format == "parquet":
            return parquet_source.read(path, piece, schema, table=self._table)
        if self._part.format == "csv":
            return csv_source.read(path, piece, schema, self._csv)
        return json_source.read(path, piece, schema)


def _check_unchanged(path: Location, piece: Slice) -> None:
    size = path.stat().st_size
    if isinstance(path, Path) and not path.is_file():  # reading a pipe would have no end
        raise StagedDataMissing("it is no file")
    if size != piece.file_bytes:
        raise StagedDataMissing(
            f"it has {size} bytes, and had {piece.file_bytes} when the backfill was planned; "
            "plan it again"
        )


@contextmanager
def _told(path: Location, table: str) -> Iterator[None]:
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
