"""Reads of the native engine: rows, history and what a table is like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from deltaq.tasks.errors import StorageUnavailable
from deltaq.tasks.query import Read
from deltaq.worker.engines import asked
from deltaq.worker.engines.delta_types import delta_name, plain_type
from deltaq.worker.engines.handles import Handle
from deltaq.worker.engines.urls import open_table
from deltaq.worker.expressions import translate
from deltaq.worker.ledger import log_entry


@dataclass(frozen=True, kw_only=True)
class Found:
    """Rows that a query asks for, not yet read. The table may move on meanwhile.

    Attributes:
        version: Version of the table that they are of.
        schema: Their columns, in the order asked for.
        batches: Themselves.
    """

    version: int
    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]


def at_version(handle: Handle, query: Read) -> DeltaTable:
    """Open the version that a query asks for.

    Raises:
        TableNotFound: There is no such table.
        VersionNotFound: It has no such version, or was not there at that time.
        InvalidRequest: The time is none.
    """
    newest = handle.existing().version()
    if query.version is None and query.timestamp is None:
        return handle.existing()
    if query.version is not None:
        version = asked.check_version(query.version, newest, name=handle.name, path=handle.path)
        return open_table(handle.path, version=version)
    return _at_time(handle, str(query.timestamp))


def find_rows(table: DeltaTable, query: Read) -> Found:
    """Begin to read the rows that a query asks for, of the version that the table is at now.

    Raises:
        InvalidExpression, SchemaMismatch: Of the query.
        Untranslatable: The condition is for Spark to evaluate.
    """
    schema = pa.schema(table.schema().to_arrow())
    columns = asked.asked_columns(query, schema.names)
    fields = [schema.field(c) for c in columns]
    where = None if query.where is None else translate(query.where, schema, what="where")
    reader = pa.RecordBatchReader.from_stream(table.scan(columns=columns, predicate=where))
    return Found(
        version=table.version(),
        schema=pa.schema([pa.field(f.name, plain_type(f.type), f.nullable) for f in fields]),
        batches=_limited(reader, query.limit),
    )


def plain_batches(found: Found) -> Iterator[pa.RecordBatch]:
    """Read the rows, in the order and types of the schema."""
    for batch in found.batches:
        yield batch.select(found.schema.names).cast(found.schema)


def write_rows(found: Found, destination: Path, *, most: asked.Most | None = None) -> int:
    """Write rows into a new folder; return how many they are.

    As Arrow writes them: they are read once, and Parquet would take four times as long.

    Raises:
        ResultTooLarge: They are more than ``most``.
        StorageUnavailable: The folder cannot be written.
    """
    rows = size_bytes = 0
    try:
        destination.mkdir(parents=True)
        with (
            pa.OSFile(str(destination / "part-0.arrow"), "wb") as file,
            pa.ipc.new_file(file, found.schema) as writer,
        ):
            for batch in plain_batches(found):
                rows += batch.num_rows
                size_bytes += batch.nbytes
                if most is not None:
                    most.check(rows, size_bytes)
                writer.write_batch(batch)
    except OSError as exc:
        raise StorageUnavailable(f"{destination}: cannot be written: {exc}") from exc
    return rows


def history(table: DeltaTable, limit: int) -> pa.Table:
    """Read the newest commits, newest first."""
    return asked.history_table(
        {**commit, "timestamp": datetime.fromtimestamp(commit["timestamp"] / 1000, UTC)}
        for commit in table.history(limit)
    )


def detail(handle: Handle) -> dict[str, Any]:
    """Describe a table in JSON values."""
    table = handle.existing()
    metadata, protocol = table.metadata(), table.protocol()
    sizes = table._table.get_add_file_sizes()
    created = datetime.fromtimestamp(metadata.created_time / 1000, UTC)
    return {
        "name": handle.name,
        "location": str(handle.path),
        "version": table.version(),
        "schema": [
            {"name": f.name, "type": delta_name(f.type), "nullable": f.nullable}
            for f in handle.schema
        ],
        "partition_by": metadata.partition_columns,
        "files": len(sizes),
        "size_bytes": sum(sizes.values()),
        "created_at": created.isoformat(),
        "comment": metadata.description,
        "properties": dict(sorted(metadata.configuration.items())),
        "features": sorted({*(protocol.writer_features or ()), *(protocol.reader_features or ())}),
        "min_reader_version": protocol.min_reader_version,
        "min_writer_version": protocol.min_writer_version,
    }


def total_bytes(table: DeltaTable) -> int:
    """Add up the sizes of a table's files."""
    return sum(table._table.get_add_file_sizes().values())


def _at_time(handle: Handle, text: str) -> DeltaTable:
    """Open the version that was the newest at a time; a time to come means the newest."""
    moment = asked.moment(text, name=handle.name)
    table = open_table(handle.path)
    table.load_as_version(moment)
    # delta-rs takes the first version for any time before it.
    entry = log_entry(handle.path, table.version())
    if entry.is_file() and entry.stat().st_mtime > moment.timestamp():
        raise asked.too_early(text, name=handle.name, path=handle.path)
    return table


def _limited(reader: pa.RecordBatchReader, limit: int | None) -> Iterator[pa.RecordBatch]:
    if limit is None:
        yield from reader
        return
    for batch in reader:
        yield batch.slice(0, limit)
        limit -= batch.num_rows
        if limit <= 0:
            return
