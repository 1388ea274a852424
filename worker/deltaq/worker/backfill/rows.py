"""Rows of any source, brought to the columns of a backfill."""

from __future__ import annotations

import pyarrow as pa

from deltaq.tasks.errors import SchemaMismatch


def completed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Put columns in a schema's order, with nulls for those that are lacking."""
    present = set(batch.schema.names)
    columns = [
        batch.column(f.name) if f.name in present else pa.nulls(batch.num_rows, f.type)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def no_such_columns(unknown: list[str]) -> SchemaMismatch:
    """Make the error for columns that the rows of the backfill do not have."""
    named = ", ".join(map(repr, unknown))
    return SchemaMismatch(
        f"column {named} is in none of the others; name it in schema= to load it",
        details={"extra": unknown},
    )
