"""Literals of Spark SQL as DataFusion's, in the type of the column they are compared with.

A literal that the column's type cannot hold exactly is not translated: each engine then casts
the column to a type of its own choice.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
from decimal import Decimal, InvalidOperation

import pyarrow as pa
import pyarrow.types as pt
from sqlglot import exp

#: Up to here decimal digits and doubles are one to one, so a literal means the same in both.
_DOUBLE_DIGITS = 15
_INTEGER_NAMES = {
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[ T]\d{2}:\d{2}:\d{2}(?:\.\d{1,6})?(Z|[+-]\d{2}:\d{2})?)?", re.ASCII
)
_TYPED = {"DATE", "TIMESTAMPTZ", "TIMESTAMP", "TIMESTAMPNTZ"}


def literal(node: exp.Expr, kind: pa.DataType) -> str | None:
    """Write a literal for comparison with a column of a type of Delta.

    Returns:
        None when it is no literal, or Spark would not compare in that type.
    """
    if isinstance(node, exp.Boolean):
        return str(bool(node.this)).lower() if pt.is_boolean(kind) else None
    declared = None
    if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal):
        declared = node.to.this.name
        if declared not in _TYPED or not node.this.is_string or isinstance(node, exp.TryCast):
            return None
        node = node.this
    number = _number(node)
    if number is not None:
        return _write_number(number, kind)
    if isinstance(node, exp.Literal) and node.is_string:
        return _write_text(node.name, kind, declared)
    return None


def _number(node: exp.Expr) -> Decimal | None:
    if isinstance(node, exp.Neg):
        positive = _number(node.this)
        return None if positive is None else -positive
    # One with an exponent is a double to Spark, and so becomes what it is compared with.
    if not isinstance(node, exp.Literal) or node.is_string or "e" in node.name.lower():
        return None
    try:
        return Decimal(node.name)
    except InvalidOperation:
        return None


def _write_number(number: Decimal, kind: pa.DataType) -> str | None:
    if pt.is_integer(kind):
        limit = 2 ** (kind.bit_width - 1)
        if number != int(number) or not -limit < number < limit:
            return None
        return f"CAST({int(number)} AS {_INTEGER_NAMES[kind]})"
    if pt.is_decimal(kind):
        quantum = number.as_tuple()
        exponent = int(quantum.exponent)
        if -exponent > kind.scale or len(quantum.digits) + exponent > kind.precision - kind.scale:
            return None
        return f"CAST('{number:f}' AS DECIMAL({kind.precision},{kind.scale}))"
    if pt.is_floating(kind):
        return _write_float(number, kind)
    return None


def _write_float(number: Decimal, kind: pa.DataType) -> str | None:
    value = float(number)
    if len(number.as_tuple().digits) > _DOUBLE_DIGITS or value in (float("inf"), -float("inf")):
        return None
    if pt.is_float64(kind):
        return f"CAST({value!r} AS DOUBLE)"
    try:
        exact = struct.unpack("f", struct.pack("f", value))[0] == value == number
    except OverflowError:
        return None
    return f"CAST({value!r} AS REAL)" if exact else None


def _write_text(text: str, kind: pa.DataType, declared: str | None) -> str | None:
    if pt.is_string(kind):
        return None if declared else "'" + text.replace("'", "''") + "'"
    if pt.is_date(kind):
        if declared not in (None, "DATE") or not _DATE.fullmatch(text):
            return None
        return f"CAST('{text}' AS DATE)" if _is_date(text) else None
    if pt.is_timestamp(kind):
        return _write_timestamp(text, kind, declared)
    return None


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _write_timestamp(text: str, kind: pa.DataType, declared: str | None) -> str | None:
    """Write a time; without a zone it is UTC, the time zone of the workers' Spark sessions."""
    shape = _TIME.fullmatch(text)
    zoned = bool(shape and shape[1])
    if shape is None or (declared == "DATE" and len(text) > len("2024-01-01")):
        return None
    if zoned and (kind.tz is None or declared == "TIMESTAMPNTZ"):
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if zoned:
        moment = moment.astimezone(dt.UTC)
    written = moment.replace(tzinfo=None).isoformat(timespec="microseconds")
    if kind.tz is None:
        return f"arrow_cast('{written}', 'Timestamp(Microsecond, None)')"
    return f"arrow_cast('{written}Z', 'Timestamp(Microsecond, Some(\"UTC\"))')"
