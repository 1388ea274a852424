"""Staged rows as Spark DataFrames, with exactly the types that the table needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.location import Location, create_unsynced
from deltaq.tasks.settings import MiB
from deltaq.tasks.staging import open_staged
from deltaq.worker.engines.coalesce import last_rows
from deltaq.worker.engines.delta_schema import spark_schema
from deltaq.worker.engines.delta_types import plain_type
from deltaq.worker.engines.fit import fit_schema, fitted_batches
from deltaq.worker.engines.spark_work import SparkWork
from deltaq.worker.engines.urls import spark_url

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

#: Up to this many bytes one task writes one file; more is left to Spark's parallelism.
_ONE_FILE_BYTES = 128 * MiB
#: Spark opens each file in a task of its own or after another, at some milliseconds each.
_DIRECT_FILES = 8


def staged_schema(path: Location) -> pa.Schema:
    """Read the schema of a staged file.

    Raises:
        StagedDataMissing, StorageUnavailable: It cannot be read.
    """
    with open_staged(path) as file:
        return file.schema_arrow


@contextmanager
def staged_frame(
    session: SparkSession,
    work: SparkWork,
    paths: Sequence[Location],
    table: pa.Schema | None,
    *,
    name: str,
    extra_allowed: frozenset[str] = frozenset(),
    keys: Sequence[str] = (),
    joined: bool = False,
) -> Iterator[DataFrame]:
    """Open staged files of one shape as a DataFrame that fits the table.

    Args:
        session: Where the frame will be used.
        work: Names a work file, when one is needed.
        paths: The files, in order.
        table: The table's schema, or None when the first file's will be the table's.
        name: The table's name, for messages.
        extra_allowed: Columns that the table need not have.
        keys: Of several merges; then only the last row of each key is in the frame.
        joined: It is joined with the table before it is written, so all executors shall read it.

    Raises:
        InvalidFrame, SchemaMismatch: They do not fit.
        DuplicateKeys: One of several merges has a key twice.
        StagedDataMissing, StorageUnavailable: A file cannot be read, or the work file written.
    """
    schemas = [staged_schema(path) for path in paths]
    fitted = fit_schema(schemas[0], table, name=name, extra_allowed=extra_allowed)
    for other in schemas[1:]:
        fit_schema(other, fitted if table is None else table, name=name)
    if not keys and len(paths) <= _DIRECT_FILES and all(_same_types(s, fitted) for s in schemas):
        yield _open(session, paths, fitted, joined=joined)
        return
    batches = last_rows(paths, fitted, keys, name=name) if keys else fitted_batches(paths, fitted)
    with _work_file(work, fitted, batches) as file:
        yield _open(session, [file], fitted, joined=joined)


@contextmanager
def table_frame(
    session: SparkSession, work: SparkWork, rows: pa.Table, *, joined: bool = False
) -> Iterator[DataFrame]:
    """Open rows of Delta's types, which this process has, as a DataFrame; as :func:`staged_frame`.

    Raises:
        StorageUnavailable: The work file cannot be written.
    """
    with _work_file(work, rows.schema, rows.to_batches()) as file:
        yield _open(session, [file], rows.schema, joined=joined)


def _same_types(staged: pa.Schema, fitted: pa.Schema) -> bool:
    """Tell whether Spark reads staged columns in the fitted types without a cast."""
    return all(plain_type(staged.field(f.name).type) == f.type for f in fitted)


def _open(
    session: SparkSession, paths: Sequence[Location], schema: pa.Schema, *, joined: bool
) -> DataFrame:
    from pyspark.sql.types import StructType

    reader = session.read.schema(StructType.fromJson(spark_schema(schema)))
    # Names are taken as they are; a '[' in one is no pattern.
    frame = reader.option("__globPaths__", "false").parquet(*map(spark_url, paths))
    if joined:
        return frame
    size = sum(path.stat().st_size for path in paths)
    return frame.coalesce(1) if size <= _ONE_FILE_BYTES else frame


@contextmanager
def _work_file(
    work: SparkWork, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Iterator[Location]:
    with work.path(".parquet") as file:
        try:
            with (
                create_unsynced(file) as sink,
                pq.ParquetWriter(sink, schema, compression="NONE") as writer,
            ):
                for batch in batches:
                    writer.write_batch(batch)
        except OSError as exc:
            raise StorageUnavailable(f"{file}: cannot be written: {exc}") from exc
        yield file
