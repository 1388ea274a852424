"""Types in Spark's SQL, as people write them, to Arrow's and back."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.types as pt
from sqlglot import exp
from sqlglot.errors import SqlglotError

from deltaq.tasks.errors import InvalidRequest
from deltaq.worker.engines.delta_types import delta_name

_T = exp.DType
_SCALARS = {
    _T.TINYINT: pa.int8(),
    _T.SMALLINT: pa.int16(),
    _T.INT: pa.int32(),
    _T.BIGINT: pa.int64(),
    _T.FLOAT: pa.float32(),
    _T.DOUBLE: pa.float64(),
    _T.BOOLEAN: pa.bool_(),
    _T.TEXT: pa.string(),
    _T.BINARY: pa.binary(),
    _T.DATE: pa.date32(),
    _T.TIMESTAMPTZ: pa.timestamp("us", "UTC"),
    _T.TIMESTAMPLTZ: pa.timestamp("us", "UTC"),
    _T.TIMESTAMPNTZ: pa.timestamp("us"),
}
_MOST_DIGITS = 38


class _Unknown(Exception):
    """No type that a column can have."""


def arrow_type(text: str, *, column: str) -> pa.DataType:
    """Read a type such as ``decimal(10, 2)`` or ``array<string>``.

    Raises:
        InvalidRequest: It is none that a column of a Delta table can have.
    """
    try:
        return _arrow(exp.DataType.build(text, dialect="spark"))
    except (SqlglotError, _Unknown, ValueError) as exc:
        raise InvalidRequest(
            f"column {column!r}: {text!r} is no type of Delta; use one such as bigint, double, "
            "decimal(10, 2), string, date, timestamp or array<string>",
            details={"column": column, "type": text},
        ) from exc


def sql_type(kind: pa.DataType) -> str:
    """Write one of Delta's types so that Spark reads it, whatever the names in it."""
    if pt.is_list(kind):
        return f"array<{sql_type(kind.value_type)}>"
    if pt.is_map(kind):
        return f"map<{sql_type(kind.key_type)},{sql_type(kind.item_type)}>"
    if pt.is_struct(kind):
        return f"struct<{','.join(f'{quoted(f.name)}:{sql_type(f.type)}' for f in kind)}>"
    return delta_name(kind)


def quoted(name: str) -> str:
    """Quote a name for Spark."""
    return "`" + name.replace("`", "``") + "`"


def _arrow(kind: Any) -> pa.DataType:
    if not isinstance(kind, exp.DataType):
        raise _Unknown
    inner = kind.expressions
    if kind.this is _T.DECIMAL:
        # Without its digits it would be decimal(10, 0), which hardly anybody means.
        given = [int(parameter.name) for parameter in inner]
        precision, scale = (*given, 0)[:2] if given else (0, 0)
        if not 0 <= scale <= precision or not 1 <= precision <= _MOST_DIGITS:
            raise _Unknown
        return pa.decimal128(precision, scale)
    if kind.this is _T.ARRAY and len(inner) == 1:
        return pa.list_(pa.field("element", _arrow(inner[0])))
    if kind.this is _T.MAP and len(inner) == 2:
        return pa.map_(*map(_arrow, inner))
    if kind.this is _T.STRUCT and inner and all(isinstance(f, exp.ColumnDef) for f in inner):
        return pa.struct([pa.field(f.name, _arrow(f.kind)) for f in inner])
    if kind.this not in _SCALARS or inner:
        raise _Unknown
    return _SCALARS[kind.this]
