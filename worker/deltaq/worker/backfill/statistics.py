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
    statistics = Statistics(rows.schema)
    statistics.add(rows)
    return statistics.finish(written)


class Statistics:
    """Makes the statistics of a file from its rows, which may come in pieces.

    Args:
        schema: Columns of the file.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._fields = [f for f in list(schema)[:_MOST_COLUMNS] if not pt.is_nested(f.type)]
        self._nulls = {field.name: 0 for field in self._fields}
        self._finite = {field.name: True for field in self._fields}
        self._rows = 0

    def add(self, rows: pa.Table) -> None:
        """Look at rows that were written."""
        self._rows += rows.num_rows
        for field in self._fields:
            column = rows.column(field.name)
            self._nulls[field.name] += column.null_count
            if pt.is_floating(field.type) and column.null_count < len(column):
                # Engines do not agree where NaN stands, JSON has no infinity; a sum tells at once.
                self._finite[field.name] &= math.isfinite(pc.sum(column).as_py())

    def finish(self, written: pq.FileMetaData) -> str:
        """Write the statistics as Delta's log has them, given what Parquet says of the file."""
        lowest: dict[str, Any] = {}
        highest: dict[str, Any] = {}
        for field in self._fields:
            bounds = self._bounds(field, written)
            if bounds is not None:
                lowest[field.name], highest[field.name] = bounds
        return _encoder.encode(
            {
                "numRecords": self._rows,
                "minValues": lowest,
                "maxValues": highest,
                "nullCount": self._nulls,
            }
        ).decode()

    def _bounds(self, field: pa.Field, written: pq.FileMetaData) -> tuple[Any, Any] | None:
        kind, name = field.type, field.name
        if pt.is_boolean(kind) or pt.is_binary(kind) or self._nulls[name] == self._rows:
            return None
        return _bounds(written, name) if self._finite[name] else None


def _bounds(written: pq.FileMetaData, name: str) -> tuple[Any, Any] | None:
    """Find the lowest and the highest value of a column that is not null throughout."""
    place = rows_column(written, name)
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
