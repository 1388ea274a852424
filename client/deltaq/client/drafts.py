"""From a caller's arguments to a checked request or query. Values in, values out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args

from deltaq.tasks.errors import InvalidExpression, InvalidRequest, InvalidTableName, SchemaMismatch
from deltaq.tasks.names import check_request_id, check_table_name
from deltaq.tasks.request import (
    EngineName,
    FrameRequest,
    Lane,
    Merge,
    MergeScd2,
    Request,
    new_request_id,
)
from deltaq.tasks.suggest import did_you_mean

#: About thirty years; Redis counts in doubles.
_LONGEST_EXPIRES_MS = 1e12

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R", bound=Request)

#: One column, or several.
Columns = str | Sequence[str]
LaneName = Lane | Literal["live", "bulk", "maintenance"]
#: Seconds from now, or a moment; UTC without a zone.
Expires = float | datetime


def draft(
    kind: type[R],
    *,
    client_id: str,
    table: str,
    request_id: str | None,
    lane: Lane | str,
    engine: str | None,
    expires: Expires | None,
    **options: Any,
) -> R:
    """Make a request without what only its rows tell: digest, size, row count, shape.

    Raises:
        InvalidTableName, InvalidRequest: An argument cannot be meant.
    """
    now_ms = time.time_ns() // 1_000_000
    if issubclass(kind, FrameRequest):
        options = {**options, "rows": 0, "shape": ""}
    return kind(
        request_id=new_request_id() if request_id is None else check_request_id(request_id),
        table=table_name(table),
        lane=_lane(lane),
        client_id=client_id,
        submitted_at_ms=now_ms,
        digest="",
        size_bytes=0,
        engine=engine_name(engine),
        expires_ms=None if expires is None else _expires_ms(expires, now_ms),
        **options,
    )


def _expires_ms(expires: Expires, now_ms: int) -> int:
    if isinstance(expires, datetime):
        moment = expires.replace(tzinfo=expires.tzinfo or UTC)
        left = moment.timestamp() * 1000 - now_ms
    elif isinstance(expires, int | float) and not isinstance(expires, bool):
        left = expires * 1000
    else:
        left = math.nan
    if not 0 < left <= _LONGEST_EXPIRES_MS:
        raise InvalidRequest(
            f"expires {expires!r}: give seconds above 0, at most 1e9, or a datetime to come"
        )
    return math.ceil(left)


def table_name(name: str) -> str:
    """Check the name of a table.

    Raises:
        InvalidTableName: It is not one.
    """
    if not isinstance(name, str):
        raise InvalidTableName(f"a table's name is text, not {type(name).__name__}")
    return check_table_name(name)


def _lane(name: Lane | str) -> Lane:
    try:
        return Lane(name)
    except ValueError:
        raise InvalidRequest(f"lane {name!r}: one of {', '.join(Lane)}") from None


def engine_name(name: str | None) -> Any:
    """Check the name of an engine; None leaves the choice to the worker."""
    if name is not None and name not in get_args(EngineName):
        raise InvalidRequest(f"engine {name!r}: one of {', '.join(get_args(EngineName))}")
    return name


def optional(check: Callable[[A, str], B], value: A | None, what: str) -> B | None:
    """Check an argument unless it is None, which stays None."""
    return None if value is None else check(value, what)


def names_or_none(columns: Columns, what: str) -> tuple[str, ...]:
    """Turn one name, several or none into a tuple.

    Raises:
        InvalidRequest: A name is no text or comes twice.
    """
    try:
        names = (columns,) if isinstance(columns, str) else tuple(columns)
    except TypeError:
        raise InvalidRequest(f"{what}: {columns!r} is no list of column names") from None
    for name in names:
        if not isinstance(name, str) or not name:
            raise InvalidRequest(f"{what}: {name!r} is no column name")
    if len(set(names)) < len(names):
        raise InvalidRequest(f"{what}: a column is named twice: {', '.join(names)}")
    return names


def column_names(columns: Columns, what: str) -> tuple[str, ...]:
    """Turn one name or several into a tuple.

    Raises:
        InvalidRequest: A name is no text or comes twice, or there is none.
    """
    names = names_or_none(columns or (), what)
    if not names:
        raise InvalidRequest(f"{what} names no column")
    return names


def expression(text: str, what: str) -> str:
    """Check that an expression is text and not empty. What is in it is the worker's to check.

    Raises:
        InvalidExpression: Otherwise.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidExpression(f"{what} must be an SQL expression, not {text!r}")
    return text


def check_merge(update: tuple[str, ...] | None, insert: bool, delete_when: str | None) -> None:
    """Refuse a merge that could do nothing.

    Raises:
        InvalidRequest: It neither updates, inserts nor deletes.
    """
    if update == () and not insert and delete_when is None:
        raise InvalidRequest("the merge neither updates, inserts nor deletes anything")


def check_columns(request: FrameRequest, names: Sequence[str]) -> None:
    """Check that the columns which the options name are in the frame.

    Raises:
        SchemaMismatch: One is missing; it is named.
        InvalidRequest: Every column is one to partition by.
    """
    if isinstance(request, Merge):
        _require(request, request.keys, "merge key", names)
        _require(request, request.update or (), "update", names)
    if isinstance(request, MergeScd2):
        _require(request, request.keys, "merge key", names)
        _require(request, request.track or (), "tracked", names)
    partition_by = request.partition_by or ()
    _require(request, partition_by, "partition", names)
    if len(partition_by) == len(names):
        raise InvalidRequest(
            "partition_by names every column of the frame: leave one out, Delta keeps "
            "partition columns outside the data files",
            table=request.table,
        )


def _require(request: FrameRequest, wanted: Sequence[str], what: str, names: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        told = ", ".join(f"{name!r}{did_you_mean(name, names)}" for name in missing)
        raise SchemaMismatch(
            f"missing {what} column {told}: the frame has {', '.join(map(repr, names))}",
            table=request.table,
            details={"missing": missing, "columns": list(names)},
        )


def count(number: int, what: str) -> int:
    """Check that a number is whole and not negative.

    Raises:
        InvalidRequest: Otherwise.
    """
    if not isinstance(number, int) or number < 0:
        raise InvalidRequest(f"{what} must be a whole number from 0, not {number!r}")
    return number


def utc(moment: str | datetime | None) -> str | None:
    """Write a moment as ISO 8601 in UTC; None stays None.

    Raises:
        InvalidRequest: It is none.
    """
    if moment is None:
        return None
    try:
        moment = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
        # Without a zone it is UTC, like everything in a lake.
        moment = moment.replace(tzinfo=moment.tzinfo or UTC)
        return moment.astimezone(UTC).isoformat()
    except (ValueError, AttributeError, OverflowError) as exc:
        raise InvalidRequest(
            f"timestamp {moment!r}: give a datetime, or text such as '2024-05-31T12:00:00Z'"
        ) from exc
