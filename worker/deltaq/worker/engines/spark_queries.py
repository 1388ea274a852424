"""What SparkEngine's queries are made of: which version, which rows, which words."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deltaq.tasks.location import Location
from deltaq.tasks.query import Read
from deltaq.worker.engines import asked
from deltaq.worker.engines.delta_schema import arrow_schema
from deltaq.worker.engines.delta_types import delta_name
from deltaq.worker.engines.kernel import Kernel, Snapshot
from deltaq.worker.engines.sql_types import quoted
from deltaq.worker.expressions import columns_in

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


def asked_version(kernel: Kernel, table: Location, query: Read) -> int:
    """Find the version that a query asks for; Spark checks whether it is still there.

    Raises:
        VersionNotFound: The table has not come to it yet, or did not exist at that time.
        InvalidRequest: The timestamp is none.
    """
    newest = kernel.snapshot(table)
    if query.version is not None:
        return asked.check_version(query.version, newest.version, name=query.table, path=table)
    if query.timestamp is None:
        return newest.version
    moment = asked.moment(query.timestamp, name=query.table)
    version = kernel.version_at(table, int(moment.timestamp() * 1000))
    if version is None:
        raise asked.too_early(query.timestamp, name=query.table, path=table)
    return version


def asked_rows(rows: DataFrame, query: Read) -> DataFrame:
    """Restrict a table's rows to those that a query asks for.

    Raises:
        InvalidExpression: The condition does not parse or names a column that is not there.
        SchemaMismatch: A column to return is not there.
    """
    columns = asked.asked_columns(query, rows.columns)
    if query.where is not None:
        prepare(rows.sparkSession, query.where, arrow_schema(rows.schema.json()))
        rows = rows.where(query.where)
    if query.columns is not None:
        rows = rows.select(*("`" + column.replace("`", "``") + "`" for column in columns))
    return rows if query.limit is None else rows.limit(query.limit)


def prepare(session: SparkSession, where: str, schema: pa.Schema) -> None:
    """Prepare the session of a command for a condition.

    delta-rs leaves NaN out of a column's largest value and rounds that of a decimal, and Spark
    would skip files by them: where it matters, it reads all
    (``test_conditions_on_numbers_find_all_rows``).

    Raises:
        InvalidExpression: It does not parse or names a column that is not there.
    """
    kinds = [str(schema.field(c).type) for c in columns_in(where, schema, what="where")]
    if any(word in kind for kind in kinds for word in ("float", "double", "decimal")):
        session.conf.set("spark.databricks.delta.stats.skipping", "false")
        session.conf.set("spark.sql.parquet.filterPushdown", "false")


def description(table: str, snapshot: Snapshot, told: dict[str, Any]) -> dict[str, Any]:
    """Write what DESCRIBE DETAIL tells, and the schema, as JSON values."""
    return {
        "name": table,
        "location": told["location"].removeprefix("file:"),
        "version": snapshot.version,
        "schema": _columns(snapshot.schema),
        "partition_by": list(snapshot.partition_by),
        "files": told["numFiles"],
        "size_bytes": told["sizeInBytes"],
        "created_at": told["createdAt"].astimezone(UTC).isoformat(),
        "comment": told["description"],
        "properties": dict(sorted(dict(told["properties"]).items())),
        "features": list(told["tableFeatures"]),
        "min_reader_version": told["minReaderVersion"],
        "min_writer_version": told["minWriterVersion"],
    }


def counted_files(rows: DataFrame, partition_by: list[str]) -> pa.Table:
    """List the files of a table's rows as ``maintenance.analysis.analyse`` takes them."""
    from pyspark.sql import functions as sf

    size = sf.col("_metadata.file_size").alias("size_bytes")
    file = sf.col("_metadata.file_path").alias("__file")
    chosen = rows.select(file, size, *map(quoted, partition_by))
    counted = chosen.groupBy("__file", "size_bytes", *map(quoted, partition_by)).agg(
        sf.count("*").alias("rows")
    )
    return counted.drop("__file").toArrow()


def _columns(schema: pa.Schema) -> list[dict[str, Any]]:
    return [{"name": f.name, "type": delta_name(f.type), "nullable": f.nullable} for f in schema]
