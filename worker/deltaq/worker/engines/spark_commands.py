"""The operations in Spark's terms: each function makes at most one Delta commit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from deltaq.tasks.request import Merge, Overwrite
from deltaq.worker.engines.columns import outside_where

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession

#: Marks the rows of a merge for which ``delete_when`` holds.
_DELETED = "__deltaq_delete"


def append(frame: DataFrame, table: Path, partitions: tuple[str, ...]) -> None:
    """Add a frame's rows."""
    _writer(frame, "append", partitions).save(str(table))


def overwrite(frame: DataFrame, table: Path, partitions: tuple[str, ...]) -> None:
    """Replace all rows."""
    _writer(frame, "overwrite", partitions).save(str(table))


def overwrite_where(frame: DataFrame, table: Path, where: str) -> None:
    """Replace the rows that satisfy a condition, as all rows of the frame must."""
    _writer(frame, "overwrite", ()).option("replaceWhere", where).save(str(table))


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
    session: SparkSession, frame: DataFrame, table: Path, request: Merge, update: list[str]
) -> None:
    """Merge a frame into a table that is there, changing ``update`` in matched rows."""
    from delta.tables import DeltaTable

    target = DeltaTable.forPath(session, str(table))
    columns = target.toDF().columns
    shared = [column for column in frame.columns if column in columns]
    source = _mark_deleted(frame, request.delete_when)
    condition = " AND ".join(f"t.{_quoted(key)} = s.{_quoted(key)}" for key in request.keys)
    builder = target.alias("t").merge(source.alias("s"), condition)
    if request.delete_when is not None:
        builder = builder.whenMatchedDelete(f"s.{_DELETED}")
    if update:
        builder = builder.whenMatchedUpdate(set=_values(update))
    if request.insert:
        kept = "true" if request.delete_when is None else f"NOT s.{_DELETED}"
        builder = builder.whenNotMatchedInsert(kept, _values(shared))
    builder.execute()


def insert_all(
    frame: DataFrame, table: Path, partitions: tuple[str, ...], delete_when: str | None
) -> None:
    """Create a table from the rows of a merge that it would insert."""
    from pyspark.sql import functions as sf

    marked = _mark_deleted(frame, delete_when)
    if delete_when is not None:
        marked = marked.where(~sf.col(_DELETED)).drop(_DELETED)
    append(marked, table, partitions)


def delete(session: SparkSession, table: Path, where: str) -> None:
    """Remove the rows that satisfy a condition; no commit when there are none."""
    from delta.tables import DeltaTable

    DeltaTable.forPath(session, str(table)).delete(where)


def advance_ledger(session: SparkSession, table: Path, identity_columns: list[str]) -> None:
    """Commit nothing but the ledger and the note: an append without rows."""
    rows = session.read.format("delta").load(str(table)).limit(0).drop(*identity_columns)
    rows.write.format("delta").mode("append").save(str(table))


def _writer(frame: DataFrame, mode: str, partitions: tuple[str, ...]) -> DataFrameWriter:
    return frame.write.format("delta").mode(mode).partitionBy(*partitions)


def _mark_deleted(frame: DataFrame, delete_when: str | None) -> DataFrame:
    if delete_when is None:
        return frame
    from pyspark.sql import functions as sf

    # Evaluated here, where a name can only mean a staged column.
    holds = sf.coalesce(sf.expr(delete_when), sf.lit(False))
    return frame.withColumn(_DELETED, holds)


def _values(columns: Iterable[str]) -> dict[str, str | Column]:
    return {_quoted(column): f"s.{_quoted(column)}" for column in columns}


def _quoted(column: str) -> str:
    return "`" + column.replace("`", "``") + "`"
