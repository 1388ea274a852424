"""What the rows of a backfill must look like, and which rules they must keep. Nothing is read."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
from deltalake import DeltaTable

from deltaq.tasks.errors import InvalidRequest, SchemaMismatch
from deltaq.tasks.manifest import Manifest
from deltaq.tasks.request import Adopt, Lane
from deltaq.tasks.suggest import did_you_mean
from deltaq.worker.engines import NotNative
from deltaq.worker.engines.columns import check_new_partitions, check_partitions, check_required
from deltaq.worker.engines.delta_types import delta_name
from deltaq.worker.engines.evolve import evolve
from deltaq.worker.engines.fit import created_fields, fit_schema
from deltaq.worker.engines.native_limits import (
    check_evolvable,
    check_partition_types,
    check_writable,
    constraints,
    features,
    maps_columns,
)
from deltaq.worker.engines.sql_types import arrow_type


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """How rows are to be.

    Attributes:
        schema: Their columns, in the order and types of the table.
        partition_by: Columns that partition the table; all are in ``schema``.
        required: Columns that may not be null.
        constraints: CHECK constraints by name, which DataFusion reads as Spark does.
        added: Columns that the table does not have yet.
        whole: All columns of the table once the rows are in it.
    """

    schema: pa.Schema
    partition_by: tuple[str, ...]
    required: tuple[str, ...]
    constraints: dict[str, str]
    added: tuple[pa.Field, ...]
    whole: pa.Schema

    @property
    def types(self) -> dict[str, str]:
        """The types of the columns, as Spark names them."""
        return {field.name: delta_name(field.type) for field in self.schema}

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules, as people read them."""
        checks = [f"{name} ({text})" for name, text in self.constraints.items()]
        return (*(f"{name} IS NOT NULL" for name in self.required), *checks)


def adopt_request(manifest: Manifest, *, rows: int = 0, at_ms: int = 0, digest: str = "") -> Adopt:
    """Make the request that adopts what was prepared; its staged file has no columns."""
    return Adopt(
        request_id=manifest.backfill_id,
        table=manifest.table,
        lane=Lane.BULK,
        client_id=manifest.client_id,
        submitted_at_ms=at_ms,
        submitted_by=manifest.submitted_by,
        digest=digest,
        size_bytes=0,
        mode=manifest.mode,
        rows=rows,
        partition_by=manifest.partition_by,
        schema_mode="merge" if manifest.widen else None,
    )


def plan_load(manifest: Manifest, table: DeltaTable | None) -> LoadPlan:
    """Plan a backfill for a table as it is now, or for one that is to be created.

    Raises:
        InvalidFrame, InvalidRequest: The columns are none that a table can have.
        SchemaMismatch: They do not fit the table, or what it is sorted by is none of them.
        ConstraintViolated: They lack one that may not be null.
        NotNative: The table has features whose files only Spark writes.
    """
    rows = pa.schema(
        [
            pa.field(column.name, arrow_type(column.type, column=column.name), column.nullable)
            for column in manifest.columns
        ]
    )
    for column in manifest.sort_by:
        if column not in rows.names:
            raise SchemaMismatch(
                f"sort_by names {column!r}, which is not in the rows"
                f"{did_you_mean(column, rows.names)}",
                table=manifest.table,
            )
    if table is None:
        return _new(manifest, rows)
    return _existing(manifest, rows, table)


def _new(manifest: Manifest, rows: pa.Schema) -> LoadPlan:
    created_fields(rows, rows.names, manifest.table)
    check_new_partitions(adopt_request(manifest), rows)
    partitions = manifest.partition_by or ()
    _check_replaceable(manifest, partitions)
    check_partition_types(rows, partitions)
    return LoadPlan(
        schema=pa.schema([pa.field(f.name, f.type) for f in rows]),
        partition_by=partitions,
        required=tuple(f.name for f in rows if not f.nullable),
        constraints={},
        added=(),
        whole=rows,
    )


def _existing(manifest: Manifest, rows: pa.Schema, table: DeltaTable) -> LoadPlan:
    request = adopt_request(manifest)
    schema = pa.schema(table.schema().to_arrow())
    check_writable(table, schema)
    if maps_columns(table):
        raise NotNative("the table has column mapping", of_table=True)
    partitions = tuple(table.metadata().partition_columns)
    check_partitions(request, partitions)
    _check_replaceable(manifest, partitions)
    evolved = evolve(request, rows, schema, features=features(table), widening=False)
    if evolved != schema:
        check_evolvable(table)
    fitted = fit_schema(rows, evolved, name=manifest.table)
    check_required(schema, fitted.names, name=manifest.table)
    # Rows without a column that partitions the table are in the partition of null.
    absent = [evolved.field(column) for column in partitions if column not in fitted.names]
    return LoadPlan(
        schema=pa.schema([*fitted, *absent]),
        partition_by=partitions,
        required=tuple(f.name for f in schema if not f.nullable),
        constraints=constraints(table),
        added=tuple(f for f in evolved if f.name not in schema.names),
        whole=evolved,
    )


def _check_replaceable(manifest: Manifest, partitions: tuple[str, ...]) -> None:
    if manifest.mode == "replace_partitions" and not partitions:
        raise InvalidRequest(
            f"table {manifest.table} has no partitions to replace: use mode='overwrite', or "
            "partition_by=[...] for a new table",
            table=manifest.table,
        )
