"""The operations in Spark's terms: each function makes at most one Delta commit."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from deltaq.tasks.errors import ConstraintViolated, InvalidRequest, SchemaMismatch
from deltaq.tasks.request import Merge
from deltaq.worker.suggest import did_you_mean

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession

#: Marks the rows of a merge for which ``delete_when`` holds.
_DELETED = "__deltaq_delete"


def append(frame: DataFrame, table: Path, partition_by: tuple[str, ...] | None) -> None:
    """Add a frame's rows; partitions matter only when this creates the table."""
    _writer(frame, "append", partition_by).save(str(table))


def overwrite(frame: DataFrame, table: Path, partition_by: tuple[str, ...] | None) -> None:
    """Replace all rows; partitions matter only when this creates the table."""
    _writer(frame, "overwrite", partition_by).save(str(table))


def overwrite_where(frame: DataFrame, table: Path, where: str) -> None:
    """Replace the rows that satisfy a condition, as all rows of the frame must."""
    _writer(frame, "overwrite", None).option("replaceWhere", where).save(str(table))


def check_all(frame: DataFrame, where: str, *, name: str) -> None:
    """Check that all rows satisfy a condition, as Delta does only if the table is there.

    Raises:
        ConstraintViolated: One does not.
    """
    from pyspark.sql import functions as sf

    others = frame.where(~sf.coalesce(sf.expr(where), sf.lit(False)))
    if not others.isEmpty():
        raise ConstraintViolated(
            f"table {name}: not all rows of the frame satisfy where={where!r}", table=name
        )


def merge(session: SparkSession, frame: DataFrame, table: Path, request: Merge) -> None:
    """Merge a frame into a table that is there.

    Raises:
        SchemaMismatch: Columns to update are missing in the frame or the table.
        InvalidRequest: The request neither updates, inserts nor deletes.
    """
    from delta.tables import DeltaTable

    target = DeltaTable.forPath(session, str(table))
    columns = target.toDF().columns
    shared = [column for column in frame.columns if column in columns]
    update = _columns_to_update(request, frame.columns, columns)
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
    if not (update or request.insert or request.delete_when is not None):
        raise InvalidRequest("the merge neither updates, inserts nor deletes")
    builder.execute()


def insert_all(frame: DataFrame, table: Path, request: Merge) -> None:
    """Create a table from the rows of a merge that it would insert."""
    from pyspark.sql import functions as sf

    marked = _mark_deleted(frame, request.delete_when)
    if request.delete_when is not None:
        marked = marked.where(~sf.col(_DELETED)).drop(_DELETED)
    append(marked, table, request.partition_by)


def delete(session: SparkSession, table: Path, where: str) -> None:
    """Remove the rows that satisfy a condition; no commit when there are none."""
    from delta.tables import DeltaTable

    DeltaTable.forPath(session, str(table)).delete(where)


def advance_ledger(session: SparkSession, table: Path, identity_columns: list[str]) -> None:
    """Commit nothing but the ledger and the note: an append without rows."""
    rows = session.read.format("delta").load(str(table)).limit(0).drop(*identity_columns)
    rows.write.format("delta").mode("append").save(str(table))


def _writer(frame: DataFrame, mode: str, partition_by: tuple[str, ...] | None) -> DataFrameWriter:
    writer = frame.write.format("delta").mode(mode)
    return writer.partitionBy(*partition_by) if partition_by else writer


def _columns_to_update(
    request: Merge, frame: list[str], table: list[str]
) -> tuple[str, ...] | list[str]:
    if request.update is None:
        lacking = [column for column in table if column not in frame]
        if lacking:
            raise SchemaMismatch(
                f"table {request.table}: the frame lacks {', '.join(map(repr, lacking))}, which a "
                "merge of whole rows needs; name the columns to change with update=[...]",
                table=request.table,
                details={"missing": lacking},
            )
        return table
    for column in request.update:
        for columns, where in ((frame, "frame"), (table, "table")):
            if column not in columns:
                raise SchemaMismatch(
                    f"table {request.table}: update names {column!r}, which is not in the "
                    f"{where}{did_you_mean(column, columns)}",
                    table=request.table,
                    details={"column": column},
                )
    return request.update


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
