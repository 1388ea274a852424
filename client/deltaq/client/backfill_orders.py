"""What a caller asks of a backfill, checked, and the manifest that says it to workers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

from msgspec import structs

from deltaq.client.backfill_plan import plan_parts
from deltaq.client.backfill_schemas import Shape, common_schema
from deltaq.client.drafts import Columns, column_names, engine_name, names_or_none, table_name
from deltaq.client.frames import Frame
from deltaq.client.schemas import TableSchema
from deltaq.tasks.errors import InvalidRequest, SchemaMismatch
from deltaq.tasks.location import Location
from deltaq.tasks.manifest import Csv, Manifest
from deltaq.tasks.names import check_request_id
from deltaq.tasks.request import EngineName, LoadMode, new_request_id
from deltaq.tasks.suggest import did_you_mean

#: A path, a glob, a folder, a frame; or several of them.
Source: TypeAlias = "str | os.PathLike[str] | Frame"
Sources: TypeAlias = "Source | Iterable[Source]"

_CSV = Csv()


@dataclass(frozen=True, kw_only=True)
class Order:
    """A backfill as it was asked for."""

    backfill_id: str
    table: str
    mode: LoadMode
    partition_by: tuple[str, ...] | None
    sort_by: tuple[str, ...]
    schema: TableSchema | None
    widen: bool
    parts: int | None
    engine: EngineName | None
    csv: Csv


def order_of(
    *,
    table: str,
    backfill_id: str | None,
    mode: LoadMode,
    partition_by: Columns | None,
    sort_by: Columns | None,
    schema: TableSchema | None,
    schema_mode: str | None,
    parts: int | None,
    engine: str | None,
    csv: Csv | None,
) -> Order:
    """Check what can be checked without a look at the sources.

    Raises:
        InvalidTableName, InvalidRequest: An argument cannot be meant.
    """
    if mode not in get_args(LoadMode):
        raise InvalidRequest(f"mode {mode!r}: one of {', '.join(get_args(LoadMode))}")
    if schema_mode not in (None, "merge"):
        raise InvalidRequest(f"schema_mode {schema_mode!r}: 'merge', or leave it out")
    if parts is not None and (not isinstance(parts, int) or parts < 1):
        raise InvalidRequest(f"parts must be a whole number above 0, not {parts!r}")
    how = _CSV if csv is None else csv
    if len(how.delimiter.encode()) != 1:
        raise InvalidRequest(f"delimiter {how.delimiter!r}: give one character of ASCII")
    return Order(
        backfill_id=new_request_id() if backfill_id is None else check_request_id(backfill_id),
        table=table_name(table),
        mode=mode,
        partition_by=None if partition_by is None else column_names(partition_by, "partition_by"),
        sort_by=() if sort_by is None else names_or_none(sort_by, "sort_by"),
        schema=schema,
        widen=schema_mode == "merge",
        parts=parts,
        engine=engine_name(engine),
        csv=how,
    )


def each_source(sources: Sources) -> Iterator[Source]:
    """List what a caller gave: one source, or several."""
    if isinstance(sources, str | os.PathLike) or _is_frame(sources):
        yield sources
        return
    if not isinstance(sources, Iterable):
        raise InvalidRequest(
            f"sources are paths or frames, one or several, not {type(sources).__name__}"
        )
    yield from sources


def _is_frame(sources: object) -> bool:
    # Those of pandas and polars, and Arrow's readers, can be iterated, too.
    return hasattr(sources, "columns") or hasattr(sources, "schema")


def manifest_of(
    order: Order,
    shapes: Sequence[Shape],
    *,
    table: Mapping[str, Any] | None,
    client_id: str,
    user: str,
    folder: Location,
) -> Manifest:
    """Say to workers what they are to do.

    Args:
        order: What was asked for.
        shapes: The files.
        table: What is known of the table; None if there is none, or nobody asked.
        client_id: Whose channel hears the outcome.
        user: Who submits it.
        folder: Of the backfill.

    Raises:
        SchemaMismatch: The files do not fit each other, the table, or the columns named.
        InvalidRequest: There are no rows, or no partitions to replace.
    """
    if not shapes:
        raise _no_rows(order)
    columns = common_schema(
        shapes,
        schema=order.schema,
        table=table["schema"] if table else None,
        widen=order.widen,
        name=order.table,
    )
    names = [column.name for column in columns]
    _check_partitions(order, names, table)
    _require(order.sort_by, "sort", names, order.table)
    multiline = order.csv.multiline or any(shape.multiline for shape in shapes)
    parts = plan_parts(shapes, parts=order.parts, multiline=multiline, folder=folder)
    if not parts:
        raise _no_rows(order)
    return Manifest(
        backfill_id=order.backfill_id,
        table=order.table,
        client_id=client_id,
        submitted_at_ms=time.time_ns() // 1_000_000,
        submitted_by=user,
        mode=order.mode,
        partition_by=order.partition_by,
        sort_by=order.sort_by,
        columns=columns,
        widen=order.widen,
        engine=order.engine,
        csv=structs.replace(order.csv, multiline=multiline),
        parts=parts,
    )


def _no_rows(order: Order) -> InvalidRequest:
    return InvalidRequest("the sources have no rows", table=order.table)


def _check_partitions(order: Order, names: Sequence[str], table: Mapping[str, Any] | None) -> None:
    partition_by = order.partition_by or ()
    _require(partition_by, "partition", names, order.table)
    if len(partition_by) == len(names):
        raise InvalidRequest(
            "partition_by names every column: leave one out, Delta keeps partition columns "
            "outside the data files",
            table=order.table,
        )
    if table is None:
        return
    there = tuple(table["partition_by"])
    if order.partition_by is not None and order.partition_by != there:
        raise SchemaMismatch(
            f"table {order.table} is partitioned by {', '.join(there) or 'nothing'}, not by "
            f"{', '.join(order.partition_by)}: leave partition_by out",
            table=order.table,
        )
    _require(there, "partition", names, order.table)
    if order.mode == "replace_partitions" and not there:
        raise InvalidRequest(
            f"table {order.table} is not partitioned: mode='overwrite' replaces all of it",
            table=order.table,
        )


def _require(wanted: Sequence[str], what: str, names: Sequence[str], table: str) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        told = ", ".join(f"{name!r}{did_you_mean(name, names)}" for name in missing)
        raise SchemaMismatch(
            f"missing {what} column {told}: the sources have {', '.join(map(repr, names))}",
            table=table,
            details={"missing": missing, "columns": list(names)},
        )
