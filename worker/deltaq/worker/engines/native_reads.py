"""Reads of the native engine: rows, history and what a table is like."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from deltaq.tasks.errors import (
    InvalidRequest,
    SchemaMismatch,
    StorageUnavailable,
    VersionNotFound,
)
from deltaq.tasks.query import Read
from deltaq.worker.engines.delta_types import delta_name, plain_type
from deltaq.worker.engines.handles import Handle
from deltaq.worker.expressions import translate
from deltaq.worker.suggest import did_you_mean

#: A result is read once and removed: encoding it takes four times as long as writing it.
_AS_FAST: dict[str, Any] = {
    "compression": "none",
    "use_dictionary": False,
    "write_statistics": False,
}
_TIMESTAMP = pa.timestamp("us", "UTC")
#: As DESCRIBE HISTORY names them; what Spark gives as a map is JSON text.
_HISTORY = pa.schema(
    [
        ("version", pa.int64()),
        ("timestamp", _TIMESTAMP),
        ("operation", pa.string()),
        ("operationParameters", pa.string()),
        ("userMetadata", pa.string()),
        ("engineInfo", pa.string()),
        ("operationMetrics", pa.string()),
    ]
)


def at_version(handle: Handle, query: Read) -> DeltaTable:
    """Open the version that a query asks for.

    Raises:
        TableNotFound: There is no such table.
        VersionNotFound: It has no such version, or was not there at that time.
        InvalidRequest: The time is none.
    """
    newest = handle.existing().version()
    if query.version is None and query.timestamp is None:
        # A copy: the handle moves on while the rows are read.
        return DeltaTable(str(handle.path), version=newest)
    if query.version is not None:
        if not 0 <= query.version <= newest:
            raise VersionNotFound(
                f"table {handle.name} has no version {query.version}; the newest is {newest}",
                table=handle.name,
                details={"newest": newest},
            )
        return DeltaTable(str(handle.path), version=query.version)
    return _at_time(handle, str(query.timestamp))


def write_rows(table: DeltaTable, query: Read, destination: Path) -> int:
    """Write the rows that a query asks for into a new folder; return how many they are.

    Raises:
        InvalidExpression, SchemaMismatch: Of the query.
        Untranslatable: The condition is for Spark to evaluate.
        StorageUnavailable: The folder cannot be written.
    """
    schema = pa.schema(table.schema().to_arrow())
    columns = _columns(query, schema)
    fields = [pa.field(c, plain_type(schema.field(c).type)) for c in columns]
    result = pa.schema(fields)
    where = None if query.where is None else translate(query.where, schema, what="where")
    reader = pa.RecordBatchReader.from_stream(table.scan(columns=columns, predicate=where))
    rows = 0
    try:
        destination.mkdir(parents=True)
        with pq.ParquetWriter(destination / "part-0.parquet", result, **_AS_FAST) as writer:
            for batch in _limited(reader, query.limit):
                rows += batch.num_rows
                writer.write_batch(batch.select(columns).cast(result))
    except OSError as exc:
        raise StorageUnavailable(f"{destination}: cannot be written: {exc}") from exc
    return rows


def history(table: DeltaTable, limit: int) -> pa.Table:
    """Read the newest commits, newest first."""
    return pa.Table.from_pylist([_history_row(c) for c in table.history(limit)], schema=_HISTORY)


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
        "properties": metadata.configuration,
        "features": sorted({*(protocol.writer_features or ()), *(protocol.reader_features or ())}),
        "min_reader_version": protocol.min_reader_version,
        "min_writer_version": protocol.min_writer_version,
    }


def total_bytes(table: DeltaTable) -> int:
    """Add up the sizes of a table's files."""
    return sum(table._table.get_add_file_sizes().values())


def _at_time(handle: Handle, text: str) -> DeltaTable:
    """Open the version that was the newest at a time; a time to come means the newest."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidRequest(f"timestamp={text!r} is not ISO 8601", table=handle.name) from exc
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    table = DeltaTable(str(handle.path))
    table.load_as_version(moment)
    # delta-rs takes the first version for any time before it.
    entry = handle.path / "_delta_log" / f"{table.version():020d}.json"
    if entry.exists() and entry.stat().st_mtime > moment.timestamp():
        raise VersionNotFound(
            f"table {handle.name} was not there at {text}; its log begins later",
            table=handle.name,
        )
    return table


def _columns(query: Read, schema: pa.Schema) -> list[str]:
    if query.columns is None:
        return list(schema.names)
    unknown = [c for c in query.columns if c not in schema.names]
    if unknown:
        told = "; ".join(f"{c!r}{did_you_mean(c, schema.names)}" for c in unknown)
        raise SchemaMismatch(
            f"table {query.table} has no column {told}",
            table=query.table,
            details={"columns": unknown},
        )
    return list(query.columns)


def _limited(reader: pa.RecordBatchReader, limit: int | None) -> Iterator[pa.RecordBatch]:
    if limit is None:
        yield from reader
        return
    for batch in reader:
        yield batch.slice(0, limit)
        limit -= batch.num_rows
        if limit <= 0:
            return


def _history_row(commit: dict[str, Any]) -> dict[str, Any]:
    row = {name: commit.get(name) for name in _HISTORY.names}
    for name in ("operationParameters", "operationMetrics"):
        if row[name] is not None:
            row[name] = json.dumps(row[name])
    row["timestamp"] = pa.scalar(commit["timestamp"] * 1000, _TIMESTAMP)
    return row
