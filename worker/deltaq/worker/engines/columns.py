"""What a request may do with the columns of a table; both engines ask here, in these words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from deltaq.tasks.errors import ConstraintViolated, InvalidFrame, InvalidRequest, SchemaMismatch
from deltaq.tasks.request import Adopt, Create, FrameRequest, Merge, Overwrite
from deltaq.tasks.suggest import did_you_mean
from deltaq.worker.engines.delta_types import delta_name

#: What either engine says of a table with delta.appendOnly.
APPEND_ONLY = "it is append-only: its rows cannot be changed or removed"


def check_partitions(request: FrameRequest | Adopt, partitions: Sequence[str]) -> None:
    """Check that a request names the partitions that its table has, or none.

    Raises:
        SchemaMismatch: It names others.
    """
    if request.partition_by is not None and list(request.partition_by) != list(partitions):
        raise SchemaMismatch(
            f"table {request.table} is partitioned by {list(partitions)}, not by "
            f"{list(request.partition_by)}; leave out partition_by",
            table=request.table,
            details={"partition_by": list(partitions)},
        )


def check_new_partitions(request: FrameRequest | Create | Adopt, schema: pa.Schema) -> None:
    """Check that a table with these columns can be partitioned as a request wants.

    Raises:
        InvalidFrame: A column is not there or cannot be one of a path, or none is left.
    """
    wanted = request.partition_by or ()
    problems = []
    for column in wanted:
        if column not in schema.names:
            near = did_you_mean(column, schema.names)
            problems.append(f"{column!r} is not in the frame{near}")
        elif pt.is_nested(schema.field(column).type) or pt.is_binary(schema.field(column).type):
            kind = delta_name(schema.field(column).type)
            problems.append(f"{column!r} is a {kind}, which names no folder")
    if len(set(wanted)) < len(wanted):
        problems.append("a column is in it twice")
    if len(set(wanted)) == len(schema):
        problems.append("at least one column must not be in it")
    if problems:
        raise InvalidFrame(
            f"table {request.table} cannot have partition_by={list(wanted)}: {'; '.join(problems)}",
            table=request.table,
        )


def check_partition_values(
    batches: Iterable[pa.RecordBatch], partitions: Sequence[str], *, name: str
) -> Iterator[pa.RecordBatch]:
    """Pass batches on, having checked that their rows can be told apart by their folders.

    Raises:
        SchemaMismatch: A text is empty, which Delta's log cannot tell from null.
    """
    for batch in batches:
        for column in partitions:
            values = batch.column(column) if column in batch.schema.names else None
            if values is None or not pt.is_string(values.type):
                continue
            if pc.any(pc.equal(values, "")).as_py():
                raise SchemaMismatch(
                    f"table {name} is partitioned by {column!r}, where Delta makes null of the "
                    "empty text '' in it; write another text, or null",
                    table=name,
                    details={"column": column},
                )
        yield batch


def outside_where(request: Overwrite) -> ConstraintViolated:
    """Make the error for an overwrite with a row that its own condition does not select."""
    return ConstraintViolated(
        f"table {request.table}: a row of the frame is outside where={request.where!r}, "
        "for only such rows are replaced",
        table=request.table,
    )


def check_required(table: pa.Schema, frame: Sequence[str], *, name: str) -> None:
    """Check that a frame leaves out only columns that may be null.

    Raises:
        ConstraintViolated: It leaves out others; they are named.
    """
    required = [f.name for f in table if not f.nullable and f.name not in frame]
    if required:
        raise ConstraintViolated(
            f"the frame for table {name} lacks {', '.join(map(repr, required))}, which cannot "
            "be null there",
            table=name,
            details={"columns": required},
        )


def columns_to_update(request: Merge, frame: Sequence[str], table: Sequence[str]) -> list[str]:
    """List the columns that a merge changes in matched rows.

    Args:
        request: The merge.
        frame: Columns of its rows.
        table: Columns that the table has, or will have by it.

    Raises:
        SchemaMismatch: The frame or the table lacks one.
        InvalidRequest: The merge neither updates, inserts nor deletes.
    """
    if request.update == () and not request.insert and request.delete_when is None:
        raise InvalidRequest("the merge neither updates, inserts nor deletes", table=request.table)
    if request.update is None and request.schema_mode:
        return [column for column in table if column in frame]
    if request.update is None:
        lacking = [column for column in table if column not in frame]
        if lacking:
            raise SchemaMismatch(
                f"table {request.table}: the frame lacks {', '.join(map(repr, lacking))}, which "
                "a merge of whole rows needs; name the columns to change with update=[...]",
                table=request.table,
                details={"missing": lacking},
            )
        return list(table)
    for column in request.update:
        for columns, where in ((frame, "frame"), (table, "table")):
            if column not in columns:
                raise SchemaMismatch(
                    f"table {request.table}: update names {column!r}, which is not in the "
                    f"{where}{did_you_mean(column, columns)}",
                    table=request.table,
                    details={"column": column},
                )
    return list(request.update)
