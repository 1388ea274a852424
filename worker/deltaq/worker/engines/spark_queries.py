"""What SparkEngine's queries are made of: which version, which rows, which words."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deltaq.tasks.errors import InvalidRequest, SchemaMismatch
from deltaq.tasks.query import Read
from deltaq.worker.engines.delta_schema import arrow_schema
from deltaq.worker.engines.delta_types import delta_name
from deltaq.worker.engines.kernel import Kernel, Snapshot
from deltaq.worker.expressions import check_columns
from deltaq.worker.suggest import did_you_mean

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def asked_version(kernel: Kernel, table: Path, query: Read) -> int:
    """Find the version that a query asks for; Spark checks whether it is still there.

    Raises:
        InvalidRequest: The timestamp is none.
    """
    if query.version is not None:
        return query.version
    if query.timestamp is None:
        return kernel.version(table)
    try:
        moment = datetime.fromisoformat(query.timestamp)
    except ValueError as exc:
        raise InvalidRequest(
            f"timestamp={query.timestamp!r} is not in ISO 8601, as 2024-05-31T12:00:00Z is"
        ) from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return kernel.version_at(table, int(moment.timestamp() * 1000))


def asked_rows(rows: DataFrame, query: Read) -> DataFrame:
    """Restrict a table's rows to those that a query asks for.

    Raises:
        InvalidExpression: The condition does not parse or names a column that is not there.
        SchemaMismatch: A column to return is not there.
    """
    columns = rows.columns
    if query.where is not None:
        check_columns(query.where, arrow_schema(rows.schema.json()), what="where")
        rows = rows.where(query.where)
    if query.columns is not None:
        for column in query.columns:
            if column not in columns:
                near = did_you_mean(column, columns)
                raise SchemaMismatch(
                    f"table {query.table} has no column {column!r}{near}",
                    table=query.table,
                    details={"column": column},
                )
        rows = rows.select(*("`" + column.replace("`", "``") + "`" for column in query.columns))
    return rows if query.limit is None else rows.limit(query.limit)


def description(table: str, snapshot: Snapshot, told: dict[str, Any]) -> dict[str, Any]:
    """Write what DESCRIBE DETAIL tells, and the schema, as JSON values."""
    return {
        "name": table,
        "location": told["location"],
        "version": snapshot.version,
        "schema": _columns(snapshot.schema),
        "partition_by": list(snapshot.partition_by),
        "files": told["numFiles"],
        "size_bytes": told["sizeInBytes"],
        "created_at": told["createdAt"].astimezone(UTC).isoformat(),
        "properties": dict(told["properties"]),
        "features": list(told["tableFeatures"]),
        "min_reader_version": told["minReaderVersion"],
        "min_writer_version": told["minWriterVersion"],
    }


def _columns(schema: pa.Schema) -> list[dict[str, Any]]:
    return [{"name": f.name, "type": delta_name(f.type), "nullable": f.nullable} for f in schema]
