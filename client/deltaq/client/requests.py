"""One function for each operation: from its arguments to the request, without sending it.

All take what every request has (:class:`Common`) and raise ``InvalidTableName``,
``InvalidRequest`` or ``InvalidExpression`` for an argument that cannot be meant.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict, Unpack, get_args

from deltaq.client.drafts import (
    Columns,
    Expires,
    LaneName,
    check_merge,
    column_names,
    count,
    draft,
    expression,
    names_or_none,
    optional,
    utc,
)
from deltaq.client.schemas import TableSchema, Type, column_of, columns_of
from deltaq.tasks.errors import InvalidRequest
from deltaq.tasks.request import (
    MAX_RETENTION_HOURS,
    MIN_TARGET_BYTES,
    SAFE_RETENTION_HOURS,
    AddColumn,
    Append,
    Checkpoint,
    Convert,
    Create,
    Delete,
    Drop,
    EngineName,
    Merge,
    MergeScd2,
    Optimize,
    Overwrite,
    RenameColumn,
    Restore,
    SchemaMode,
    SetProperties,
    Vacuum,
)


class Common(TypedDict):
    """What every request has, as callers give it."""

    client_id: str
    table: str
    request_id: str | None
    lane: LaneName
    engine: EngineName | None
    expires: Expires | None


def append_request(
    *,
    partition_by: Columns | None,
    schema_mode: SchemaMode | None,
    dedupe_on: Columns | None,
    **common: Unpack[Common],
) -> Append | Merge:
    """Make the request that adds rows; one that leaves out known ones is an insert-only merge."""
    options: dict[str, Any] = {
        "partition_by": optional(column_names, partition_by, "partition_by"),
        "schema_mode": _schema_mode(schema_mode),
    }
    if dedupe_on is None:
        return draft(Append, **common, **options)
    return draft(Merge, **common, **options, keys=column_names(dedupe_on, "dedupe_on"), update=())


def overwrite_request(
    *,
    where: str | None,
    partition_by: Columns | None,
    schema_mode: SchemaMode | None,
    **common: Unpack[Common],
) -> Overwrite:
    """Make the request that replaces rows."""
    return draft(
        Overwrite,
        **common,
        where=optional(expression, where, "where"),
        partition_by=optional(column_names, partition_by, "partition_by"),
        schema_mode=_schema_mode(schema_mode),
    )


def merge_request(
    *,
    keys: Columns,
    update: Columns | None,
    insert: bool,
    delete_when: str | None,
    partition_by: Columns | None,
    schema_mode: SchemaMode | None,
    **common: Unpack[Common],
) -> Merge:
    """Make the request that updates rows by keys and inserts the others."""
    names = optional(names_or_none, update, "update")
    check_merge(names, insert, delete_when)
    return draft(
        Merge,
        **common,
        keys=column_names(keys, "keys"),
        update=names,
        insert=insert,
        delete_when=optional(expression, delete_when, "delete_when"),
        partition_by=optional(column_names, partition_by, "partition_by"),
        schema_mode=_schema_mode(schema_mode),
    )


def merge_scd2_request(
    *,
    keys: Columns,
    track: Columns | None,
    valid_from: str,
    valid_to: str,
    is_current: str,
    partition_by: Columns | None,
    **common: Unpack[Common],
) -> MergeScd2:
    """Make the request that keeps every version of a row."""
    names = column_names(keys, "keys")
    tracked = optional(column_names, track, "track")
    added = column_names((valid_from, valid_to, is_current), "valid_from, valid_to, is_current")
    for name in added:
        if name in names or name in (tracked or ()):
            raise InvalidRequest(f"column {name!r} tells when a version held: no key, not tracked")
    if both := set(names) & set(tracked or ()):
        raise InvalidRequest(f"track names key {min(both)!r}: the keys of a row never change")
    return draft(
        MergeScd2,
        **common,
        keys=names,
        track=tracked,
        valid_from=valid_from,
        valid_to=valid_to,
        is_current=is_current,
        partition_by=optional(column_names, partition_by, "partition_by"),
    )


def delete_request(*, where: str, **common: Unpack[Common]) -> Delete:
    """Make the request that removes rows."""
    return draft(Delete, **common, where=expression(where, "where"))


def create_request(
    *,
    schema: TableSchema,
    partition_by: Columns | None,
    properties: Mapping[str, Any] | None,
    comment: str | None,
    **common: Unpack[Common],
) -> Create:
    """Make the request that creates a table.

    Raises:
        InvalidFrame: Names clash, or Delta has no such type.
    """
    columns = columns_of(schema)
    partitions = names_or_none(partition_by or (), "partition_by")
    known = [column.name for column in columns]
    for name in partitions:
        if name not in known:
            raise InvalidRequest(f"partition_by: {name!r} is not in the schema: {', '.join(known)}")
    return draft(
        Create,
        **common,
        columns=columns,
        partition_by=partitions,
        properties=_properties(properties or {}),
        comment=optional(_text, comment, "comment"),
    )


def restore_request(
    *, version: int | None, timestamp: str | datetime | None, **common: Unpack[Common]
) -> Restore:
    """Make the request that brings an older version back."""
    if (version is None) == (timestamp is None):
        raise InvalidRequest("restore needs either version or timestamp")
    return draft(
        Restore, **common, version=optional(count, version, "version"), timestamp=utc(timestamp)
    )


def drop_request(*, confirm: str, **common: Unpack[Common]) -> Drop:
    """Make the request that removes a table."""
    if confirm != common["table"]:
        raise InvalidRequest(
            f"dropping table {common['table']} removes all its versions for good; to mean it, "
            f"give confirm={common['table']!r}, not {confirm!r}"
        )
    return draft(Drop, **common)


def set_properties_request(
    *, properties: Mapping[str, Any], **common: Unpack[Common]
) -> SetProperties:
    """Make the request that sets properties of a table."""
    if not properties:
        raise InvalidRequest("properties are empty: there is nothing to set")
    return draft(SetProperties, **common, properties=_properties(properties))


def add_column_request(
    *, name: str, kind: Type, comment: str | None, **common: Unpack[Common]
) -> AddColumn:
    """Make the request that adds a column.

    Raises:
        InvalidFrame: Delta has no such type.
    """
    column = column_of(name, kind, comment)
    if not column.nullable:
        raise InvalidRequest(f"column {name!r}: a new column is null in the rows there are")
    return draft(AddColumn, **common, column=column)


def rename_column_request(*, column: str, to: str, **common: Unpack[Common]) -> RenameColumn:
    """Make the request that renames a column."""
    (old,), (new,) = column_names(_text(column, "column"), "column"), column_names(to, "to")
    if old == new:
        raise InvalidRequest(f"column {column!r} has that name")
    return draft(RenameColumn, **common, column=old, to=new)


def optimize_request(
    *,
    zorder: Columns | None,
    where: str | None = None,
    target_bytes: int | None = None,
    **common: Unpack[Common],
) -> Optimize:
    """Make the request that compacts files, or orders rows along columns."""
    if target_bytes is not None and count(target_bytes, "target_bytes") < MIN_TARGET_BYTES:
        raise InvalidRequest(
            f"target_bytes={target_bytes}: files that small are what optimize is to mend; give "
            f"at least {MIN_TARGET_BYTES}, or leave it out"
        )
    return draft(
        Optimize,
        **common,
        zorder=names_or_none(zorder or (), "zorder"),
        where=optional(expression, where, "where"),
        target_bytes=target_bytes,
    )


def checkpoint_request(**common: Unpack[Common]) -> Checkpoint:
    """Make the request that writes a checkpoint."""
    return draft(Checkpoint, **common)


def convert_request(*, partition_by: TableSchema | None, **common: Unpack[Common]) -> Convert:
    """Make the request that makes a table of a folder of Parquet files.

    Raises:
        InvalidFrame: Names clash, or Delta has no such type.
    """
    return draft(Convert, **common, partition_by=columns_of(partition_by) if partition_by else ())


def vacuum_request(
    *, retention_hours: int, dry_run: bool, force: bool, **common: Unpack[Common]
) -> Vacuum:
    """Make the request that removes files which are no longer needed."""
    hours = count(retention_hours, "retention_hours")
    if hours > MAX_RETENTION_HOURS:
        raise InvalidRequest(
            f"retention_hours={hours} is more than a hundred years; give at most "
            f"{MAX_RETENTION_HOURS}",
            table=common["table"],
        )
    if hours < SAFE_RETENTION_HOURS and not force:
        raise InvalidRequest(
            f"retention_hours={hours} may remove what a reader or a commit still needs: use "
            f"{SAFE_RETENTION_HOURS} or more, or force=True when nobody else uses the table",
            table=common["table"],
        )
    return draft(Vacuum, **common, retention_hours=hours, dry_run=dry_run, force=force)


def _schema_mode(mode: str | None) -> Any:
    if mode is not None and mode not in get_args(SchemaMode):
        raise InvalidRequest(f"schema_mode {mode!r}: 'merge', or leave it out")
    return mode


def _properties(properties: Mapping[str, Any]) -> dict[str, str]:
    """Write properties as Delta has them: text; true and false in lower case."""
    written = {}
    for name, value in properties.items():
        _text(name, "a property's name")
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, int | float):
            value = str(value)
        written[name] = _text(value, f"property {name!r}")
    return written


def _text(value: str, what: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{what} is text, not {value!r}")
    return value
