"""The verbs of tables in Spark's terms; each makes at most one commit."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from deltaq.tasks.location import Location
from deltaq.tasks.request import (
    AddColumn,
    Convert,
    Create,
    Optimize,
    RenameColumn,
    Restore,
    SetProperties,
    TableChange,
    Vacuum,
)
from deltaq.worker.engines.asked import check_version, moment, too_early
from deltaq.worker.engines.delta_schema import spark_schema
from deltaq.worker.engines.kernel import Kernel, Snapshot
from deltaq.worker.engines.spark_queries import prepare
from deltaq.worker.engines.sql_types import quoted, sql_type
from deltaq.worker.engines.urls import spark_url
from deltaq.worker.engines.verb_rules import (
    check_optimize,
    check_policy,
    check_properties,
    check_rename,
    check_retention,
    lists_folder,
    new_column,
    new_table,
)
from deltaq.worker.maintenance.folders import check_folder
from deltaq.worker.maintenance.unneeded import files_told

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def create(session: SparkSession, table: Location, request: Create) -> None:
    """Create a table without rows."""
    from delta.tables import DeltaTable
    from pyspark.sql.types import StructType

    builder = DeltaTable.create(session).location(spark_url(table))
    builder = builder.addColumns(StructType.fromJson(_commented(new_table(request))))
    if request.partition_by:
        builder = builder.partitionedBy(*request.partition_by)
    if request.comment:
        builder = builder.comment(request.comment)
    for name, value in request.properties.items():
        builder = builder.property(name, value)
    builder.execute()


def change(
    session: SparkSession, kernel: Kernel, table: Location, request: TableChange, snapshot: Snapshot
) -> None:
    """Change a table besides its rows; no commit when it is so already.

    Raises:
        RequestError: It cannot be.
    """
    name = f"delta.{quoted(spark_url(table))}"
    match request:
        case Restore():
            version = _version(kernel, table, request, snapshot)
            if version < snapshot.version:
                _write_again(session, table, version, snapshot.partition_by)
        case SetProperties():
            check_properties(request)
            check_policy(request, snapshot.schema, snapshot.partition_by)
            pairs = (f"{_text(k)} = {_text(v)}" for k, v in request.properties.items())
            session.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ({', '.join(pairs)})")
        case AddColumn():
            field = new_column(request, snapshot.schema, snapshot.features)
            comment = request.column.comment
            told = f" COMMENT {_text(comment)}" if comment else ""
            column = f"{quoted(field.name)} {sql_type(field.type)}{told}"
            session.sql(f"ALTER TABLE {name} ADD COLUMNS ({column})")
        case RenameColumn():
            check_rename(request, snapshot.schema, snapshot.properties)
            old, new = quoted(request.column), quoted(request.to)
            session.sql(f"ALTER TABLE {name} RENAME COLUMN {old} TO {new}")


def convert(session: SparkSession, table: Location, request: Convert) -> None:
    """Make a table of the Parquet files in its folder.

    Raises:
        RequestError: The folder cannot be one.
    """
    from delta.tables import DeltaTable

    check_folder(table, request)
    columns = ", ".join(f"{quoted(c.name)} {c.type}" for c in request.partition_by)
    DeltaTable.convertToDelta(
        session, f"parquet.{quoted(spark_url(table))}", *([columns] if columns else [])
    )


def optimize(session: SparkSession, table: Location, request: Optimize, snapshot: Snapshot) -> None:
    """Compact small files, or order rows along columns; no commit when all is so already.

    Raises:
        SchemaMismatch: A column is not in the table, or one that it may not be.
    """
    check_optimize(request, snapshot.schema, snapshot.partition_by)
    if request.where is not None:
        prepare(session, request.where, snapshot.schema)
    if request.target_bytes is not None:
        for limit in ("minFileSize", "maxFileSize"):
            session.conf.set(f"spark.databricks.delta.optimize.{limit}", str(request.target_bytes))
    chosen = f" WHERE {request.where}" if request.where else ""
    order = f" ZORDER BY ({', '.join(map(quoted, request.zorder))})" if request.zorder else ""
    session.sql(f"OPTIMIZE delta.{quoted(spark_url(table))}{chosen}{order}")


def vacuum(
    session: SparkSession, table: Location, request: Vacuum, snapshot: Snapshot
) -> dict[str, Any] | None:
    """Remove files that no version of the last hours needs, without a commit.

    Returns:
        With ``dry_run``, how many files it would remove, their bytes and paths in the table.

    Raises:
        InvalidRequest: Less than a week, without ``force``.
    """
    check_retention(request)
    delta = "spark.databricks.delta."
    # Its own commits would take the ledger along before anything is removed.
    session.conf.set(f"{delta}vacuum.logging.enabled", "false")
    session.conf.set(f"{delta}retentionDurationCheck.enabled", str(not request.force).lower())
    lite = "" if lists_folder(request.retention_hours, snapshot.properties) else " LITE"
    command = (
        f"VACUUM delta.{quoted(spark_url(table))}{lite} RETAIN {request.retention_hours} HOURS"
    )
    if not request.dry_run:
        session.sql(command)
        return None
    found = session.sql(f"{command} DRY RUN").collect()
    root = urlsplit(spark_url(table)).path
    paths = (PurePosixPath(unquote(urlsplit(row[0]).path)) for row in found)
    return files_told(table, (str(path.relative_to(root)) for path in paths))


def _write_again(
    session: SparkSession, table: Location, version: int, partitions: tuple[str, ...]
) -> None:
    """Replace all rows and columns by those of a version.

    Delta's own RESTORE copies nothing, but lets nobody add the ledger to its commit.
    """
    rows = session.read.format("delta").option("versionAsOf", version).load(spark_url(table))
    writer = rows.write.format("delta").mode("overwrite").partitionBy(*partitions)
    writer.option("overwriteSchema", "true").save(spark_url(table))


def _version(kernel: Kernel, table: Location, request: Restore, snapshot: Snapshot) -> int:
    if request.version is not None:
        return check_version(request.version, snapshot.version, name=request.table, path=table)
    text = str(request.timestamp)
    at = moment(text, name=request.table)
    version = kernel.version_at(table, int(at.timestamp() * 1000))
    if version is None:
        raise too_early(text, name=request.table, path=table)
    return version


def _commented(schema: pa.Schema) -> dict[str, object]:
    """Write a schema as Spark reads it, with what it says of its columns."""
    written = spark_schema(schema)
    for told, field in zip(written["fields"], schema, strict=True):
        told["nullable"] = field.nullable
        comment = (field.metadata or {}).get(b"comment")
        if comment:
            told["metadata"] = {"comment": comment.decode()}
    return written


def _text(value: str) -> str:
    r"""Write a literal of Spark's SQL; a backslash escapes in it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
