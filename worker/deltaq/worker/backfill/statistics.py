"""Delta's statistics of a file, by which readers pass over files without looking into them.

Wrong ones hide rows, so whatever is in doubt is left out: reading a file too many does no harm.
"""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

#: Columns with statistics, as Delta's default has it; each costs bytes in the log.
_MOST_COLUMNS = 32
#: Characters of a text that are kept.
_LONGEST_TEXT = 32
#: Above all other characters.
_LAST = "\U0010ffff"

_encoder = msgspec.json.Encoder(decimal_format="number")


def file_statistics(rows: pa.Table, written: pq.FileMetaData) -> str:
    """Make the statistics of a file.

    Args:
        rows: What was written.
        written: What Parquet says of it.
    """
    lowest: dict[str, Any] = {}
    highest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for field in list(rows.schema)[:_MOST_COLUMNS]:
        if pt.is_nested(field.type):
            continue
        column = rows.column(field.name)
        nulls[field.name] = column.null_count
        bounds = _bounds(column, field, written)
        if bounds is not None:
            lowest[field.name], highest[field.name] = bounds
    return _encoder.encode(
        {
            "numRecords": rows.num_rows,
            "minValues": lowest,
            "maxValues": highest,
            "nullCount": nulls,
        }
    ).decode()


def _bounds(
    column: pa.ChunkedArray, field: pa.Field, written: pq.FileMetaData
) -> tuple[Any, Any] | None:
    kind = field.type
    if pt.is_boolean(kind) or pt.is_binary(kind) or column.null_count == len(column):
        return None
    if pt.is_floating(kind) and not math.isfinite(pc.sum(column).as_py()):
        # Engines do not agree where NaN stands, JSON has no infinity; a sum tells at once.
        return None
    place = rows_column(written, field.name)
    found = []
    for group in range(written.num_row_groups):
        about = written.row_group(group).column(place)
        if about.statistics is None or not about.statistics.has_min_max:
            if about.statistics is not None and about.statistics.null_count == about.num_values:
                continue
            return None  # Parquet keeps none of long texts
        try:
            found += [about.statistics.min, about.statistics.max]
        except (ValueError, OverflowError):  # a time that Python's datetime cannot hold
            return None
    return None if not found else _written(min(found), max(found))


def rows_column(written: pq.FileMetaData, name: str) -> int:
    """Find the place of a column that is not nested among the leaves of a file."""
    schema = written.schema
    return next(i for i in range(len(schema)) if schema.column(i).path == name)


def _written(low: Any, high: Any) -> tuple[Any, Any] | None:
    """Write bounds as the protocol has them; None if it cannot."""
    if isinstance(low, str):
        return _texts(low, high)
    if isinstance(low, datetime):
        return _moments(low, high)
    if isinstance(low, date):
        return low.isoformat(), high.isoformat()
    if isinstance(low, Decimal | int | float):
        return low, high
    return None


def _texts(low: str, high: str) -> tuple[str, str] | None:
    if len(high) <= _LONGEST_TEXT:
        return low[:_LONGEST_TEXT], high
    if high[_LONGEST_TEXT] == _LAST:
        return None
    return low[:_LONGEST_TEXT], high[:_LONGEST_TEXT] + _LAST


def _moments(low: datetime, high: datetime) -> tuple[str, str] | None:
    """Write times in milliseconds, which all readers understand, the upper one rounded up."""
    try:
        above = high + timedelta(microseconds=-high.microsecond % 1000)
    except OverflowError:
        return None
    return _moment(low), _moment(above)


def _moment(moment: datetime) -> str:
    if moment.tzinfo is None:
        return moment.isoformat(timespec="milliseconds")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
