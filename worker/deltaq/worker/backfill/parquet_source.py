"""Reads Parquet, a row group at a time, cast to the table's types without loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.errors import DeltaqError, StagedDataMissing
from deltaq.tasks.location import Location, source_of
from deltaq.tasks.manifest import Slice
from deltaq.worker.backfill.rows import completed
from deltaq.worker.engines.fit import fit_batch, fit_schema

#: Rows and bytes, about, of one batch.
_BATCH_ROWS, _BATCH_BYTES = 131_072, 32 << 20


def read(
    path: Location, piece: Slice, schema: pa.Schema, *, table: str
) -> Iterator[pa.RecordBatch]:
    """Read rows in order, with all columns of a schema.

    Raises:
        SchemaMismatch, InvalidFrame: The file does not fit, or a value; its row group is named.
        StagedDataMissing: A row group is damaged.
    """
    with pq.ParquetFile(
        source_of(path), coerce_int96_timestamp_unit="us", page_checksum_verification=True
    ) as file:
        fitted = fit_schema(_with_zones(file), schema, name=table)
        groups = range(*(piece.row_groups or (0, file.num_row_groups)))
        for group in groups:
            about = file.metadata.row_group(group)
            size = about.total_byte_size // max(1, about.num_rows)
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, size)))
            with _at(f"row group {group}"):
                left = about.num_rows
                for batch in file.iter_batches(rows, [group], columns=fitted.names):
                    left -= batch.num_rows
                    zoned = batch.cast(_zoned(batch.schema, _int96(file)))
                    yield completed(fit_batch(zoned, fitted), schema)
                if left:
                    raise StagedDataMissing(f"{left} rows are missing")


def _int96(file: pq.ParquetFile) -> set[str]:
    """Name the columns that are INT96: Spark's timestamps, which are always UTC."""
    columns = (file.schema.column(i) for i in range(len(file.schema)))
    return {c.path for c in columns if c.physical_type == "INT96"}


def _with_zones(file: pq.ParquetFile) -> pa.Schema:
    return _zoned(file.schema_arrow, _int96(file))


def _zoned(schema: pa.Schema, columns: set[str]) -> pa.Schema:
    fields = [f.with_type(pa.timestamp("us", "UTC")) if f.name in columns else f for f in schema]
    return pa.schema(fields)


@contextmanager
def _at(place: str) -> Iterator[None]:
    """Say where in a file an error is."""
    try:
        yield
    except DeltaqError as exc:
        raise type(exc)(f"{place}: {exc.message}", details=exc.details) from exc
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise StagedDataMissing(f"{place}: damaged: {exc}") from exc
    except OSError as exc:
        if exc.errno is not None:
            raise
        raise StagedDataMissing(f"{place}: damaged: {exc}") from exc
