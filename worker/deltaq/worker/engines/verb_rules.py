"""What the verbs of tables may do; both engines ask here, in these words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from deltaq.tasks.errors import InvalidRequest, SchemaMismatch, TableExists
from deltaq.tasks.policy import wishes_in
from deltaq.tasks.request import (
    MAX_RETENTION_HOURS,
    SAFE_RETENTION_HOURS,
    AddColumn,
    Column,
    Create,
    Optimize,
    RenameColumn,
    SetProperties,
    Vacuum,
)
from deltaq.tasks.suggest import did_you_mean
from deltaq.worker.engines.columns import check_new_partitions
from deltaq.worker.engines.evolve import check_new_columns
from deltaq.worker.engines.fit import created_fields
from deltaq.worker.engines.sql_types import arrow_type
from deltaq.worker.expressions import columns_in

#: Names of table properties that mean something else to Spark, or nothing.
_RESERVED = frozenset(
    {"comment", "external", "is_managed_location", "location", "owner", "provider"}
)
_MAPPING = "delta.columnMapping.mode"
_HOURS = {"hour": 1, "day": 24, "week": 168}


def table_exists(table: str) -> TableExists:
    """Make the error for a table that is to be created and is there."""
    return TableExists(
        f"there is a table {table} already; write to it, or drop it first", table=table
    )


def check_properties(request: Create | SetProperties) -> None:
    """Check that properties are such that can be set.

    Raises:
        InvalidRequest: One has a name that Spark keeps for itself.
    """
    if taken := sorted(_RESERVED.intersection(map(str.lower, request.properties))):
        raise InvalidRequest(
            f"table {request.table}: {', '.join(map(repr, taken))} is no property to set, for "
            "Spark keeps the name for itself",
            table=request.table,
            details={"properties": taken},
        )


def check_policy(
    request: Create | SetProperties, table: pa.Schema, partitions: Sequence[str]
) -> None:
    """Check that a table can be maintained as properties to set say.

    Raises:
        InvalidRequest: They say something that cannot be meant.
        SchemaMismatch: A column to order by is not in the table, or partitions it.
    """
    zorder = wishes_in(request.properties).get("zorder", ())
    _check_order("the policy's zorder", zorder, table, partitions, name=request.table)


def new_table(request: Create) -> pa.Schema:
    """Make the schema of a table to create, comments in its fields' metadata.

    Raises:
        InvalidRequest: A type is none of Delta's, or a property cannot be set.
        InvalidFrame: Names or partitions cannot be.
        SchemaMismatch: Its policy names a column to order by that is not there.
    """
    check_properties(request)
    fields = [_field(column) for column in request.columns]
    schema = pa.schema(fields)
    created_fields(schema, schema.names, request.table)
    check_new_partitions(request, schema)
    check_policy(request, schema, request.partition_by)
    return schema


def new_column(request: AddColumn, table: pa.Schema, features: frozenset[str]) -> pa.Field:
    """Make the field of a column to add.

    Raises:
        InvalidRequest: Its type is none of Delta's.
        InvalidFrame: Its name cannot be.
        SchemaMismatch: The table has it, or must be told to have that type.
    """
    field = _field(request.column)
    created_fields(pa.schema([field]), [field.name], request.table)
    check_new_columns([field], table, features, name=request.table)
    return field


def check_rename(request: RenameColumn, table: pa.Schema, properties: dict[str, str]) -> None:
    """Check that a column can have another name.

    Raises:
        SchemaMismatch: It is not there, its new name is taken, or the table has no mapping.
        InvalidFrame: The name cannot be.
    """
    name, old, new = request.table, request.column, request.to
    if old not in table.names:
        raise SchemaMismatch(
            f"table {name} has no column {old!r}{did_you_mean(old, table.names)}",
            table=name,
            details={"column": old},
        )
    if properties.get(_MAPPING, "none") == "none":
        raise SchemaMismatch(
            f"table {name} keeps its columns by name, so {old!r} cannot have another without "
            "rewriting all rows; let it map names first, which its readers must know: "
            f"set_properties({name!r}, {{'{_MAPPING}': 'name'}})",
            table=name,
            details={"column": old},
        )
    others = {column.lower() for column in table.names if column != old}
    if new.lower() in others:
        raise SchemaMismatch(
            f"table {name} has a column {new!r} already", table=name, details={"column": new}
        )


def check_optimize(request: Optimize, table: pa.Schema, partitions: Sequence[str]) -> None:
    """Check that rows can be ordered along columns, and that a condition is about partitions.

    Raises:
        SchemaMismatch: A column to order by is not in the table, or partitions it; or one in the
            condition does not.
        InvalidExpression: The condition is none.
    """
    _check_order("zorder", request.zorder, table, partitions, name=request.table)
    if request.where is None:
        return
    used = columns_in(request.where, table, what="where")
    if others := sorted(used.difference(partitions)):
        known = ", ".join(map(repr, partitions)) or "none"
        raise SchemaMismatch(
            f"table {request.table}: where names {others[0]!r}, which does not partition the "
            f"table; what does: {known}",
            table=request.table,
            details={"column": others[0]},
        )


def _check_order(
    what: str, columns: Sequence[str], table: pa.Schema, partitions: Sequence[str], *, name: str
) -> None:
    for column in columns:
        if column not in table.names:
            wrong = f"which is not in the table{did_you_mean(column, table.names)}"
        elif column in partitions:
            wrong = "which partitions the table: within a partition it is the same in all rows"
        else:
            continue
        raise SchemaMismatch(
            f"table {name}: {what} names {column!r}, {wrong}",
            table=name,
            details={"column": column},
        )


def check_retention(request: Vacuum) -> None:
    """Check that a vacuum leaves what readers and commits may need, or is told not to.

    Raises:
        InvalidRequest: Less than a week, without ``force``; or what cannot be meant.
    """
    if not 0 <= request.retention_hours <= MAX_RETENTION_HOURS:
        raise InvalidRequest(
            f"table {request.table}: retention_hours={request.retention_hours} is not between 0 "
            f"and {MAX_RETENTION_HOURS}",
            table=request.table,
        )
    if request.retention_hours < SAFE_RETENTION_HOURS and not request.force:
        raise InvalidRequest(
            f"table {request.table}: retention_hours={request.retention_hours} is less than "
            f"{SAFE_RETENTION_HOURS}, which needs force",
            table=request.table,
        )


def lists_folder(retention_hours: int, properties: Mapping[str, str]) -> bool:
    """Tell whether a vacuum may remove whatever the log does not name.

    A log forgets after a week, or what the table says, which files were removed from the table.
    For whoever keeps versions longer, a file that it does not name may be needed by one of them.
    """
    kept = properties.get("delta.deletedFileRetentionDuration", "interval 7 days")
    found = re.fullmatch(r"\s*(?:interval\s+)?(\d+)\s+(hour|day|week)s?\s*", kept, re.IGNORECASE)
    if found is None:
        return False
    return retention_hours <= int(found[1]) * _HOURS[found[2].lower()]


def _field(column: Column) -> pa.Field:
    kind = arrow_type(column.type, column=column.name)
    metadata = {"comment": column.comment} if column.comment else None
    return pa.field(column.name, kind, nullable=column.nullable, metadata=metadata)
