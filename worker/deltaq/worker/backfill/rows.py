"""Rows of any source, brought to the columns of a backfill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.types as pt

from deltaq.tasks.errors import SchemaMismatch


def completed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Put columns in a schema's order, with nulls for those that are lacking."""
    present = set(batch.schema.names)
    columns = [
        batch.column(f.name) if f.name in present else pa.nulls(batch.num_rows, f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def with_values(
    batches: Iterator[pa.RecordBatch], values: Mapping[str, str | None], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Add columns that are the same in all rows, and told as text by the path of their file.

    Raises:
        SchemaMismatch: A text is no value of its column's type.
    """
    if not values:
        yield from batches
        return
    fixed = {name: _parsed(name, text, schema.field(name).type) for name, text in values.items()}
    for batch in batches:
        columns = [
            pa.repeat(fixed[f.name], batch.num_rows) if f.name in fixed else batch.column(f.name)
            for f in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _parsed(column: str, text: str | None, kind: pa.DataType) -> pa.Scalar:
    try:
        if text is not None and pt.is_timestamp(kind) and kind.tz:
            # Without a zone it means UTC, as Delta has it.
            return pa.scalar(text.removesuffix("Z")).cast(pa.timestamp("us")).cast(kind)
        return pa.scalar(text, pa.string()).cast(kind)
    except pa.ArrowInvalid as exc:
        raise SchemaMismatch(
            f"column {column!r}, which the path of the file tells: {exc}",
            details={"column": column},
        ) from exc


def no_such_columns(unknown: list[str]) -> SchemaMismatch:
    """Make the error for columns that the rows of the backfill do not have."""
    named = ", ".join(map(repr, unknown))
    return SchemaMismatch(
        f"column {named} is in none of the others; name it in schema= to load it",
        details={"extra": unknown},
    )
