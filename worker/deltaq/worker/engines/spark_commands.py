"""The operations in Spark's terms: each function makes at most one Delta commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from deltaq.tasks.location import Location
from deltaq.tasks.request import Merge, Overwrite
from deltaq.worker.engines.columns import outside_where
from deltaq.worker.engines.scd2 import Versions, match_column
from deltaq.worker.engines.sql_types import quoted
from deltaq.worker.engines.urls import spark_url

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession

#: Marks the rows of a merge for which ``delete_when`` holds.
_DELETED = "__deltaq_delete"


def append(
    frame: DataFrame, table: Location, partitions: tuple[str, ...], *, evolves: bool = False
) -> None:
    """Add a frame's rows; ``evolves`` lets the table have the frame's columns and types."""
    _writer(frame, "append", partitions, evolves).save(spark_url(table))


def overwrite(
    frame: DataFrame, table: Location, partitions: tuple[str, ...], *, evolves: bool = False
) -> None:
    """Replace all rows."""
    _writer(frame, "overwrite", partitions, evolves).save(spark_url(table))


def overwrite_where(
    frame: DataFrame, table: Location, where: str, *, evolves: bool = False
) -> None:
    """Replace the rows that satisfy a condition, as all rows of the frame must."""
    _writer(frame, "overwrite", (), evolves).option("replaceWhere", where).save(spark_url(table))


def check_all(frame: DataFrame, request: Overwrite) -> None:
    """Check that all rows satisfy an overwrite's condition, as Delta does for a table there is.

    Raises:
        ConstraintViolated: One does not.
    """
    from pyspark.sql import functions as sf

    others = frame.where(~sf.coalesce(sf.expr(str(request.where)), sf.lit(False)))
    if not others.isEmpty():
        raise outside_where(request)


def merge(
    session: SparkSession,
    frame: DataFrame,
    table: Location,
    request: Merge,
    update: list[str],
    columns: list[str],
    *,
    evolves: bool = False,
) -> None:
    """Merge a frame into a table that is there.

    Args:
        session: Where it runs.
        frame: The rows.
        table: The table's folder.
        request: The merge.
        update: Columns to change in matched rows.
        columns: Those that the table has, or will have if it evolves.
        evolves: Let the table have the frame's columns and types.
    """
    from delta.tables import DeltaTable

    target = DeltaTable.forPath(session, spark_url(table))
    shared = [column for column in frame.columns if column in columns]
    source = _mark_deleted(frame, request.delete_when)
    condition = _match(request.keys, request.keys)
    builder = target.alias("t").merge(source.alias("s"), condition)
    if evolves:
        builder = builder.withSchemaEvolution()
    if request.delete_when is not None:
        builder = builder.whenMatchedDelete(f"s.{_DELETED}")
    if update:
        builder = builder.whenMatchedUpdate(set=_values(update))
    if request.insert:
        kept = "true" if request.delete_when is None else f"NOT s.{_DELETED}"
        builder = builder.whenNotMatchedInsert(kept, _values(shared))
    builder.execute()


def current_versions(frame: DataFrame, table: Location, versions: Versions) -> pa.Table:
    """Read the current versions of a frame's keys."""
    from pyspark.sql import functions as sf

    request, session = versions.request, frame.sparkSession
    rows = session.read.format("delta").load(spark_url(table)).where(quoted(request.is_current))
    keys = list(request.keys)
    wanted = frame.select(*map(quoted, keys)).alias("s")
    found = rows.alias("t").join(wanted, sf.expr(_match(keys, keys)), "left_semi")
    return found.select(*map(quoted, versions.compared)).toArrow()


def merge_versions(
    session: SparkSession, source: DataFrame, table: Location, versions: Versions
) -> None:
    """End versions and begin others, as the source of :func:`scd2.merge_source` says."""
    from delta.tables import DeltaTable

    request = versions.request
    matched = [match_column(place) for place in range(len(request.keys))]
    condition = f"{_match(request.keys, matched)} AND t.{quoted(request.is_current)}"
    builder = (
        DeltaTable.forPath(session, spark_url(table)).alias("t").merge(source.alias("s"), condition)
    )
    builder = builder.whenMatchedUpdate(set=_values([request.valid_to, request.is_current]))
    begins = f"s.{quoted(matched[0])} IS NULL"
    builder.whenNotMatchedInsert(begins, _values(versions.table.names)).execute()


def _match(keys: Sequence[str], columns: Sequence[str]) -> str:
    pairs = zip(keys, columns, strict=True)
    return " AND ".join(f"t.{quoted(k)} = s.{quoted(c)}" for k, c in pairs)


def insert_all(
    frame: DataFrame, table: Location, partitions: tuple[str, ...], delete_when: str | None
) -> None:
    """Create a table from the rows of a merge that it would insert."""
    from pyspark.sql import functions as sf

    marked = _mark_deleted(frame, delete_when)
    if delete_when is not None:
        marked = marked.where(~sf.col(_DELETED)).drop(_DELETED)
    append(marked, table, partitions)


def delete(session: SparkSession, table: Location, where: str) -> None:
    """Remove the rows that satisfy a condition; no commit when there are none."""
    from delta.tables import DeltaTable

    DeltaTable.forPath(session, spark_url(table)).delete(where)


def advance_ledger(session: SparkSession, table: Location, identity_columns: list[str]) -> None:
    """Commit nothing but the ledger and the note: an append without rows."""
    rows = session.read.format("delta").load(spark_url(table)).limit(0).drop(*identity_columns)
    rows.write.format("delta").mode("append").save(spark_url(table))


def _writer(
    frame: DataFrame, mode: str, partitions: tuple[str, ...], evolves: bool
) -> DataFrameWriter:
    writer = frame.write.format("delta").mode(mode).partitionBy(*partitions)
    return writer.option("mergeSchema", str(evolves).lower())


def _mark_deleted(frame: DataFrame, delete_when: str | None) -> DataFrame:
    if delete_when is None:
        return frame
    from pyspark.sql import functions as sf

    # Evaluated here, where a name can only mean a staged column.
    holds = sf.coalesce(sf.expr(delete_when), sf.lit(False))
    return frame.withColumn(_DELETED, holds)


def _values(columns: Iterable[str]) -> dict[str, str | Column]:
    return {quoted(column): f"s.{quoted(column)}" for column in columns}
